"""What a request will do before it does: which intervals of which trees, in which order, and why.

A plan is made from the timetable as it stands and says of each job that will change what it is and
what becomes of it.  What it may touch is its fingerprint: whoever applies it later is refused where
more would change by then, and is not where less would (DESIGN §8.9).
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from synergy.core.catalog import Catalog
from synergy.core.intervals import Interval
from synergy.core.machines import absorbs
from synergy.core.model import Job, Json, Standing
from synergy.core.states import JobState
from synergy.core.values import dataclass

#: A job by process and interval.
Place = tuple[str, Interval]
#: The same by process and start.
Key = tuple[str, datetime]

#: What plans are made of.
ACTIONS = ("reprocess", "skip", "unskip")


#: Of what joined a plan, so many intervals are named.
NAMED = 10


class Run(StrEnum):
    """Whether a unit will be made for a job."""

    #: Whatever becomes of its inputs, as long as they finish.
    CERTAIN = "certain"
    #: Unless all its inputs come back unchanged: then it is kept.
    UNLESS_KEPT = "unless kept"
    #: None.
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One job that will change."""

    process: str
    interval: Interval
    #: Why it is touched, in words.
    because: str
    was: JobState
    becomes: JobState
    #: The generation that it has after it.
    generation: int
    #: Whether a unit that is requested or at work would be canceled.
    cancels: bool
    run: Run
    #: Whether it only is marked stale: its result stands.
    marks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a request will do."""

    #: Inputs before those who consume them: as work will happen.
    steps: tuple[Step, ...] = ()
    #: Of what was named and does not change: why.
    left: tuple[str, ...] = ()
    #: What may change without a word: what changes, and what is built on it and has begun.
    reach: "Ranges" = field(default_factory=lambda: Ranges({}))
    #: Whether what is built on the named is marked stale, and not run again.
    only: bool = False

    def options(self) -> dict[str, Json]:
        """What a request keeps of its plan: the set by which it is held to it, and its size."""
        runs = [step.run for step in self.steps]
        return {
            **({"only": True} if self.only else {}),
            "touched": self.reach.content(),
            "changes": len(self.steps),
            "certain": runs.count(Run.CERTAIN),
            "unless_kept": runs.count(Run.UNLESS_KEPT),
            "cancels": sum(step.cancels for step in self.steps),
        }

    def joined(self, planned: "Ranges") -> list[Step]:
        """What would change though it was not planned then."""
        return [step for step in self.steps if (step.process, step.interval.start) not in planned]


@dataclass(frozen=True, slots=True)
class Ranges:
    """A set of intervals of several processes, neighbours as one range."""

    #: By process the bounds ``start, end, start, end, …`` in seconds since the epoch, ascending.
    bounds: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, places: Iterable[Place]) -> "Ranges":
        """The set of these."""
        spans: dict[str, list[tuple[int, int]]] = {}
        for process, interval in places:
            start, end = int(interval.start.timestamp()), int(interval.end.timestamp())
            spans.setdefault(process, []).append((start, end))
        bounds: dict[str, Sequence[int]] = {}
        for process, several in spans.items():
            merged: list[int] = []
            for start, end in sorted(several):
                if merged and merged[-1] == start:
                    merged[-1] = end
                else:
                    merged += [start, end]
            bounds[process] = merged
        return cls(bounds)

    def __contains__(self, key: Key) -> bool:
        process, start = key
        return bisect_right(self.bounds.get(process, ()), int(start.timestamp())) % 2 == 1

    def overlap(self, other: "Ranges") -> Iterator[tuple[str, datetime, datetime]]:
        """The stretches of time that both have, by process."""
        for process, mine in self.bounds.items():
            theirs = other.bounds.get(process, ())
            for start, end in zip(mine[::2], mine[1::2], strict=True):
                # From the first of the other's ranges that ends behind this start.
                for place in range(bisect_right(theirs, start) & ~1, len(theirs), 2):
                    if theirs[place] >= end:
                        break
                    low, high = max(start, theirs[place]), min(end, theirs[place + 1])
                    yield (
                        process,
                        datetime.fromtimestamp(low, UTC),
                        datetime.fromtimestamp(high, UTC),
                    )

    def content(self) -> dict[str, Json]:
        """As a plain document."""
        return {process: [*bounds] for process, bounds in self.bounds.items()}

    @classmethod
    def of_content(cls, content: object) -> "Ranges":
        """The set that `content` came from; the empty one where that is none."""
        bounds = content if isinstance(content, dict) else {}
        return cls(
            {str(process): [int(each) for each in found] for process, found in bounds.items()}
        )


class View(Protocol):
    """What a plan consults of the timetable."""

    catalog: Catalog

    def job(self, process: str, interval: Interval) -> Job | None:
        """The active job, or the derived embryo; None where it is terminal."""
        ...

    def standing(self, process: str, interval: Interval) -> Standing | None:
        """How a terminal job stands; None for any other."""
        ...

    def begun(self, process: str, interval: Interval, now: datetime) -> bool:
        """Whether a job may have been worked at."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """All that a request may touch."""

    #: Who is to run again, or to be skipped, for its own sake.
    targets: frozenset[Key]
    #: Who consumes before what is consumed.
    order: list[Place]


def scope(
    view: View, action: str, named: Iterable[Place], now: datetime, request: str = ""
) -> Scope:
    """What a request of one of `ACTIONS` may touch; what `request` has reopened counts as it was.

    So it is the same when the request is carried out again after half of it was done.
    """
    # From the last to the first, so that the reverse order begins with the first.
    targets = sorted(named, key=lambda place: place[1].start, reverse=True)
    if action == "skip":
        order = to_skip(view.catalog, targets)
        return Scope(_keys(targets), order)
    if action == "unskip":
        targets = _skipped_below(view, targets, request)
        targets.sort(key=lambda place: place[1].start, reverse=True)
    order = to_reopen(view.catalog, targets, lambda place: view.begun(*place, now))
    return Scope(_keys(targets), order)


def plan(
    view: View, action: str, named: Sequence[Place], now: datetime, *, only: bool = False
) -> Plan:
    """What a request of one of `ACTIONS` would do, as the timetable stands.

    `only`: what is built on the named and has ended is marked stale, in place of running again.
    """
    found = scope(view, action, named, now)
    planner = _Planner(view, action, found.targets, _keys(named), now, only=only)
    steps = tuple(planner.steps(found.order))
    changing = {(step.process, step.interval.start) for step in steps}
    left = tuple(
        planner.why_left(place)
        for place in sorted(named, key=lambda place: place[1].start)
        if (place[0], place[1].start) not in changing
    )
    if action == "skip":
        reach = Ranges.of((step.process, step.interval) for step in steps)
    else:
        reach = reach_of(view, found.order, now)
    return Plan(steps=steps, left=left, reach=reach, only=only)


def reach_of(view: View, order: Sequence[Place], now: datetime) -> Ranges:
    """What a reprocess may change of all that it may touch: what has begun."""
    return Ranges.of(place for place in reversed(order) if view.begun(*place, now))


class _Planner:
    """Goes through what a request may touch."""

    def __init__(
        self,
        view: View,
        action: str,
        targets: frozenset[Key],
        named: frozenset[Key],
        now: datetime,
        *,
        only: bool,
    ) -> None:
        self.view = view
        self.only = only
        self.action = action
        self.targets = targets
        self.named = named
        self.now = now
        #: By consumer, the first of its inputs that changes, in words, and how many do.
        self.causes: dict[Key, tuple[str, int]] = {}

    def steps(self, order: list[Place]) -> Iterator[Step]:
        """What changes, inputs first."""
        for place in reversed(order):
            step = self._step(*place)
            self._tell_followers(*place, changes=step is not None)
            if step is not None:
                yield step

    def why_left(self, place: Place) -> str:
        """Why what was named does not change."""
        process, interval = place
        standing = self.view.standing(process, interval)
        job = self.view.job(process, interval)
        state = _state(standing, job)
        named = f"{process} {interval.label}"
        if self.action == "skip":
            return f"{named} is {state.value} already"
        if self.action == "unskip":
            return f"{named} is {state.value}, not skipped"
        if interval.start > self.now:
            return f"{named} has not begun"
        if job is not None and job.generation > 1:
            return f"{named} waits to run again already"
        return f"{named} has not run yet, and will when it is due"

    def _step(self, process: str, interval: Interval) -> Step | None:
        key = (process, interval.start)
        standing = self.view.standing(process, interval)
        job = self.view.job(process, interval)
        state = _state(standing, job)
        target = key in self.targets
        machine = self.view.catalog.processes[process].machine
        if standing is not None and self.only and not target:
            return self._marked(process, interval, standing)
        if self.action == "skip":
            if state.finished:
                return None
        elif job is not None and absorbs(machine, job, target=target):
            return None
        generation = standing.generation if standing is not None else job.generation if job else 1
        skips = self.action == "skip"
        return Step(
            process=process,
            interval=interval,
            because=self._because(key),
            was=state,
            becomes=JobState.SKIPPED if skips else JobState.EMBRYO,
            generation=generation if skips else generation + 1,
            cancels=state.at_work and job is not None and job.unit is not None,
            run=Run.NONE if skips else self._run(standing, job, target),
        )

    def _marked(self, process: str, interval: Interval, standing: Standing) -> Step | None:
        if standing.outdated or standing.state not in (JobState.PROCESSED, JobState.NOOP):
            return None
        return Step(
            process=process,
            interval=interval,
            because=self._because((process, interval.start)),
            was=standing.state,
            becomes=standing.state,
            generation=standing.generation,
            cancels=False,
            run=Run.NONE,
            marks=True,
        )

    def _because(self, key: Key) -> str:
        if key in self.named:
            return "named"
        if self.action == "unskip" and key in self.targets:
            return "skipped with it"
        text, number = self.causes[key]
        return text if number <= 1 else f"{text} and {number - 1} more"

    def _run(self, standing: Standing | None, job: Job | None, target: bool) -> Run:
        if target:
            return Run.CERTAIN
        if job is not None:
            keepable = not job.forced and job.consumed is not None
            return Run.UNLESS_KEPT if keepable else Run.CERTAIN
        assert standing is not None
        made = standing.state is not JobState.SKIPPED and standing.result > 0
        return Run.UNLESS_KEPT if made else Run.CERTAIN

    def _tell_followers(self, process: str, interval: Interval, *, changes: bool) -> None:
        catalog = self.view.catalog
        what = f"{process} {interval.label}"
        if self.action == "skip":
            for place, text in _below(catalog, process, interval):
                self._tell(place, text, changes)
            return
        parent = catalog.parent(process, interval)
        if parent is not None:
            self._tell(parent, f"its child {what}", changes)
        for name, dependent, _ in catalog.dependents(process, interval):
            self._tell((name, dependent), f"depends on {what}", changes)

    def _tell(self, place: Place, text: str, changes: bool) -> None:
        """What does not change itself is told where nothing else is the cause."""
        key = (place[0], place[1].start)
        first, number = self.causes.get(key, (text, 0))
        self.causes[key] = (first if number else text, number + changes)


def _state(standing: Standing | None, job: Job | None) -> JobState:
    if standing is not None:
        return standing.state
    return JobState.EMBRYO if job is None else job.state


def _keys(places: Iterable[Place]) -> frozenset[Key]:
    return frozenset((name, interval.start) for name, interval in places)


def _skipped_below(view: View, named: Iterable[Place], request: str) -> list[Place]:
    """Those named that are skipped, and below them what a skip has taken with them."""

    def is_meant(place: Place) -> bool:
        standing, job = view.standing(*place), view.job(*place)
        if job is not None and request and request in job.requests:
            return True
        return _state(standing, job) is JobState.SKIPPED

    def below(place: Place) -> Iterator[Place]:
        return (one for one, _ in _below(view.catalog, *place) if is_meant(one))

    return list(followers_first(filter(is_meant, named), below))


def to_reopen(
    catalog: Catalog, targets: Iterable[Place], begun: Callable[[Place], bool]
) -> list[Place]:
    """The targets and everything built on them, who consumes before what is consumed.

    So ancestors and dependents are fenced before the target is reopened (protocol D7).  What has
    not `begun` yet cannot have consumed anything, but it may begin at any moment, by another clock
    or while the request is executed: so it is held like the others, and nothing beyond it.
    """

    def consumers(place: Place) -> Iterator[Place]:
        return catalog.consumers(*place) if begun(place) else iter(())

    return list(followers_first(targets, consumers))


def to_skip(catalog: Catalog, targets: Iterable[Place]) -> list[Place]:
    """The targets with all their children and all that depends on the very same interval.

    Parents are not skipped: a skipped child counts as finished for them.  Neither are jobs that
    look back at it through an offset or a window.
    """

    def below(place: Place) -> Iterator[Place]:
        return (one for one, _ in _below(catalog, *place))

    return list(followers_first(targets, below))


def _below(catalog: Catalog, process: str, interval: Interval) -> Iterator[tuple[Place, str]]:
    """What a skip takes with it, each with the reason."""
    what = f"{process} {interval.label}"
    for name, dependent, how in catalog.dependents(process, interval):
        if how.offset == 0 and how.window is None and dependent == interval:
            yield (name, dependent), f"depends on {what}"
    child = catalog.child_of(process)
    if child is not None:
        for given in catalog.inputs(process, interval):
            if given.kind == "child":
                for one in catalog.intervals_of(given):
                    yield (child, one), f"a child of {what}"


def waves(catalog: Catalog, order: Sequence[Place]) -> list[list[Place]]:
    """The same from the other end: each wave builds on those before it alone."""
    found: list[list[Place]] = []
    levels = dict.fromkeys(_keys(order), 0)
    for name, interval in reversed(order):
        level = levels[name, interval.start]
        while len(found) <= level:
            found.append([])
        found[level].append((name, interval))
        for consumer, its in catalog.consumers(name, interval):
            key = (consumer, its.start)
            if key in levels:
                levels[key] = max(levels[key], level + 1)
    return found


def outdated(plan: str, joined: Sequence[Step]) -> str:
    """That more would change by now than was planned, and what."""
    told = ", ".join(f"{step.process} {step.interval.label}" for step in joined[:NAMED])
    more = f" and {len(joined) - NAMED} more" if len(joined) > NAMED else ""
    return f"plan {plan} is outdated: {told}{more} would change too by now; plan again"


def followers_first(
    targets: Iterable[Place], followers: Callable[[Place], Iterator[Place]]
) -> Iterator[Place]:
    """Depth-first, each place after all that follow from it, each once."""
    seen: set[Key] = set()
    for target in targets:
        stack: list[tuple[Place, Iterator[Place]]] = []
        _enter(target, stack, seen, followers)
        while stack:
            place, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                yield place
                stack.pop()
            else:
                _enter(following, stack, seen, followers)


def _enter(
    place: Place,
    stack: list[tuple[Place, Iterator[Place]]],
    seen: set[Key],
    followers: Callable[[Place], Iterator[Place]],
) -> None:
    key = (place[0], place[1].start)
    if key not in seen:
        seen.add(key)
        stack.append((place, followers(place)))
