"""Random cases for the world: a timetable, its surroundings, what operators do, how bad it gets.

A case is made of one seed.  Four in five are small: what matters is how things interleave, and for
that a day or two of a few intervals each suffice.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from synergy.core.backfills import built_on_itself
from synergy.core.building import CatalogError, build
from synergy.core.catalog import Catalog
from synergy.core.context import (
    After,
    Context,
    FreerunDeclaration,
    ProcessDeclaration,
    TreeDeclaration,
    daily,
    freerun,
    hourly,
    monthly,
    tree,
    weekly,
)
from synergy.core.intervals import Calendar, Granularity, Interval
from synergy.core.model import Json
from synergy.core.plans import Ranges

#: Days on which the timetables begin; two of them before a change of the clocks.
BEGINNINGS: Final = (
    datetime(2026, 11, 18, tzinfo=UTC),
    datetime(2026, 3, 28, 23, tzinfo=UTC),
    datetime(2026, 10, 24, 22, tzinfo=UTC),
    datetime(2026, 12, 31, tzinfo=UTC),
)
ZONES: Final = (
    "UTC",
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
)
#: Most intervals of a case; one in five may be large.
SMALL, LARGE = 8, 100
#: Share of cases that are about requests.
STORMS: Final = 0.3
#: Seconds that attempts last: so short that they are claimed ahead, and longer than a lease.
DURATIONS: Final = (
    (0.001, 0.002),
    (0.001, 0.002, 0.004, 3.0),
    (0.01, 0.4, 2.0),
    (0.2, 1.0, 9.0),
    (0.5, 16.0, 21.0),
)


#: From this seed on cases have pools, and processes are switched off and on; those before keep the
#: histories that they have always had.
WITH_POOLS: Final = 1_000_000
#: In the seeds from here on, a million of them, sources grow after their intervals have closed, and
#: operators mark results.
WITH_LATE: Final = 2_000_000
#: From this one on there are operators who plan, apply, withdraw and unskip, in the cases of the
#: seeds from 0 on.
WITH_PLANS: Final = 3_000_000
#: From this one on there are backfills, in the cases of the seeds that have pools.
WITH_BACKFILLS: Final = 4_000_000
#: From this one on some processes are called for several intervals at once, in the cases of the
#: seeds from 0 on, of which every third has backfills, too.
WITH_BATCHES: Final = 5_000_000
#: From this one on the backfills of the seeds that have them are planned first, and then applied,
#: withdrawn, or both, perhaps twice.
WITH_PLANNED_BACKFILLS: Final = 6_000_000
#: The first seed of each kind that is not the plain one.
KINDS_OF_SEEDS: Final = (
    WITH_POOLS,
    WITH_LATE,
    WITH_PLANS,
    WITH_BACKFILLS,
    WITH_BATCHES,
    WITH_PLANNED_BACKFILLS,
)


@dataclass(frozen=True, slots=True)
class Filed:
    """What an operator files, and after how many seconds."""

    id: str
    after: float
    action: str
    process: str
    starts: tuple[datetime, ...]
    options: Mapping[str, Json] = field(default_factory=dict)
    #: "filed", or "planned": then the plan is stored as it is made at that time.
    state: str = "filed"
    #: The id of what it applies or withdraws.
    of: str = ""
    #: Whether what is built on the named is to be marked stale only.
    only: bool = False


@dataclass(frozen=True)
class Case:
    """Everything that a world needs to know."""

    seed: int
    #: The context as the engine works with it, and all intervals of each process.
    catalog: Catalog
    intervals: Mapping[str, tuple[Interval, ...]]
    #: The instant at which the world begins, and the last one at which anything falls due.
    begin: datetime
    end: datetime
    requests: tuple[Filed, ...]
    schedulers: int
    workers: int
    slots: int
    #: Whether every scheduler believes to lead (I13).
    leaseless: bool
    #: Seconds after which no faults happen any more.
    calm_after: float
    #: Seconds that attempts last.
    durations: tuple[float, ...]
    #: Share of attempts that fail, of rings that get lost.
    failures: float
    lost_rings: float
    #: Chances at each boundary of a program.
    switches: float
    pauses: float
    kills: float
    errors: float
    #: Times in which the store cannot be reached (F62).
    cuts: float
    #: Chance that its clock jumps (I15).
    jumps: float
    #: Whether sources grow after their intervals have closed.
    grows: bool = False


def _pooled(level: ProcessDeclaration, apart: Random) -> ProcessDeclaration:
    return replace(
        level,
        pool=apart.choice([None, "p", "p", "q"]),
        priority=apart.choice([0, 0, 1]),
        catch_up=apart.choice(["all", "all", "latest", "none"]),
    )


def _watched(level: ProcessDeclaration, lately: Random) -> ProcessDeclaration:
    """Look at it for late data, if it has a source that is measured."""
    late = lately.choice(["ignore", "mark", "reprocess", "reprocess"])
    if level.machine != "recomputing" or late == "ignore":
        return level
    late_for, late_every = lately.choice([(43_200, 10_800), (259_200, 43_200)])
    return replace(level, late=late, late_for=late_for, late_every=late_every)


def case_of(seed: int) -> Case:
    """The case of a seed: the same in every process and on every machine."""
    if seed >= WITH_PLANNED_BACKFILLS:
        return _with_planned_backfills(case_of(seed - WITH_PLANNED_BACKFILLS + WITH_BACKFILLS))
    if seed >= WITH_BATCHES:
        case = _with_batches(case_of(seed - WITH_BATCHES), seed)
        return _with_backfills(case) if seed % 3 == 2 else case
    if seed >= WITH_BACKFILLS:
        return _with_backfills(case_of(seed - WITH_BACKFILLS + WITH_POOLS))
    if seed >= WITH_PLANS:
        return _with_plans(case_of(seed - WITH_PLANS))
    most = LARGE if seed % 5 == 4 else SMALL
    for attempt in range(100):
        with suppress(CatalogError):  # contradicts itself: a cycle, a grouping that does not nest
            maker = _Maker(Random(f"case/{seed}/{attempt}"), seed)
            if sum(map(len, maker.intervals.values())) <= most:
                return maker.case()
    raise AssertionError(f"no case for seed {seed}")


def _with_backfills(case: Case) -> Case:
    """The same case, and backfills, perhaps with a pause, perhaps not to the end."""
    chance, within = Random(f"backfills/{case.seed}"), case.calm_after
    able = [name for name in case.intervals if not built_on_itself(case.catalog, name)]
    filed: list[Filed] = []
    for number in range(chance.choice([1, 1, 2]) if able else 0):
        name, id_ = chance.choice(able), f"fill{number}"
        first, last = sorted(chance.choices(case.intervals[name], k=2), key=lambda i: i.start)
        there = [i for i in case.intervals[name] if first.start <= i.start <= last.start]
        options: dict[str, Json] = {
            "targets": [*Ranges.of((name, i) for i in there).bounds[name]],
            "total": len(there),
            "force": chance.random() < 0.7,
            "order": chance.choice(["oldest", "newest"]),
        }
        at = chance.uniform(0, within * 0.8)
        filed.append(Filed(id_, at, "backfill", name, (), options))
        then = sorted(chance.uniform(at, within) for _ in range(2))
        changes = chance.choice([[], [], ["pause", "resume"], ["cancel"]])
        for change, when in zip(changes, then, strict=False):
            options = {"change": change, "id": id_}
            filed.append(Filed(f"{id_}-{change}", when, "backfill", name, (), options))
    return replace(case, requests=(*case.requests, *filed))


def _with_planned_backfills(case: Case) -> Case:
    """The same case, but that operators plan their backfills before they begin them."""
    chance = Random(f"planned backfills/{case.seed}")
    requests: list[Filed] = []
    for filed in case.requests:
        if filed.action != "backfill" or "change" in filed.options:
            requests.append(filed)
            continue
        requests.append(replace(filed, state="planned"))
        within = chance.choice([0.01, 1.0, case.calm_after / 2])
        requests += _sequel(chance, filed.id, filed.after, within, "planned")
    return replace(case, requests=tuple(requests))


def _with_batches(case: Case, seed: int) -> Case:
    """The same case in more and finer intervals, of which some are one call of a worker.

    What keeps them from being ready side by side is rarer, and so are free slots.
    """
    chance = Random(f"batches/{seed}")
    processes = {
        name: replace(
            process,
            calendar=_finer(process.calendar),
            task=replace(process.task, batch=chance.choice([1, 2, 4, 24])),
            parallel=chance.choice([None, None, process.parallel]),
            after=tuple(each for each in process.after if each.process != name),
        )
        for name, process in case.catalog.processes.items()
    }
    catalog = replace(case.catalog, processes=processes)
    return replace(
        case,
        seed=seed,
        catalog=catalog,
        intervals=_intervals(catalog),
        workers=chance.choice([1, 2]),
        slots=chance.choice([1, 1, 2]),
        durations=chance.choice(DURATIONS[1:]),
    )


def _finer(calendar: Calendar) -> Calendar:
    """All groups of hours alike, so that they still nest."""
    hours = calendar.granularity is Granularity.HOURLY
    return replace(calendar, grouping=2) if hours else calendar


def _intervals(catalog: Catalog) -> dict[str, tuple[Interval, ...]]:
    """All intervals of each process."""
    return {
        name: tuple(process.calendar.between(start, end))
        for name, process in catalog.processes.items()
        for start, end in [catalog.spans[name]]
        if end is not None
    }


def _with_plans(case: Case) -> Case:
    """The same case, and operators who also plan, apply, withdraw and unskip.

    They are drawn apart, so that without them every seed keeps its history.
    """
    chance = Random(f"plans/{case.seed}")
    within = max([filed.after for filed in case.requests], default=case.calm_after / 2)
    more: list[Filed] = []
    for number in range(chance.choice([1, 2, 2, 3])):
        more += _planned(case, chance, f"p{number}", within)
    direct = [filed for filed in case.requests if filed.action in ("reprocess", "skip")]
    for filed in chance.sample(direct, min(len(direct), chance.choice([0, 1]))):
        more.append(_about("withdraw", filed.id, filed.after + chance.uniform(0, 2)))
    return replace(case, requests=(*case.requests, *more))


def _planned(case: Case, chance: Random, name: str, within: float) -> list[Filed]:
    """A plan, perhaps not stored first, and who applies and withdraws it, perhaps twice."""
    process = chance.choice([*case.catalog.processes])
    there = case.intervals[process]
    some = chance.sample(there, min(len(there), chance.choice([1, 1, 2])))
    starts = tuple(sorted(interval.start for interval in some))
    action = chance.choice(["reprocess", "reprocess", "reprocess", "skip", "unskip"])
    state = chance.choice(["planned", "planned", "filed"])
    after = chance.uniform(0, within)
    skips = [filed for filed in case.requests if filed.action == "skip"]
    if action == "unskip" and skips:
        skip = chance.choice(skips)
        process, starts, after = skip.process, skip.starts, skip.after + chance.uniform(0, 3)
    plan = Filed(
        name,
        after,
        action,
        process,
        starts,
        state=state,
        only=action == "reprocess" and chance.random() < 0.25,
    )
    soon = chance.choice([0.0, 0.01, 1.0])
    return [plan, *_sequel(chance, name, after, soon, state)]


def _sequel(chance: Random, of: str, after: float, within: float, state: str) -> list[Filed]:
    """Who applies and withdraws it, within so many seconds."""
    return [
        _about(verb, of, after + chance.uniform(0, within), number)
        for number, verb in enumerate(chance.choice(_SEQUELS[state]))
    ]


#: What may follow a request of either state, not in this order.
_SEQUELS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "planned": (
        ("apply",),
        ("apply", "apply"),
        ("apply", "withdraw"),
        ("apply", "apply", "withdraw", "withdraw"),
        ("withdraw",),
    ),
    "filed": ((), ("withdraw",)),
}


def _about(action: str, of: str, after: float, number: int = 0) -> Filed:
    return Filed(f"{of}-{action}{number}", after, action, "", (), of=of)


class _Maker:
    """Draws one case."""

    def __init__(self, chance: Random, seed: int) -> None:
        self.chance = chance
        self.seed = seed
        #: Draws what only some seeds have, so that all others draw as ever.
        self.apart = Random(f"pools/{seed}") if seed >= WITH_POOLS else None
        late = WITH_LATE <= seed < WITH_LATE + 1_000_000
        self.lately = Random(f"late/{seed}") if late else None
        self.first = chance.choice(BEGINNINGS)
        self.length = timedelta(days=chance.choice([1, 1, 2]))
        months = chance.random() < 0.15
        #: What is monthly ends with its month, though its tree ends earlier.
        self.end = self.first + (timedelta(days=40) if months else timedelta(days=9))
        self.catalog = build(self._context(self.first + self.length, months), self.first)
        self.intervals = _intervals(self.catalog)

    def case(self) -> Case:
        """What befalls the timetable."""
        case = self._befallen()
        if self.apart is None:
            return case
        switched = self._switched(self.apart, case.calm_after)
        case = replace(case, requests=(*case.requests, *switched))
        if self.lately is None:
            return case
        marked = self._marked(self.lately, case.calm_after)
        return replace(case, requests=(*case.requests, *marked), grows=True)

    def _befallen(self) -> Case:
        chance = self.chance
        if chance.random() < STORMS:
            return self._storm()
        calm_after = chance.choice([20.0, 40.0, 80.0])
        clocks = chance.random() < 0.2
        # Half of them while the first work is done: then there is something to withdraw.
        soon = chance.choice([1.0, 4.0, calm_after, calm_after])
        return self._case(
            begin=self.first + self.length * chance.choice([0.0, 0.0, 0.4, 1.1, 1.1, 1.1]),
            schedulers=chance.choice([1, 1, 2, 2, 3]),
            leaseless=chance.random() < 0.4,
            calm_after=calm_after,
            durations=chance.choice(DURATIONS),
            failures=chance.choice([0.0, 0.1, 0.1, 0.4]),
            switches=chance.choice([0.02, 0.1, 0.3]),
            jumps=chance.choice([0.002, 0.02]) if clocks else 0.0,
            requests=self._requests(chance.choice([0, 1, 3, 6]), soon),
        )

    def _storm(self) -> Case:
        """Requests upon requests, executed by several schedulers at once while units run."""
        chance = self.chance
        return self._case(
            begin=self.first + timedelta(days=3),
            schedulers=chance.choice([2, 3]),
            leaseless=chance.random() < 0.7,
            calm_after=chance.choice([20.0, 40.0, 80.0]),
            durations=chance.choice(DURATIONS[:3]),
            failures=chance.choice([0.0, 0.1]),
            switches=chance.choice([0.2, 0.4]),
            jumps=0.0,
            requests=self._requests(8, chance.choice([3.0, 10.0])),
        )

    def _case(self, **drawn: Any) -> Case:
        chance = self.chance
        return Case(
            seed=self.seed,
            catalog=self.catalog,
            intervals=self.intervals,
            end=self.end,
            workers=chance.choice([1, 2, 2, 3]),
            slots=chance.choice([1, 1, 2, 4]),
            lost_rings=chance.choice([0.0, 0.1, 0.5]),
            pauses=chance.choice([0.0, 0.003, 0.02]),
            kills=chance.choice([0.0, 0.003, 0.01]),
            errors=chance.choice([0.0, 0.003, 0.02]),
            cuts=chance.choice([0.0, 0.0, 0.004, 0.01]),
            **drawn,
        )

    def _context(self, until: datetime, months: bool) -> Context:
        chance = self.chance
        trees: list[TreeDeclaration] = []
        names: list[str] = []
        for number in range(chance.choice([1, 2, 2, 3])):
            levels = chance.choice(["mdh", "md"] if months else ["d", "dh", "dh", "h", "wd"])
            declared = [self._process(f"{level}{number}", level, names) for level in levels]
            names += [level.name for level in declared]
            start = self.first + timedelta(hours=chance.choice([0, 0, 7]))
            trees.append(
                tree(
                    f"t{number}",
                    declared,
                    start=start.isoformat(),
                    until=until.isoformat(),
                    lag=chance.choice([0, 300]),
                    zone=chance.choice(ZONES),
                )
            )
        freeruns = self._freeruns(months)
        pools: dict[str, int] = {}
        if self.apart is not None:
            apart, pools = self.apart, {"p": self.apart.randint(1, 3), "q": 1}
            trees = [
                replace(each, processes=[_pooled(level, apart) for level in each.processes])
                for each in trees
            ]
            freeruns = [replace(each, pool=apart.choice([None, "p"])) for each in freeruns]
        if self.lately is not None:
            lately = self.lately
            trees = [
                replace(each, processes=[_watched(level, lately) for level in each.processes])
                for each in trees
            ]
        return Context(*trees, *freeruns, sources={"s": "w:k"}, pools=pools)

    def _marked(self, lately: Random, within: float) -> list[Filed]:
        """Some are marked stale."""
        filed = []
        for number in range(lately.choice([0, 1, 3])):
            name = lately.choice([*self.catalog.processes])
            chosen = lately.choices(self.intervals[name], k=2)
            starts = tuple(interval.start for interval in chosen)
            filed.append(Filed(f"m{number}", lately.uniform(0, within), "mark", name, starts))
        return filed

    def _switched(self, apart: Random, within: float) -> list[Filed]:
        """Some are switched off for a while."""
        filed: list[Filed] = []
        names = [*self.catalog.processes, *self.catalog.freeruns]
        for number, name in enumerate(
            apart.sample(names, min(len(names), apart.choice([0, 1, 2])))
        ):
            off = apart.uniform(0, within / 2)
            on: dict[str, Json] = {"on": True}
            if name in self.catalog.processes:
                on |= apart.choice([{}, {"catch_up": "latest"}, {"catch_up": "none"}])
            filed += [
                Filed(f"off{number}", off, "switch", name, (), {"on": False}),
                Filed(f"on{number}", apart.uniform(off, within), "switch", name, (), on),
            ]
        return filed

    def _freeruns(self, months: bool) -> list[FreerunDeclaration]:
        chance = self.chance
        if chance.random() < 0.6:
            return []
        misfire = chance.choice(["once", "skip", "all"])
        return [
            freerun(
                "f",
                at=f"every {864000 if months else 72000}",
                run="w:f",
                misfire=misfire,
                backoff=0,
            )
        ]

    def _process(self, name: str, level: str, others: list[str]) -> ProcessDeclaration:
        chance = self.chance
        after = [
            After(
                chance.choice(others), chance.choice([0, 0, 0, -1]), chance.choice([None, None, 2])
            )
            for _ in range(chance.choice([0, 1, 1, 2]) if others else 0)
        ]
        if chance.random() < 0.2:
            after.append(After(name, -1))
        options: dict[str, Any] = {
            "run": "w:f",
            "after": after,
            "machine": chance.choice(["discrete", "discrete", "continuous", "recomputing"]),
            "source": "s",
            "every": {"h": "every 10800", "d": "every 43200"}.get(level, "every 864000"),
            "blocking": chance.choice(["normal", "children", "dependencies"]),
            "on_failure": chance.choice(["hold", "hold", "skip"]),
            "max_attempts": chance.choice([1, 2, 3]),
            "backoff": chance.choice([0, 3]),
            "parallel": chance.choice([None, None, 1, 2]),
        }
        if level == "h":
            return hourly(name, grouping=chance.choice([6, 8, 12]), **options)
        return {"d": daily, "m": monthly, "w": weekly}[level](name, **options)

    def _requests(self, count: int, within: float) -> tuple[Filed, ...]:
        chance = self.chance
        filed: list[Filed] = []
        names = [*self.catalog.processes, *self.catalog.freeruns]
        for name, intervals in self.intervals.items():
            if any(self.catalog.consumers(name, intervals[0])):
                names += [name] * 2  # a request is of interest where something is built on it
        for number in range(count):
            process = chance.choice(names)
            action = chance.choice(["reprocess", "reprocess", "reprocess", "skip", "trigger"])
            starts: tuple[datetime, ...] = ()
            if process in self.catalog.freeruns:
                action = "trigger"
            else:
                there = self.intervals[process]
                some = chance.sample(there, min(len(there), chance.choice([1, 1, 1, 3])))
                starts = tuple(sorted(interval.start for interval in some))
            after = chance.uniform(0, within)
            filed.append(Filed(f"r{number}", after, action, process, starts))
        return tuple(filed)
