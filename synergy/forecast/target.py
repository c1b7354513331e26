"""An interval that is foretold, the plays that are made for it, and what makes its end in one."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from synergy.core.intervals import Interval
from synergy.core.model import FeedEntry, Unit, job_key
from synergy.core.states import TERMINAL, JobState, UnitState
from synergy.forecast.needs import Reach
from synergy.forecast.scene import Scene
from synergy.forecast.traces import Seen, Trace, note
from synergy.history import due_of

#: A play is given up when the interval is not complete so long after it was due.
LONGEST = timedelta(days=366)
#: Batches of transitions between looks at the clock.
LOOK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One interval of a chain, as a play had it."""

    process: str
    interval: Interval
    #: When it could have been handed to the workers: when it was due, or what it waited for ended.
    ready: datetime
    #: When its last attempt began.
    started: datetime
    ended: datetime
    attempts: int
    #: Whether the calendar was what it waited for, and not the step before.
    by_the_calendar: bool


@dataclass(frozen=True, slots=True)
class Made:
    """How one play came out."""

    number: int
    end: datetime | None
    never: str


class Target:
    """An interval, and the plays that are made for it.

    A far one is played in two parts.  When nothing is behind any more, it does not matter how long
    what has just ended took: the play leaps to shortly before the interval is due, where again
    nothing is behind.  What is given up on the way counts, by its share.
    """

    def __init__(
        self,
        scene: Scene,
        process: str,
        interval: Interval,
        reach: Reach,
    ) -> None:
        self.scene, self.process, self.interval, self.reach = scene, process, interval, reach
        self._key = job_key(process, interval)
        due = max(due_of(scene.catalog, process, interval), scene.now)
        self._until = due + LONGEST
        #: Where a play goes on that has leapt; None where it is to be played through.
        self.leap = scene.leap_to(due)
        self._after = None if self.leap is None else scene.leapt(self.leap)

    def once(
        self, number: int, out_of_time: Callable[[], bool], trace: Trace | None = None
    ) -> Made | None:
        """Play until it is complete, or never will be; None where there is no time for that."""
        play = self.scene.play(self._seed(number), self._until)
        for place, entries in enumerate(play.run()):
            made = self._over(number, entries, trace)
            if made is not None:
                return made
            if place % LOOK == 0 and out_of_time():
                return None
            now = play.clock.now()
            if self.leap is not None and now < self.leap and play.scheduler.engine.idle:
                return self._leap(number, now, out_of_time, trace)
        return Made(number, None, _NOT_IN_TIME)

    def _leap(
        self, number: int, now: datetime, out_of_time: Callable[[], bool], trace: Trace | None
    ) -> Made | None:
        """Go on with a play shortly before the interval is due."""
        assert self.leap is not None
        assert self._after is not None
        seed = f"{self._seed(number)} leap"
        chance = random.Random(seed)
        for name, ranges in self.reach.items():
            for start, end in ranges:
                share = self.scene.given_up(name, max(start, now), min(end, self.leap))
                if chance.random() < share:
                    return Made(number, None, f"{name} was given up")
        for place, entries in enumerate(self._after.play(seed, self._until).run()):
            made = self._over(number, entries, trace)
            if made is not None:
                return made
            if place % LOOK == 0 and out_of_time():
                return None
        return Made(number, None, _NOT_IN_TIME)

    def _over(self, number: int, entries: Iterable[FeedEntry], trace: Trace | None) -> Made | None:
        """How the play comes out, once that is known."""
        for entry in entries:
            if trace is not None:
                note(trace, entry)
            if entry.kind == "job" and entry.transition.after in _OVER:
                if entry.transition.after == JobState.FAILED.value and self._rests_on(entry):
                    return Made(number, None, f"{entry.process} was given up")
                if entry.key == self._key:
                    return Made(number, entry.transition.at, "")
        return None

    def _seed(self, number: int) -> str:
        return f"{self.scene.now.isoformat()} {self._key} {number}"

    def _rests_on(self, entry: FeedEntry) -> bool:
        ranges = self.reach.get(entry.process, ())
        return any(start <= entry.interval.start < end for start, end in ranges)

    def path(self, number: int) -> tuple[Step, ...]:
        """What made the end in that play, the first of it first."""
        trace: Trace = {}
        self.once(number, lambda: False, trace)
        steps = []
        at: tuple[str, Interval] | None = (self.process, self.interval)
        while at is not None:
            seen = trace.get((at[0], at[1].start))
            if seen is None or seen.ended is None:
                break
            step, at = self._step(trace, *at, seen)
            steps.append(step)
        return tuple(reversed(steps))

    def _step(
        self, trace: Trace, process: str, interval: Interval, seen: Seen
    ) -> tuple[Step, tuple[str, Interval] | None]:
        """One interval of the chain, and the one that it waited for last."""
        assert seen.ended is not None
        due = due_of(self.scene.catalog, process, interval)
        before: tuple[str, Interval] | None = None
        ready = due
        for given in self.scene.catalog.inputs(process, interval):
            for (name, start), other in trace.items():
                if name == given.process and given.start <= start < given.end:
                    if other.ended is not None and ready <= other.ended <= seen.ended:
                        ready, before = other.ended, (name, other.interval)
        unit = next((one for one in self.scene.units if _is_of(one, process, interval)), None)
        started = seen.started
        if started is None and unit is not None and unit.state is UnitState.IN_PROGRESS:
            started = unit.started_at
        if before is None and unit is not None:
            ready = max(ready, unit.created_at)
        elif before is None:
            ready = max(ready, self.scene.now) if due < self.scene.now else ready
        step = Step(
            process=process,
            interval=interval,
            ready=ready,
            started=started or seen.ended,
            ended=seen.ended,
            attempts=max(seen.attempts, 1),
            by_the_calendar=before is None and due > self.scene.now,
        )
        return step, before


def _is_of(unit: Unit, process: str, interval: Interval) -> bool:
    return unit.process == process and unit.interval == interval and not unit.provisional


_NOT_IN_TIME = f"it was not complete within {LONGEST.days} days"
_OVER = frozenset(state.value for state in TERMINAL)
