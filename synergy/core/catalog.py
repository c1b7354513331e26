"""The catalog: a context that has been checked, and the calendar relations between its jobs.

It answers which intervals of which process an interval waits for (its *inputs*: children by
calendar enclosure, dependencies by shared time, offset and window) and who waits for it (its
*consumers*).  Both are computed from the calendar, never stored; an input is a contiguous range of
intervals, so that a year of hours costs no more to name than one.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from datetime import UTC, datetime, time, timedelta
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

from synergy.core.boxes import admits
from synergy.core.intervals import Calendar, Granularity, Interval
from synergy.core.model import Task
from synergy.core.triggers import Every, Trigger
from synergy.core.values import dataclass

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """See `context.After`."""

    process: str
    offset: int
    window: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One level of a tree, checked."""

    name: str
    tree: str
    calendar: Calendar
    machine: str
    blocking: str
    on_failure: str
    task: Task
    after: tuple[Dependency, ...]
    #: When a provisional run follows the last.
    every: Trigger
    #: Wait after the interval's end until it is due.
    lag: timedelta
    #: At most so many units of it at once; None for no limit of its own.
    parallel: int | None
    #: With which others it shares a number of places; None: with none.
    pool: str | None = None
    #: What becomes of intervals that it has missed: see `switches.CATCH_UPS`.
    catch_up: str = "all"
    #: Patterns of the boxes that may work it; none: every box.
    boxes: tuple[str, ...] = ()
    #: What becomes of a finished interval whose source has grown: "ignore", "mark", "reprocess".
    late: str = "ignore"
    #: How long after its end an interval is looked at for that, and when.
    late_for: timedelta = timedelta(days=7)
    late_every: Trigger = Every(3600)
    #: By when it promises to be complete: so long after the interval's end, or at the first such
    #: time of the local clock after it; None: it promises nothing.
    complete_by: timedelta | time | None = None

    @property
    def open_ended(self) -> bool:
        """Whether it also runs while its interval is open."""
        return self.machine != "discrete"

    @property
    def measured(self) -> bool:
        """Whether its source is measured before each run."""
        return self.machine == "recomputing"

    def due(self, interval: Interval) -> datetime:
        """The instant from which its final run may start."""
        return interval.end + self.lag

    def promised(self, interval: Interval) -> datetime | None:
        """The instant by which it promises the interval to be complete."""
        by = self.complete_by
        if by is None:
            return None
        if isinstance(by, timedelta):
            return interval.end + by
        zone = ZoneInfo(self.calendar.zone)
        day = interval.end.astimezone(zone).date()
        at = datetime.combine(day, by, zone).astimezone(UTC)
        if at > interval.end:
            return at
        return datetime.combine(day + timedelta(days=1), by, zone).astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Processes from coarse to fine over a span of time."""

    name: str
    processes: tuple[str, ...]
    zone: str
    start: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Freerun:
    """A trigger-driven run, checked."""

    name: str
    task: Task
    trigger: Trigger
    misfire: str
    #: Only firings after this instant count.
    start: datetime
    #: As of a process.
    pool: str | None = None
    boxes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A worker program."""

    name: str
    slots: int
    #: None: all of them.
    processes: frozenset[str] | None
    #: Patterns of the boxes where it runs; none: every box.
    boxes: tuple[str, ...] = ()
    #: Whether it works on one of them at a time only.
    alone: bool = False

    def works_on(self, process: str) -> bool:
        """Whether it takes units of that process."""
        return self.processes is None or process in self.processes


