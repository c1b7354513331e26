"""Whether a job may run, and if not, what it waits for: one predicate decides and explains.

The engine takes the first reason and stops; ``why`` prints them all.  They cannot differ, because
they are the same generator (DESIGN §2).
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Protocol

from synergy.core.catalog import Catalog, Input, Process
from synergy.core.intervals import Interval
from synergy.core.model import Job
from synergy.core.states import JobState
from synergy.core.values import dataclass


@dataclass(frozen=True, slots=True)
class NotBegun:
    """The interval lies in the future."""

    until: datetime

    def __str__(self) -> str:
        return f"the interval begins at {_clock(self.until)}"


@dataclass(frozen=True, slots=True)
class IntervalOpen:
    """The interval has not ended, or its lag has not passed."""

    until: datetime

    def __str__(self) -> str:
        return f"the interval is due at {_clock(self.until)}"


@dataclass(frozen=True, slots=True)
class Held:
    """An operator's request is reopening it together with others."""

    request: str

    def __str__(self) -> str:
        return f"request {self.request} holds it until all that it touches is reopened"


@dataclass(frozen=True, slots=True)
class Pausing:
    """Its next provisional run has its time."""

    until: datetime

    def __str__(self) -> str:
        return f"its next provisional run starts at {_clock(self.until)}"


@dataclass(frozen=True, slots=True)
class Awaited:
    """A child or dependency is not as far as it must be."""

    #: "child" or "dependency"; in an explanation also "ahead" (it has a place in a limit or pool)
    #: and "firing" (another one of the same freerun).
    kind: str
    process: str
    interval: Interval
    state: JobState

    def __str__(self) -> str:
        return f"{self.kind} {self.process} {self.interval.label} is {self.state.value}"


Reason = NotBegun | IntervalOpen | Held | Pausing | Awaited


@dataclass(frozen=True, slots=True)
class Ready:
    """It may run now."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """It may not run yet."""

    for_: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Hopeless:
    """It will never run: what it builds on was skipped."""

    because_of: tuple[Awaited, ...]

    def __str__(self) -> str:
        first = self.because_of[0]
        if first.kind == "child":
            return "all its children were skipped"
        return f"dependency {first.process} {first.interval.label} was skipped"


Readiness = Ready | Waiting | Hopeless

READY = Ready()


class View(Protocol):
    """What readiness consults of the timetable."""

    catalog: Catalog

    def runs(self, given: Input) -> Iterator[tuple[datetime, datetime, JobState]]:
        """The input's intervals in order, alike neighbours as one: where they begin and end, and
        the state that they share (of those that are not terminal: that of the first)."""
        ...


def judge(view: View, job: Job, now: datetime, *, final: bool, limit: int = 1) -> Readiness:
    """Whether a job may make its final run (for a discrete process: its run), or a provisional one.

    At most `limit` reasons are named.
    """
    process = view.catalog.processes[job.process]
    final = final or not process.open_ended
    own = _own_reasons(process, job, now, final)
    if own:
        return Waiting(tuple(own[:limit]))
    inputs = view.catalog.inputs(process.name, job.interval)
    if not inputs:
        return READY
    if final:
        skipped = _skipped(view, process, inputs)
        if skipped:
            return Hopeless(skipped)
    awaited = tuple(islice(_awaited(view, process, inputs, final), limit))
    return Waiting(awaited) if awaited else READY


def _own_reasons(process: Process, job: Job, now: datetime, final: bool) -> list[Reason]:
    reasons: list[Reason] = []
    if job.interval.start > now:
        reasons.append(NotBegun(job.interval.start))
    elif final and (due := process.due(job.interval)) > now:
        reasons.append(IntervalOpen(due))
    elif not final and job.next_run is not None and job.next_run > now:
        reasons.append(Pausing(job.next_run))
    reasons += map(Held, job.holds)
    return reasons


def _awaited(
    view: View, process: Process, inputs: Iterable[Input], final: bool
) -> Iterator[Awaited]:
    """The blocking table of DESIGN §4."""
    strict = process.blocking == "dependencies"
    if process.blocking == "normal" and not final:
        return
    for given in inputs:
        if given.kind == "child" and strict and not final:
            continue
        satisfied = _WITH_RESULT if strict and given.kind == "dependency" else _FINISHED
        for start, end, state in view.runs(given):
            if state in satisfied:
                continue
            first = _first(view, given, start)
            yield Awaited(given.kind, given.process, first, state)
            if first.end < end:
                yield from _further(view, given, first.end, satisfied)
                break


def _further(
    view: View, given: Input, after: datetime, satisfied: frozenset[JobState]
) -> Iterator[Awaited]:
    """The rest of an input, one by one: only asked for by who wants many reasons."""
    rest = Input(given.kind, given.process, after, given.end)
    for interval in view.catalog.intervals_of(rest):
        single = Input(given.kind, given.process, interval.start, interval.end)
        for _, _, state in view.runs(single):
            if state not in satisfied:
                yield Awaited(given.kind, given.process, interval, state)


def _first(view: View, given: Input, start: datetime) -> Interval:
    """The interval of an input that starts there."""
    return view.catalog.processes[given.process].calendar.starting_at(start)


_FINISHED = frozenset(state for state in JobState if state.finished)
_WITH_RESULT = frozenset({JobState.PROCESSED, JobState.NOOP})


def _skipped(view: View, process: Process, inputs: Iterable[Input]) -> tuple[Awaited, ...]:
    """Why it can only be skipped: all children were, or, blocking on dependencies, one of them."""
    found = []
    for given in inputs:
        if given.kind == "child":
            if all(state is JobState.SKIPPED for _, _, state in view.runs(given)):
                first = _first(view, given, given.start)
                found.append(Awaited("child", given.process, first, JobState.SKIPPED))
        elif process.blocking == "dependencies":
            found += [
                Awaited("dependency", given.process, _first(view, given, start), state)
                for start, _, state in view.runs(given)
                if state is JobState.SKIPPED
            ]
    return tuple(found)


def _clock(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")
