"""The ledger is a plain map from intervals to standings, only smaller; the timetable adds jobs."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core.building import build
from synergy.core.catalog import Catalog, Input
from synergy.core.context import Context, daily, hourly, tree
from synergy.core.intervals import Calendar, Granularity, Interval
from synergy.core.model import FeedEntry, Job, LedgerRecord, Standing, Transition
from synergy.core.states import JobState
from synergy.core.timetable import Ledger, Timetable, standing_of

START = datetime(2026, 10, 25, tzinfo=UTC)
CALENDARS = [
    Calendar(Granularity.HOURLY, 1, "Europe/Berlin"),
    Calendar(Granularity.DAILY, 1, "Australia/Lord_Howe"),
    Calendar(Granularity.MONTHLY),
    Calendar(Granularity.MINUTELY, 15, "America/New_York"),
]
STANDINGS = [
    Standing(JobState.PROCESSED, 1, 1, 1),
    Standing(JobState.PROCESSED, 1, 1, 2),
    Standing(JobState.PROCESSED, 2, 1, 0),
    Standing(JobState.NOOP, 1, 1, 1),
    Standing(JobState.SKIPPED, 1, 1, 0),
    Standing(JobState.FAILED, 3, 1, 3),
    Standing(JobState.PROCESSED, 1, 1, 1, outdated=True),
]
SIZE = 40


def intervals(calendar: Calendar, count: int = SIZE) -> list[Interval]:
    found = [calendar.containing(START)]
    while len(found) < count:
        found.append(calendar.next(found[-1]))
    return found


puts = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.none() | st.sampled_from(STANDINGS)), max_size=120
)


@settings(deadline=None)
@given(st.sampled_from(CALENDARS), puts)
def test_a_ledger_says_the_same_as_a_plain_map(
    calendar: Calendar, done: list[tuple[int, Standing | None]]
) -> None:
    line = intervals(calendar)
    ledger, model = Ledger(), dict[int, Standing | None]()
    for number, standing in done:
        ledger.put(line[number], standing)
        model[number] = standing
    wanted = [model.get(number) for number in range(SIZE)]
    assert [ledger.at(one.start) for one in line] == wanted
    assert [ledger.at(one.end - timedelta(seconds=1)) for one in line] == wanted
    assert ledger.at(line[0].start - timedelta(seconds=1)) is None
    assert ledger.at(line[-1].end) is None

    runs = [*ledger.runs(line[0].start, line[-1].end)]
    told: list[Standing | None] = []
    for start, end, standing in runs:
        told += [standing for one in line if start <= one.start < end]
    assert told == wanted
    assert runs[-1][1] == line[-1].end
    assert all(one[1] == other[0] for one, other in pairwise(runs)), "without a gap"
    assert all(one[2] != other[2] for one, other in pairwise(runs)), "merged"

    changes = [n for n in range(1, SIZE) if wanted[n] != wanted[n - 1]]
    for number, one in enumerate(line):
        following = next((n for n in changes if n > number), None)
        end = line[following].start if following is not None else None
        if end is None and wanted[-1] is not None:
            end = line[-1].end
        assert ledger.end_of_run(one.start) == end

    for number, one in enumerate(line):
        gaps = [other.start for other in line[number:] if ledger.at(other.start) is None]
        assert ledger.gap_from(one.start) == (gaps[0] if gaps else line[-1].end)

    worked = [
        one.end
        for one, standing in zip(line, wanted, strict=True)
        if standing is not None and standing.state is not JobState.SKIPPED
    ]
    assert ledger.worked_until() == (worked[-1] if worked else None)

    for again in (Ledger.of_content(json.loads(json.dumps(ledger.content()))), ledger.copy()):
        assert [again.at(one.start) for one in line] == wanted
        assert [again.gap_from(one.start) for one in line] == [
            ledger.gap_from(one.start) for one in line
        ]
        assert again.content() == ledger.content()
    assert ledger.size <= 6 * (len(changes) + 2)


@given(st.permutations(range(SIZE)))
def test_alike_neighbours_become_one_run_in_whatever_order_they_come(order: list[int]) -> None:
    line, ledger = intervals(CALENDARS[0]), Ledger()
    for number in order:
        ledger.put(line[number], STANDINGS[0])
    assert [*ledger.runs(line[0].start, line[-1].end)] == [
        (line[0].start, line[-1].end, STANDINGS[0])
    ]
    assert ledger.size == 12


def test_a_finished_century_of_hours_takes_a_few_bytes() -> None:
    calendar, ledger = Calendar(Granularity.HOURLY), Ledger()
    interval = calendar.containing(START)
    for number in range(20_000):
        ledger.put(interval, STANDINGS[0 if number % 1000 else 1])
        interval = calendar.next(interval)
    assert ledger.size < 300


@pytest.mark.parametrize("year", [1890, 2150])
def test_a_ledger_goes_beyond_what_four_bytes_hold(year: int) -> None:
    calendar, ledger = Calendar(Granularity.DAILY), Ledger()
    day, far = calendar.containing(START), calendar.containing(START.replace(year=year))
    for one, standing in ((day, STANDINGS[0]), (far, STANDINGS[3])):
        ledger.put(one, standing)
    for known in (ledger, Ledger.of_content(json.loads(json.dumps(ledger.content())))):
        assert known.at(day.start) == STANDINGS[0]
        assert known.at(far.start) == STANDINGS[3]
        assert known.at(far.end) is None
        assert known.gap_from(far.start) == far.end


def test_a_ledger_knows_more_ways_to_stand_than_two_bytes_can_number() -> None:
    calendar, ledger = Calendar(Granularity.HOURLY), Ledger()
    interval = calendar.containing(START)
    for generation in range(1, 66_000):
        ledger.put(interval, Standing(JobState.PROCESSED, generation, 1, 1))
    assert ledger.at(interval.start) == Standing(JobState.PROCESSED, 65_999, 1, 1)


@pytest.mark.parametrize("part", [(0, SIZE), (3, 4), (5, 30), (39, 40)])
def test_runs_begin_and_end_where_asked(part: tuple[int, int]) -> None:
    line, ledger = intervals(CALENDARS[0]), Ledger()
    for number in range(2, 20):
        ledger.put(line[number], STANDINGS[number // 8])
    start, end = line[part[0]].start, line[part[1] - 1].end
    runs = [*ledger.runs(start, end)]
    assert runs[0][0] == start
    assert runs[-1][1] == end
    assert all(start <= begin < until <= end for begin, until, _ in runs)
    assert [*ledger.runs(start, start)] == []


# the timetable: ledgers, entries and active jobs


def catalog() -> Catalog:
    return build(
        Context(
            tree(
                "t",
                [daily("d", run="w:f"), hourly("h", run="w:f")],
                start="2026-11-19",
                until="2026-11-21",
            )
        ),
        START,
    )


def hour(number: int, **changes: Any) -> Job:
    interval = Calendar(Granularity.HOURLY).parse(f"2026-11-19T{number:02}")
    return Job(process="h", interval=interval, version=1, **changes)


DAY = Input("child", "h", datetime(2026, 11, 19, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC))


def entry(seq: int, job: Job, **changes: Any) -> FeedEntry:
    given_ = {
        "version": 1,
        "at": START,
        "before": "in_progress",
        "after": "processed",
        "generation": 1,
        "attempt": 1,
        "result": 1,
        **changes,
    }
    return FeedEntry(
        seq=seq,
        kind="job",
        key=job.key,
        process=job.process,
        interval=job.interval,
        transition=Transition(**given_),
    )


def test_what_nobody_touched_is_a_derived_embryo() -> None:
    timetable = Timetable(catalog())
    job = timetable.job("h", hour(3).interval)
    assert job == Job(process="h", interval=hour(3).interval)
    assert timetable.state("h", hour(3).interval) is JobState.EMBRYO


def test_a_terminal_job_is_kept_in_the_ledger_alone() -> None:
    timetable = Timetable(catalog())
    timetable.put(hour(3, state=JobState.IN_PROGRESS))
    assert timetable.job("h", hour(3).interval) == hour(3, state=JobState.IN_PROGRESS)
    timetable.put(hour(3, state=JobState.PROCESSED, result=1, attempts=1))
    assert timetable.active == {}
    assert timetable.job("h", hour(3).interval) is None
    assert timetable.state("h", hour(3).interval) is JobState.PROCESSED
    timetable.put(hour(3, state=JobState.EMBRYO, generation=2, result=1))
    assert timetable.state("h", hour(3).interval) is JobState.EMBRYO
    assert timetable.ledgers["h"].at(hour(3).interval.start) is None


def test_the_inputs_of_a_day_are_told_as_runs_and_active_ones() -> None:
    timetable = Timetable(catalog())
    for number in (0, 1, 2, 5):
        timetable.put(hour(number, state=JobState.PROCESSED, result=1))
    timetable.put(hour(3, state=JobState.IN_PROGRESS))
    told = [(start.hour, end.hour, state) for start, end, state in timetable.runs(DAY)]
    assert told == [
        (0, 3, JobState.PROCESSED),
        (3, 5, JobState.IN_PROGRESS),
        (5, 6, JobState.PROCESSED),
        (6, 0, JobState.EMBRYO),
    ]
    assert [state for _, end, state in timetable.runs(DAY) if end == DAY.end] == [JobState.EMBRYO]


def test_a_days_hours_have_ended_when_the_last_one_has() -> None:
    timetable = Timetable(catalog())
    day = Calendar(Granularity.DAILY).containing(DAY.start)
    for number in (*range(1, 24), 0):
        assert not timetable.all_ended("h", day)
        timetable.put(hour(number, state=JobState.FAILED if number == 5 else JobState.PROCESSED))
    assert timetable.all_ended("h", day), "failed is ended, too: what it means is judged"
    timetable.put(hour(7, state=JobState.EMBRYO, generation=2))
    assert not timetable.all_ended("h", day)


def test_only_generations_above_one_are_listed() -> None:
    timetable = Timetable(catalog())
    for number in range(24):
        timetable.put(hour(number, state=JobState.PROCESSED, result=1))
    day = Calendar(Granularity.DAILY).parse("2026-11-19")
    assert timetable.inputs_generations("d", day) == ({}, {})
    timetable.put(hour(4, state=JobState.PROCESSED, generation=3, result=2))
    timetable.put(hour(5, state=JobState.SKIPPED, generation=3, result=3))
    assert timetable.inputs_generations("d", day) == (
        {"h@2026-11-19T04": 3, "h@2026-11-19T05": 3},
        {"h@2026-11-19T04": 2, "h@2026-11-19T05": 3},
    )


def test_it_is_loaded_from_checkpoints_what_came_after_and_what_is_active() -> None:
    ledger = Ledger()
    ledger.put(hour(0).interval, STANDINGS[0])
    ledger.put(hour(1).interval, STANDINGS[0])
    timetable = Timetable(catalog())
    timetable.load(
        {"h": LedgerRecord("h", 10, ledger.content()), "gone": LedgerRecord("gone", 3, {})},
        [
            entry(10, hour(1), after="failed"),  # already in the checkpoint
            entry(11, hour(2)),
            entry(12, hour(0), before="processed", after="embryo", generation=2),
            entry(13, hour(3), after="noop", attempt=4),
            entry(14, Job(process="gone", interval=hour(3).interval)),
        ],
        [
            hour(0, state=JobState.EMBRYO, generation=2, result=1),
            Job(process="gone", interval=hour(0).interval),
        ],
    )
    states = [timetable.state("h", hour(number).interval).value for number in range(5)]
    assert states == ["embryo", "processed", "processed", "noop", "embryo"]
    assert [*timetable.active] == [("h", hour(0).interval.start)]
    assert timetable.ledgers["h"].at(hour(3).interval.start) == Standing(JobState.NOOP, 1, 1, 4)


def test_the_same_entries_again_change_nothing() -> None:
    entries = [entry(1, hour(2)), entry(2, hour(3), after="skipped", attempt=0)]
    once, twice = Timetable(catalog()), Timetable(catalog())
    once.load({}, entries, [])
    twice.load({}, [*entries, *entries], [])
    assert once.ledgers["h"].content() == twice.ledgers["h"].content()


def test_a_ledger_of_before_there_were_marks_is_read() -> None:
    content = {
        "starts": [int(hour(number).interval.start.timestamp()) for number in (0, 2)],
        "codes": [1, 0],
        "standings": [["processed", 1, 1, 2]],
    }
    ledger = Ledger.of_content(content)
    assert ledger.at(hour(1).interval.start) == Standing(JobState.PROCESSED, 1, 1, 2)
    assert ledger.content() == content, "what is not marked is stored as ever"


def test_an_entry_tells_that_its_job_is_marked_stale() -> None:
    standing = standing_of(entry(1, hour(2), before="processed", outdated=True))
    assert standing == Standing(JobState.PROCESSED, 1, 1, 1, outdated=True)


@pytest.mark.parametrize("state", JobState)
def test_an_entry_stands_only_when_its_job_has_ended(state: JobState) -> None:
    standing = standing_of(entry(1, hour(2), after=state.value, generation=4, result=3))
    assert standing == (Standing(state, 4, 3, 1) if state.terminal else None)
