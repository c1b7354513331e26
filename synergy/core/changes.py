"""What a changed context means for the intervals that there are.

`compare` is pure: the catalog that the timetable was made by, the one that is to take its place,
and the timetable as it stands; out comes every difference that touches existing intervals, with its
consequence.  What would put recorded intervals out of sight is refused until the context says, word
for word, that it is meant; what would contradict them is refused for good.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice

from synergy.core.catalog import Catalog, Dependency, Process, Tree
from synergy.core.intervals import BadLabel, Interval
from synergy.core.states import JobState
from synergy.core.timetable import Ledger, Timetable
from synergy.core.values import dataclass

#: Intervals are counted up to so many.
COUNTED = 100_000

_MINUTE = "%Y-%m-%dT%H:%MZ"
_FAR = datetime.fromisoformat("9000-01-01T00:00Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between what was registered and what is to be."""

    #: "tree", "process" or "freerun".
    kind: str
    name: str
    #: The difference, in words.
    what: str
    #: What becomes of the intervals that there are.
    consequence: str
    #: Whether it may not be, as it is.
    refused: bool = False
    #: The words that accept it, in ``Context(accept=[…])``; empty where nothing does, or need.
    accept: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.what}; {self.consequence}"


def compare(
    before: Catalog,
    after: Catalog,
    table: Timetable,
    now: datetime,
    *,
    accepted: Collection[str] = (),
    recorded: Mapping[str, Interval] | None = None,
    ledgers: Mapping[str, Ledger] | None = None,
) -> list[Change]:
    """Every change that touches intervals, trees first, in the order of the contexts.

    `table` is the timetable by the catalog `before`.  `accepted` are the words of the context.
    `recorded` has, of names that are new, the latest interval that the store remembers of one
    that bore it once, and `ledgers` how all of these stand.
    """
    found = _Comparison(
        before, after, table, now, frozenset(accepted), recorded or {}, ledgers or {}
    )
    return [*found.trees(), *found.processes(), *found.freeruns()]


