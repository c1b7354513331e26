"""How a job or a firing came to where it is: what it waited for, how long, and who worked it.

Told from the transitions that job and units remember, and from the ends of its inputs.  A document
remembers its last sixteen: of a longer story the beginning may be missing, which is said.  The
shares of the time are told one after the other without a gap, so they add up to the whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice

from synergy.core.intervals import Interval
from synergy.core.model import Job, Json, Transition, Unit, job_key, unit_key
from synergy.core.states import TERMINAL, UNIT_TERMINAL, JobState, UnitState
from synergy.hindsight import waited_until
from synergy.history import due_of, duration
from synergy.reading import Reading
from synergy.words import clock, instant, who
from synergy.words import duration as in_words

#: Inputs whose ends are looked at: all of them, but for hours in a year.
INPUTS = 1000
#: Earlier generations that are told of.
EARLIER = 5


class Share(StrEnum):
    """What its time went into."""

    #: Until the last of its inputs had finished.
    INPUTS = "inputs"
    #: Until the scheduler requested its unit: limits, pools, holds, sources, a scheduler away.
    TURN = "turn"
    #: Until a worker began.
    WORKER = "worker"
    #: Between a failed attempt and the time of the next.
    BACK_OFF = "back_off"
    #: Attempts, failed ones too.
    WORKING = "working"


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The present generation of a job, and briefly those before."""

    begins: datetime
    #: When it ended; while it has not, the moment of the look.
    ends: datetime
    steps: tuple[Step, ...]
    shares: Mapping[Share, timedelta]
    #: Whether nothing of it is forgotten.
    complete: bool

    def content(self) -> dict[str, Json]:
        """As a plain document."""
        return {
            "begins": instant(self.begins),
            "ends": instant(self.ends),
            "complete": self.complete,
            "steps": [{"at": instant(step.at), "text": step.text} for step in self.steps],
            "seconds": (self.ends - self.begins).total_seconds(),
            "shares": {share.value: spent.total_seconds() for share, spent in self.shares.items()},
        }


def tell(reading: Reading, process: str, interval: Interval, now: datetime) -> Story | None:
    """The story of a job whose unit was begun, or that has ended; None of any other."""
    job = reading.document(process, interval)
    if job is None or not (job.state.terminal or (job.unit and job.state.at_work)):
        return None
    key = unit_key(process, interval, job.generation)
    earlier = range(max(1, job.generation - EARLIER), job.generation)
    keys = [key, *(unit_key(process, interval, number) for number in earlier)]
    units = reading.store.read_units(keys)
    if not job.state.terminal and not _begun(units.get(key)):
        return None
    teller = _Teller(reading, job, units.get(key), now)
    before = [
        _ended_before(number, units.get(keys[place])) for place, number in enumerate(earlier, 1)
    ]
    return teller.story([step for step in before if step is not None])


def _begun(unit: Unit | None) -> bool:
    """Whether any attempt of it was made."""
    return unit is not None and any(
        each.after == UnitState.IN_PROGRESS for each in unit.transitions
    )


def _ended_before(generation: int, unit: Unit | None) -> Step | None:
    """A generation before the present one."""
    if unit is None or unit.finished_at is None:
        return None
    worked = duration(unit)
    how = f"{unit.state.value} in attempt {unit.attempt}"
    took = f", which took {in_words(worked.total_seconds())}" if worked is not None else ""
    return Step(unit.finished_at, f"generation {generation}: {how}{took}")


