"""The blocking table of DESIGN §4, cell by cell, and reasons that are the decision itself."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core.building import build
from synergy.core.catalog import Catalog, Input
from synergy.core.context import Context, daily, hourly, tree
from synergy.core.intervals import Interval
from synergy.core.model import Job
from synergy.core.readiness import (
    READY,
    Awaited,
    Held,
    Hopeless,
    IntervalOpen,
    NotBegun,
    Pausing,
    Readiness,
    Ready,
    Waiting,
    judge,
)
from synergy.core.states import JobState
from synergy.core.timetable import Timetable

DAY = "2026-11-19"
OPEN = datetime(2026, 11, 19, 12, tzinfo=UTC)
DUE = datetime(2026, 11, 20, 0, 5, tzinfo=UTC)
E, W = JobState.EMBRYO, JobState.IN_PROGRESS
P, N, S, X = JobState.PROCESSED, JobState.NOOP, JobState.SKIPPED, JobState.FAILED


class Stand:
    """A day of two half days that depends on another day; states as they are set."""

    def __init__(self, machine: str = "discrete", blocking: str = "normal") -> None:
        options: dict[str, Any] = {"machine": machine, "blocking": blocking, "source": "s"}
        self.catalog: Catalog = build(
            Context(
                tree("u", [daily("o", run="w:f")], start="2026-11-01"),
                tree(
                    "t",
                    [
                        daily("d", run="w:f", after="o", **options),
                        hourly("h", run="w:f", grouping=12),
                    ],
                    start="2026-11-01",
                ),
                sources={"s": "w:k"},
            ),
            OPEN,
        )
        self.timetable = Timetable(self.catalog)

    def put(self, process: str, label: str, state: JobState, **changes: Any) -> None:
        interval = self.catalog.processes[process].calendar.parse(label)
        self.timetable.put(Job(process=process, interval=interval, state=state, **changes))

    def children(self, *states: JobState) -> None:
        for hour, state in zip(("00", "12"), states, strict=True):
            self.put("h", f"{DAY}T{hour}/PT12H", state)

    def judge(self, *, final: bool, limit: int = 1, **changes: Any) -> Readiness:
        interval = self.catalog.processes["d"].calendar.parse(DAY)
        job = replace(Job(process="d", interval=interval), **changes)
        return judge(self.timetable, job, DUE if final else OPEN, final=final, limit=limit)


def expected(
    machine: str, blocking: str, final: bool, children: tuple[JobState, JobState], other: JobState
) -> str:
    """The table of DESIGN §4, written down once more, independently."""
    finished = {P, N, S}
    children_finished = set(children) <= finished
    if final or machine == "discrete":
        if set(children) == {S}:
            return "hopeless"
        if blocking == "dependencies":
            if other is S:
                return "hopeless"
            return "ready" if children_finished and other in {P, N} else "waiting"
        return "ready" if children_finished and other in finished else "waiting"
    match blocking:
        case "normal":
            return "ready"
        case "children":
            return "ready" if children_finished and other in finished else "waiting"
        case _:
            return "ready" if other in {P, N} else "waiting"


@pytest.mark.parametrize("final", [False, True], ids=["provisional", "final"])
@pytest.mark.parametrize("blocking", ["normal", "children", "dependencies"])
@pytest.mark.parametrize("machine", ["discrete", "continuous", "recomputing"])
def test_what_a_run_awaits(machine: str, blocking: str, final: bool) -> None:
    if machine == "discrete" and not final:
        return
    for first, second, other in product(JobState, JobState, JobState):
        stand = Stand(machine, blocking)
        stand.children(first, second)
        stand.put("o", DAY, other)
        verdict = stand.judge(final=final)
        kind = {Ready: "ready", Waiting: "waiting", Hopeless: "hopeless"}[type(verdict)]
        cell = f"children {first}, {second}; dependency {other}"
        assert kind == expected(machine, blocking, final, (first, second), other), cell


def test_a_failed_child_holds_and_is_named() -> None:
    stand = Stand()
    stand.children(P, X)
    stand.put("o", DAY, P)
    verdict = stand.judge(final=True)
    assert isinstance(verdict, Waiting)
    assert [str(reason) for reason in verdict.for_] == ["child h 2026-11-19T12/PT12H is failed"]


def test_when_all_children_were_skipped_that_is_said() -> None:
    stand = Stand()
    stand.children(S, S)
    stand.put("o", DAY, E)
    assert str(stand.judge(final=True)) == "all its children were skipped"


def test_a_skipped_dependency_is_named_by_who_blocks_on_it() -> None:
    stand = Stand(blocking="dependencies")
    stand.children(E, E)
    stand.put("o", DAY, S)
    assert str(stand.judge(final=True)) == "dependency o 2026-11-19 was skipped"


def test_nobody_is_hopeless_while_the_interval_is_open() -> None:
    stand = Stand("continuous", "dependencies")
    stand.put("o", DAY, S)
    assert isinstance(stand.judge(final=False), Waiting)


def test_its_own_reasons_come_before_those_of_others() -> None:
    stand = Stand("continuous", "children")
    later = OPEN + timedelta(minutes=5)
    verdict = stand.judge(final=False, limit=9, next_run=later, holds=("r1", "r2"))
    assert verdict == Waiting((Pausing(later), Held("r1"), Held("r2")))
    assert [str(reason) for reason in verdict.for_] == [
        "its next provisional run starts at 2026-11-19 12:05:00 UTC",
        "request r1 holds it until all that it touches is reopened",
        "request r2 holds it until all that it touches is reopened",
    ]


def test_a_hold_stops_a_job_that_is_ready_otherwise() -> None:
    stand = Stand()
    stand.children(P, P)
    stand.put("o", DAY, P)
    assert stand.judge(final=True) == READY
    assert stand.judge(final=True, holds=("r1",)) == Waiting((Held("r1"),))


def test_a_pause_does_not_hold_up_the_final_run() -> None:
    stand = Stand("continuous")
    stand.children(P, P)
    stand.put("o", DAY, P)
    assert stand.judge(final=True, next_run=DUE + timedelta(hours=1)) == READY


def test_a_discrete_job_is_told_when_it_is_due_and_any_job_when_it_begins() -> None:
    stand = Stand()
    assert stand.judge(final=False) == Waiting((IntervalOpen(DUE),))
    interval = stand.catalog.processes["d"].calendar.parse("2026-11-21")
    verdict = judge(stand.timetable, Job(process="d", interval=interval), OPEN, final=False)
    assert verdict == Waiting((NotBegun(interval.start),))
    assert str(verdict.for_[0]) == "the interval begins at 2026-11-21 00:00:00 UTC"


def test_all_reasons_are_named_as_far_as_the_limit_goes() -> None:
    stand = Stand()
    stand.children(E, X)
    stand.put("o", DAY, W)

    def reasons(limit: int) -> list[str]:
        verdict = stand.judge(final=True, limit=limit)
        assert isinstance(verdict, Waiting)
        return [str(reason) for reason in verdict.for_]

    everything = [
        "child h 2026-11-19T00/PT12H is embryo",
        "child h 2026-11-19T12/PT12H is failed",
        "dependency o 2026-11-19 is in_progress",
    ]
    for limit in (1, 2, 3, 10):
        assert reasons(limit) == everything[:limit]


STATES = st.lists(st.sampled_from(list(JobState)), min_size=24, max_size=24)


def _awaited(stand: Timetable, given_: Input, satisfied: set[JobState]) -> Iterator[Awaited]:
    for interval in stand.catalog.intervals_of(given_):
        state = stand.state(given_.process, interval)
        if state not in satisfied:
            yield Awaited(given_.kind, given_.process, interval, state)


@settings(max_examples=60, deadline=None)
@given(STATES, STATES, st.sampled_from(["normal", "children", "dependencies"]), st.integers(1, 60))
def test_the_reasons_are_exactly_the_inputs_that_are_not_as_far_and_the_first_decides(
    hours: list[JobState], others: list[JobState], blocking: str, limit: int
) -> None:
    catalog = build(
        Context(
            tree("u", [hourly("o", run="w:f")], start=DAY),
            tree(
                "t",
                [daily("d", run="w:f", after="o", blocking=blocking), hourly("h", run="w:f")],
                start=DAY,
            ),
        ),
        OPEN,
    )
    timetable = Timetable(catalog)
    for process, states in (("h", hours), ("o", others)):
        for number, state in enumerate(states):
            interval: Interval = catalog.processes[process].calendar.parse(f"{DAY}T{number:02}")
            timetable.put(Job(process=process, interval=interval, state=state))
    day = Job(process="d", interval=catalog.processes["d"].calendar.parse(DAY))
    one = judge(timetable, day, DUE, final=True)
    many = judge(timetable, day, DUE, final=True, limit=limit)
    assert type(one) is type(many)
    if isinstance(one, Hopeless):
        assert set(hours) == {S} or (blocking == "dependencies" and S in others)
        return
    wanted = [
        reason
        for given_ in catalog.inputs("d", day.interval)
        for reason in _awaited(
            timetable,
            given_,
            {P, N} if blocking == "dependencies" and given_.kind == "dependency" else {P, N, S},
        )
    ]
    if isinstance(many, Waiting):
        assert isinstance(one, Waiting)
        assert [*many.for_] == wanted[:limit]
        assert one.for_ == many.for_[:1]
    else:
        assert wanted == []
