"""The engine alone, event by event: intents until the store has answered, and no guesses."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from synergy.core.building import build
from synergy.core.commands import AnswerRequest, Command, MeasureSource, SaveJob, SaveUnit
from synergy.core.context import Context, daily, freerun, hourly, tree
from synergy.core.engine import Engine
from synergy.core.events import (
    Event,
    JobRefused,
    JobSaved,
    JobsChanged,
    JobsRead,
    Loaded,
    RequestFiled,
    SourceMeasured,
    TimePassed,
    UnitChanged,
    UnitRefused,
    UnitSaved,
)
from synergy.core.model import Job, Request, Unit
from synergy.core.states import JobState, UnitState

NOW = datetime(2026, 11, 19, 2, tzinfo=UTC)
NOTHING = Loaded(ledgers={}, entries=(), jobs=(), units=(), requests=(), fired={})


def engine(**hour: Any) -> Engine:
    """Two hours have passed; nothing is stored."""
    context = Context(
        tree(
            "t",
            [daily("d", run="w:f"), hourly("h", run="w:f", **{"source": "s", **hour})],
            start="2026-11-19",
            lag=0,
        ),
        freerun("f", at="every 1800", run="w:f"),
        sources={"s": "w:k"},
    )
    return Engine(build(context, NOW))


def told(to: Engine, *events: Event, now: datetime = NOW) -> list[Command]:
    return to.handle(events, now)


def saves(commands: Sequence[Command]) -> list[Job]:
    return [command.write.job for command in commands if isinstance(command, SaveJob)]


def units(commands: Sequence[Command]) -> list[Unit]:
    return [command.write.unit for command in commands if isinstance(command, SaveUnit)]


def agreed(commands: Sequence[Command]) -> list[Event]:
    """The answers of a store that takes everything."""
    answers: list[Event] = []
    for command in commands:
        if isinstance(command, SaveJob):
            answers.append(JobSaved(command.write))
        elif isinstance(command, SaveUnit):
            answers.append(UnitSaved(command.write))
    return answers


def settled(to: Engine, *events: Event, now: datetime = NOW) -> list[Command]:
    """Tell it, and agree with all that it wants until it wants nothing more."""
    todo, wanted = [*events], []
    while todo:
        commands = told(to, *todo, now=now)
        wanted += commands
        todo = agreed(commands)
    return wanted


def begun() -> tuple[Engine, Unit, Unit]:
    """An engine whose first two hours are requested."""
    it = engine()
    first, second = units(settled(it, NOTHING))
    return it, first, second


def ended(unit: Unit, state: UnitState = UnitState.PROCESSED) -> Unit:
    started = unit.moved(UnitState.IN_PROGRESS, NOW, owner="w", lease_until=NOW)
    return started.moved(state, NOW, finished_at=NOW)


def test_a_unit_is_requested_only_when_the_store_has_taken_the_job() -> None:
    it = engine()
    commands = told(it, NOTHING)
    assert [job.key for job in saves(commands)] == ["h@2026-11-19T00", "h@2026-11-19T01"]
    assert units(commands) == []
    assert told(it, TimePassed(), TimePassed()) == [], "asked once"
    assert [unit.key for unit in units(told(it, *agreed(commands)))] == [
        "h@2026-11-19T00#1",
        "h@2026-11-19T01#1",
    ]


def test_what_the_store_refuses_is_believed_as_it_stands() -> None:
    it = engine()
    first, _ = (command for command in told(it, NOTHING) if isinstance(command, SaveJob))
    current = replace(first.write.job, version=7, state=JobState.PROCESSED, result=1, attempts=2)
    assert units(told(it, JobRefused(first.write, current))) == []
    standing = it.timetable.ledgers["h"].at(current.interval.start)
    assert standing == current.standing


def test_a_refusal_with_nothing_there_is_tried_anew() -> None:
    it = engine()
    first, _ = (command for command in told(it, NOTHING) if isinstance(command, SaveJob))
    (again,) = saves(told(it, JobRefused(first.write, None)))
    assert again.key == first.write.job.key


def test_a_job_that_another_scheduler_dispatched_has_its_unit_inserted() -> None:
    """It may have died in between; where it did not, the insert is refused and harmless."""
    it = engine()
    first, _ = (command for command in told(it, NOTHING) if isinstance(command, SaveJob))
    current = replace(first.write.job, reason="by another")
    (unit,) = units(told(it, JobRefused(first.write, current)))
    assert unit.key == "h@2026-11-19T00#1"


def test_what_a_unit_says_while_its_job_is_being_written_waits_for_the_answer() -> None:
    it = engine()
    first, _ = (command for command in told(it, NOTHING) if isinstance(command, SaveJob))
    unit = Unit(
        process="h",
        interval=first.write.job.interval,
        generation=1,
        task=it.catalog.processes["h"].task,
        created_at=NOW,
    )
    assert told(it, UnitChanged(ended(unit))) == []
    done = saves(told(it, JobSaved(first.write)))
    assert [(job.key, job.state) for job in done] == [("h@2026-11-19T00", JobState.PROCESSED)]


def test_the_same_report_again_or_an_older_one_changes_nothing() -> None:
    it, first, _ = begun()
    commands = told(it, UnitChanged(ended(first)))
    assert [job.state for job in saves(commands)] == [JobState.PROCESSED]
    assert told(it, UnitChanged(ended(first))) == []
    settled(it, *agreed(commands))
    assert told(it, UnitChanged(ended(first)), UnitChanged(ended(first))) == []
    started = first.moved(UnitState.IN_PROGRESS, NOW, owner="w", lease_until=NOW)
    assert [unit.state for unit in units(told(it, UnitChanged(started)))] == [UnitState.CANCELED], (
        "a job that has moved on takes no further attempt"
    )


def test_units_of_processes_that_are_not_registered_are_left_alone() -> None:
    it, first, _ = begun()
    foreign = replace(first, process="gone")
    assert told(it, UnitChanged(foreign), UnitChanged(ended(foreign))) == []
    loaded = replace(NOTHING, units=(foreign,))
    other = engine()
    settled(other, loaded)
    settled(other, *[UnitChanged(ended(unit)) for unit in units(settled(engine(), NOTHING))])
    assert "gone" not in {unit.process for unit in other._units.values()}


def test_a_refused_cancel_of_what_has_ended_is_the_end_of_it() -> None:
    """Seen by a source that failed while its unit was refused: it was withdrawn twice."""
    it, first, _ = begun()
    request = Request(
        id="r", action="skip", process="h", starts=(first.interval.start,), filed_at=NOW
    )
    commands = told(it, RequestFiled(request))
    commands = told(it, JobsRead("r", {}))
    commands = told(it, *agreed(commands))
    (cancel,) = [each for each in commands if isinstance(each, SaveUnit)]
    commands = told(it, UnitRefused(cancel.write, ended(first)))
    assert [each.request.state for each in commands if isinstance(each, AnswerRequest)] == ["done"]


def test_it_wants_to_be_woken_when_the_next_interval_is_due() -> None:
    it, first, second = begun()
    assert it.wake_at() == NOW + timedelta(minutes=30), "the freerun"
    settled(it, TimePassed(), now=NOW + timedelta(minutes=30))
    assert it.wake_at() == NOW + timedelta(hours=1)
    for unit in (first, second):
        settled(it, UnitChanged(ended(unit)), now=NOW + timedelta(minutes=31))
    assert not it.idle, "a firing is at work"
    assert [job.interval.label for job in saves(told(it, TimePassed(), now=NOW.replace(hour=3)))][
        :1
    ] == ["2026-11-19T03:00:00Z"]


def test_it_is_idle_when_nothing_is_under_way() -> None:
    it, first, second = begun()
    assert not it.idle
    settled(it, UnitChanged(ended(first)), UnitChanged(ended(second)))
    assert it.idle


def test_a_source_is_measured_before_and_not_twice_at_once() -> None:
    it = engine(machine="recomputing")
    commands = settled(it, NOTHING)
    asked = [each for each in commands if isinstance(each, MeasureSource)]
    assert sorted(each.interval.label[-2:] for each in asked) == ["00", "01", "02"]
    assert saves(commands) == []
    assert not [each for each in told(it, TimePassed()) if isinstance(each, MeasureSource)]
    first = it.catalog.processes["h"].calendar.parse("2026-11-19T00")
    (unit,) = units(settled(it, SourceMeasured(process="h", interval=first, low=1, high=5)))
    assert (unit.low, unit.high) == (1, 5)


def test_what_was_measured_while_it_was_open_does_not_go_with_the_final_unit() -> None:
    it = engine(machine="recomputing")
    (open_,) = [
        each
        for each in settled(it, NOTHING)
        if isinstance(each, MeasureSource) and each.interval.label.endswith("T02")
    ]
    closed = NOW + timedelta(hours=1)
    late = SourceMeasured(process="h", interval=open_.interval, low=1, high=5)
    commands = told(it, late, now=closed)
    assert "h" not in {job.process for job in saves(commands)}
    assert open_ in commands, "it is measured again"
    made = units(settled(it, replace(late, high=9), now=closed))
    (unit,) = (unit for unit in made if unit.process == "h")
    assert (unit.key, unit.high) == ("h@2026-11-19T02#1", 9)


def test_an_older_word_of_a_unit_does_not_hide_its_lease() -> None:
    it, first, _ = begun()
    started = first.moved(
        UnitState.IN_PROGRESS, NOW, owner="w", lease_until=NOW + timedelta(seconds=15)
    )
    assert told(it, UnitChanged(started), UnitChanged(first)) == []
    lost = units(told(it, TimePassed(), now=NOW + timedelta(seconds=15)))
    assert [(unit.key, unit.attempt) for unit in lost] == [(first.key, 2)]


def test_an_answer_to_a_question_that_nobody_asked_changes_nothing() -> None:
    it, first, _ = begun()
    measured = SourceMeasured(process="h", interval=first.interval, low=1, high=5)
    assert told(it, measured, JobsRead("unknown", {})) == []
    assert told(it, replace(measured, process="gone")) == []


def test_what_another_scheduler_did_is_taken_over_as_a_whole_before_anything_follows() -> None:
    it, first, second = begun()
    settled(it, UnitChanged(ended(first)), UnitChanged(ended(second)))
    for number in range(2, 24):
        later = NOW.replace(hour=0) + timedelta(hours=number + 1)
        made = units(settled(it, TimePassed(), now=later))
        hours = [unit for unit in made if unit.process == "h"]
        settled(it, *[UnitChanged(ended(unit)) for unit in hours], now=later)
    now = NOW.replace(hour=0) + timedelta(days=1)
    day = it.timetable.job("d", it.catalog.processes["d"].calendar.parse("2026-11-19"))
    assert day is not None
    assert day.state is JobState.IN_PROGRESS
    reopened = Job(
        process="d", interval=day.interval, version=9, generation=2, result=1, consumed={}
    )
    hour = Job(process="h", interval=first.interval, version=9, generation=2, result=1)
    commands = told(it, JobsChanged((reopened, hour)), now=now)
    assert [job.key for job in saves(commands)] == ["h@2026-11-19T00"], "not the day as well"


def test_an_older_word_of_another_scheduler_is_not_believed() -> None:
    it, first, _ = begun()
    active = it.timetable.active["h", first.interval.start]
    old = replace(active, version=active.version, state=JobState.FAILED)
    assert told(it, JobsChanged((old,))) == []
    assert it.timetable.active["h", first.interval.start] == active


@pytest.mark.parametrize("again", [1, 2])
def test_a_request_is_executed_once_however_often_it_is_read(again: int) -> None:
    it, first, _ = begun()
    settled(it, UnitChanged(ended(first)))
    request = Request(
        id="r", action="reprocess", process="h", starts=(first.interval.start,), filed_at=NOW
    )
    stored = replace(
        it.timetable.job("h", first.interval) or Job(process="h", interval=first.interval),
        version=2,
        state=JobState.PROCESSED,
        result=1,
    )
    told(it, *[RequestFiled(request)] * again)
    commands = settled(it, JobsRead("r", {stored.key: stored}))
    opened = [job for job in saves(commands) if job.key == stored.key]
    assert max(job.generation for job in opened) == 2
    assert len([each for each in commands if isinstance(each, AnswerRequest)]) == 1


def test_the_same_history_gives_the_same_commands() -> None:
    def history() -> list[Command]:
        it = engine()
        commands = settled(it, NOTHING)
        for unit in units(commands):
            commands += settled(it, UnitChanged(ended(unit)))
        return commands + settled(it, TimePassed(), now=NOW + timedelta(hours=9))

    assert history() == history()


def test_all_that_happened_is_known_before_a_timer_fires() -> None:
    it, first, _ = begun()
    started = first.moved(
        UnitState.IN_PROGRESS, NOW, owner="w", lease_until=NOW + timedelta(seconds=15)
    )
    told(it, UnitChanged(started))
    late = NOW + timedelta(seconds=15)
    renewed = replace(started, version=3, lease_until=late + timedelta(seconds=15))
    assert units(told(it, TimePassed(), UnitChanged(renewed), now=late)) == []
    lost = units(told(it, TimePassed(), now=late + timedelta(seconds=15)))
    assert [(unit.key, unit.attempt) for unit in lost] == [(first.key, 2)]


def test_the_calendar_is_followed_only_as_far_as_there_is_room() -> None:
    it = engine(parallel=1)
    (first,) = units(settled(it, NOTHING))
    line = it._lines["h"]
    assert (line.due, line.ready) == (it.catalog.processes["h"].calendar.next(first.interval), [])
    (second,) = units(settled(it, UnitChanged(ended(first))))
    assert second.interval == it.catalog.processes["h"].calendar.next(first.interval)


def test_where_there_is_no_room_an_unstarted_provisional_unit_gives_way_all_the_same() -> None:
    it = engine(machine="continuous", parallel=1)
    made = units(settled(it, NOTHING))
    while not made[-1].provisional:
        made = units(settled(it, UnitChanged(ended(made[-1]))))
    (provisional,) = made
    closed = provisional.interval.end
    (withdrawn,) = (
        unit
        for unit in units(told(it, TimePassed(), now=closed))
        if unit.state is UnitState.CANCELED
    )
    assert withdrawn.key == provisional.key
    (final,) = (
        unit
        for unit in units(settled(it, UnitChanged(withdrawn), now=closed))
        if unit.process == "h"
    )
    assert (final.interval, final.run) == (provisional.interval, 0)
