"""What a worker is handed and what it may answer: the public API for those who write workers.

A worker is a function or a class, named in the context as ``run="package.module:name"``::

    from synergy.worker import GiveUp, Result, Retry, Work, noop, processed

    def count(work: Work) -> Result:
        lines = read(work.source, work.interval.start, work.interval.end)
        if not lines:
            return noop("no lines yet")
        for n, line in enumerate(lines):
            ...
            work.progress(n, len(lines))
        return processed(count=len(lines), fingerprint=digest)

A class is made anew for every attempt with the process's arguments as keywords, and then called
with the work: ``Count(**work.arguments)(work)``.

=====================================  =======================================================
a worker                               and its attempt
=====================================  =======================================================
returns ``processed(…)``               is done
returns ``noop(…)``                    found nothing to do; also finished
returns None                           is done, with a warning in its log: say ``processed()``
raises ``Retry(…)``                    failed, to be repeated when the worker says
raises ``GiveUp(…)``                   failed for good, without further attempts
raises anything else, ``sys.exit()``   failed; repeated after a back-off until attempts run out
returns anything else                  failed: its author must be told
=====================================  =======================================================

Of a process that declares a batch, a worker is called with a sequence of works for adjacent
intervals instead, and returns one answer for all or a list with one for each.  What it raises
counts against none of them: each is attempted again alone.

A worker may be started more than once for the same unit (a program may be killed after the work
was done and before it was recorded), so it must be idempotent: write the result of the interval
in one piece, replacing what an earlier attempt left.  Where that is not enough, `Work.fence`
orders all attempts at an interval, so that a sink can refuse an older one.

What an attempt prints is its log.  When it ends, the processes and timers that it left behind
end too.  Modules are imported once: a changed source file counts from the worker's next start.
"""

import copy
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import SupportsIndex

from synergy.core.intervals import Interval
from synergy.core.model import Json, Unit, unit_key
from synergy.core.recovery import LONGEST_WAIT
from synergy.core.states import UnitState

#: What every store can keep.
LARGEST_COUNT = 2**63 - 1
#: A fingerprint is a digest, not the result itself.
FINGERPRINT_LIMIT = 500
#: What a progress text is cut to.
PROGRESS_TEXT_LIMIT = 200

