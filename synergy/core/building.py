"""Builds the catalog of a context, or reports every problem of it at once, each with its place."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from synergy.core.batches import LARGEST
from synergy.core.boxes import is_pattern, may_meet
from synergy.core.catalog import (
    Catalog,
    Dependency,
    Freerun,
    Process,
    Program,
    Size,
    Tree,
    size_of,
)
from synergy.core.context import (
    After,
    Context,
    Declaration,
    Duration,
    FreerunDeclaration,
    ProcessDeclaration,
    ProgramDeclaration,
    TreeDeclaration,
)
from synergy.core.intervals import BadCalendar, BadLabel, Calendar, Granularity
from synergy.core.model import Json, Task
from synergy.core.states import JOB_MACHINES
from synergy.core.triggers import BadTrigger, Trigger, parse_trigger

MACHINES = tuple(name for name in JOB_MACHINES if name != "freerun")
BLOCKINGS = ("normal", "children", "dependencies")
ON_FAILURE = ("hold", "skip")
#: What becomes of the intervals that a process has missed: all are worked, the newest closed one
#: alone, or none; the others are recorded as skipped.
CATCH_UPS = ("all", "latest", "none")
LATES = ("ignore", "mark", "reprocess")
MISFIRES = ("once", "skip", "all")
ON = ("all", "any")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_ENTRY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
#: A hundred years: whoever waits longer has made a mistake.
_LONGEST = timedelta(days=36_525)
#: Intervals that a dependency may look back: a year of hours, and some.
_FURTHEST = 10_000
#: No whole number of a context needs to be larger, and every store can keep these.
_LARGEST = 2**31


#: Fields of a declaration that no user gives by name.
_INWARD = frozenset({"name", "granularity", "at", "place", "unknown"})


class CatalogError(Exception):
    """The context cannot be used; `problems` lists all that is wrong, each with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def build(context: Context, now: datetime) -> Catalog:
    """Check a context; trees without a start begin `now`.

    Raises:
        CatalogError: naming every problem, each with its place.
    """
    return _Builder(context, now).build()


def accepted(context: Context) -> tuple[Any, ...]:
    """The changes that a context accepts, in words."""
    given: Any = context.accept
    return tuple(given) if isinstance(given, list | tuple | set | frozenset) else (given,)


