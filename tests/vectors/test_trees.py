"""Recorded trees: which intervals each level has, how levels are ordered, who waits for whom."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from synergy.core.building import CatalogError, build
from synergy.core.catalog import Catalog
from synergy.core.context import (
    Context,
    ProcessDeclaration,
    daily,
    freerun,
    hourly,
    monthly,
    tree,
    yearly,
)
from synergy.core.intervals import Calendar, Granularity, Interval
from synergy.testing.stage import Stage
from tests.vectors.recorded import Case, cases, document, each

SISTERS = {"hourly": hourly, "daily": daily, "monthly": monthly, "yearly": yearly}
NOW = datetime.fromisoformat("2026-11-20T17:00Z")


def level(process: str, **options: Any) -> ProcessDeclaration:
    """A recorded process in our words; what is no timetable process is a freerun."""
    qualifier = document("synergy_hierarchy")["process_qualifiers"][process]
    if qualifier not in SISTERS:
        return freerun(process, at="every 60", run="w:f")  # type: ignore[return-value]
    return SISTERS[qualifier](process, run="w:f", **options)


def parsed(label: str, process: str) -> Interval:
    """What a recorded label means to a process; the recorded spans begin at hours too."""
    qualifier = document("synergy_hierarchy")["process_qualifiers"][process]
    if label[6:] == "0000":
        return Calendar(Granularity.MONTHLY).parse(label)
    hour = Calendar(Granularity.HOURLY).parse(label)
    return Calendar(Granularity(qualifier)).containing(hour.start)


def begun(case: Case) -> str:
    """Where the recorded tree starts: a tree that is built further started where it first did."""
    if case["start"] is not None:
        return str(case["start"])
    (start,) = {
        other["start"]
        for other in cases("synergy_tree")
        if other["from"] == case["from"]
        and other["levels"] == case["levels"]
        and other["now"] == case["built_before_up_to"]
    }
    return str(start)


@each("synergy_tree")
def test_a_tree_has_the_recorded_intervals(case: Case) -> None:
    levels: Sequence[str] = case["levels"]
    # Continuous processes run over the open interval too, so that all that has begun gets a job.
    context = Context(
        tree(
            "t",
            [level(name, machine="continuous", every="every 100000") for name in levels],
            start=parsed(begun(case), "SiteHourlyAggregator").start,
            lag=0,
        )
    )
    start = parsed(begun(case), "SiteHourlyAggregator").start
    until = max(parsed(case["now"], levels[-1]).start, start) + timedelta(seconds=1)
    before = case["built_before_up_to"]
    at = until if before is None else parsed(before, levels[-1]).start + timedelta(seconds=1)
    stage = Stage(context, at=at)
    stage.work()
    stage.until(until)
    stage.work()
    met = {tuple(key.split("#")[0].split("@")) for key in stage.started}
    nodes = Counter(name for name, _ in met)
    case.compare(
        {"leaves": nodes[levels[-1]], "nodes": {name: nodes[name] for name in levels}},
        case["expected"],
    )
    # Every interval that was worked has its parent, which has it for its child.
    for name, label in met:
        interval = stage.interval(name, label)
        parent = stage.catalog.parent(name, interval)
        assert (parent is None) == (name == levels[0])
        if parent is not None:
            assert (parent[0], parent[1].label) in met
            (children,) = stage.catalog.inputs(*parent)
            assert interval in stage.catalog.intervals_of(children)


@each("synergy_hierarchy")
def test_levels_are_ordered_as_recorded(case: Case) -> None:
    context = Context(tree("t", [level(name) for name in case["given"]], start="2026-11-20"))
    if case["expected"] == "refused":
        with pytest.raises(CatalogError, match="is no process"):
            build(context, NOW)
        return
    catalog = build(context, NOW)
    ordered = catalog.trees["t"].processes
    found = [catalog.processes[name].calendar.granularity.value for name in ordered]
    ours = {
        "top_to_bottom": list(ordered),
        "qualifiers": found,
        "child_of_level": {
            granularity: catalog.child_of(name)
            for granularity, name in zip(found, ordered, strict=True)
        },
    }
    case.compare(ours, case["expected"])


def counterpart(catalog: Catalog, process: str, others: Sequence[str]) -> dict[str, Any] | None:
    """The process of which an interval of `process` waits for the one that is the very same."""
    interval = catalog.processes[process].calendar.containing(NOW)
    for given in catalog.inputs(process, interval):
        if given.process in others and list(catalog.intervals_of(given)) == [interval]:
            return {"process": given.process, "same_timeperiod": True}
    return None


@each("synergy_nodes", "find_counterpart")
def test_a_node_finds_the_recorded_counterpart(case: Case) -> None:
    given = case["given"]
    process, others = given["node_process"], given["tree_b"]
    levels = [level(name, after=others if name == process else ()) for name in given["tree_a"]]
    context = Context(
        tree("a", levels, start="2025-01-01"),
        tree("b", [level(name) for name in others], start="2025-01-01"),
    )
    case.compare(counterpart(build(context, NOW), process, others), case["expected"])


def ten_hours(*, dependency: bool = False) -> Stage:
    """A day of ten hours at its end, nothing worked yet."""
    span: dict[str, Any] = {"start": "2026-11-20", "until": "2026-11-20T10", "lag": 0}
    after = "other" if dependency else ()
    return Stage(
        Context(
            tree("t", [daily("day", run="w:f", after=after), hourly("hour", run="w:f")], **span),
            tree("o", [daily("other", run="w:f")], **span),
        ),
        at="2026-11-21T00:00Z",
    )


DAY = "2026-11-20"
HOURS = [f"{DAY}T{hour:02}" for hour in range(10)]


@each("synergy_nodes", "is_finalizable")
def test_a_node_may_be_finalised_when_recorded_so(case: Case) -> None:
    given = case["given"]
    assert given["children"] == len(HOURS)
    stage = ten_hours(dependency=True)
    if given["dependencies_all_finished"]:
        stage.work(only="other")
    for unit in stage.claim(limit=given["children_finished"], only="hour"):
        stage.report(unit)
    if not given["job_active"]:
        stage.work()
        assert stage.state("day", DAY) == "processed"
        stage.restart()
    requested = [unit for unit in stage.requested if unit.process == "day"]
    case.compare(bool(requested), case["expected"])


@each("synergy_nodes", "validate_node")
def test_a_node_is_validated_as_recorded(case: Case) -> None:
    given = case["given"]
    stage = ten_hours()
    untouched = stage.timetable.job("day", stage.interval("day", DAY))
    if given["job_finished_after_assign"]:
        stage.work()
        stage.request("reprocess", "hour", *HOURS[: given["children_active"]])
    else:
        stage.request("skip", "hour", *HOURS[: given["children_skipped"]])
    job = stage.job("day", DAY)
    ours = {
        "job_requested": int(untouched is None),
        "reprocess_requested": job.generation - 1,
        "skip_requested": int(job.state == "skipped"),
    }
    case.compare(ours, case["then"])