@dataclass(frozen=True, slots=True)
class _Comparison:
    before: Catalog
    after: Catalog
    table: Timetable
    now: datetime
    accepted: frozenset[str]
    recorded: Mapping[str, Interval]
    ledgers: Mapping[str, Ledger]

    # trees

    def trees(self) -> Iterator[Change]:
        for name, tree in self.after.trees.items():
            old = self.before.trees.get(name)
            if old is not None and old.start != tree.start:
                yield self._start(old, tree)
            if old is not None and old.until != tree.until:
                yield self._until(old, tree)

    def _start(self, old: Tree, new: Tree) -> Change:
        what = f"starts {_at(new.start)}, not {_at(old.start)}"
        if new.start > old.start:
            return self._leaves_out(new, what, f"tree {new.name} starts {_at(new.start)}")
        consequence = self._falls_due(new)
        enclosing = [*self._enclosing(new)]
        if enclosing:
            consequence += (
                f"; what is finished stands without these: reprocess {', '.join(enclosing)} to "
                "count them in"
            )
        return Change(kind="tree", name=new.name, what=what, consequence=consequence)

    def _until(self, old: Tree, new: Tree) -> Change:
        ends = f"ends {_at(new.until)}" if new.until else "has no end"
        what = f"{ends}, where it {f'ended {_at(old.until)}' if old.until else 'had none'}"
        if new.until is not None and (old.until is None or new.until < old.until):
            return self._leaves_out(new, what, f"tree {new.name} {ends}")
        return Change(kind="tree", name=new.name, what=what, consequence=self._falls_due(new))

    def _leaves_out(self, tree: Tree, what: str, accept: str) -> Change:
        """The span becomes shorter: refused where that hides something."""
        lost = {name: self._lost(name) for name in self._same(tree)}
        told = _several(lost)
        if not told:
            consequence = "nothing was recorded there"
            return Change(kind="tree", name=tree.name, what=what, consequence=consequence)
        if accept in self.accepted:
            consequence = (
                f"as accepted, {told} that were recorded there are out of sight, and nothing waits "
                "for them; they are kept, and back when the span is"
            )
            return Change(kind="tree", name=tree.name, what=what, consequence=consequence)
        return Change(
            kind="tree",
            name=tree.name,
            what=what,
            consequence=f"{told} that were recorded there would be out of sight",
            refused=True,
            accept=accept,
        )

    def _falls_due(self, tree: Tree) -> str:
        gained = {name: self._gained(name) for name in self._same(tree)}
        total = sum(gained.values())
        return (
            f"{_several(gained)} {_falls(total)} due now" if total else "nothing falls due by that"
        )

    def _same(self, tree: Tree) -> list[str]:
        """Its processes that it had before, cut as they are."""
        old = self.before.processes
        return [
            name
            for name in tree.processes
            if name in old and old[name].calendar == self.after.processes[name].calendar
        ]

    def _lost(self, name: str) -> int:
        """Recorded intervals that the new span leaves out."""
        (start, end), (first, last) = self.before.spans[name], self.after.spans[name]
        count = self._recorded(name, start, first) if start < first else 0
        if last is not None and (end is None or last < end):
            count += self._recorded(name, last, end or _FAR)
        return count

    def _gained(self, name: str) -> int:
        """Intervals of the new span that are due now and were not in the old one."""
        (start, end), (first, last) = self.before.spans[name], self.after.spans[name]
        count = self._due(name, first, start) if first < start else 0
        if end is not None and (last is None or end < last):
            count += self._due(name, end, last or _FAR)
        return count

    def _enclosing(self, tree: Tree) -> Iterator[str]:
        """Finished intervals that begin before the old start and have more children now."""
        for name in self._same(tree):
            child = self.after.child_of(name)
            if child is None or child not in self.before.processes:
                continue
            interval = self.after.processes[name].calendar.containing(self.before.spans[child][0])
            earlier = self.after.spans[child][0] < self.before.spans[child][0]
            known = self.before.exists(name, interval) and self._is_finished(name, interval)
            if earlier and known and interval.start < self.before.spans[child][0]:
                yield f"{name} {interval.label}"

    # processes

    def processes(self) -> Iterator[Change]:
        for name, new in self.after.processes.items():
            old = self.before.processes.get(name)
            if name in self.before.freeruns:
                yield self._kept_apart("process", name, "was a freerun")
            elif old is None:
                yield self._new(new)
            elif old.calendar != new.calendar:
                yield self._cut_anew(old, new)
            else:
                yield from self._changed(old, new)
        for name, old in self.before.processes.items():
            if name not in self.after.processes and name not in self.after.freeruns:
                yield self._removed(old)

    def _new(self, new: Process) -> Change:
        name, known = new.name, self.recorded.get(new.name)
        if known is not None and not _fits(new, known):
            return self._kept_apart(
                "process", name, f"has a history that is cut otherwise, such as {known.label}"
            )
        start, end = self.after.spans[name]
        due = self._due(name, start, end or _FAR)
        again = " that are not recorded" if known is not None else ""
        return Change(
            kind="process",
            name=name,
            what="is registered again" if known is not None else "is new",
            consequence=f"it starts {_at(start)}, and {_counted(due)}{again} {_falls(due)} due now"
            + (f" (catch_up: {new.catch_up})" if due and new.catch_up != "all" else ""),
        )

    def _removed(self, old: Process) -> Change:
        name = old.name
        recorded = self._recorded(name, *self._whole(name))
        active = sum(of == name for of, _ in self.table.active)
        waited = [
            each.name
            for each in self.after.processes.values()
            if each.name in self.before.processes and name in _waits_for(self.before, each.name)
        ]
        told = [f"{_counted(recorded)} recorded of it are kept in the store, out of sight"]
        if active:
            told.append(f"{active} of them under way, which nobody follows any more")
        if waited:
            told.append(f"{', '.join(waited)} no longer waits for it")
        return Change(kind="process", name=name, what="is gone", consequence="; ".join(told))

    def _cut_anew(self, old: Process, new: Process) -> Change:
        what = f"was cut by the {old.calendar}, and now would be by the {new.calendar}"
        recorded = self._recorded(new.name, *self._whole(new.name))
        if recorded:
            return Change(
                kind="process",
                name=new.name,
                what=what,
                consequence=f"{_counted(recorded)} are recorded as they were cut: "
                "give the process a new name",
                refused=True,
            )
        start, end = self.after.spans[new.name]
        due = self._due(new.name, start, end or _FAR)
        return Change(
            kind="process",
            name=new.name,
            what=what,
            consequence=f"nothing was recorded of it; {_counted(due)} {_falls(due)} due now",
        )

    def _kept_apart(self, kind: str, name: str, what: str) -> Change:
        return Change(
            kind=kind,
            name=name,
            what=what,
            consequence="its history cannot be read as another's: give it a new name",
            refused=True,
        )

    def _changed(self, old: Process, new: Process) -> Iterator[Change]:
        def told(what: str, consequence: str) -> Change:
            return Change(kind="process", name=new.name, what=what, consequence=consequence)

        if old.tree != new.tree:
            yield self._moved(old, new)
        if old.machine != new.machine:
            yield told(
                f"is {new.machine}, not {old.machine}",
                "what is finished stands; what is at work ends by the machine that it began with",
            )
        if old.lag != new.lag:
            yield told(f"has a lag of {new.lag}, not {old.lag}", self._due_otherwise(old, new))
        if old.blocking != new.blocking:
            yield told(
                f"blocks on {new.blocking}, not {old.blocking}",
                "what is finished or at work stays so; what waits is judged anew",
            )
        yield from self._waiting(new.name, told)
        if old.task != new.task:
            yield told(
                "runs something else, or otherwise",
                "what is finished stands, and what is requested runs as it was requested; "
                "reprocess what is to be made anew",
            )

    def _moved(self, old: Process, new: Process) -> Change:
        what, lost = f"is of tree {new.tree}, not {old.tree}", self._lost(new.name)
        accept = f"process {new.name} is of tree {new.tree}"
        gained = self._gained(new.name)
        due = f"{_counted(gained)} {_falls(gained)} due now"
        if lost and accept not in self.accepted:
            return Change(
                kind="process",
                name=new.name,
                what=what,
                consequence=f"{_counted(lost)} that were recorded would be out of sight",
                refused=True,
                accept=accept,
            )
        hidden = f"as accepted, {_counted(lost)} are out of sight; " if lost else ""
        return Change(kind="process", name=new.name, what=what, consequence=hidden + due)

    def _waiting(self, name: str, told: Callable[[str, str], Change]) -> Iterator[Change]:
        """Dependencies and children that come or go."""
        finished = ""
        count = self._finished(name)
        if count:
            finished = (
                f"; {_counted(count)} finished without it stand: reprocess what shall have it"
            )
        olds, news = _inputs_of(self.before, name), _inputs_of(self.after, name)
        for each in news:
            if each not in olds:
                yield told(f"waits for {each} too", f"what waits, waits for that{finished}")
        for each in olds:
            if each not in news:
                yield told(
                    f"no longer waits for {each}",
                    "what is finished stands, what waits for nothing else may begin",
                )

    def _due_otherwise(self, old: Process, new: Process) -> str:
        if new.lag > old.lag:
            return "what has not begun falls due that much later"
        start = self.now - old.lag
        due = _number(
            interval
            for interval in new.calendar.between(new.calendar.containing(start).start, self.now)
            if start < interval.end <= self.now - new.lag and self.after.exists(new.name, interval)
        )
        return f"{_counted(due)} {_falls(due)} due at once"

    # freeruns

    def freeruns(self) -> Iterator[Change]:
        for name, new in self.after.freeruns.items():
            old = self.before.freeruns.get(name)
            if name in self.before.processes:
                yield self._kept_apart("freerun", name, "was a process of a tree")
            elif old is None:
                yield Change(
                    kind="freerun",
                    name=name,
                    what="is new",
                    consequence=f"firings after {_at(new.start)} count",
                )
            elif (str(old.trigger), old.misfire) != (str(new.trigger), new.misfire):
                yield Change(
                    kind="freerun",
                    name=name,
                    what=f"fires {new.trigger} (misfire {new.misfire}), "
                    f"not {old.trigger} ({old.misfire})",
                    consequence="its past firings stand, the next one is by the new trigger",
                )
        for name in self.before.freeruns:
            if name not in self.after.freeruns and name not in self.after.processes:
                yield Change(
                    kind="freerun",
                    name=name,
                    what="is gone",
                    consequence="its past firings are kept in the store, out of sight",
                )

    # counting

    def _whole(self, name: str) -> tuple[datetime, datetime]:
        start, end = self.before.spans[name]
        return start, end or _FAR

    def _recorded(self, name: str, start: datetime, end: datetime) -> int:
        """Intervals that begin there and of which something is written."""
        active = sum(
            of == name and start <= instant < end and job.version > 0
            for (of, instant), job in self.table.active.items()
        )
        return active + _number(self._standing(name, start, end, frozenset(JobState)))

    def _finished(self, name: str) -> int:
        return _number(self._standing(name, *self._whole(name), _RESULTS))

    def _standing(
        self, name: str, start: datetime, end: datetime, states: frozenset[JobState]
    ) -> Iterator[Interval]:
        """Intervals that begin there and have ended in one of these states."""
        for begin, stop, standing in self.table.ledgers[name].runs(start, end):
            if standing is not None and standing.state in states:
                yield from self.before.processes[name].calendar.between(begin, stop)

    def _is_finished(self, name: str, interval: Interval) -> bool:
        return self.table.state(name, interval) in _RESULTS

    def _due(self, name: str, start: datetime, end: datetime) -> int:
        """Intervals that begin there and are due now; those that were left out once and are
        recorded still are not."""
        process = self.after.processes[name]
        ledger = self.table.ledgers.get(name) or self.ledgers.get(name)
        stop = min(end, self.now)
        runs = ((start, stop, None),) if ledger is None else ledger.runs(start, stop)
        return _number(
            interval
            for begin, after, standing in runs
            if standing is None
            for interval in process.calendar.between(begin, after)
            if process.due(interval) <= self.now
        )


