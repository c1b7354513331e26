"""A backfill: intervals of one process that are run again little by little, beside the live work.

It is a stored document, written by the scheduler alone.  What of it has been opened is one
boundary in time, the *front*, moved before a batch behind it is opened: so whoever takes over opens
the last batch again, which changes nothing where that was done, and knows of all others by how
their jobs stand.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from synergy.core.catalog import Catalog, Process
from synergy.core.intervals import Calendar, Interval
from synergy.core.model import REQUESTS_REMEMBERED, Documents, Json, Request
from synergy.core.values import dataclass

#: Its states: what is built on its targets is being held; targets are opened; all is done; given
#: up.
HOLDING, RUNNING, DONE, CANCELED = "holding", "running", "done", "canceled"
#: What its order may be: of the intervals that are opened next.
ORDERS = ("oldest", "newest")
#: Shares of the slots, where nothing else is said: what it has in any case, and at most.
MIN_SHARE, MAX_SHARE = 0.1, 0.5
#: So many that are over are remembered.
KEPT = 100
#: Units beyond its least share go behind all others, whatever their priority.
LOWERED = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """How a backfill stands."""

    id: str
    process: str
    #: Its targets: ``start, end, start, end, …`` in seconds since the epoch, ascending.
    bounds: tuple[int, ...]
    #: How many these are.
    total: int
    order: str
    #: Whether what needs no run is run again, too.
    force: bool
    min_share: float
    max_share: float
    filed_at: datetime
    actor: str = ""
    reason: str = ""
    state: str = HOLDING
    paused: bool = False
    #: All targets on the near side of it are opened, or were left; None: none is.
    front: int | None = None
    #: Where the front was before the batch that may not be opened yet; the same where there is
    #: none.
    behind: int | None = None
    #: How many targets are on the near side of the front.
    passed: int = 0
    #: Since when targets are opened, and when it ended.
    began_at: datetime | None = None
    ended_at: datetime | None = None
    #: Requests that changed it.
    requests: tuple[str, ...] = ()
    #: Of the stored document; 0: none is stored.
    version: int = 0

    def as_request(self) -> Request:
        """As what its chunks and batches are carried out."""
        return Request(
            id=self.id,
            action="backfill",
            process=self.process,
            starts=(),
            filed_at=self.filed_at,
            actor=self.actor,
            reason=self.reason,
        )

    @property
    def over(self) -> bool:
        """Whether nothing comes of it any more."""
        return self.state in (DONE, CANCELED)

    @property
    def opening(self) -> bool:
        """Whether the last batch may not be opened yet."""
        return self.front != self.behind

    def obeying(self, request: str, **changes: Any) -> "Backfill":
        """As a request leaves it."""
        remembered = (*self.requests, request)[-REQUESTS_REMEMBERED:]
        return replace(self, requests=remembered, **changes)

    def has(self, start: datetime) -> bool:
        """Whether the interval that starts there is one of its targets."""
        return bisect_right(self.bounds, int(start.timestamp())) % 2 == 1

    def is_passed(self, start: datetime) -> bool:
        """Whether the front has passed the interval that starts there."""
        return self._near(int(start.timestamp()), self.front)

    def left_within(self, start: datetime, end: datetime, front: int | None) -> bool:
        """Whether a front has yet to pass targets between two instants."""
        low, high = int(start.timestamp()), int(end.timestamp())
        if front is not None:
            low, high = (low, min(high, front)) if self._back else (max(low, front), high)
        if low >= high:
            return False
        place = bisect_right(self.bounds, low)
        return place % 2 == 1 or (place < len(self.bounds) and self.bounds[place] < high)

    @property
    def exhausted(self) -> bool:
        """Whether the front has passed all of them."""
        if not self.bounds:
            return True
        if self.front is None:
            return False
        return self.front <= self.bounds[0] if self._back else self.front >= self.bounds[-1]

    def ahead(self, calendar: Calendar, front: int | None) -> Iterator[Interval]:
        """The targets on the far side of a front, the next ones first."""
        pairs = list(zip(self.bounds[::2], self.bounds[1::2], strict=True))
        if not self._back:
            for low, high in pairs:
                begin = low if front is None else max(low, front)
                if begin < high:
                    yield from calendar.between(_instant(begin), _instant(high))
            return
        for low, high in reversed(pairs):
            end = high if front is None else min(high, front)
            if low < end:
                interval = calendar.containing(_instant(end - 1))
                while interval.start.timestamp() >= low:
                    yield interval
                    interval = calendar.shift(interval, -1)

    def stretches(self, calendar: Calendar) -> Iterator[tuple[Interval, Interval]]:
        """The first and the last of each stretch of its targets, ascending."""
        for low, high in zip(self.bounds[::2], self.bounds[1::2], strict=True):
            yield calendar.containing(_instant(low)), calendar.containing(_instant(high - 1))

    def targets(self, catalog: Catalog) -> Iterator[tuple[str, Interval]]:
        """All of them."""
        for interval in self.ahead(catalog.processes[self.process].calendar, None):
            yield self.process, interval

    def batch(self, calendar: Calendar) -> list[Interval]:
        """The targets of the last batch, which may not be opened yet."""
        found = []
        for interval in self.ahead(calendar, self.behind):
            if not self.is_passed(interval.start):
                break
            found.append(interval)
        return found

    def advanced(self, calendar: Calendar, most: int) -> "Backfill":
        """With the front beyond the next so many targets."""
        number, front = 0, self.front
        for interval in self.ahead(calendar, self.front):
            number += 1
            front = int((interval.start if self._back else interval.end).timestamp())
            if number == most:
                break
        return replace(self, front=front, behind=self.front, passed=self.passed + number)

    def most_out(self, slots: int) -> int:
        """How many units of it may be out at once, of so many slots."""
        return units_out(self.min_share, self.max_share, slots)[1]

    def least_out(self, slots: int) -> int:
        """How many of these go out with the priority that its process has."""
        return units_out(self.min_share, self.max_share, slots)[0]

    @property
    def _back(self) -> bool:
        return self.order == "newest"

    def _near(self, second: int, front: int | None) -> bool:
        if front is None:
            return False
        return second >= front if self._back else second < front

    def content(self) -> dict[str, Json]:
        """As a plain document; instants in seconds since the epoch."""
        return {
            "process": self.process,
            "bounds": list(self.bounds),
            "total": self.total,
            "order": self.order,
            "force": self.force,
            "min_share": self.min_share,
            "max_share": self.max_share,
            "filed_at": self.filed_at.timestamp(),
            "actor": self.actor,
            "reason": self.reason,
            "state": self.state,
            "paused": self.paused,
            "front": self.front,
            "behind": self.behind,
            "passed": self.passed,
            "began_at": None if self.began_at is None else self.began_at.timestamp(),
            "ended_at": None if self.ended_at is None else self.ended_at.timestamp(),
            "requests": list(self.requests),
        }

    @classmethod
    def of_content(cls, key: str, version: int, content: Mapping[str, Any]) -> "Backfill":
        """The backfill that a stored document came from."""
        began, ended = content["began_at"], content["ended_at"]
        return cls(
            **{
                **content,
                "id": key,
                "version": version,
                "bounds": tuple(content["bounds"]),
                "filed_at": _instant(content["filed_at"]),
                "began_at": None if began is None else _instant(began),
                "ended_at": None if ended is None else _instant(ended),
                "requests": tuple(content["requests"]),
            }
        )


def units_out(min_share: float, max_share: float, slots: int) -> tuple[int, int]:
    """How many units are out whatever else there is, and at most, by their shares of the slots."""
    most = max(1, math.floor(max_share * slots))
    return min(most, math.ceil(min_share * slots)), most


def backfills_of(
    documents: Documents,
) -> dict[str, Backfill]:
    """The backfills by id, of the documents of their kind."""
    return {key: Backfill.of_content(key, *document) for key, document in documents.items()}


def forgotten(documents: Documents, kept: int = KEPT) -> list[Backfill]:
    """Those that were over before the latest so many that are."""
    if len(documents) <= kept:
        return []
    over = [each for each in backfills_of(documents).values() if each.over]
    over.sort(key=lambda each: each.filed_at, reverse=True)
    return over[kept:]


def requested(catalog: Catalog, request: Request) -> Backfill | str:
    """The backfill that a request asks for, or why it cannot be."""
    process = catalog.processes.get(request.process)
    if process is None:
        return f"no process {request.process} is registered"
    if built_on_itself(catalog, process.name):
        return (
            f"the intervals of {process.name} build on one another: "
            "a reprocess of the first of them runs all others again"
        )
    options = request.options
    bounds, total = options.get("targets"), options.get("total")
    order = options.get("order", ORDERS[0])
    least, most = options.get("min_share", MIN_SHARE), options.get("max_share", MAX_SHARE)
    whole = isinstance(bounds, list) and all(isinstance(each, int) for each in bounds)
    if not whole or not isinstance(bounds, list) or not isinstance(total, int) or len(bounds) % 2:
        return "a backfill needs its targets as bounds in seconds, and their number"
    if order not in ORDERS:
        return f"order {order!r} is none of {', '.join(ORDERS)}"
    if not (isinstance(least, int | float) and isinstance(most, int | float)) or not (
        0 <= least <= most <= 1 and most > 0
    ):
        return f"the shares {least!r} and {most!r} are not 0 ≤ least ≤ most ≤ 1"
    made = Backfill(
        id=request.id,
        process=process.name,
        bounds=tuple(int(str(each)) for each in bounds),
        total=total,
        order=str(order),
        force=bool(options.get("force")),
        min_share=float(least),
        max_share=float(most),
        filed_at=request.filed_at,
        actor=request.actor,
        reason=request.reason,
    )
    return _misfit(catalog, process, made) or made


def _misfit(catalog: Catalog, process: Process, made: Backfill) -> str:
    """Why its bounds cannot be those of intervals; empty where they can."""
    if any(low >= high for low, high in pairwise(made.bounds)):
        return "the bounds of the targets do not ascend"
    pairs = zip(made.bounds[::2], made.bounds[1::2], strict=True)
    for (low, high), (first, last) in zip(pairs, made.stretches(process.calendar), strict=True):
        if (first.start, last.end) != (_instant(low), _instant(high)):
            return f"{process.name} is cut otherwise by now: {first.label} to {last.label}"
        for interval in (first, last):
            if not catalog.exists(process.name, interval):
                return f"{interval.label} lies outside the span of tree {process.tree}"
    return ""


def built_on(catalog: Catalog, name: str) -> frozenset[str]:
    """All processes that build on another one, directly or not."""
    seen: set[str] = set()
    todo = [name]
    while todo:
        one = todo.pop()
        above = {other for other in catalog.processes if _consumes(catalog, other, one)}
        todo += above - seen
        seen |= above
    return frozenset(seen)


def built_on_itself(catalog: Catalog, name: str) -> bool:
    """Whether intervals of a process build on others of it, directly or not."""
    return name in built_on(catalog, name)


def _consumes(catalog: Catalog, name: str, other: str) -> bool:
    return catalog.child_of(name) == other or any(
        dependency.process == other for dependency in catalog.processes[name].after
    )


def _instant(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)