class _Builder:
    """Collects what is wrong instead of stopping at the first."""

    def __init__(self, context: Context, now: datetime) -> None:
        self.context, self.now = context, now
        self.problems: list[str] = []
        self.processes: dict[str, Process] = {}
        self.trees: dict[str, Tree] = {}
        self.freeruns: dict[str, Freerun] = {}
        self.programs: dict[str, Program] = {}
        self.places: dict[str, str] = {}
        #: Names of processes and freeruns, and whether it is a process; broken ones too: whoever
        #: refers to them is not wrong.
        self.named: dict[str, bool] = {}

    def build(self) -> Catalog:
        self._sources()
        pools = self._pools()
        for declared in self.context.declared:
            if isinstance(declared, TreeDeclaration):
                self._tree(declared)
            elif isinstance(declared, FreerunDeclaration):
                self._freerun(declared)
            elif not isinstance(declared, ProgramDeclaration):
                self._problem(
                    "Context(…)",
                    f"{_shortly(declared)} is none of tree(…), freerun(…), program(…)",
                )
        for declared in self.context.declared:
            if isinstance(declared, ProgramDeclaration):
                self._program(declared)
        self._check_dependencies()
        schedulers = self._boxes("Context(schedulers=…)", "schedulers", self.context.schedulers)
        self._accept()
        self._check_boxes()
        if self.problems:
            raise CatalogError(self.problems)
        return Catalog(
            processes=self.processes,
            trees=self.trees,
            freeruns=self.freeruns,
            programs=self.programs,
            sources=dict(self.context.sources),
            schedulers=schedulers,
            pools=pools,
        )

    def _problem(self, where: str, what: str) -> None:
        self.problems.append(f"{where}: {what}")

    def _name(self, kind: str, declared: Declaration | ProcessDeclaration) -> str:
        where = f'{declared.place} {kind} "{declared.name}"'
        if not isinstance(declared.name, str) or not _NAME.fullmatch(declared.name):
            self._problem(where, "a name is made of letters, digits, '_', '.' and '-'")
        key = f"{'tree' if kind == 'tree' else 'run'} {declared.name}"
        if key in self.places:
            self._problem(where, f"the name is taken already, at {self.places[key]}")
        self.places[key] = declared.place
        if isinstance(declared, ProcessDeclaration | FreerunDeclaration):
            self.named[str(declared.name)] = isinstance(declared, ProcessDeclaration)
            for option in declared.unknown:
                accepted = _list(item for item in declared.__slots__ if item not in _INWARD)
                self._problem(where, f"there is no option {option!r}; there are {accepted}")
        return where

    def _sources(self) -> None:
        if self.context.no_sources is not None:
            self._problem(
                "Context(sources=…)",
                f"{self.context.no_sources!r} is no mapping of names to functions",
            )
        for name, entry in self.context.sources.items():
            if not isinstance(name, str) or not name:
                self._problem("Context(sources=…)", f"{name!r} is no name")
            if not isinstance(entry, str) or not _ENTRY.fullmatch(entry):
                self._problem(
                    f'Context(sources=…) source "{name}"',
                    f'{entry!r} is not of the form "package.module:name"',
                )

    def _accept(self) -> None:
        for words in accepted(self.context):
            if not isinstance(words, str):
                self._problem("Context(accept=…)", f"{words!r} is no text; `check` tells the words")

    def _pools(self) -> dict[str, int]:
        if self.context.no_pools is not None:
            self._problem(
                "Context(pools=…)",
                f"{self.context.no_pools!r} is no mapping of names to numbers of units",
            )
        found = {}
        for name, limit in self.context.pools.items():
            where = f'Context(pools=…) pool "{name}"'
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                self._problem(where, "a name is made of letters, digits, '_', '.' and '-'")
            found[str(name)] = self._whole(where, "limit", limit, 1)
        return found

    def _pool(self, where: str, pool: object) -> str | None:
        if pool is None or (isinstance(pool, str) and pool in self.context.pools):
            return pool
        known = _list(self.context.pools)
        self._problem(
            where, f"pool {pool!r} is none that Context(pools=…) names; known are {known}"
        )
        return None

    def _tree(self, declared: TreeDeclaration) -> None:
        where = self._name("tree", declared)
        zone = self._zone(where, declared.zone)
        start = self._instant(where, "start", declared.start, zone) or self.now
        until = self._instant(where, "until", declared.until, zone)
        if until is not None and until <= start:
            self._problem(where, f"until {declared.until!r} is not after its start")
        lag = self._duration(where, "lag", declared.lag) or timedelta(0)
        levels = []
        declared_levels = self._several(where, "processes", declared.processes, "processes")
        for level in declared_levels:
            process = self._process(where, level, declared.name, zone, lag)
            if process is not None:
                levels.append(process)
        if declared.processes in ((), []):
            self._problem(where, "it has no processes; at least one is wanted")
        levels.sort(key=lambda process: size_of(process.calendar), reverse=True)
        for coarse, fine in pairwise(levels):
            if fine.calendar == coarse.calendar:
                self._problem(
                    where,
                    f"{_described(coarse)} and {_described(fine)} are of one granularity; "
                    "a tree has one process for each",
                )
            elif not fine.calendar.nests_in(coarse.calendar):
                self._problem(
                    where,
                    f"{_described(fine)} does not nest in {_described(coarse)}; the lattice is "
                    "minutes ⊂ hour ⊂ day ⊂ month ⊂ quarter ⊂ year, and day ⊂ week, groups "
                    "within groups that they divide",
                )
        for level in levels:
            self._span(where, level, start, until)
        self.trees[str(declared.name)] = Tree(
            name=str(declared.name),
            processes=tuple(process.name for process in levels),
            zone=zone,
            start=start,
            until=until,
        )

    def _span(self, where: str, level: Process, start: datetime, until: datetime | None) -> None:
        """Whether its first and last interval can be told."""
        try:
            level.calendar.containing(start)
            if until is not None:
                level.calendar.containing(until + 2 * _LONGEST)
        except (BadLabel, OverflowError):
            self._problem(
                where,
                f"{_described(level)} would begin or end beyond what can be told: "
                "start and until lie within the years 2 to 9000",
            )

    def _process(
        self, owner: str, declared: ProcessDeclaration, tree: str, zone: str, lag: timedelta
    ) -> Process | None:
        if not isinstance(declared, ProcessDeclaration):
            self._problem(owner, f"{_shortly(declared)} is no process (hourly(…), daily(…), …)")
            return None
        where = self._name("process", declared)
        calendar = self._calendar(where, declared, zone)
        self._one_of(where, "machine", declared.machine, MACHINES)
        self._one_of(where, "blocking", declared.blocking, BLOCKINGS)
        self._one_of(where, "on_failure", declared.on_failure, ON_FAILURE)
        self._one_of(where, "catch_up", declared.catch_up, CATCH_UPS)
        if declared.machine == "recomputing" and str(declared.source) not in self.context.sources:
            self._problem(
                where,
                f"a recomputing process needs a source that Context(sources=…) names; "
                f"source is {declared.source!r}, known are {_list(self.context.sources)}",
            )
        parallel = None
        if declared.parallel is not None:
            parallel = self._whole(where, "parallel", declared.parallel, 1)
        pool = self._pool(where, declared.pool)
        every = self._trigger(where, "every", declared.every, zone)
        late = self._late(where, declared, zone)
        own_lag = self._duration(where, "lag", declared.lag)
        due = lag if own_lag is None else own_lag
        task = replace(self._task(where, declared), batch=self._batch(where, declared))
        after = tuple(item for item in declared.after if self._after(where, item))
        if calendar is None or every is None:
            return None
        process = Process(
            name=str(declared.name),
            tree=str(tree),
            calendar=calendar,
            machine=declared.machine,
            blocking=declared.blocking,
            on_failure=declared.on_failure,
            task=task,
            after=tuple(
                Dependency(process=item.process, offset=item.offset, window=item.window)
                for item in after
            ),
            every=every,
            lag=due,
            parallel=parallel,
            pool=pool,
            catch_up=declared.catch_up,
            boxes=self._boxes(where, "boxes", declared.boxes),
            complete_by=self._complete_by(where, declared.complete_by, due),
            **late,
        )
        self.processes[process.name] = process
        return process

    def _batch(self, where: str, declared: ProcessDeclaration) -> int:
        """How many adjacent intervals one call may be handed, which must be able to be out."""
        batch = self._whole(where, "batch", declared.batch, 1, LARGEST)
        if batch > 1 and not declared.run:
            self._problem(
                where,
                f"batch={batch} is for functions and classes, which can be handed several "
                "intervals in one call: a command is started for each, so its batch is 1",
            )
        places = self.context.pools.get(declared.pool) if isinstance(declared.pool, str) else None
        for what, limit in (("parallel", declared.parallel), (f"pool {declared.pool}", places)):
            if isinstance(limit, int) and 1 <= limit < batch:
                self._problem(
                    where,
                    f"batch={batch} can never be filled: {what} lets no more than {limit} "
                    "of its intervals be at work at once",
                )
        return batch

    def _late(self, where: str, declared: ProcessDeclaration, zone: str) -> dict[str, Any]:
        """What is said of late data, as far as it can be used."""
        self._one_of(where, "late", declared.late, LATES)
        given = {"late_for": declared.late_for, "late_every": declared.late_every}
        if declared.late == "ignore":
            for name, value in given.items():
                if value is not None:
                    self._problem(where, f"{name} says nothing without late={_or(LATES[1:])}")
        elif declared.machine != "recomputing":
            self._problem(
                where,
                f"late={declared.late!r} is for recomputing processes, whose source tells what "
                f"there is; the machine is {declared.machine}",
            )
        found: dict[str, Any] = {"late": declared.late}
        late_for = self._duration(where, "late_for", declared.late_for)
        if late_for is not None:
            found["late_for"] = late_for
        if declared.late_every is not None:
            trigger = self._trigger(where, "late_every", _pace(declared.late_every), zone)
            if trigger is not None:
                found["late_every"] = trigger
        return found

    def _complete_by(
        self, where: str, given: str | Duration | None, due: timedelta
    ) -> timedelta | time | None:
        """What it promises: a time of the local clock, or a duration."""
        if given is None:
            return None
        if isinstance(given, str):
            found = _CLOCK.fullmatch(given)
            if found is None:
                self._problem(
                    where,
                    f'complete_by {given!r} is neither a local time such as "06:00" nor a number '
                    "of seconds after the interval's end (or a timedelta)",
                )
                return None
            return time(int(found[1]), int(found[2]))
        before = len(self.problems)
        by = self._duration(where, "complete_by", given)
        if by is not None and by <= due and len(self.problems) == before:
            self._problem(
                where,
                f"complete_by {given!r} cannot be kept: an interval is due "
                f"{due.total_seconds():g} s after its end (lag)",
            )
        return by

    def _after(self, where: str, item: After) -> bool:
        if not isinstance(item, After):
            self._problem(where, f"after {item!r} is neither a name nor previous/last/offset(…)")
            return False
        before = len(self.problems)
        if not isinstance(item.process, str):
            self._problem(where, f"after {item.process!r}: the name of a process is wanted")
        if isinstance(item.offset, int) and item.offset > 0:
            self._problem(
                where, f'it cannot wait for a later "{item.process}": offset {item.offset} > 0'
            )
        else:
            self._whole(where, "offset", item.offset, -_FURTHEST, 0)
        if item.window is not None:
            self._whole(where, "window", item.window, 1, _FURTHEST)
        return len(self.problems) == before

    def _freerun(self, declared: FreerunDeclaration) -> None:
        where = self._name("freerun", declared)
        zone = self._zone(where, declared.zone)
        self._one_of(where, "misfire", declared.misfire, MISFIRES)
        trigger = self._trigger(where, "at", declared.at, zone)
        task = self._task(where, declared)
        start = self._instant(where, "start", declared.start, zone)
        pool = self._pool(where, declared.pool)
        boxes = self._boxes(where, "boxes", declared.boxes)
        if trigger is not None:
            self.freeruns[str(declared.name)] = Freerun(
                name=str(declared.name),
                task=task,
                trigger=trigger,
                misfire=declared.misfire,
                start=self.now if start is None else start,
                pool=pool,
                boxes=boxes,
            )

    def _program(self, declared: ProgramDeclaration) -> None:
        where = self._name("program", declared)
        if declared.name in RESERVED_PROGRAMS:
            self._problem(where, f"the name belongs to synergy itself ({_list(RESERVED_PROGRAMS)})")
        slots = self._whole(where, "slots", declared.slots, 1)
        names = self._several(where, "processes", declared.processes, "names")
        for name in names:
            if not isinstance(name, str) or name not in self.named:
                self._problem(where, _unknown(name, self.named))
        self._one_of(where, "on", declared.on, ON)
        self.programs[str(declared.name)] = Program(
            name=str(declared.name),
            slots=slots,
            processes=frozenset(map(str, names)) or None,
            boxes=self._boxes(where, "boxes", declared.boxes),
            alone=declared.on == "any",
        )

    def _boxes(self, where: str, what: str, given: object) -> tuple[str, ...]:
        listed = (given,) if isinstance(given, str) else self._several(where, what, given, "boxes")
        good = []
        for pattern in listed:
            if isinstance(pattern, str) and is_pattern(pattern):
                good.append(pattern)
            else:
                self._problem(
                    where,
                    f'{what} {pattern!r} is neither the name of a box nor a pattern such as "db-*" '
                    "(letters, digits, '_', '.', '-', and '*', '?', '[…]')",
                )
        return tuple(good)

    def _check_boxes(self) -> None:
        """Whether what is bound to boxes can be worked there at all, as far as it can be told."""
        bound: list[Process | Freerun] = [*self.processes.values(), *self.freeruns.values()]
        for one in bound:
            workers = [item for item in self.programs.values() if item.works_on(one.name)]
            if workers and not any(may_meet(one.boxes, item.boxes) for item in workers):
                kind = "process" if isinstance(one, Process) else "freerun"
                told = ", ".join(f"{item.name} on {_list(item.boxes)}" for item in workers)
                self._problem(
                    f'{self.places[f"run {one.name}"]} {kind} "{one.name}"',
                    f"it is bound to boxes {_list(one.boxes)}, "
                    f"where no program works on it: {told}",
                )

    def _task(self, where: str, declared: ProcessDeclaration | FreerunDeclaration) -> Task:
        if bool(declared.run) == bool(declared.command):
            self._problem(where, 'it needs either run="package.module:function" or command=[…]')
        elif declared.run and not (
            isinstance(declared.run, str) and _ENTRY.fullmatch(declared.run)
        ):
            self._problem(where, f'run {declared.run!r} is not of the form "package.module:name"')
        limit = self._duration(where, "time_limit", declared.time_limit)
        if limit == timedelta(0) and declared.time_limit in (0, timedelta(0)):
            self._problem(where, "time_limit 0 lets nothing run; None is no limit")
        return Task(
            entry=declared.run,
            command=self._command(where, declared.command),
            noop_codes=tuple(
                self._whole(where, "noop_codes", code, 0, 255)
                for code in self._several(where, "noop_codes", declared.noop_codes, "numbers")
            ),
            arguments=self._arguments(where, declared.arguments),
            source=self._text(where, "source", declared.source),
            sink=self._text(where, "sink", declared.sink),
            time_limit=limit,
            max_attempts=self._whole(where, "max_attempts", declared.max_attempts, 1),
            backoff=self._duration(where, "backoff", declared.backoff) or timedelta(0),
            priority=self._whole(where, "priority", declared.priority, -_LARGEST),
        )

    def _command(self, where: str, given: object) -> tuple[str, ...]:
        words = self._several(where, "command", given, "words")
        for word in words:
            if not isinstance(word, str | int | float) and not hasattr(word, "__fspath__"):
                self._problem(where, f"command has {word!r}, which is no word")
        return tuple(str(word) for word in words)

    def _arguments(self, where: str, given: object) -> dict[str, Json]:
        if not isinstance(given, Mapping):
            self._problem(where, f"arguments {given!r} are no mapping of names to values")
            return {}
        try:
            plain: dict[str, Json] = json.loads(json.dumps(dict(given), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            self._problem(where, f"arguments {given!r} cannot be written as JSON: {error}")
            return {}
        if any(not isinstance(name, str) for name in given):
            self._problem(where, f"arguments {given!r} have a name that is no text")
        return plain

    def _calendar(self, where: str, declared: ProcessDeclaration, zone: str) -> Calendar | None:
        before = len(self.problems)
        grouping = self._whole(where, "grouping", declared.grouping, 1)
        if len(self.problems) > before:
            return None
        try:
            return Calendar(Granularity(declared.granularity), grouping, zone)
        except BadCalendar as error:
            self._problem(where, str(error))
        except ValueError:
            self._problem(
                where,
                f"granularity {declared.granularity!r} is none of "
                + _list(item.value for item in Granularity),
            )
        return None

    def _zone(self, where: str, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except Exception:
            self._problem(
                where,
                f"zone {zone!r} is unknown; a name of the tz database is wanted, "
                'such as "UTC" or "Europe/Berlin"',
            )
            return "UTC"
        return zone

    def _trigger(self, where: str, what: str, text: str, zone: str) -> Trigger | None:
        if not isinstance(text, str):
            self._problem(where, f'{what} {text!r} is no trigger, such as "every 1800"')
            return None
        try:
            return parse_trigger(text, zone)
        except BadTrigger as error:
            self._problem(f"{where} {what}", str(error))
            return None

    def _instant(self, where: str, what: str, text: str | None, zone: str) -> datetime | None:
        if text is None:
            return None
        try:
            instant = datetime.fromisoformat(text)
        except (ValueError, TypeError):
            self._problem(where, f'{what} {text!r} is no date or time such as "2024-05-12T07:00"')
            return None
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=ZoneInfo(zone))
        try:
            return instant.astimezone(UTC)
        except OverflowError:
            self._problem(where, f"{what} {text!r} lies beyond what can be told")
            return None

    def _duration(self, where: str, what: str, value: Duration | None) -> timedelta | None:
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            if 0 <= value <= _LONGEST.total_seconds():
                return timedelta(seconds=value)
        elif isinstance(value, timedelta) and timedelta(0) <= value <= _LONGEST:
            return value
        self._problem(
            where,
            f"{what} {value!r} is not a number of seconds from 0 up to a hundred years "
            "(or a timedelta)",
        )
        return timedelta(0)

    def _one_of(self, where: str, what: str, value: str, accepted: tuple[str, ...]) -> None:
        if value not in accepted:
            self._problem(where, f"{what} {value!r} is none of {_list(accepted)}")

    def _whole(self, where: str, what: str, value: object, low: int, high: int = _LARGEST) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self._problem(
            where, f"{what} {value!r} is not a whole number from {low} {_up_to(high)}".rstrip()
        )
        return max(low, 1)

    def _text(self, where: str, what: str, value: object) -> str | None:
        if value is None or isinstance(value, str):
            return value
        self._problem(where, f"{what} {value!r} is no text")
        return None

    def _several(self, where: str, what: str, value: object, of: str) -> tuple[Any, ...]:
        if isinstance(value, str | bytes):
            self._problem(where, f"{what} {value!r} is one text; a list of {of} is wanted")
        elif isinstance(value, Sequence):
            return tuple(value)
        else:
            self._problem(where, f"{what} {value!r} is no list of {of}")
        return ()

    def _check_dependencies(self) -> None:
        for process in self.processes.values():
            for dependency in process.after:
                if not self.named.get(dependency.process):
                    where = f'{self.places[f"run {process.name}"]} process "{process.name}"'
                    processes = [known for known, is_one in self.named.items() if is_one]
                    self._problem(where, _unknown(dependency.process, processes))
        for cycle in self._cycles():
            self._problem(
                f'{self.places[f"run {cycle[0]}"]} process "{cycle[0]}"',
                "it waits for itself: "
                + " → ".join([*cycle, cycle[0]])
                + " (→ waits for; only the interval before, offset < 0, may close a circle)",
            )

    def _waits_for(self) -> dict[str, list[tuple[str, Size | None]]]:
        """Who waits for whom, and, where for the past, how large a step back that is."""
        edges: dict[str, list[tuple[str, Size | None]]] = {name: [] for name in self.processes}
        for tree in self.trees.values():
            for coarse, fine in pairwise(tree.processes):
                edges[coarse].append((fine, None))
        for process in self.processes.values():
            for dependency in process.after:
                other = self.processes.get(dependency.process)
                if other is not None:
                    step = None
                    if dependency.offset < 0:
                        sizes = size_of(process.calendar), size_of(other.calendar)
                        step = max(sizes) if dependency.window is None else sizes[1]
                    edges[process.name].append((other.name, step))
        return edges

    def _cycles(self) -> list[list[str]]:
        """Circles in which intervals would wait for themselves.

        A step back leads out of a circle when it is as long as the longest interval in it: going
        round then ends before where it began.  A shorter one does not (an hour back, then the
        whole day), nor where the intervals do not nest (months and weeks, days of two zones).
        """
        edges = self._waits_for()
        found: list[list[str]] = []
        for part in _knots({name: [to for to, _ in out] for name, out in edges.items()}):
            calendars = [self.processes[name].calendar for name in part]
            nested = all(
                one.nests_in(other) or other.nests_in(one)
                for place, one in enumerate(calendars)
                for other in calendars[place + 1 :]
            )
            for size in sorted({size_of(calendar) for calendar in calendars}, reverse=True):
                within = {name for name in part if size_of(self.processes[name].calendar) <= size}
                kept = {
                    name: [
                        to
                        for to, step in edges[name]
                        if to in within
                        and (step is None or not (to == name or (nested and step >= size)))
                    ]
                    for name in part
                    if name in within
                }
                found += (
                    cycle
                    for cycle in _circles(kept)
                    if not any(set(cycle) == set(other) for other in found)
                )
        return found


def _knots(edges: Mapping[str, list[str]]) -> list[list[str]]:
    """Groups of names that all lead to one another, each in the order of the names given."""
    reached = {name: _reached(edges, name) for name in edges}
    found: dict[tuple[str, ...], None] = {}
    for name in edges:
        knot = tuple(to for to in edges if to in reached[name] and name in reached[to])
        if knot:
            found[knot] = None
    return [list(knot) for knot in found]


def _reached(edges: Mapping[str, list[str]], name: str) -> set[str]:
    seen: set[str] = set()
    todo = list(edges[name])
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += edges[one]
    return seen


def _circles(edges: Mapping[str, list[str]]) -> list[list[str]]:
    """Ways that lead back to where they began: not all of them, but none is left without one."""
    done, found = set[str](), []
    for root in edges:
        path: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = []
        if root not in done:
            path.append(root)
            stack.append((root, iter(edges[root])))
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                done.add(name)
                stack.pop()
                path.pop()
            elif following in path:
                found.append(path[path.index(following) :])
            elif following not in done:
                path.append(following)
                stack.append((following, iter(edges[following])))
    return found


#: Programs that are there without being declared.
RESERVED_PROGRAMS = ("scheduler", "supervisor", "console")


def _pace(given: object) -> Any:
    """Seconds as the trigger that fires so often; what is neither is told as it is."""
    if isinstance(given, timedelta):
        given = given.total_seconds()
    if isinstance(given, int | float) and not isinstance(given, bool) and given == int(given):
        return f"every {int(given)}"
    return given


def _or(names: Sequence[str]) -> str:
    return " or ".join(repr(name) for name in names)


def _unknown(name: object, known: Iterable[str]) -> str:
    return f'"{name}" is no registered process; known are {_list(known)}'


def _described(process: Process) -> str:
    grouping = process.calendar.grouping
    return f'{process.calendar.granularity.value} "{process.name}"' + (
        f" in groups of {grouping}" if grouping > 1 else ""
    )


def _shortly(value: object) -> str:
    """A foreign value as far as it fits a sentence."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _up_to(high: int) -> str:
    return "up" if high == _LARGEST else f"to {high}"


def _list(names: Iterable[Any]) -> str:
    return ", ".join(str(name) for name in names) or "none"
