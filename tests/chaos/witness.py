"""What should have happened, what did, and how the two differ.

Nothing here trusts what is tested.  What should have happened is reckoned from what was asked for,
with the standard library's calendar alone.  What did happen is told twice: by the witness, a file
to which the work itself appends a line when it starts and one when it ends, and by the store.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from synergy.core.model import FeedEntry, Job

HOUR = timedelta(hours=1)
#: Process → its label, as `strftime` writes it; each level consists of the one before it.
LABELS = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m"}
LEVELS = tuple(LABELS)
#: Job states in which a generation is over.
_OVER = frozenset({"processed", "noop", "skipped", "failed"})


class Opening(NamedTuple):
    """One generation of one interval of one process: what is to be applied once."""

    process: str
    label: str
    generation: int

    @property
    def job(self) -> str:
        """Key of its job."""
        return f"{self.process}@{self.label}"

    @property
    def unit(self) -> str:
        """Key of its unit."""
        return f"{self.job}#{self.generation}"


class Line(NamedTuple):
    """What the work left in the witness."""

    #: Seconds of the system's monotonic clock, the same for all processes.
    at: float
    #: "start" or "end".
    what: str
    opening: Opening
    attempt: int


def read_witness(path: Path, after: int = 0) -> Iterator[Line]:
    """The lines from the byte `after` on, in the order in which they were written.

    A line is one `write` to a file opened with ``O_APPEND``, so none is torn by another.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(after)
        for text in file:
            at, what, process, label, generation, attempt = json.loads(text)
            yield Line(at, what, Opening(process, label, generation), attempt)


