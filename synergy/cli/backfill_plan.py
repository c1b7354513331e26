"""What a backfill would do, and what each of its intervals needs a run for."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import islice

from synergy.cli.output import Output, duration
from synergy.core import plans
from synergy.core.backfills import Backfill, units_out
from synergy.core.intervals import Interval
from synergy.core.lanes import needs_run
from synergy.core.model import Json, Standing, job_key
from synergy.core.states import JobState
from synergy.history import recent_units, typical_duration
from synergy.reading import Reading

#: Jobs read in one go.
CHUNK = 500
#: What an interval needs a run for, the worst first, and what is left as it is.
_WANTED = ("failed", "marked stale", "not caught up", "done already")
_LEFT = ("skipped by somebody", "finished", "open, and runs anyway")


@dataclass(frozen=True, slots=True)
class Terms:
    """How it is to go."""

    force: bool
    order: str
    min_share: float
    max_share: float


class Planned:
    """What a backfill would do, as the timetable stands."""

    def __init__(
        self,
        reading: Reading,
        process: str,
        intervals: Iterable[Interval],
        terms: Terms,
        now: datetime,
    ) -> None:
        self.reading, self.process, self.terms = reading, process, terms
        self.reasons: Counter[str] = Counter()
        self.targets: list[Interval] = []
        for interval, reason in _reasons(reading, process, intervals):
            if terms.force and reason in ("finished", "skipped by somebody"):
                reason = "done already"
            self.reasons[reason] += 1
            if reason in _WANTED:
                self.targets.append(interval)
        order = plans.to_reopen(
            reading.catalog,
            ((process, interval) for interval in self.targets),
            lambda place: reading.timetable.begun(*place, now),
        )
        self.above = Counter(name for name, _ in order if name != process)
        self.reach = plans.reach_of(reading.timetable, order, now)
        self.slots = reading.slots_for(process, now)
        self.least, self.most = units_out(terms.min_share, terms.max_share, self.slots)
        typical = typical_duration(recent_units(reading.store, process))
        self.lasts = None if typical is None else typical * len(self.targets) / self.most

    @classmethod
    def anew(cls, reading: Reading, backfill: Backfill, now: datetime) -> "Planned":
        """What one that was planned would do by now."""
        terms = Terms(backfill.force, backfill.order, backfill.min_share, backfill.max_share)
        intervals = (interval for _, interval in backfill.targets(reading.catalog))
        return cls(reading, backfill.process, intervals, terms, now)

    def options(self) -> dict[str, Json]:
        """As the request says it."""
        bounds = plans.Ranges.of((self.process, interval) for interval in self.targets).bounds
        return {
            "targets": [*bounds.get(self.process, ())],
            "total": len(self.targets),
            **asdict(self.terms),
        }

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "process": self.process,
            "intervals": len(self.targets),
            "reasons": {reason: self.reasons[reason] for reason in _WANTED if self.reasons[reason]},
            "left": {reason: self.reasons[reason] for reason in _LEFT if self.reasons[reason]},
            "above": dict(self.above),
            "slots": self.slots,
            "at_most": self.most,
            "at_least": self.least,
            "seconds": None if self.lasts is None else round(self.lasts.total_seconds(), 1),
        }

    def show_nothing(self, output: Output) -> None:
        """That nothing needs a run."""
        if output.json:
            output.data({"id": None, "state": "nothing changes", **self.as_json()})
            return
        for line in self.lines():
            output.line(line)

    def lines(self) -> Iterator[str]:
        """What it would do, in words."""
        number = len(self.targets)
        what = f"{counted(number)} of {self.process}"
        yield (
            f"{what}, {self.terms.order} first:"
            if number
            else f"nothing of {self.process} needs a run"
        )
        for reason in _WANTED:
            if self.reasons[reason]:
                yield f"  {self.reasons[reason]:>7}  {reason}"
        left = [f"{self.reasons[one]} {one}" for one in _LEFT if self.reasons[one]]
        if left:
            yield f"left as they are: {', '.join(left)}"
        if not number:
            return
        if self.above:
            told = ", ".join(f"{count} of {name}" for name, count in self.above.items())
            yield f"what is built on them runs once, each when all below it has: {told}"
        slots = "1 slot" if self.slots == 1 else f"{self.slots} slots"
        least = f", {self.least} of them whatever else there is" if self.least else ""
        calls = " calls" if self.reading.catalog.processes[self.process].task.batch > 1 else ""
        yield f"at most {self.most}{calls} at once, of {slots}{least}"
        if self.lasts is not None:
            yield f"by how long intervals took lately: about {about(self.lasts)}"


def within(reading: Reading, process: str, start: datetime, end: datetime) -> Iterator[Interval]:
    """Every interval of a range that there is."""
    first, last = reading.catalog.spans[process]
    calendar = reading.catalog.processes[process].calendar
    return calendar.between(max(start, first), min(end, last) if last else end)


def _reasons(
    reading: Reading, process: str, found: Iterable[Interval]
) -> Iterator[tuple[Interval, str]]:
    """Each of these intervals with what it needs a run for, or why it is left as it is."""
    intervals = iter(found)
    while some := [*islice(intervals, CHUNK)]:
        standings = {each: reading.timetable.standing(process, each) for each in some}
        skipped = [
            each
            for each, standing in standings.items()
            if standing is not None and standing.state is JobState.SKIPPED
        ]
        jobs = reading.store.read_jobs(job_key(process, each) for each in skipped)
        for interval, standing in standings.items():
            job = jobs.get(job_key(process, interval))
            yield interval, _reason(standing, "" if job is None else job.reason)


def _reason(standing: Standing | None, why: str) -> str:
    if standing is None:
        return "open, and runs anyway"
    is_skipped = standing.state is JobState.SKIPPED
    return needs_run(standing, why) or ("skipped by somebody" if is_skipped else "finished")


def counted(number: int) -> str:
    """``1 interval``, ``48 intervals``."""
    return "1 interval" if number == 1 else f"{number} intervals"


def about(lasts: timedelta) -> str:
    """A duration that is no more than a guess."""
    return duration(max(lasts.total_seconds(), 1.0))
