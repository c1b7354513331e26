"""All jobs of all trees: finished time as ranges, active jobs as objects.

A `Ledger` is a run-length map over the time line of one process: boundaries in seconds, and beside
each the index of a `Standing` that all intervals of the run share.  What nobody touched is a gap:
a derived embryo.  The cost of a look-up grows with the logarithm of the runs, not with history.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from synergy.core.catalog import Catalog, Input
from synergy.core.intervals import Interval
from synergy.core.model import FeedEntry, Job, Json, LedgerRecord, Standing
from synergy.core.states import JobState

#: Index of "nothing known".
_GAP = 0


class Ledger:
    """What is known of every interval of one process."""

    __slots__ = ("_codes", "_standings", "_starts")

    def __init__(self) -> None:
        self._starts = array("q")
        self._codes = array("H")
        self._standings: list[Standing | None] = [None]

    def at(self, instant: datetime) -> Standing | None:
        """How the interval that starts there stands; None is not (yet, or again) terminal."""
        place = bisect_right(self._starts, _second(instant)) - 1
        return self._standings[self._codes[place]] if place >= 0 else None

    def put(self, interval: Interval, standing: Standing | None) -> None:
        """Let the interval stand so; neighbours that stand alike become one run."""
        start, end = _second(interval.start), _second(interval.end)
        code = self._code(standing)
        starts, codes = self._starts, self._codes
        low = bisect_right(starts, start - 1)
        high = bisect_right(starts, end)
        before = codes[low - 1] if low else _GAP
        after = codes[high - 1] if high else _GAP
        new_starts, new_codes = array("q"), array("H")
        if code != before:
            new_starts.append(start)
            new_codes.append(code)
        if code != after:
            new_starts.append(end)
            new_codes.append(after)
        starts[low:high] = new_starts
        codes[low:high] = new_codes

    def runs(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, Standing | None]]:
        """The runs that cover ``[start, end)``: where each begins within it, and how it stands."""
        second, last = _second(start), _second(end)
        place = bisect_right(self._starts, second) - 1
        while second < last:
            code = self._codes[place] if place >= 0 else _GAP
            yield _instant(second), self._standings[code]
            place += 1
            second = self._starts[place] if place < len(self._starts) else last

    def end_of_run(self, instant: datetime) -> datetime | None:
        """Where the run that holds this instant ends; None for the last, open one."""
        place = bisect_right(self._starts, _second(instant))
        return _instant(self._starts[place]) if place < len(self._starts) else None

    def content(self) -> dict[str, Json]:
        """As a plain document."""
        return {
            "starts": list(self._starts),
            "codes": list(self._codes),
            "standings": [
                [s.state.value, s.generation, s.result, s.attempts]
                for s in self._standings
                if s is not None
            ],
        }

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "Ledger":
        """The ledger that `content` came from."""
        ledger = cls()
        ledger._starts = array("q", content["starts"])
        ledger._codes = array("H", content["codes"])
        ledger._standings += [
            Standing(JobState(state), generation, result, attempts)
            for state, generation, result, attempts in content["standings"]
        ]
        return ledger

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return (
            self._starts.buffer_info()[1] * self._starts.itemsize
            + self._codes.buffer_info()[1] * self._codes.itemsize
        )

    def _code(self, standing: Standing | None) -> int:
        try:
            return self._standings.index(standing)
        except ValueError:
            self._standings.append(standing)
            return len(self._standings) - 1


class Timetable:
    """The ledgers of all processes and the jobs that are under way."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.ledgers = {name: Ledger() for name in catalog.processes}
        #: Jobs that are written and not terminal, or held: by process and start.
        self.active: dict[tuple[str, datetime], Job] = {}

    def load(
        self,
        ledgers: Mapping[str, LedgerRecord],
        entries: Iterable[FeedEntry],
        jobs: Iterable[Job],
    ) -> None:
        """Build it from what the store has: checkpoints, what came after, what is active."""
        through = {}
        for name, record in ledgers.items():
            if name in self.ledgers:
                self.ledgers[name] = Ledger.of_content(record.content)
                through[name] = record.through
        for entry in entries:
            known = entry.process in self.ledgers
            if entry.kind == "job" and known and entry.seq > through.get(entry.process, 0):
                self.ledgers[entry.process].put(entry.interval, standing_of(entry))
        for job in jobs:
            if job.process in self.ledgers:
                self.put(job)

    def put(self, job: Job) -> None:
        """Take over a stored job."""
        key = (job.process, job.interval.start)
        if job.state.terminal and not job.holds:
            self.active.pop(key, None)
            self._settle(job, job.standing)
        else:
            self.active[key] = job
            self._settle(job, None)

    def _settle(self, job: Job, standing: Standing | None) -> None:
        ledger = self.ledgers.get(job.process)
        if ledger is not None:
            ledger.put(job.interval, standing)

    def job(self, process: str, interval: Interval) -> Job | None:
        """The active job, or the derived embryo; None where it is terminal."""
        found = self.active.get((process, interval.start))
        if found is not None:
            return found
        if self.ledgers[process].at(interval.start) is not None:
            return None
        return Job(process=process, interval=interval)

    def begun(self, process: str, interval: Interval, now: datetime) -> bool:
        """Whether a job may have been worked at: its interval has begun, or, as clocks go wrong,
        it was written all the same."""
        if interval.start <= now:
            return True
        job = self.job(process, interval)
        return job is None or job.version > 0

    def state(self, process: str, interval: Interval) -> JobState:
        """Where a job is."""
        standing = self.ledgers[process].at(interval.start)
        if standing is not None:
            return standing.state
        found = self.active.get((process, interval.start))
        return found.state if found is not None else JobState.EMBRYO

    def runs(self, given: Input) -> Iterator[tuple[Interval, JobState, bool]]:
        """See `readiness.View`."""
        calendar = self.catalog.processes[given.process].calendar
        ledger = self.ledgers[given.process]
        found = [*ledger.runs(given.start, given.end)]
        for place, (start, standing) in enumerate(found):
            end = found[place + 1][0] if place + 1 < len(found) else given.end
            first = calendar.starting_at(start)
            if standing is not None:
                yield first, standing.state, first.end < end
            else:
                active = self.active.get((given.process, start))
                state = active.state if active is not None else JobState.EMBRYO
                yield first, state, first.end < end

    def inputs_generations(
        self, process: str, interval: Interval
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Of all finished inputs: generation by job key, and generation of the result; only those
        above 1."""
        generations: dict[str, int] = {}
        results: dict[str, int] = {}
        for given in self.catalog.inputs(process, interval):
            runs = [*self.ledgers[given.process].runs(given.start, given.end)]
            for place, (start, standing) in enumerate(runs):
                if standing is None or standing.generation == 1:
                    continue
                end = runs[place + 1][0] if place + 1 < len(runs) else given.end
                meant = Input(given.kind, given.process, start, end)
                for one in self.catalog.intervals_of(meant):
                    key = f"{given.process}@{one.label}"
                    generations[key] = standing.generation
                    results[key] = standing.result
        return generations, results


def standing_of(entry: FeedEntry) -> Standing | None:
    """What a job's transition made it stand as; None where it is not terminal after it."""
    state = JobState(entry.transition.after)
    if not state.terminal:
        return None
    transition = entry.transition
    return Standing(state, transition.generation, transition.result, transition.attempt)


def _second(instant: datetime) -> int:
    return int(instant.timestamp())


def _instant(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