class Expected:
    """What should happen: hours, days and months of a span, and what is asked to be run again."""

    def __init__(self, begin: datetime, until: datetime) -> None:
        self.hours = [begin + n * HOUR for n in range((until - begin) // HOUR)]
        #: Opening → the openings that its result is made from.
        self.inputs: dict[Opening, frozenset[Opening]] = {}
        self._below: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
        for hour in self.hours:
            keys = [(process, hour.strftime(form)) for process, form in LABELS.items()]
            for below, above in itertools.pairwise(keys):
                self._below[above].add(below)
        self._generations: Counter[tuple[str, str]] = Counter()
        self.wave(self.hours)

    def wave(self, hours: Iterable[datetime]) -> None:
        """These hours run once more, and everything that is made from them, once.

        For what is asked while everything is finished.
        """
        asked = [*hours]
        for process, form in LABELS.items():
            for label in sorted({hour.strftime(form) for hour in asked}):
                self._generations[process, label] += 1
        for process, form in LABELS.items():
            for label in sorted({hour.strftime(form) for hour in asked}):
                below = self._below.get((process, label), ())
                self.inputs[self.latest(process, label)] = frozenset(
                    self.latest(*each) for each in below
                )

    def latest(self, process: str, label: str) -> Opening:
        """The last opening of an interval."""
        return Opening(process, label, self._generations[process, label])

    def standing(self) -> list[Opening]:
        """The last opening of every interval."""
        return [Opening(*key, generation) for key, generation in self._generations.items()]


@dataclass(slots=True)
class Verdict:
    """How what happened differs from what should have."""

    #: Openings, how often work was started for them, and starts beyond the first of each.
    openings: int
    starts: int
    started_again: int
    #: Openings whose result was never applied, or of which no work says that it has ended.
    lost: list[str] = field(default_factory=list)
    #: Results that were applied beyond the first of an opening, or from a superseded attempt.
    applied_twice: list[str] = field(default_factory=list)
    #: Everything else that must not be.
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing differs."""
        return not (self.lost or self.applied_twice or self.wrong)


def judge(
    expected: Expected, lines: Sequence[Line], feed: Sequence[FeedEntry], jobs: Mapping[str, Job]
) -> Verdict:
    """Compare all of it; `feed` from its first entry on, `jobs` by key as they stand at the end."""
    starts = [line for line in lines if line.what == "start"]
    verdict = Verdict(
        openings=len(expected.inputs),
        starts=len(starts),
        started_again=len(starts) - len({line.opening for line in starts}),
    )
    _judge_feed(feed, verdict)
    _judge_results(expected, lines, feed, verdict)
    _judge_order(expected, lines, verdict)
    _judge_standing(expected, jobs, verdict)
    return verdict


def _judge_feed(feed: Sequence[FeedEntry], verdict: Verdict) -> None:
    """The feed is numbered without gaps, and has every version of every document, in order."""
    numbers = [entry.seq for entry in feed]
    if numbers != [*range(1, len(numbers) + 1)]:
        verdict.wrong.append("the feed has gaps, or numbers twice")
    before: dict[str, int] = {}
    for entry in feed:
        document = f"{entry.kind} {entry.key}"
        version = entry.transition.version
        # A unit begins as version 1, which is no transition.
        known = before.get(document, 1 if entry.kind == "unit" and version == 2 else 0)
        if version != known + 1:
            verdict.wrong.append(f"the feed has version {version} of {document} after {known}")
        before[document] = version


def _judge_results(
    expected: Expected, lines: Sequence[Line], feed: Sequence[FeedEntry], verdict: Verdict
) -> None:
    """Each opening was applied once, from the latest attempt, which says that it has ended."""
    over: Counter[str] = Counter()
    ended: dict[str, list[int]] = defaultdict(list)
    attempts: Counter[str] = Counter()
    for entry in feed:
        made = entry.transition
        if entry.kind == "job" and made.after in _OVER and made.before != made.after:
            over[f"{entry.key}#{made.generation}"] += 1
        elif entry.kind == "unit":
            attempts[entry.key] = max(attempts[entry.key], made.attempt)
            if made.after in ("processed", "noop"):
                ended[entry.key].append(made.attempt)
    witnessed = {(line.opening.unit, line.attempt) for line in lines if line.what == "end"}
    for opening in expected.inputs:
        key = opening.unit
        results = ended[key]
        if over[key] == 0 or not results or (key, results[0]) not in witnessed:
            verdict.lost.append(key)
        if over[key] > 1 or len(results) > 1 or any(each < attempts[key] for each in results):
            verdict.applied_twice.append(key)
    known = {opening.unit for opening in expected.inputs}
    for key in sorted(({*over} | {*attempts} | {key for key, _ in witnessed}) - known):
        verdict.wrong.append(f"{key} was not asked for")


def _judge_order(expected: Expected, lines: Sequence[Line], verdict: Verdict) -> None:
    """Nothing was started before everything that it is made from had ended."""
    ended: set[Opening] = set()
    for line in lines:
        if line.what == "end":
            ended.add(line.opening)
        elif missing := expected.inputs.get(line.opening, frozenset()) - ended:
            verdict.wrong.append(f"{line.opening.unit} was started before {min(missing).unit}")


def _judge_standing(expected: Expected, jobs: Mapping[str, Job], verdict: Verdict) -> None:
    """Every interval stands as it should, made from the generations that it should be made from."""
    standing = expected.standing()
    for opening in standing:
        job = jobs.get(opening.job)
        if job is None:
            verdict.wrong.append(f"{opening.job} is not in the store")
        elif (job.state, job.generation) != ("processed", opening.generation):
            verdict.wrong.append(
                f"{opening.unit} stands as {job.state} in generation {job.generation}"
            )
        else:
            inputs = expected.inputs[opening]
            made_of = {each.job: each.generation for each in inputs if each.generation > 1}
            if dict(job.consumed or {}) != made_of:
                verdict.wrong.append(f"{opening.unit} consumed {job.consumed}, not {made_of}")
    for key in sorted({*jobs} - {opening.job for opening in standing}):
        verdict.wrong.append(f"{key} is no interval of the span")
