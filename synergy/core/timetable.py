"""All jobs of all trees: finished time as ranges, active jobs as objects.

A `Ledger` is a run-length map over the time line of one process: boundaries in seconds, and beside
each the index of a `Standing` that all intervals of the run share.  What nobody touched is a gap:
a derived embryo.  The cost of a look-up grows with the logarithm of the runs, not with history.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from synergy.core.catalog import Catalog, Input
from synergy.core.intervals import Interval
from synergy.core.model import FeedEntry, Job, Json, LedgerRecord, Standing, embryo
from synergy.core.states import TERMINAL, JobState

#: Before everything.
_NEVER = datetime.min.replace(tzinfo=UTC)
#: Index of "nothing known".
_GAP = 0


class Ledger:
    """What is known of every interval of one process."""

    __slots__ = ("_codes", "_end", "_numbers", "_standings", "_starts")

    def __init__(self) -> None:
        # Four bytes hold the seconds from 1970 to 2106; where they do not, eight do.
        self._starts = array("I")
        self._codes = array("H")
        #: Where the last run begins, which is a gap.
        self._end = _NEVER
        self._standings: list[Standing | None] = [None]
        self._numbers: dict[Standing | None, int] = {None: _GAP}

    def at(self, instant: datetime) -> Standing | None:
        """How the interval that starts there stands; None is not (yet, or again) terminal."""
        if instant >= self._end:  # as nearly always
            return None
        place = bisect_right(self._starts, _second(instant)) - 1
        return self._standings[self._codes[place]] if place >= 0 else None

    def put(self, interval: Interval, standing: Standing | None) -> None:
        """Let the interval stand so; neighbours that stand alike become one run."""
        start, end = _second(interval.start), _second(interval.end)
        code = self._code(standing)
        starts, codes = self._starts, self._codes
        if starts and start == starts[-1] and code == codes[-2]:  # the last run becomes longer
            self._starts = _spliced(starts, len(starts) - 1, len(starts), [end])
            self._end = interval.end
            return
        low = bisect_left(starts, start)
        high = bisect_right(starts, end, low)
        before = codes[low - 1] if low else _GAP
        if low == high and code == before:
            return
        after = codes[high - 1] if high else _GAP
        new_starts, new_codes = [], []
        if code != before:
            new_starts.append(start)
            new_codes.append(code)
        if code != after:
            new_starts.append(end)
            new_codes.append(after)
        self._starts = _spliced(starts, low, high, new_starts)
        self._codes = _spliced(codes, low, high, new_codes)
        self._find_end()

    def runs(
        self, start: datetime, end: datetime
    ) -> Iterator[tuple[datetime, datetime, Standing | None]]:
        """The runs that cover ``[start, end)``: from where to where within it, and how each
        stands."""
        starts, last = self._starts, _second(end)
        second = _second(start)
        place = bisect_right(starts, second) - 1
        while second < last:
            code = self._codes[place] if place >= 0 else _GAP
            place += 1
            following = starts[place] if place < len(starts) else last
            until = end if following >= last else _instant(following)
            yield _instant(second), until, self._standings[code]
            second = following

    def end_of_run(self, instant: datetime) -> datetime | None:
        """Where the run that holds this instant ends; None for the last, open one."""
        place = bisect_right(self._starts, _second(instant))
        return _instant(self._starts[place]) if place < len(self._starts) else None

    def start_of_run(self, instant: datetime) -> datetime | None:
        """Where the run that holds this instant begins; None for the first, open one."""
        place = bisect_right(self._starts, _second(instant)) - 1
        return _instant(self._starts[place]) if place >= 0 else None

    def gap_from(self, instant: datetime) -> datetime:
        """The first instant, this one or later, of which nothing is known."""
        if instant >= self._end:
            return instant
        place = bisect_right(self._starts, _second(instant)) - 1
        if place < 0 or self._codes[place] == _GAP:
            return instant
        return _instant(self._starts[self._codes.index(_GAP, place)])  # the last run is a gap

    def worked_until(self) -> datetime | None:
        """The end of the newest interval that ended, and was not skipped; None where none is."""
        for place in range(len(self._codes) - 1, -1, -1):
            standing = self._standings[self._codes[place]]
            if standing is not None and standing.state is not JobState.SKIPPED:
                return _instant(self._starts[place + 1])  # the last run is a gap
        return None

    def copy(self) -> "Ledger":
        """One of its own that stands the same."""
        same = Ledger()
        same._starts, same._codes = self._starts[:], self._codes[:]
        same._end = self._end
        same._standings, same._numbers = [*self._standings], dict(self._numbers)
        return same

    def content(self) -> dict[str, Json]:
        """As a plain document."""
        return {
            "starts": list(self._starts),
            "codes": list(self._codes),
            "standings": [
                [s.state.value, s.generation, s.result, s.attempts, *([True] if s.outdated else ())]
                for s in self._standings
                if s is not None
            ],
        }

    @classmethod
    def of_content(cls, content: Mapping[str, Any]) -> "Ledger":
        """The ledger that `content` came from."""
        ledger = cls()
        ledger._starts = _spliced(ledger._starts, 0, 0, content["starts"])
        ledger._codes = _spliced(ledger._codes, 0, 0, content["codes"])
        for state, *rest in content["standings"]:
            ledger._code(Standing(JobState(state), *rest))
        ledger._find_end()
        return ledger

    @property
    def marks(self) -> bool:
        """Whether any interval stands, or has stood, marked stale."""
        return any(each is not None and each.outdated for each in self._standings)

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return (
            self._starts.buffer_info()[1] * self._starts.itemsize
            + self._codes.buffer_info()[1] * self._codes.itemsize
        )

    def _find_end(self) -> None:
        self._end = _instant(self._starts[-1]) if self._starts else _NEVER

    def _code(self, standing: Standing | None) -> int:
        code = self._numbers.get(standing)
        if code is None:
            code = self._numbers[standing] = len(self._standings)
            self._standings.append(standing)
        return code


class LedgersOnDemand(dict[str, Ledger]):
    """The ledgers of these processes, each built when it is wanted first."""

    def __init__(self, names: Iterable[str], built: Callable[[str], Ledger]) -> None:
        super().__init__()
        self._names, self._built = dict.fromkeys(names), built

    def __missing__(self, name: str) -> Ledger:
        if name not in self._names:
            raise KeyError(name)
        ledger = self[name] = self._built(name)
        return ledger

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def get(self, name: str, default: Any = None) -> Any:
        """Built where it is one of these."""
        return self[name] if name in self._names else default

    def values(self) -> Any:
        """All, built."""
        return [self[name] for name in self._names]

    def items(self) -> Any:
        """All, built."""
        return [(name, self[name]) for name in self._names]


class Timetable:
    """The ledgers of all processes and the jobs that are under way."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.ledgers: dict[str, Ledger] = {name: Ledger() for name in catalog.processes}
        #: Jobs that are written and not terminal, or held: by process and start.
        self.active: dict[tuple[str, datetime], Job] = {}
        #: Whether any job may be marked stale.
        self._marks = False

    def amended(self, stood: Iterable[tuple[str, Interval, Job | None]]) -> "Timetable":
        """A copy in which these jobs stand so; None: nothing was ever written of that one.

        A ledger is built when it is consulted first: who asks about one process waits for no other.
        """
        standings: dict[str, list[tuple[Interval, Standing | None]]] = {}
        same = Timetable(self.catalog)
        same.active, same._marks = dict(self.active), self._marks
        for name, interval, job in stood:
            key = (name, interval.start)
            same.active.pop(key, None)
            standing = None
            if job is not None:
                ended = job.state in TERMINAL
                if ended and not job.holds:
                    same._marks = same._marks or job.outdated
                else:
                    same.active[key] = job
                if ended and not (job.holds and job.generation > 1):
                    standing = job.standing
            standings.setdefault(name, []).append((interval, standing))

        def built(name: str) -> Ledger:
            ledger = self.ledgers[name].copy()
            for interval, standing in standings.get(name, ()):
                ledger.put(interval, standing)
            return ledger

        same.ledgers = LedgersOnDemand(self.ledgers, built)
        return same

    def load(
        self,
        ledgers: Mapping[str, LedgerRecord],
        entries: Iterable[FeedEntry],
        jobs: Iterable[Job],
        *,
        lazily: bool = False,
    ) -> None:
        """Build it from what the store has: checkpoints, what came after, what is active.

        `lazily`: a ledger is built when it is consulted first; for those who consult few.
        """
        before = self.ledgers
        since: dict[str, list[FeedEntry]] = {}
        for entry in entries:
            if entry.kind == "job" and entry.process in before:
                since.setdefault(entry.process, []).append(entry)

        def built(name: str) -> Ledger:
            record = ledgers.get(name)
            ledger = before[name] if record is None else Ledger.of_content(record.content)
            through = 0 if record is None else record.through
            for entry in since.get(name, ()):
                if entry.seq > through:
                    ledger.put(entry.interval, standing_of(entry))
            return ledger

        on_demand = LedgersOnDemand(self.catalog.processes, built)
        self.ledgers = on_demand if lazily else dict(on_demand.items())
        for job in jobs:
            if job.process in self.ledgers:
                self.put(job)
        self._marks = lazily or any(ledger.marks for ledger in self.ledgers.values()) or self._marks

    def put(self, job: Job) -> None:
        """Take over a stored job."""
        key = (job.process, job.interval.start)
        if job.state in TERMINAL and not job.holds:
            self.active.pop(key, None)
            self._put(job, job.standing)
            if job.outdated:
                self._marks = True
        else:
            if job.generation > 1 and key not in self.active:
                self._put(job, None)  # it was reopened
            self.active[key] = job

    def _put(self, job: Job, standing: Standing | None) -> None:
        """In the ledger; firings have none."""
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
        return embryo(process, interval)

    def touched(self, process: str) -> bool:
        """Whether anything of a process was ever written."""
        known = self.ledgers[process].size or any(name == process for name, _ in self.active)
        return bool(known)

    def standing(self, process: str, interval: Interval) -> Standing | None:
        """How a terminal job stands; None for any other."""
        return self.ledgers[process].at(interval.start)

    def agrees(self, job: Job) -> bool:
        """Whether the ledger has a stored job as it stands."""
        standing = self.ledgers[job.process].at(job.interval.start)
        return job.state.terminal and not job.holds and standing == job.standing

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

    def runs(self, given: Input) -> Iterator[tuple[datetime, datetime, JobState]]:
        """See `readiness.View`."""
        for start, end, standing in self._runs(given):
            if standing is not None:
                yield start, end, standing.state
            else:
                active = self.active.get((given.process, start))
                yield start, end, active.state if active is not None else JobState.EMBRYO

    def _runs(self, given: Input) -> Iterator[tuple[datetime, datetime, Standing | None]]:
        return self.ledgers[given.process].runs(given.start, given.end)

    def all_ended(self, process: str, within: Interval) -> bool:
        """Whether all its intervals in another one are terminal; those outside its span do not
        count."""
        first, last = self.catalog.spans[process]
        end = min(within.end, last) if last is not None else within.end
        return self.ledgers[process].gap_from(max(within.start, first)) >= end

    def built_on_marked(self, process: str, interval: Interval) -> bool:
        """Whether one of its inputs is finished and marked stale."""
        return self._marks and any(
            standing is not None and standing.outdated
            for given in self.catalog.inputs(process, interval)
            for _, _, standing in self._runs(given)
        )

    def inputs_generations(
        self, process: str, interval: Interval
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Of all finished inputs: generation by job key, and generation of the result; only those
        above 1."""
        generations: dict[str, int] = {}
        results: dict[str, int] = {}
        for given in self.catalog.inputs(process, interval):
            for start, end, standing in self._runs(given):
                if standing is None or standing.generation == 1:
                    continue
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
    made = entry.transition
    return Standing(state, made.generation, made.result, made.attempt, made.outdated)


def _spliced(numbers: "array[int]", low: int, high: int, new: list[int]) -> "array[int]":
    """The array with a part of it replaced; a wider one where it cannot hold the new numbers."""
    try:
        if len(new) == high - low == 1:  # a run became longer, as nearly always
            numbers[low] = new[0]
        else:
            numbers[low:high] = array(numbers.typecode, new)
    except OverflowError:
        numbers = array("q", numbers)
        numbers[low:high] = array("q", new)
    return numbers


def _second(instant: datetime) -> int:
    return int(instant.timestamp())


def _instant(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
