"""Late data: what a source has more of than when an interval was finished.

A recomputing process may have its finished intervals looked at again for a while, as its policy
`late` says.  A *look* goes through the intervals that ended within its window, measures one after
the other, and compares what the source says with the bounds that the standing result was made
within.  All that has grown is filed as one request, to be marked stale or processed again; so what
is built on twenty-four late hours is opened once.

One source is asked at a time, for all processes: an interval that waits for its own measuring, in
the same line, waits for one of these at most.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import Any, Protocol

from synergy.core.catalog import Catalog, Process
from synergy.core.commands import Command, FileRequest, MeasureSource, ReadUnits, Warn
from synergy.core.events import SourceMeasured, UnitsRead
from synergy.core.intervals import Interval
from synergy.core.model import Json, Request, Standing, Unit, unit_key
from synergy.core.states import JobState, UnitState
from synergy.core.timetable import Timetable

#: Who files the requests.
ACTOR = "late data"
#: Intervals whose bounds are read in one go.
CHUNK = 200
#: Generations that are looked back for the last unit: those after it were kept without one.
LOOKED_BACK = 20
#: Intervals whose bounds a request's reason tells.
NAMED = 2

_RESULTS = frozenset({JobState.PROCESSED, JobState.NOOP})
_DONE = frozenset({UnitState.PROCESSED, UnitState.NOOP})


class Desk(Protocol):
    """What the looks need of the engine."""

    catalog: Catalog
    timetable: Timetable

    def ask(self, command: Command) -> None:
        """Have the command carried out."""

    def look_at(self, name: str, when: datetime) -> None:
        """Have `Looks.begin` called for this process then."""


@dataclass(frozen=True, slots=True)
class Late:
    """An interval of which its source has more than its result was made from."""

    interval: Interval
    #: The generation that it stands in.
    generation: int
    #: First and last key: within which the result was made, and which there are now.
    had: tuple[Json, Json]
    has: tuple[Json, Json]

    def __str__(self) -> str:
        had, has = _told(self.had), _told(self.has)
        return f"{self.interval.label} was made from {had}, and its source has {has}"


@dataclass(slots=True)
class _Look:
    """One way through the window of a process."""

    process: Process
    #: Intervals of the window that were not looked at yet.
    rest: Iterator[Interval]
    #: Intervals whose bounds are being read, by the keys of the units that may tell them.
    reading: dict[str, tuple[Interval, Standing]] = field(default_factory=dict)
    #: Intervals to be measured: the generation that stands, and its bounds.
    to_measure: deque[tuple[Interval, int, tuple[Json, Json]]] = field(default_factory=deque)
    found: list[Late] = field(default_factory=list)
    #: Why intervals could not be measured.
    errors: list[str] = field(default_factory=list)


class Looks:
    """The looks that have their time, one after the other."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._waiting: deque[_Look] = deque()
        self._present: _Look | None = None
        self._measuring: tuple[Interval, int, tuple[Json, Json]] | None = None
        #: Intervals of which a request was filed, and the generation that they stood in.
        self._noticed: dict[tuple[str, datetime], int] = {}

    def plan(self, now: datetime) -> None:
        """Set the time of the next look at each process that wants one.

        A start is no occasion: looks have times of their own, which no restart moves.
        """
        for process in self._desk.catalog.processes.values():
            if process.late != "ignore":
                self._plan(process, now)

    def _plan(self, process: Process, now: datetime) -> None:
        following = process.late_every.next_after(now)
        if following is not None:
            self._desk.look_at(process.name, following)

    def begin(self, name: str, now: datetime) -> None:
        """Look at what was finished lately of a process, unless that is being done."""
        process = self._desk.catalog.processes[name]
        self._plan(process, now)
        if any(look.process.name == name for look in (self._present, *self._waiting) if look):
            return
        first = max(now - process.late_for, self._desk.catalog.spans[name][0])
        self._forget(name, first)
        window = process.calendar.between(process.calendar.containing(first).start, now)
        self._waiting.append(_Look(process, window))
        if self._present is None:
            self._go_on(now)

    def _forget(self, name: str, first: datetime) -> None:
        gone = [key for key in self._noticed if key[0] == name and key[1] < first]
        for key in gone:
            if self._desk.catalog.processes[name].calendar.starting_at(key[1]).end <= first:
                del self._noticed[key]

    def read(self, event: UnitsRead, now: datetime) -> None:
        """The bounds were read that results were made within."""
        look = self._present
        if look is None or not look.reading:
            return
        made: dict[datetime, tuple[Interval, Standing, Unit]] = {}
        for key, unit in event.units.items():
            interval, standing = look.reading[key]
            latest = made.get(interval.start)
            if unit.state in _DONE and (latest is None or unit.generation > latest[2].generation):
                made[interval.start] = interval, standing, unit
        look.reading.clear()
        look.to_measure.extend(
            (interval, standing.generation, (unit.low, unit.high))
            for interval, standing, unit in made.values()
        )
        self._go_on(now)

    def measured(self, event: SourceMeasured, now: datetime) -> bool:
        """Whether the answer was awaited here; then it is taken."""
        look, asked = self._present, self._measuring
        if look is None or asked is None:
            return False
        interval, generation, had = asked
        if (event.process, event.interval) != (look.process.name, interval):
            return False
        self._measuring = None
        has = event.low, event.high
        if event.error is not None:
            look.errors.append(f"{interval.label}: {event.error}")
        elif grown(had, has):
            look.found.append(Late(interval, generation, had, has))
        self._go_on(now)
        return True

    def _go_on(self, now: datetime) -> None:
        """Ask for what the present look needs next, or begin the next one."""
        while self._present is not None or self._waiting:
            if self._present is None:
                self._present = self._waiting.popleft()
            look = self._present
            while look.to_measure:
                interval, generation, had = look.to_measure.popleft()
                if self._stands(look, interval, generation):
                    self._measuring = interval, generation, had
                    source = look.process.task.source or ""
                    self._desk.ask(MeasureSource(look.process.name, interval, source))
                    return
            look.reading = {
                key: (interval, standing)
                for interval, standing in islice(self._worth_a_look(look, now), CHUNK)
                for key in _makers(look.process.name, interval, standing)
            }
            if look.reading:
                self._desk.ask(ReadUnits(tuple(look.reading)))
                return
            self._present = None
            self._conclude(look, now)

    def _worth_a_look(self, look: _Look, now: datetime) -> Iterator[tuple[Interval, Standing]]:
        ledger = self._desk.timetable.ledgers[look.process.name]
        for interval in look.rest:
            standing = ledger.at(interval.start)
            noticed = self._noticed.get((look.process.name, interval.start))
            if (
                standing is not None
                and standing.state in _RESULTS
                and standing.generation != noticed
                and now - look.process.late_for < interval.end
            ):
                yield interval, standing

    def _stands(self, look: _Look, interval: Interval, generation: int) -> bool:
        standing = self._desk.timetable.ledgers[look.process.name].at(interval.start)
        return standing is not None and standing.generation == generation

    def _conclude(self, look: _Look, now: datetime) -> None:
        name = look.process.name
        if look.errors:
            several = f" (and {len(look.errors) - 1} more)" if len(look.errors) > 1 else ""
            self._desk.ask(
                Warn(f"{name} could not be looked at for late data: {look.errors[0]}{several}")
            )
        late = [each for each in look.found if self._stands(look, each.interval, each.generation)]
        if late:
            self._noticed |= {(name, each.interval.start): each.generation for each in late}
            self._desk.ask(FileRequest(request_of(look.process, late, now)))