class _Teller:
    """Puts one story together: the steps in order, and where each share of the time begins."""

    def __init__(self, reading: Reading, job: Job, unit: Unit | None, now: datetime) -> None:
        self._reading, self._job, self._unit = reading, job, unit
        self._made = [each for each in job.transitions if each.generation == job.generation]
        self._process = reading.catalog.processes.get(job.process)
        ended = [each.at for each in self._made if _is_end(each)] if job.state.terminal else []
        self._now = ended[-1] if ended else now
        self._steps: list[Step] = []
        self._marks: list[tuple[datetime, Share]] = []

    def story(self, before: Sequence[Step]) -> Story:
        """All of it."""
        begins, complete = self._beginning()
        requested = self._requested()
        if requested is not None:
            begins = min(begins, requested.at)
        self._now = max(self._now, begins)
        self._mark(begins, Share.INPUTS)
        self._inputs(begins, requested.at if requested is not None else self._now)
        self._meanwhile(requested)
        if requested is not None:
            why = f": {requested.reason}" if requested.reason else ""
            self._mark(requested.at, Share.WORKER, f"its unit was requested{why}")
        if self._unit is not None:
            complete &= not self._unit.transitions or self._unit.transitions[0].version == 2
            self._attempts(self._unit)
        self._end()
        steps = sorted((*before, *self._steps), key=lambda step: step.at)
        return Story(
            begins=begins,
            ends=self._now,
            steps=tuple(steps),
            shares=self._shares(),
            complete=complete,
        )

    def _beginning(self) -> tuple[datetime, bool]:
        """When it could have begun at the earliest, and whether that is known for certain."""
        job = self._job
        due = due_of(self._reading.catalog, job.process, job.interval)
        if job.generation == 1:
            self._steps.append(Step(due, "it fell due"))
            return due, True
        opened = next((each for each in self._made if each.before != each.after), None)
        if opened is None or opened.after != JobState.EMBRYO:
            first = self._made[0].at if self._made else self._now
            return first, False
        why = f": {opened.reason}" if opened.reason else ""
        self._steps.append(
            Step(opened.at, f"it was opened again, generation {job.generation}{why}")
        )
        return max(opened.at, due), True

    def _requested(self) -> Transition | None:
        """When its deciding unit was requested."""
        in_stages = self._process is not None and self._process.open_ended
        deciding = JobState.FINAL_RUN if in_stages else JobState.IN_PROGRESS
        return next((each for each in self._made if each.before != each.after == deciding), None)

    def _inputs(self, begins: datetime, until: datetime) -> None:
        """When the last of its inputs had finished."""
        last = max(self._ends_of_inputs(until), default=None)
        if last is None:
            self._mark(begins, Share.TURN)
            return
        at, key = last
        self._mark(max(at, begins), Share.TURN)
        self._steps.append(Step(at, f"the last of its inputs had finished, {key}"))

    def _ends_of_inputs(self, until: datetime) -> Iterator[tuple[datetime, str]]:
        catalog, job = self._reading.catalog, self._job
        if self._process is None:
            return  # a firing has none
        keys = [
            job_key(given.process, one)
            for given in catalog.inputs(job.process, job.interval)
            for one in islice(catalog.intervals_of(given), INPUTS)
        ]
        for key, found in self._reading.store.read_jobs(keys[:INPUTS]).items():
            ends = [each.at for each in found.transitions if _is_end(each) and each.at <= until]
            if ends:
                yield ends[-1], key

    def _meanwhile(self, requested: Transition | None) -> None:
        """What else its document tells: holds, sources that could not be measured."""
        told = self._made[0].reason if self._made else ""
        for made in self._made:
            if requested is not None and made.version >= requested.version:
                break
            if made.before == made.after and made.reason and made.reason != told:
                told = made.reason
                self._steps.append(Step(made.at, made.reason))
        if self._job.runs:
            number = f"{self._job.runs} provisional {'run' if self._job.runs == 1 else 'runs'}"
            self._steps.append(Step(self._job.interval.start, f"{number} over the open interval"))

    def _attempts(self, unit: Unit) -> None:
        """What became of its unit."""
        moves = unit.transitions
        for place, made in enumerate(moves):
            following = moves[place + 1].at if place + 1 < len(moves) else self._now
            match UnitState(made.after):
                case UnitState.CLAIMED:
                    self._mark(made.at, Share.WORKER, f"claimed ahead{_by(unit, made)}")
                case UnitState.IN_PROGRESS:
                    self._mark(
                        made.at, Share.WORKING, f"attempt {made.attempt} begun{_by(unit, made)}"
                    )
                case UnitState.REQUESTED:
                    self._again(unit, made, following)
                case _ if made.before == UnitState.CLAIMED and unit.started_at is not None:
                    self._mark(min(unit.started_at, made.at), Share.WORKING)

    def _again(self, unit: Unit, made: Transition, following: datetime) -> None:
        """It is requested again: at once, or after a wait."""
        until = waited_until(unit, made)
        if made.before == UnitState.REQUESTED or until is None or until <= made.at:
            self._mark(made.at, Share.WORKER, made.reason)
            return
        text = f"{made.reason}; attempt {made.attempt} not before {clock(until)} UTC"
        self._mark(made.at, Share.BACK_OFF, text)
        self._mark(min(until, following), Share.WORKER)

    def _end(self) -> None:
        job, unit = self._job, self._unit
        if not job.state.terminal:
            return
        why = f": {job.reason}" if job.reason else ""
        counted = ""
        if unit is not None and unit.count is not None and unit.state in UNIT_TERMINAL:
            counted = f", {unit.count} counted"
        self._steps.append(Step(self._now, f"it ended as {job.state.value}{counted}{why}"))

    def _mark(self, at: datetime, share: Share, text: str = "") -> None:
        """From here on its time goes into something else; clocks that differ turn nothing round."""
        if text:
            self._steps.append(Step(at, text))
        last = self._marks[-1][0] if self._marks else at
        self._marks.append((min(max(at, last), self._now), share))

    def _shares(self) -> dict[Share, timedelta]:
        spent = dict.fromkeys(Share, timedelta(0))
        ends = [*(at for at, _ in self._marks[1:]), self._now]
        for (at, share), end in zip(self._marks, ends, strict=True):
            spent[share] += end - at
        return spent


def _is_end(made: Transition) -> bool:
    """Whether a job ended by it; a mark on one that has ended is no end."""
    return made.before != made.after and JobState(made.after) in TERMINAL


def _by(unit: Unit, made: Transition) -> str:
    """Who held the attempt: known of the last one only."""
    known = unit.owner is not None and made.attempt == unit.attempt
    return f" by {who(unit.owner)}" if known and unit.owner else ""
