"""What is off is not dispatched; what was missed meanwhile is caught up, or recorded."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from synergy.core.context import Context, daily, freerun, hourly, tree
from synergy.core.events import RequestFiled
from synergy.core.model import Request
from synergy.core.switches import NOT_CAUGHT_UP, Switch
from synergy.scheduler.loop import HOUSEKEEPING, Scheduler, Setting
from synergy.scheduler.sources import SourcesAtOnce
from synergy.testing.stage import Stage, fails

FIRST: dict[str, Any] = {"start": "2026-11-18", "lag": 0}


def stage_of(at: str = "2026-11-19T00:00Z", **hour: Any) -> Stage:
    """Days of hours, and a tree that depends on the days."""
    site = [daily("d", run="w:f"), hourly("h", run="w:f", **hour)]
    return Stage(
        Context(
            tree("site", site, **FIRST),
            tree("client", [daily("c", run="w:f", after="d")], **FIRST),
            freerun("f", at="every 3600", run="w:f"),
        ),
        at=at,
    )


def off(stage: Stage, name: str = "h", **options: Any) -> Request:
    return stage.request("switch", name, reason="the base is moved", on=False, **options)


def on(stage: Stage, name: str = "h", **options: Any) -> Request:
    return stage.request("switch", name, on=True, **options)


def switching(stage: Stage, number: str, name: str = "h", **options: Any) -> Request:
    """A request that is filed, and that no scheduler has heard of yet."""
    request = Request(
        id=number,
        action="switch",
        process=name,
        starts=(),
        filed_at=stage.clock.now(),
        options=options,
    )
    stage.store.file_request(request)
    return request


def known(scheduler: Scheduler) -> Switch:
    """How the hours are switched, for all that it knows."""
    switch = scheduler.engine.switch("h")
    assert switch is not None
    return switch


def states(stage: Stage, name: str = "h", day: str = "2026-11-18") -> list[str]:
    return [stage.state(name, f"{day}T{hour:02}").value for hour in range(24)]


def active(stage: Stage, *, fired: bool = False) -> list[str]:
    """Units that have not ended: of the trees, or of the freerun."""
    units = stage.store.active_units()
    return sorted(unit.key for unit in units if (unit.process == "f") is fired)


def test_what_is_off_is_not_dispatched_and_what_is_built_on_it_waits() -> None:
    stage = stage_of(at="2026-11-18T00:30Z")
    assert off(stage).state == "done"
    stage.until("2026-11-19T12:00Z")
    assert stage.work(only="h") == 0
    assert stage.state("d", "2026-11-18") == "embryo"
    assert stage.state("c", "2026-11-18") == "embryo"
    on(stage)
    stage.work()
    assert stage.state("c", "2026-11-18") == "processed"
    assert states(stage) == ["processed"] * 24


def test_a_switch_remembers_who_when_and_why() -> None:
    stage = stage_of()
    off(stage)
    switch = known(stage.scheduler)
    assert (switch.on, switch.since, switch.reason) == (
        False,
        stage.clock.now(),
        "the base is moved",
    )
    document = stage.store.read_documents("switches")["h"]
    assert Switch.of_content(*document) == switch


def test_running_units_end_and_requested_ones_are_taken_back() -> None:
    stage = stage_of(parallel=4)
    first, second = stage.claim(limit=2, only="h")
    off(stage)
    assert active(stage) == [first.key, second.key], "nothing of it starts any more"
    withdrawn = stage.unit("h@2026-11-18T02#1")
    assert withdrawn is not None
    assert (withdrawn.state, withdrawn.reason) == ("canceled", "its process was switched off")
    stage.report(first)
    stage.report(second, fails)
    assert active(stage) == [], "no further attempt begins, either"
    on(stage)
    assert "h@2026-11-18T02#2" in active(stage)
    stage.work()
    assert states(stage) == ["processed"] * 24


def test_a_provisional_unit_that_nobody_started_is_taken_back() -> None:
    stage = stage_of(at="2026-11-18T00:30Z", machine="continuous")
    assert active(stage) == ["h@2026-11-18T00#1.1"]
    off(stage)
    assert active(stage) == []
    on(stage)
    stage.advance(minutes=1)
    assert active(stage) == ["h@2026-11-18T00#1.2"]


def test_what_was_being_measured_when_it_was_switched_off_is_not_dispatched() -> None:
    asked: list[str] = []

    def measure(source: str, interval: Any) -> tuple[int, int]:
        asked.append(interval.label)
        if len(asked) == 1:
            switching(stage, "q", "r", on=False)
            stage.scheduler._follow_up(stage.scheduler._filed())
        return 1, 2

    levels = [hourly("r", run="w:f", machine="recomputing", source="s")]
    stage = Stage(
        Context(tree("t", levels, **FIRST), sources={"s": "w:k"}),
        at="2026-11-17T23:00Z",
        measure=measure,
    )
    stage.until("2026-11-18T00:30Z")
    assert asked == ["2026-11-18T00"]
    assert active(stage) == []
    on(stage, "r")
    assert active(stage) == ["r@2026-11-18T00#1.1"]


def test_off_stays_off_over_a_restart() -> None:
    stage = stage_of()
    off(stage)
    stage.restart()
    assert stage.claim(only="h") == []
    stage.advance(hours=5)
    assert stage.claim(only="h") == []


def test_switching_what_stands_so_already_changes_nothing() -> None:
    stage = stage_of()
    off(stage)
    since = stage.clock.now()
    stage.advance(hours=1)
    assert stage.request("switch", "h", on=False).answer == {"touched": [], "changed": False}
    assert on(stage, "d").answer == {"touched": [], "changed": False}
    switch = known(stage.scheduler)
    assert (switch.since, switch.reason) == (since, "the base is moved")


@pytest.mark.parametrize(
    ("process", "options", "why"),
    [
        ("x", {"on": False}, "no process or freerun x is registered"),
        ("h", {}, 'a switch needs the option "on", true or false'),
        ("h", {"on": 1}, 'a switch needs the option "on", true or false'),
        ("h", {"on": True, "catch_up": "some"}, "catch_up 'some' is none of all, latest, none"),
        ("f", {"on": True, "catch_up": "none"}, "is said by its misfire policy"),
    ],
)
def test_what_cannot_be_switched_is_refused(
    process: str, options: dict[str, Any], why: str
) -> None:
    stage = stage_of()
    answered = stage.request("switch", process, **options)
    assert answered.state == "refused"
    assert why in str(answered.answer["why"])


def test_several_requests_at_once_are_obeyed_one_after_another() -> None:
    stage = stage_of()
    for number, value in enumerate([False, True, False]):
        switching(stage, f"q{number}", on=value)
    stage.settle()
    switch = known(stage.scheduler)
    assert (switch.on, switch.requests) == (False, ("q0", "q1", "q2"))
    assert stage.store.open_requests() == []


# catching up


def test_the_latest_alone_is_worked_and_the_others_are_recorded() -> None:
    stage = stage_of(at="2026-11-18T00:30Z")
    off(stage)
    stage.until("2026-11-18T10:00Z")
    on(stage, catch_up="latest")
    assert active(stage) == ["h@2026-11-18T09#1"]
    job = stage.job("h", "2026-11-18T08")
    assert job.state == "skipped"
    assert job.reason == (
        "not caught up: its process was switched off from 2026-11-18 00:30:00 UTC "
        "to 2026-11-18 10:00:00 UTC"
    )
    stage.until("2026-11-18T11:00Z")
    assert active(stage) == ["h@2026-11-18T09#1", "h@2026-11-18T10#1"], "from now on as ever"


def test_none_is_worked_and_all_are_recorded() -> None:
    stage = stage_of(at="2026-11-18T05:30Z")
    stage.work(only="h")
    off(stage)
    stage.until("2026-11-19T02:00Z")
    on(stage, catch_up="none")
    assert active(stage) == ["d@2026-11-18#1"], "a skipped hour is a finished one"
    assert states(stage) == ["processed"] * 5 + ["skipped"] * 19
    assert all(
        stage.job("h", f"2026-11-18T{hour:02}").reason.startswith(NOT_CAUGHT_UP)
        for hour in range(5, 24)
    )


def test_without_a_word_its_own_policy_says_what_is_caught_up() -> None:
    stage = stage_of(at="2026-11-18T00:30Z", catch_up="none")
    off(stage)
    stage.until("2026-11-18T10:00Z")
    on(stage)
    assert active(stage) == []
    assert states(stage)[:11] == ["skipped"] * 10 + ["embryo"]


def test_what_somebody_wants_is_not_recorded() -> None:
    """At work, failed, or reopened by name: no catching up takes that away."""
    stage = stage_of(at="2026-11-18T06:00Z", max_attempts=1, parallel=4)
    held, given_up, again = stage.claim(only="h", limit=3)
    stage.report(given_up, fails)
    stage.report(again)
    off(stage)
    stage.request("reprocess", "h", "2026-11-18T02")
    on(stage, catch_up="none")
    assert states(stage)[:6] == ["in_progress", "failed", "in_progress", *["skipped"] * 3]
    assert active(stage) == [held.key, "h@2026-11-18T02#2"]


def test_a_new_process_whose_tree_lies_in_the_past_is_not_caught_up_where_it_says_so() -> None:
    stage = stage_of(at="2026-11-20T00:00Z", catch_up="latest")
    assert [key for key in active(stage) if key.startswith("h")] == ["h@2026-11-19T23#1"]
    assert stage.job("h", "2026-11-18T00").reason == (
        "not caught up: it was due before its process was registered"
    )
    stage.work()
    assert stage.state("d", "2026-11-18") == "skipped", "all its hours were"
    assert stage.state("d", "2026-11-19") == "processed"


def test_what_was_missed_while_no_scheduler_ran_is_caught_up_whatever_the_policy() -> None:
    """That is an outage; nobody said that its intervals were not wanted."""
    stage = stage_of(at="2026-11-18T00:00Z", catch_up="none")
    stage.clock.set(datetime.fromisoformat("2026-11-18T03:00Z"))
    stage.restart()
    assert len(stage.claim(only="h")) == 3


def test_a_policy_that_is_given_to_an_old_process_records_nothing() -> None:
    stage = stage_of(at="2026-11-18T01:00Z")
    stage.work()
    store = stage.store
    stage = stage_of(at="2026-11-18T04:00Z", catch_up="none")
    stage.store = store
    stage.restart()
    assert len(stage.claim(only="h")) == 3


def test_what_is_on_may_be_told_to_leave_its_past() -> None:
    stage = stage_of(parallel=2)
    on(stage, catch_up="latest")
    assert states(stage) == ["in_progress"] * 2 + ["skipped"] * 21 + ["embryo"]
    assert "so asked for by request r1" in stage.job("h", "2026-11-18T10").reason
    stage.work()
    assert states(stage)[-1] == "processed"


def test_many_are_recorded_a_batch_at_a_time_and_the_loop_turns_between() -> None:
    stage = stage_of(at="2026-11-18T00:30Z")
    off(stage)
    stage.clock.set(datetime.fromisoformat("2027-01-18T00:00Z"))
    stage.settle()
    switching(stage, "q", on=True, catch_up="none")
    recorded = [0]
    while stage.scheduler.once(everything=False):
        skipped = stage.store._jobs.values()  # type: ignore[attr-defined]
        recorded.append(sum(job.process == "h" and job.state == "skipped" for job in skipped))
        assert not any(key.startswith("h") for key in active(stage))
    hours = 61 * 24
    assert recorded[-1] == hours
    steps = [after - before for before, after in pairwise(recorded)]
    assert max(steps) == 500
    assert len([step for step in steps if step]) == 3
    assert stage.timetable.ledgers["h"].size < 100, "one run of the ledger"


# freeruns


def test_a_freerun_that_is_off_does_not_fire_and_then_fires_by_its_misfire_policy() -> None:
    stage = stage_of(at="2026-11-18T00:30Z")
    off(stage, "f")
    stage.until("2026-11-18T05:30Z")
    assert stage.claim(only="f") == []
    assert "f is switched off since 2026-11-18 00:30:00 UTC: the base is moved" in str(
        stage.request("trigger", "f").answer["why"]
    )
    on(stage, "f")
    (unit,) = stage.claim(only="f")
    assert unit.interval.start == datetime.fromisoformat("2026-11-18T05:00Z")


def test_a_firing_that_nobody_has_started_is_recorded_as_skipped() -> None:
    stage = stage_of(at="2026-11-18T00:30Z")
    stage.until("2026-11-18T01:30Z")
    assert active(stage, fired=True) == ["f@2026-11-18T01:00:00Z#1"]
    off(stage, "f")
    assert active(stage, fired=True) == []
    (job,) = stage.store.last_jobs("f", 10)
    assert (job.state, job.reason) == ("skipped", "its process was switched off")
    on(stage, "f")
    stage.until("2026-11-18T02:00Z")
    assert [unit.interval.start.hour for unit in stage.claim(only="f")] == [2]


# two schedulers


def another(stage: Stage) -> Scheduler:
    scheduler = Scheduler(
        Setting(
            store=stage.store,
            bell=stage.bell,
            clock=stage.clock,
            catalog=stage.catalog,
            owner="another",
            sources=SourcesAtOnce(stage.measure),
        )
    )
    scheduler.load()
    return scheduler


def settle(scheduler: Scheduler) -> None:
    """Let it do all that it can do now."""
    while scheduler.once():
        pass


def test_another_scheduler_hears_of_a_switch_within_its_housekeeping() -> None:
    stage = stage_of(at="2026-11-18T00:30Z")
    other = another(stage)
    settle(other)
    off(stage)
    stage.clock.set(stage.clock.now() + HOUSEKEEPING * 2)
    settle(other)
    switch = known(other)
    assert not switch.on
    stage.until("2026-11-18T03:00Z")
    settle(other)
    assert stage.claim(only="h") == []


def test_who_has_not_heard_that_it_is_off_switches_it_on_all_the_same() -> None:
    stage = stage_of(at="2026-11-18T00:30Z")
    other = another(stage)
    off(stage)
    request = switching(stage, "q1", on=True)
    other._follow_up([RequestFiled(request)])
    answered = stage.store.read_request("q1")
    assert answered is not None
    assert answered.answer["changed"]
    assert stage.store.read_documents("switches")["h"].content["on"]


def test_a_clock_that_was_set_back_keeps_nobody_from_hearing_of_a_switch() -> None:
    stage = stage_of(at="2026-11-18T00:30Z")
    other = another(stage)
    right = stage.clock.now()
    stage.clock.set(right + timedelta(days=3653))
    settle(other)
    stage.clock.set(right)
    settle(other)
    off(stage)
    stage.clock.set(right + HOUSEKEEPING * 2)
    other.once()
    assert not other.engine.switchboard.on("h")


def test_a_request_that_two_schedulers_obey_counts_once() -> None:
    """Also where another has been obeyed in between."""
    stage = stage_of(at="2026-11-18T00:30Z")
    other = another(stage)
    switching(stage, "q1", on=False)
    opened = stage.store.open_requests()
    stage.settle()
    on(stage)
    other._follow_up([RequestFiled(each) for each in opened])
    switch = known(other)
    assert switch.on
    assert stage.store.read_documents("switches")["h"].version == 2