def grown(had: tuple[Json, Json], has: tuple[Json, Json]) -> bool:
    """Whether there are keys now beyond the bounds that there were; fewer of them are no news, as
    a source may forget."""
    return _beyond(has[0], had[0], lambda new, old: new < old) or _beyond(
        has[1], had[1], lambda new, old: new > old
    )


def _beyond(new: Json, old: Json, compare: Callable[[Any, Any], bool]) -> bool:
    if new is None or new == old:
        return False
    try:
        return old is None or compare(new, old)
    except TypeError:  # keys of another kind: it is another source by now
        return True


def request_of(process: Process, late: list[Late], now: datetime) -> Request:
    """The request for all that a look has found; found again, it has the same id."""
    found: list[Json] = [
        {
            "interval": each.interval.label,
            "generation": each.generation,
            "had": list(each.had),
            "has": list(each.has),
        }
        for each in late
    ]
    digest = sha256(json.dumps([process.name, found], sort_keys=True).encode()).hexdigest()
    more = f"; and {len(late) - NAMED} more" if len(late) > NAMED else ""
    return Request(
        id=f"late-{digest[:16]}",
        action=process.late,
        process=process.name,
        starts=tuple(each.interval.start for each in late),
        filed_at=now,
        actor=ACTOR,
        reason="; ".join(map(str, late[:NAMED])) + more,
        options={"late": found},
    )


def as_noticed(options: Mapping[str, Json]) -> dict[str, int]:
    """The generations that the intervals of such a request stood in, by label."""
    found = options.get("late", [])
    assert isinstance(found, list)
    return {
        str(each["interval"]): int(str(each["generation"]))
        for each in found
        if isinstance(each, dict)
    }


def _makers(name: str, interval: Interval, standing: Standing) -> Iterator[str]:
    """Keys of the units that may have been the last to make the standing result, or to make it
    again just as it was."""
    last = standing.generation
    for generation in {standing.result, *range(max(standing.result, last - LOOKED_BACK), last + 1)}:
        yield unit_key(name, interval, generation)


def _told(keys: tuple[Json, Json]) -> str:
    low, high = keys
    return "nothing" if low is None and high is None else f"{_short(low)} … {_short(high)}"


def _short(key: Json) -> str:
    text = json.dumps(key, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"