#: What a worker's author is told after a wrong return.
LEGAL_ANSWERS = (
    "a worker returns processed(count=…, fingerprint=…), noop(reason) or None, "
    "or raises Retry(reason, after=…) or GiveUp(reason)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a worker answers; made by `processed` and `noop`."""

    #: ``PROCESSED`` or ``NOOP``.
    state: UnitState
    #: How many things were processed, where the worker counts.
    count: int | None = None
    #: Text that is equal for equal results.  When all inputs of an interval come back with
    #: unchanged fingerprints, what was built on them is kept and need not run again.
    fingerprint: str | None = None
    #: Why there was nothing to do.
    reason: str = ""


def processed(count: SupportsIndex | None = None, fingerprint: str | None = None) -> Result:
    """The interval's result was made, from `count` things (a whole number, not below 0)."""
    if count is not None:
        count = operator.index(count)
        if not 0 <= count <= LARGEST_COUNT:
            raise ValueError(f"processed(count=…): a count is from 0 to {LARGEST_COUNT}")
    if fingerprint is not None:
        if not isinstance(fingerprint, str):
            raise TypeError(f"processed(fingerprint={fingerprint!r}): a fingerprint is text")
        if len(fingerprint) > FINGERPRINT_LIMIT:
            raise ValueError(
                f"a fingerprint has at most {FINGERPRINT_LIMIT} characters, "
                f"not {len(fingerprint)}: use a digest"
            )
    return Result(state=UnitState.PROCESSED, count=count, fingerprint=fingerprint)


def noop(reason: str = "") -> Result:
    """There was nothing to do for the interval, which is finished all the same."""
    return Result(state=UnitState.NOOP, reason=str(reason))


class Retry(Exception):
    """Raised by a worker that cannot work now: the attempt failed and is to be repeated.

    `after` is the wait before the next attempt, a timedelta or seconds; without it the process's
    back-off applies.  The attempt counts towards the process's `max_attempts`.
    """

    def __init__(self, reason: str = "", after: timedelta | float | None = None) -> None:
        super().__init__(reason)
        self.reason = str(reason)
        self.after = _wait(after)


class GiveUp(Exception):
    """Raised by a worker that knows that repeating is useless: the unit is given up at once."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = str(reason)


#: done, total (None: unknown) and a text.
Progress = tuple[float, float | None, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One attempt at one unit of work, as its worker sees it."""

    #: Name of the process.
    process: str
    #: What to work on: ``.start`` (inclusive) and ``.end`` (exclusive), aware UTC; ``.label``.
    interval: Interval
    #: The nth opening of the interval: grows with every reprocess.
    generation: int = 1
    #: 0 for the deciding run, n for the nth provisional run of this generation.
    run: int = 0
    #: The nth try of this run.
    attempt: int = 1
    #: The process's arguments: a copy that belongs to this attempt.
    arguments: Mapping[str, Json] = field(default_factory=dict)
    #: Where to read and where to write, as the context names it.
    source: str | None = None
    sink: str | None = None
    #: First and last key of the interval in the source, where the process measures it.
    low: Json = None
    high: Json = None
    _report: Callable[[Progress], None] = field(
        default=lambda progress: None, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        own = MappingProxyType(copy.deepcopy(dict(self.arguments)) if self.arguments else {})
        object.__setattr__(self, "arguments", own)

    @classmethod
    def of(cls, unit: Unit, report: Callable[[Progress], None] = lambda progress: None) -> "Work":
        """The attempt at which a unit stands."""
        return cls(
            process=unit.process,
            interval=unit.interval,
            generation=unit.generation,
            run=unit.run,
            attempt=unit.attempt,
            arguments=unit.task.arguments,
            source=unit.task.source,
            sink=unit.task.sink,
            low=unit.low,
            high=unit.high,
            _report=report,
        )

    @property
    def provisional(self) -> bool:
        """Whether the interval was still open: a final run will follow."""
        return self.run > 0

    @property
    def key(self) -> str:
        """The unit: ``process@label#generation``, with ``.n`` for the nth provisional run."""
        return unit_key(self.process, self.interval, self.generation, self.run)

    @property
    def fence(self) -> str:
        """Text that is greater for every later attempt at this interval.

        A sink that keeps it beside the result can refuse an attempt that was overtaken while it
        was paused: ``UPDATE … WHERE fence <= ?``.  Compare it as text.
        """
        return fence_text(self.generation, self.run, self.attempt)

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far the attempt is: `done` of `total` (None: unknown), and what it is at.

        Costs microseconds, so call it as often as you like; it is shown about once a second.
        """
        self._report((_number(done), None if total is None else _number(total), _line(text)))


def fence_text(generation: int, run: int, attempt: int) -> str:
    """Fixed width, so that it orders as text; the deciding run (0) comes after provisional ones."""
    return f"{generation:08d}.{run or 99_999_999:08d}.{attempt:08d}"


def _number(value: float) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"progress({value!r}): done and total are finite numbers")
    return number


def _line(text: str) -> str:
    return " ".join(str(text)[: 2 * PROGRESS_TEXT_LIMIT].split())[:PROGRESS_TEXT_LIMIT]


def _wait(after: timedelta | float | None) -> timedelta | None:
    if after is None or isinstance(after, timedelta):
        wait = after
    else:
        wait = timedelta(seconds=after)
    if wait is not None and not timedelta(0) <= wait <= LONGEST_WAIT:
        raise ValueError(f"Retry(after={after!r}): the wait is from 0 to {LONGEST_WAIT.days} days")
    return wait
