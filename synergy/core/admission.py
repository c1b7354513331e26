"""Why what is ready is not dispatched yet: one predicate decides and explains.

`readiness` says whether an interval may run; this says whether a unit of its process may go out
now, among all the others that want to.  The engine takes the first obstacle and stops; ``why``
prints them all, from counts of its own.  They cannot differ, because they are the same generator.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from synergy.core.backfills import Backfill
from synergy.core.catalog import Catalog
from synergy.core.model import Job
from synergy.core.switches import Switch
from synergy.core.values import dataclass

#: Units of one process that are requested or at work at once, where it sets no limit itself.
#: Enough for every worker to be busy, few enough for the queue to stay small in a long catch-up.
DISPATCH_AHEAD = 256


@dataclass(frozen=True, slots=True)
class ProcessOff:
    """Somebody has switched the process or freerun off."""

    process: str
    since: datetime
    actor: str
    reason: str

    def __str__(self) -> str:
        by = f" by {self.actor}" if self.actor else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.process} is switched off since {_clock(self.since)}{by}{why}"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What it has missed is being recorded as skipped, before anything of it goes on."""

    process: str
    policy: str

    def __str__(self) -> str:
        return f"what {self.process} has missed is just being recorded (catch-up {self.policy})"


@dataclass(frozen=True, slots=True)
class LimitReached:
    """As many units of the process are out as may be."""

    process: str
    limit: int
    out: int

    def __str__(self) -> str:
        return (
            f"{self.out} {_units(self.out)} of {self.process} {_are(self.out)} out, "
            f"and no more than {self.limit} may be"
        )


@dataclass(frozen=True, slots=True)
class PoolFull:
    """As many units of the members of its pool are out as may be."""

    pool: str
    limit: int
    #: Units that are out, of each member that has some.
    out: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        number = sum(number for _, number in self.out)
        told = ", ".join(f"{number} of {name}" for name, number in self.out)
        return (
            f"pool {self.pool} is full: {number} {_units(number)} {_are(number)} out ({told}), "
            f"and no more than {self.limit} may be"
        )


@dataclass(frozen=True, slots=True)
class LaneFull:
    """As many units of the backfill that it belongs to are out as may be; 0 may be while that is
    paused."""

    backfill: str
    #: How many calls may be out, which are units unless several are one call.
    limit: int
    out: int
    calls: int

    def __str__(self) -> str:
        if not self.limit:
            return f"backfill {self.backfill} is paused"
        together = f" as {self.calls} {_calls(self.calls)}" if self.calls < self.out else ""
        what = f" {_calls(self.limit)}" if together else ""
        return (
            f"{self.out} {_units(self.out)} of backfill {self.backfill} {_are(self.out)} out"
            f"{together}, and no more than {self.limit}{what} may be"
        )


Obstacle = ProcessOff | Recorded | LimitReached | PoolFull | LaneFull


class View(Protocol):
    """What is consulted of all that is under way."""

    catalog: Catalog

    def switch(self, name: str) -> Switch | None:
        """How a process or freerun was switched last; None: never."""
        ...

    def out(self, name: str) -> int:
        """Its units that are requested or at work, provisional ones and those whose source is
        being measured included."""
        ...


def obstacles(view: View, name: str) -> Iterator[Obstacle]:
    """Why no unit of a process or freerun goes out now; nothing where one may."""
    closed = closed_by(name, view.switch(name))
    if closed is not None:
        yield closed
    process = view.catalog.processes.get(name)
    if process is not None:
        out, limit = view.out(name), limit_of(process.parallel)
        if out >= limit:
            yield LimitReached(name, limit, out)
    pool = view.catalog.pool_of(name)
    if pool is not None and free_places(view, pool) <= 0:
        members = view.catalog.members[pool]
        counted = tuple((other, out) for other in members if (out := view.out(other)))
        yield PoolFull(pool, view.catalog.pools[pool], counted)


def lane_full(
    catalog: Catalog, backfill: Backfill, slots: int, out: Sequence[str], name: str
) -> LaneFull | None:
    """Why no unit more of a process goes out for a backfill, of which units of these processes
    are; None where one may.

    Its share is one of slots, so what may be one call counts as one.
    """
    limit = 0 if backfill.paused else backfill.most_out(slots)
    if len(out) < limit or (limit and _calls_for(catalog, [*out, name]) <= limit):
        return None
    return LaneFull(backfill.id, limit, len(out), _calls_for(catalog, out))


def _calls_for(catalog: Catalog, out: Iterable[str]) -> int:
    """How many calls units of these processes are at least."""
    processes = catalog.processes
    return sum(
        -(-number // processes[name].task.batch) if name in processes else number
        for name, number in Counter(out).items()
    )


def closed_by(name: str, switch: Switch | None) -> ProcessOff | Recorded | None:
    """What a switch says against it; None where it is on and goes on."""
    if switch is None:
        return None
    if not switch.on:
        return ProcessOff(name, switch.since, switch.actor, switch.reason)
    return Recorded(name, switch.recording.policy) if switch.recording is not None else None


def limit_of(parallel: int | None) -> int:
    """How many units of a process may be out at once."""
    return min(parallel or DISPATCH_AHEAD, DISPATCH_AHEAD)


def free_places(view: View, pool: str) -> int:
    """How many units more may go out of the members of a pool; below 0 where two schedulers have
    dispatched at once, or the pool was made smaller."""
    return view.catalog.pools[pool] - sum(map(view.out, view.catalog.members[pool]))


class Counted:
    """A view for those who only look: counted from the active jobs."""

    def __init__(
        self, catalog: Catalog, switches: Mapping[str, Switch], active: Iterable[Job]
    ) -> None:
        self.catalog = catalog
        self._switches = switches
        self._out = Counter(job.process for job in active if job.unit and job.state.at_work)

    def switch(self, name: str) -> Switch | None:
        """See `View`."""
        return self._switches.get(name)

    def out(self, name: str) -> int:
        """See `View`."""
        return self._out[name]


def _units(number: int) -> str:
    return "unit" if number == 1 else "units"


def _calls(number: int) -> str:
    return "call" if number == 1 else "calls"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _clock(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")
