"""What a request will touch: everything built on it, who consumes before what is consumed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core.building import build
from synergy.core.catalog import Catalog
from synergy.core.context import Context, daily, hourly, last, monthly, offset, previous, tree
from synergy.core.intervals import Interval
from synergy.core.model import Job, Standing
from synergy.core.plans import Place, Plan, Ranges, plan, to_reopen, to_skip
from synergy.core.states import JobState
from synergy.core.timetable import Timetable

NOW = datetime(2027, 6, 1, tzinfo=UTC)


def catalog() -> Catalog:
    span = {"start": "2026-11-18", "until": "2026-11-22"}
    return build(
        Context(
            tree(
                "site",
                [monthly("m", run="w:f"), daily("d", run="w:f"), hourly("h", run="w:f")],
                **span,
            ),
            tree("client", [daily("c", run="w:f", after=["d", previous("c")])], **span),
            tree("alert", [daily("a", run="w:f", after=["d", offset(-2, "d")])], **span),
            tree("trend", [daily("t", run="w:f", after=last(2, "d"))], **span),
            tree("fine", [hourly("g", run="w:f", after="h")], **span),
        ),
        NOW,
    )


CATALOG = catalog()


def place(process: str, label: str) -> Place:
    return process, CATALOG.processes[process].calendar.parse(label)


def begun(place: Place) -> bool:
    return place[1].start <= NOW


def said(places: list[Place]) -> list[str]:
    return [f"{name} {interval.label[8:] or interval.label}" for name, interval in places]


def test_a_reopened_hour_touches_all_that_is_built_on_it() -> None:
    order = to_reopen(CATALOG, [place("h", "2026-11-19T07")], begun)
    assert sorted(said(order)) == sorted(
        ["h 19T07", "g 19T07", "d 19", "m 2026-11", "c 19", "c 20", "c 21", "a 19", "a 21",
         "t 19", "t 20"]
    )  # fmt: skip
    assert order[-1] == place("h", "2026-11-19T07")


def test_of_what_has_not_begun_only_what_could_begin_next_is_held() -> None:
    now = datetime(2026, 11, 20, 3, tzinfo=UTC)
    order = to_reopen(CATALOG, [place("h", "2026-11-19T07")], lambda place: place[1].start <= now)
    assert {"c 20", "c 21", "a 21"} <= {*said(order)}
    assert not {"c 22", "a 23"} & {*said(order)}


targets = st.lists(
    st.tuples(
        st.sampled_from(["m", "d", "h", "c", "a", "t", "g"]),
        st.integers(18, 21),
        st.integers(0, 23),
    ).map(
        lambda drawn: place(
            drawn[0],
            {
                "m": "2026-11",
                "h": f"2026-11-{drawn[1]}T{drawn[2]:02}",
                "g": f"2026-11-{drawn[1]}T{drawn[2]:02}",
            }.get(drawn[0], f"2026-11-{drawn[1]}"),
        )
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(targets)
def test_who_consumes_comes_before_what_is_consumed_and_everyone_once(chosen: list[Place]) -> None:
    order = to_reopen(CATALOG, chosen, begun)
    position = {(name, interval.start): number for number, (name, interval) in enumerate(order)}
    assert len(position) == len(order)
    assert {(name, interval.start) for name, interval in chosen} <= set(position)
    for name, interval in order:
        for consumer, its in CATALOG.consumers(name, interval):
            assert position[consumer, its.start] < position[name, interval.start]


@settings(max_examples=40, deadline=None)
@given(targets)
def test_a_plan_is_the_same_for_the_same_request(chosen: list[Place]) -> None:
    assert to_reopen(CATALOG, chosen, begun) == to_reopen(CATALOG, chosen, begun)
    assert {*to_reopen(CATALOG, chosen, begun)} == {*to_reopen(CATALOG, chosen[::-1], begun)}


def test_a_skip_goes_down_and_sideways_but_neither_up_nor_to_who_looks_back() -> None:
    order = said(to_skip(CATALOG, [place("d", "2026-11-19")]))
    hours = [f"{process} 19T{hour:02}" for process in "gh" for hour in range(24)]
    assert sorted(order) == sorted([*hours, "d 19", "c 19", "a 19"])
    assert order[-1] == "d 19"


@pytest.mark.parametrize("process", ["m", "c"])
def test_a_skip_of_a_leaf_touches_what_lies_below_it_alone(process: str) -> None:
    label = "2026-11" if process == "m" else "2026-11-20"
    touched = {name for name, _ in to_skip(CATALOG, [place(process, label)])}
    assert touched == ({"m", "d", "h", "c", "a", "g"} if process == "m" else {"c"})


def test_a_skipped_month_takes_only_the_days_of_its_span() -> None:
    days = [said([one])[0] for one in to_skip(CATALOG, [place("m", "2026-11")]) if one[0] == "d"]
    assert sorted(days) == ["d 18", "d 19", "d 20", "d 21"]


# plans


def timetable(*, but: dict[tuple[str, str], Standing | Job | None] | None = None) -> Timetable:
    """Everything has ended, but these."""
    found = Timetable(CATALOG)
    for name, process in CATALOG.processes.items():
        start, end = CATALOG.spans[name]
        assert end is not None
        for interval in process.calendar.between(start, end):
            stands = (but or {}).get((name, interval.label), DONE)
            if isinstance(stands, Job):
                found.put(stands)
            else:
                found.ledgers[name].put(interval, stands)
    return found


DONE = Standing(JobState.PROCESSED, 1, 1, 1)


def told(plan: Plan) -> list[tuple[str, str, str]]:
    return [
        (said([(step.process, step.interval)])[0], step.because, step.run.value)
        for step in plan.steps
    ]


def test_a_plan_tells_what_changes_why_and_whether_a_unit_is_made_inputs_first() -> None:
    made = plan(timetable(), "reprocess", [place("h", "2026-11-19T07")], NOW)
    lines = told(made)
    assert lines[0] == ("h 19T07", "named", "certain")
    assert {*lines[1:]} == {
        ("g 19T07", "depends on h 2026-11-19T07", "unless kept"),
        ("d 19", "its child h 2026-11-19T07", "unless kept"),
        ("m 2026-11", "its child d 2026-11-19", "unless kept"),
        ("c 19", "depends on d 2026-11-19", "unless kept"),
        ("c 20", "depends on c 2026-11-19", "unless kept"),
        ("c 21", "depends on c 2026-11-20", "unless kept"),
        ("a 19", "depends on d 2026-11-19", "unless kept"),
        ("a 21", "depends on d 2026-11-19", "unless kept"),
        ("t 19", "depends on d 2026-11-19", "unless kept"),
        ("t 20", "depends on d 2026-11-19", "unless kept"),
    }
    assert {(step.was, step.becomes, step.generation) for step in made.steps} == {
        ("processed", "embryo", 2)
    }
    assert made.options()["certain"] == 1
    assert made.options()["unless_kept"] == 10


def test_several_causes_are_counted_and_hours_are_in_their_order() -> None:
    hours = [place("h", f"2026-11-19T{hour:02}") for hour in (9, 7, 8)]
    lines = told(plan(timetable(), "reprocess", hours, NOW))
    assert ("d 19", "its child h 2026-11-19T07 and 2 more", "unless kept") in lines
    named = [line[0] for line in lines if line[1] == "named"]
    assert named == ["h 19T07", "h 19T08", "h 19T09"]


def test_without_a_result_that_could_be_kept_a_unit_is_made_for_certain() -> None:
    but: dict[tuple[str, str], Standing | Job | None] = {
        ("d", "2026-11-19"): Standing(JobState.FAILED, 1, 0, 3),
        ("t", "2026-11-19"): Standing(JobState.SKIPPED, 2, 2, 0),
        ("m", "2026-11"): job_at_work("m", "2026-11"),
        ("c", "2026-11-19"): None,
        ("c", "2026-11-20"): None,
        ("c", "2026-11-21"): None,
    }
    steps = plan(timetable(but=but), "reprocess", [place("h", "2026-11-19T07")], NOW).steps
    found = {(step.process, step.interval.label): step for step in steps}
    assert ("c", "2026-11-19") not in found, "it has not run yet"
    assert found["d", "2026-11-19"].run == found["t", "2026-11-19"].run == "certain"
    month = found["m", "2026-11"]
    assert (month.was, month.cancels, month.run) == ("in_progress", True, "certain")


def job_at_work(process: str, label: str) -> Job:
    _, interval = place(process, label)
    return Job(process=process, interval=interval, state=JobState.IN_PROGRESS, unit="u", version=2)


@pytest.mark.parametrize(
    ("action", "state", "why"),
    [
        ("reprocess", None, "h 2026-11-19T07 has not run yet, and will when it is due"),
        ("skip", DONE, "h 2026-11-19T07 is processed already"),
        ("unskip", DONE, "h 2026-11-19T07 is processed, not skipped"),
        ("unskip", None, "h 2026-11-19T07 is embryo, not skipped"),
    ],
)
def test_what_is_named_and_left_is_told_with_the_reason(
    action: str, state: Standing | None, why: str
) -> None:
    view = timetable(but={("h", "2026-11-19T07"): state}) if state else Timetable(CATALOG)
    made = plan(view, action, [place("h", "2026-11-19T07")], NOW)
    assert (made.steps, made.left) == ((), (why,))


@settings(max_examples=60, deadline=None)
@given(targets, st.sampled_from(["reprocess", "skip"]))
def test_a_plan_lists_each_once_inputs_before_who_consumes_them(
    chosen: list[Place], action: str
) -> None:
    view = timetable() if action == "reprocess" else Timetable(CATALOG)
    steps = plan(view, action, chosen, NOW).steps
    position = {(step.process, step.interval.start): n for n, step in enumerate(steps)}
    assert len(position) == len(steps)
    for step in steps:
        for consumer, its in CATALOG.consumers(step.process, step.interval):
            if action == "reprocess":
                assert position[consumer, its.start] > position[step.process, step.interval.start]


@settings(max_examples=60, deadline=None)
@given(targets, targets)
def test_ranges_hold_what_was_put_into_them_and_know_what_they_share(
    some: list[Place], others: list[Place]
) -> None:
    one, two = Ranges.of(some), Ranges.of(others)
    assert Ranges.of_content(one.content()) == one
    keys = {(name, interval.start) for name, interval in some}
    for name, process in CATALOG.processes.items():
        start, end = CATALOG.spans[name]
        assert end is not None
        for interval in process.calendar.between(start, end):
            assert ((name, interval.start) in one) == ((name, interval.start) in keys)
    shared = {
        (name, interval.start)
        for name, start, end in one.overlap(two)
        for interval in CATALOG.processes[name].calendar.between(start, end)
    }
    assert shared == keys & {(name, interval.start) for name, interval in others}


def test_a_range_of_neighbours_is_one() -> None:
    hours = [place("h", f"2026-11-19T{hour:02}") for hour in range(24)]
    bounds = Ranges.of(hours).bounds
    assert len(bounds["h"]) == 2


def test_what_a_plan_costs_does_not_grow_with_history() -> None:
    """Consumers asked for: twice each that it touches, whatever else has ended."""
    long = build(
        Context(
            tree(
                "site",
                [monthly("m", run="w:f"), daily("d", run="w:f"), hourly("h", run="w:f")],
                start="1900-01-01",
            )
        ),
        NOW,
    )
    view = Timetable(long)
    for name, process in long.processes.items():
        start, _ = long.spans[name]
        view.ledgers[name].put(Interval(start, process.calendar.containing(NOW).start, ""), DONE)
    looks = 0

    class Counting(Timetable):
        def standing(self, process: str, interval: Interval) -> Standing | None:
            nonlocal looks
            looks += 1
            return super().standing(process, interval)

    counting = Counting(long)
    counting.ledgers = view.ledgers
    hour = long.processes["h"].calendar.parse("2026-11-19T07")
    made = plan(counting, "reprocess", [("h", hour)], NOW)
    assert len(made.steps) == 3
    assert looks <= 9
