"""The stale mark: a finished result stands, and everybody is told that it is out of date."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core.context import Context, daily, hourly, monthly, tree, yearly
from synergy.core.machines import BUILT_ON_STALE
from synergy.core.model import Job, UnitWrite
from synergy.reading import Reading
from synergy.stores.memory import MemoryStore
from synergy.testing.invariants import CheckedStore
from synergy.testing.stage import Stage, finds_nothing, processes, processes_with

SPAN: dict[str, Any] = {"start": "2026-11-18", "until": "2026-11-20", "lag": 0}


def sites_and_clients() -> Context:
    """hour → day → month → year, and a client tree that depends on the days."""
    return Context(
        tree(
            "site",
            [
                yearly("y", run="w:f"),
                monthly("m", run="w:f"),
                daily("d", run="w:f"),
                hourly("h", run="w:f"),
            ],
            **SPAN,
        ),
        tree("client", [monthly("cm", run="w:f"), daily("c", run="w:f", after="d")], **SPAN),
    )


def finished(worker: Any = processes) -> Stage:
    stage = Stage(sites_and_clients(), at="2027-01-01T00:00Z", store=CheckedStore(_CATALOG))
    stage.work(worker)
    stage.started.clear()
    return stage


_CATALOG = Stage(sites_and_clients(), at="2027-01-01T00:00Z").catalog


def checked(stage: Stage) -> None:
    assert isinstance(stage.store, CheckedStore)
    assert [str(each) for each in stage.store.violations] == []


def outdated(stage: Stage) -> set[str]:
    """The jobs that are marked stale, in the store and in what the engine and a reader believe."""
    reading = Reading(stage.store, stage.catalog)
    found = set[str]()
    for name, process in stage.catalog.processes.items():
        start, end = stage.catalog.spans[name]
        assert end is not None
        rows = {row.interval: row for row in reading.rows(name)}
        for interval in process.calendar.between(start, end):
            job = stage.job(name, interval.label)
            assert stage.timetable.agrees(job) or not job.state.terminal, job.key
            assert rows[interval].outdated == job.outdated, job.key
            assert rows[interval].stale == job.stale, job.key
            if job.outdated:
                found.add(job.key)
    return found


CONSUMERS = {"d@2026-11-18", "m@2026-11", "y@2026", "c@2026-11-18", "cm@2026-11"}


def test_a_mark_reaches_everything_that_is_built_on_it_and_moves_nothing() -> None:
    stage = finished()
    before = dict(stage.store._jobs.items())  # type: ignore[attr-defined]
    answer = stage.request("mark", "h", "2026-11-18T07", reason="late data")
    assert answer.state == "done"
    assert outdated(stage) == CONSUMERS | {"h@2026-11-18T07"}
    told = answer.answer["touched"]
    assert isinstance(told, list)
    assert sorted(item["process"] for item in told) == ["c", "cm", "d", "h", "m", "y"]  # type: ignore[index,call-overload,misc]
    for item in told:
        assert isinstance(item, dict)
        assert (item["was"], item["is"], item["outdated"]) == ("processed", "processed", True)
    for key, job in stage.store._jobs.items():  # type: ignore[attr-defined]
        assert (job.state, job.generation, job.result) == ("processed", 1, 1)
        assert job.version == before[key].version + job.outdated
    assert stage.store.active_jobs() == []
    assert stage.work() == 0
    assert stage.job("y", "2026").reason == "mark r1: late data"
    checked(stage)


def test_a_second_mark_below_one_writes_only_what_has_none() -> None:
    stage = finished()
    stage.request("mark", "h", "2026-11-18T07")
    marked = stage.job("m", "2026-11")
    answer = stage.request("mark", "h", "2026-11-18T08", "2026-11-18T07")
    told = answer.answer["touched"]
    assert isinstance(told, list)
    assert [item["interval"] for item in told] == ["2026-11-18T08"]  # type: ignore[index,call-overload]
    assert stage.job("m", "2026-11") == marked


def test_a_mark_wakes_nobody() -> None:
    stage = finished()
    considered = []
    engine = stage.scheduler.engine
    consider = engine.consider

    def noted(*given_: Any) -> None:
        if not engine.operations.frozen:
            considered.append(given_[0])
        consider(*given_)

    engine.consider = noted  # type: ignore[method-assign]
    stage.request("mark", "h", "2026-11-18T07")
    assert sorted(considered) == ["c", "cm", "d", "h", "m", "y"], "once each, as after any request"


def test_it_survives_a_restart_from_the_feed_and_from_ledgers() -> None:
    stage = finished()
    stage.request("mark", "d", "2026-11-19")
    marked = {"d@2026-11-19", "m@2026-11", "y@2026", "c@2026-11-19", "cm@2026-11"}
    stage.restart()
    assert outdated(stage) == marked
    stage.scheduler._stored_position = 0
    stage.scheduler._save_ledgers()
    stage.store.prune_feed(10**9)
    stage.restart()
    assert outdated(stage) == marked
    assert stage.timetable.built_on_marked("m", stage.interval("m", "2026-11"))
    assert not stage.timetable.built_on_marked("d", stage.interval("d", "2026-11-19"))


def test_reprocessing_clears_the_mark_all_the_way_up() -> None:
    stage = finished()
    stage.request("mark", "h", "2026-11-18T07")
    stage.request("reprocess", "h", "2026-11-18T07")
    assert outdated(stage) == set()
    stage.work()
    assert outdated(stage) == set()
    assert stage.job("y", "2026").generation == 2
    checked(stage)


def test_what_is_made_anew_from_what_is_marked_is_marked_again() -> None:
    stage = finished(processes_with("as ever"))
    stage.request("mark", "h", "2026-11-18T07", "2026-11-18T08")
    stage.request("reprocess", "h", "2026-11-18T07")
    stage.work(processes_with("as ever"))
    assert outdated(stage) == CONSUMERS | {"h@2026-11-18T08"}
    assert stage.job("d", "2026-11-18").reason == f"kept: no input has changed; {BUILT_ON_STALE}"
    stage.request("reprocess", "h", "2026-11-18T08")
    stage.work(processes_with("something new"))
    assert outdated(stage) == set()
    checked(stage)


def test_a_kept_one_that_was_marked_for_its_own_data_runs() -> None:
    stage = finished(processes_with("as ever"))
    stage.request("mark", "d", "2026-11-18")
    stage.request("reprocess", "h", "2026-11-18T07")
    stage.work(processes_with("as ever"))
    assert "d@2026-11-18#2!1" in stage.started
    assert "m@2026-11#2!1" not in stage.started, "it is built on the day, which came back as it was"
    assert outdated(stage) == set()


def test_what_ends_while_its_input_is_being_marked_is_marked_too() -> None:
    stage = Stage(sites_and_clients(), at="2027-01-01T00:00Z")
    stage.work(only="h")
    units = stage.claim(only="d")
    stage.request("mark", "h", "2026-11-18T07")
    assert outdated(stage) == {"h@2026-11-18T07"}, "the day has no result yet"
    for unit in units:
        stage.report(unit)
    stage.work()
    assert outdated(stage) == CONSUMERS | {"h@2026-11-18T07"}


class _Meanwhile(CheckedStore):
    """Something happens right after what a request touches was read."""

    meanwhile: Callable[[], object] | None = None

    def read_jobs(self, keys: Iterable[str]) -> dict[str, Job]:
        found = super().read_jobs(keys)
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            happens()
        return found


def test_what_ends_before_the_first_mark_is_known_is_found_ended() -> None:
    store = _Meanwhile(_CATALOG)
    stage = Stage(sites_and_clients(), at="2027-01-01T00:00Z", store=store)
    stage.work(only="h")
    now = stage.clock.now()
    writes = [UnitWrite(processes(unit, now), unit.fence) for unit in stage.claim(only="d")]
    store.meanwhile = lambda: store.save_units(writes)
    stage.request("mark", "h", "2026-11-18T07")
    assert outdated(stage) == {"h@2026-11-18T07", "d@2026-11-18"}
    stage.work()
    assert outdated(stage) == CONSUMERS | {"h@2026-11-18T07"}
    checked(stage)


def test_what_was_skipped_has_nothing_to_mark() -> None:
    stage = Stage(sites_and_clients(), at="2027-01-01T00:00Z")
    stage.request("skip", "h", "2026-11-18T07")
    stage.work(finds_nothing)
    answer = stage.request("mark", "h", "2026-11-18T07")
    assert answer.state == "done"
    assert "h@2026-11-18T07" not in outdated(stage)


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False))
def test_marks_and_reprocesses_in_any_order_leave_no_one_built_on_a_mark_unmarked(
    rng: random.Random,
) -> None:
    """Killed at any moment, too: what is finished and built on what is marked is marked."""
    store = CheckedStore(_CATALOG)
    stage = Stage(sites_and_clients(), at="2027-01-01T00:00Z", store=store)
    workers = [processes, processes_with("a"), processes_with("b"), finds_nothing]
    for number in range(12):
        hours = [f"2026-11-{rng.choice((18, 19))}T{rng.randrange(24):02}" for _ in range(2)]
        match rng.randrange(5):
            case 0 | 1:
                action = rng.choice(("mark", "reprocess"))
                stage.request(action, "h", *hours)
            case 2:
                stage.request("mark", "d", f"2026-11-{rng.choice((18, 19))}")
            case 3:
                stage.restart()
            case _:
                for unit in stage.claim(rng.randrange(1, 60)):
                    stage.report(unit, rng.choice(workers))
        if number % 4 == 3:
            stage.work(rng.choice(workers))
    stage.work()
    checked(stage)
    marked = outdated(stage)
    assert isinstance(stage.store, MemoryStore)
    for name, process in stage.catalog.processes.items():
        start, end = stage.catalog.spans[name]
        assert end is not None
        for interval in process.calendar.between(start, end):
            below = {key for _, key in store.inputs(name, interval)}
            if below & marked and stage.state(name, interval.label) != "skipped":
                assert f"{name}@{interval.label}" in marked