@dataclass(frozen=True, slots=True)
class Input:
    """Intervals of one process that an interval waits for: all those that start in a range."""

    #: "child" or "dependency".
    kind: str
    process: str
    #: Boundaries of intervals of that process.
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Catalog:
    """All registered processes, trees, freeruns and programs."""

    processes: Mapping[str, Process]
    trees: Mapping[str, Tree]
    freeruns: Mapping[str, Freerun]
    programs: Mapping[str, Program]
    sources: Mapping[str, str]
    #: Patterns of the boxes whose supervisor keeps a scheduler; none: every box.
    schedulers: tuple[str, ...] = ()
    #: How many units of all members of a pool may be out at once.
    pools: Mapping[str, int] = field(default_factory=dict)
    _parents: Mapping[str, str] = field(init=False)
    _children: Mapping[str, str] = field(init=False)
    _dependents: Mapping[str, tuple[tuple[str, Dependency], ...]] = field(init=False)

    def __post_init__(self) -> None:
        parents, children = {}, {}
        for tree in self.trees.values():
            for coarse, fine in pairwise(tree.processes):
                parents[fine], children[coarse] = coarse, fine
        dependents: dict[str, list[tuple[str, Dependency]]] = {}
        for process in self.processes.values():
            for dependency in process.after:
                dependents.setdefault(dependency.process, []).append((process.name, dependency))
        object.__setattr__(self, "_parents", parents)
        object.__setattr__(self, "_children", children)
        object.__setattr__(
            self, "_dependents", {name: tuple(found) for name, found in dependents.items()}
        )

    @cached_property
    def spans(self) -> Mapping[str, tuple[datetime, datetime | None]]:
        """Start of the first interval of each process, and end of its last where there is one."""
        found = {}
        for process in self.processes.values():
            tree, calendar = self.trees[process.tree], process.calendar
            end = calendar.containing(tree.until - _INSTANT).end if tree.until else None
            found[process.name] = (calendar.containing(tree.start).start, end)
        return found

    def boxes_of(self, process: str) -> tuple[str, ...]:
        """Patterns of the boxes that may work a process or freerun; none: every box."""
        found = self.processes.get(process) or self.freeruns.get(process)
        return found.boxes if found is not None else ()

    def pool_of(self, name: str) -> str | None:
        """The pool of a process or freerun; None where it shares none."""
        found = self.processes.get(name) or self.freeruns.get(name)
        return found.pool if found is not None else None

    @cached_property
    def members(self) -> Mapping[str, tuple[str, ...]]:
        """The processes and freeruns of each pool."""
        found: dict[str, list[str]] = {pool: [] for pool in self.pools}
        for name in (*self.processes, *self.freeruns):
            pool = self.pool_of(name)
            if pool is not None:
                found[pool].append(name)
        return {pool: tuple(names) for pool, names in found.items()}

    def workable(self, program: Program, box: str) -> frozenset[str] | None:
        """What the program may take on that box; None: whatever there is."""
        bound = [name for name in (*self.processes, *self.freeruns) if self.boxes_of(name)]
        if all(admits(self.boxes_of(name), box) for name in bound):
            return program.processes
        return frozenset(
            name
            for name in (*self.processes, *self.freeruns)
            if program.works_on(name) and admits(self.boxes_of(name), box)
        )

    def exists(self, process: str, interval: Interval) -> bool:
        """Whether the interval intersects the span of the process's tree."""
        start, end = self.spans[process]
        return start <= interval.start and (end is None or interval.end <= end)

    def inputs(self, process: str, interval: Interval) -> tuple[Input, ...]:
        """What the interval waits for; ranges outside the other's span are cut off."""
        child, after = self._children.get(process), self.processes[process].after
        if child is None and not after:
            return ()
        found = []
        if child is not None:
            found.append(self._clipped("child", child, interval.start, interval.end))
        found += [self.input_by(process, interval, dependency) for dependency in after]
        return tuple(given for given in found if given is not None)

    def inputs_of_all(self, process: str, first: Interval, last: Interval) -> Iterator[Input]:
        """What all intervals of a process from one to another wait for; by two ways, twice."""
        child, after = self._children.get(process), self.processes[process].after
        found = []
        if child is not None:
            found.append(self._clipped("child", child, first.start, last.end))
        for dependency in after:
            start, _ = self._reach(process, first, dependency)
            _, end = self._reach(process, last, dependency)
            found.append(self._clipped("dependency", dependency.process, start, end))
        yield from (given for given in found if given is not None)

    def input_by(self, process: str, interval: Interval, dependency: Dependency) -> Input | None:
        """What the interval waits for by one of its process's dependencies; None for nothing."""
        reach = self._reach(process, interval, dependency)
        return self._clipped("dependency", dependency.process, *reach)

    def intervals_of(self, given: Input) -> Iterator[Interval]:
        """The single intervals of an input, ascending."""
        return self.processes[given.process].calendar.between(given.start, given.end)

    def parent(self, process: str, interval: Interval) -> tuple[str, Interval] | None:
        """The enclosing interval of the next coarser level."""
        name = self._parents.get(process)
        if name is None:
            return None
        return name, self.processes[name].calendar.containing(interval.start)

    def child_of(self, process: str) -> str | None:
        """The next finer level."""
        return self._children.get(process)

    def dependents(
        self, process: str, interval: Interval
    ) -> Iterator[tuple[str, Interval, Dependency]]:
        """Intervals that depend on this one, each with the dependency that says so."""
        for name, dependency in self._dependents.get(process, ()):
            for candidate in self._candidates(name, process, interval, dependency):
                start, end = self._reach(name, candidate, dependency)
                if start <= interval.start < end and self.exists(name, candidate):
                    yield name, candidate, dependency

    def consumers(self, process: str, interval: Interval) -> Iterator[tuple[str, Interval]]:
        """Who waits for this interval: its parent and its dependents."""
        parent = self.parent(process, interval)
        if parent is not None:
            yield parent
        for name, dependent, _ in self.dependents(process, interval):
            yield name, dependent

    def closure(self, names: Iterable[str]) -> set[str]:
        """These processes and all that they wait for, whatever the interval."""
        found: set[str] = set()
        todo = [*names]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += [child] if (child := self._children.get(name)) is not None else []
                todo += [dependency.process for dependency in self.processes[name].after]
        return found

    def _clipped(self, kind: str, process: str, start: datetime, end: datetime) -> Input | None:
        first, last = self.spans[process]
        start, end = max(start, first), min(end, last) if last else end
        return Input(kind, process, start, end) if start < end else None

    def _reach(
        self, process: str, interval: Interval, dependency: Dependency
    ) -> tuple[datetime, datetime]:
        """The range of the other process's intervals that this one waits for, unclipped."""
        own = self.processes[process].calendar
        other = self.processes[dependency.process].calendar
        if dependency.window is None and _finer(other, own):
            shifted = own.shift(interval, dependency.offset)
            return (
                other.containing(shifted.start).start,
                other.containing(shifted.end - _INSTANT).end,
            )
        last = other.containing(interval.end - _INSTANT)
        if dependency.window is None and dependency.offset == 0:
            return other.containing(interval.start).start, last.end
        last = other.shift(last, dependency.offset)
        return other.shift(last, 1 - (dependency.window or 1)).start, last.end

    def _candidates(
        self, process: str, of: str, interval: Interval, dependency: Dependency
    ) -> Iterator[Interval]:
        """The intervals whose reach may hold `interval`: the inverse of `_reach`, generously."""
        own = self.processes[process].calendar
        other = self.processes[of].calendar
        if dependency.window is None and _finer(other, own):
            for touched in own.between(interval.start, interval.end):
                yield own.shift(touched, -dependency.offset)
            return
        first = other.shift(interval, -dependency.offset)
        last = other.shift(first, (dependency.window or 1) - 1)
        yield from own.between(first.start, last.end)


_SIZE = {granularity: size for size, granularity in enumerate(Granularity)}
#: Orders calendars from fine to coarse.
Size = tuple[int, int]


def size_of(calendar: Calendar) -> Size:
    """Where a calendar stands from fine to coarse."""
    return _SIZE[calendar.granularity], calendar.grouping


def _finer(one: Calendar, other: Calendar) -> bool:
    """Whether one's intervals are the smaller ones."""
    return size_of(one) < size_of(other)
