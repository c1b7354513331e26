"""From what is asked about to the root of it, and to what waits behind it.

Of all that an interval waits for, directly or not, the root is what is the least likely to end by
itself.  The walk is bounded: so is what waits behind the interval, which is told as "at least".
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from synergy.core.intervals import Interval
from synergy.core.model import Job, Json
from synergy.core.readiness import Awaited
from synergy.errors import NotFound
from synergy.explanation import firings, intervals
from synergy.explanation.causes import STUCK, Cause, Link
from synergy.explanation.intervals import request_in_words
from synergy.history import recent_units, typical_duration
from synergy.reading import Reading
from synergy.words import clock, duration, instant

#: Intervals looked at in search of the root.
LOOKED_AT = 500
#: Intervals behind the one in question that are looked at.
LOOKED_BEHIND = 1000
#: A request that has not been answered for so long is told of.
UNANSWERED = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """What waits for an interval, directly or not, and has begun."""

    #: By process, how many of its intervals.
    intervals: dict[str, int] = field(default_factory=dict)
    #: Since when the first of them has been due; None where none is yet.
    since: datetime | None = None
    #: Whether these are all; else there are at least so many.
    complete: bool = True

    @property
    def number(self) -> int:
        """How many they are."""
        return sum(self.intervals.values())

    def content(self) -> dict[str, Json]:
        """As a plain document."""
        return {
            "intervals": self.number,
            "processes": dict(self.intervals),
            "since": instant(self.since) if self.since is not None else None,
            "complete": self.complete,
        }

    def __str__(self) -> str:
        told = ", ".join(f"{number} of {name}" for name, number in self.intervals.items())
        least = "" if self.complete else "at least "
        since = f", the oldest due since {clock(self.since)} UTC" if self.since else ""
        are = "interval waits" if self.number == 1 else "intervals wait"
        return f"{least}{self.number} {are} for it ({told}){since}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The chain from the root to the interval that was asked about, and what waits behind that."""

    chain: tuple[Link, ...]
    behind: Behind
    #: Why nothing of it moves whatever the chain says: no scheduler is at work, or the one that
    #: leads does nothing; empty where neither is so.
    standstill: str = ""
    #: Whether it is that no scheduler is at work.
    abandoned: bool = False
    #: Of a freerun: its latest firing that is over, and its next one, where others than that asked
    #: about.
    latest: Link | None = None
    upcoming: Link | None = None

    @property
    def root(self) -> Link:
        """What is to be looked at first."""
        return self.chain[0]

    @property
    def asked(self) -> Link:
        """The interval that was asked about."""
        return self.chain[-1]

    def content(self) -> dict[str, Json]:
        """As a plain document."""
        latest, upcoming = self.latest, self.upcoming
        return {
            "process": self.asked.process,
            "interval": self.asked.interval.label,
            "state": self.asked.state.value,
            "scheduler": self.standstill or "alive",
            "root": self.root.content(),
            "chain": [link.content() for link in self.chain],
            "latest": latest.content() if latest is not None else None,
            "upcoming": upcoming.content() if upcoming is not None else None,
            "behind": self.behind.content(),
        }


def explain(reading: Reading, process: str, interval: Interval, now: datetime) -> Explanation:
    """Why an interval of a process, or a firing of a freerun, stands as it does."""
    root, *others = _chain(reading, process, interval, now)
    chain = (_with_typical(reading, root), *others)
    ended = chain[-1].cause in (Cause.ENDED, Cause.STALE)
    if ended or not reading.present:
        after = Behind() if ended else behind(reading, process, interval, now)
        return Explanation(chain=chain, behind=after)
    explanation = Explanation(chain=chain, behind=behind(reading, process, interval, now))
    return _with_standstill(reading, explanation, now)


def explain_freerun(reading: Reading, name: str, now: datetime) -> Explanation:
    """Why the firing of a freerun that is at work, due, to come or was the latest stands as it
    does; with what was before and what comes next.

    Raises:
        NotFound: it has never fired, and its trigger names no instant any more.
    """
    asked = firings.in_question(reading, name, now)
    if asked is None:
        raise NotFound(f"{name} has never fired, and never will by its trigger")
    explanation = explain(reading, name, asked, now)
    over = firings.latest_over(reading, name)
    following = firings.upcoming(reading, name, now)
    if explanation.asked.cause is Cause.OFF:
        following = None  # it does not fire either
    explanation = replace(
        explanation,
        latest=None if over is None else _other(reading, name, over.interval, asked, now),
        upcoming=None if following is None else _other(reading, name, following, asked, now),
    )
    return _with_standstill(reading, explanation, now)