_RESULTS = frozenset({JobState.PROCESSED, JobState.NOOP})


def _fits(process: Process, interval: Interval) -> bool:
    """Whether the interval is one of the process's."""
    try:
        return process.calendar.starting_at(interval.start) == interval
    except BadLabel:
        return False


def _waits_for(catalog: Catalog, name: str) -> set[str]:
    child = catalog.child_of(name)
    return {each.process for each in catalog.processes[name].after} | ({child} if child else set())


def _inputs_of(catalog: Catalog, name: str) -> list[str]:
    """What its intervals wait for, as it is written."""
    child = catalog.child_of(name)
    return [
        *([f"its children of {child}"] if child else []),
        *map(_written, catalog.processes[name].after),
    ]


def _written(dependency: Dependency) -> str:
    if dependency.window is not None:
        return f"last({dependency.window}, {dependency.process})"
    if dependency.offset:
        return f"offset({dependency.offset}, {dependency.process})"
    return dependency.process


def _number(intervals: Iterable[Interval]) -> int:
    return sum(1 for _ in islice(intervals, COUNTED))


def _falls(count: int) -> str:
    return "falls" if count == 1 else "fall"


def _several(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{_counted(count)} of {name}" for name, count in counts.items() if count)


def _counted(count: int) -> str:
    if count >= COUNTED:
        return f"{COUNTED} intervals or more"
    return f"{count} interval{'' if count == 1 else 's'}"


def _at(instant: datetime) -> str:
    return instant.strftime(_MINUTE)


def refused(changes: Iterable[Change]) -> list[Change]:
    """Those that may not be."""
    return [change for change in changes if change.refused]