def _other(
    reading: Reading, name: str, interval: Interval, asked: Interval, now: datetime
) -> Link | None:
    """The link of a firing, where it is not that asked about."""
    return None if interval == asked else firings.link_of(reading, name, interval, now)


def _with_standstill(reading: Reading, explanation: Explanation, now: datetime) -> Explanation:
    absent = scheduler_absent(reading, now)
    standstill = absent or _unanswered(reading, now)
    return replace(explanation, standstill=standstill, abandoned=bool(absent))


def _with_typical(reading: Reading, root: Link) -> Link:
    """With how long its like took lately, where it is at work."""
    if root.cause is not Cause.AT_WORK:
        return root
    typical = typical_duration(recent_units(reading.store, root.process))
    if typical is None:
        return root
    took = duration(typical.total_seconds())
    return replace(root, next=f"{root.next}; those of {root.process} take {took} (median)")


def scheduler_absent(reading: Reading, now: datetime) -> str:
    """That no scheduler is alive, and since when; empty where one is."""
    lease = reading.leader
    if lease is None:
        return "no scheduler has ever run"
    if lease.until >= now:
        return ""
    return f"no scheduler has been running since {clock(lease.until)} UTC"


def _unanswered(reading: Reading, now: datetime) -> str:
    """That the scheduler does not carry out what was filed; empty where it does."""
    waiting = [each for each in reading.requests if now - each.filed_at > UNANSWERED]
    if not waiting:
        return ""
    oldest = min(waiting, key=lambda request: request.filed_at)
    return f"a scheduler leads and has not carried out {request_in_words(oldest, now)}"


def behind(reading: Reading, process: str, interval: Interval, now: datetime) -> Behind:
    """What waits for it, directly or not: intervals that have begun and not ended."""
    found: Counter[str] = Counter()
    since: datetime | None = None
    seen = {(process, interval.start)}
    places = deque([(process, interval)])
    while places:
        for name, waiting in reading.catalog.consumers(*places.popleft()):
            key = (name, waiting.start)
            if key in seen or not _waits(reading, name, waiting, now):
                continue
            if len(seen) > LOOKED_BEHIND:
                return Behind(intervals=dict(found), since=since, complete=False)
            seen.add(key)
            found[name] += 1
            due = reading.catalog.processes[name].due(waiting)
            if due <= now and (since is None or due < since):
                since = due
            places.append((name, waiting))
    return Behind(intervals=dict(found), since=since)


def _waits(reading: Reading, process: str, interval: Interval, now: datetime) -> bool:
    if interval.start > now:
        return False
    return reading.timetable.job(process, interval) is not None


def _chain(reading: Reading, process: str, interval: Interval, now: datetime) -> tuple[Link, ...]:
    """Breadth first, the worst before the better: the nearest of the worst roots is found."""
    chains: list[tuple[Link, ...]] = [(_link(reading, process, interval, now),)]
    roots: list[tuple[Link, ...]] = []
    seen = {(process, interval.start)}
    for chain in chains:  # it grows while it is walked
        link = chain[0]
        following = [
            awaited
            for awaited in link.waits_for
            if (awaited.process, awaited.interval.start) not in seen
        ]
        if not link.waits_for or len(seen) > LOOKED_AT:
            roots.append(chain)
            if link.weight == STUCK:
                break
        following = following[: max(0, LOOKED_AT + 1 - len(seen))]
        reading.look_at(_active(reading, following))
        for awaited in following:
            seen.add((awaited.process, awaited.interval.start))
            chains.append((_link(reading, awaited.process, awaited.interval, now), *chain))
    return min(roots, key=lambda chain: chain[0].weight)


def _link(reading: Reading, process: str, interval: Interval, now: datetime) -> Link:
    if process in reading.catalog.freeruns:
        return firings.link_of(reading, process, interval, now)
    return intervals.link_of(reading, process, interval, now)


def _active(reading: Reading, places: Iterable[Awaited]) -> Iterator[Job]:
    """Those of them of which something is written."""
    active = reading.timetable.active
    found = (active.get((place.process, place.interval.start)) for place in places)
    return (job for job in found if job is not None)
