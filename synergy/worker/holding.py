"""What a worker's machine knows of its slots and of the units that it holds."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from itertools import islice

from synergy.core.model import Renewal, Unit, UnitWrite
from synergy.core.states import UnitState
from synergy.worker.outcomes import Outcome, begun, unit_after
from synergy.worker.work import Progress


class SlotState(Enum):
    """Where a slot is."""

    #: Its process does not run.
    DOWN = "down"
    #: Its process was started and has not said that it is ready.
    STARTING = "starting"
    #: Waits for work.
    READY = "ready"
    #: Runs an attempt.
    BUSY = "busy"


@dataclass(slots=True, eq=False)
class Held:
    """A unit that we claimed and have not handed in yet."""

    #: As it stands in the store, for all that we know: its fence is what a write must name.
    unit: Unit
    #: When it was claimed: no transition of its is told to be earlier.
    claimed_at: datetime
    #: Monotonic time at which the claim was answered.
    since: float
    #: Monotonic time at which it must have stopped, unless it is renewed before.
    deadline: float
    #: Monotonic time at which it was started; an estimate while it runs.
    began: float | None = None
    #: Monotonic time at which its time limit ends.
    limit: float | None = None
    progress: Progress | None = None
    shown: Progress | None = None
    #: Why it is to be killed, or was: this decides what becomes of it.
    cause: Outcome | None = None
    #: How it came out, once it is over; when it was started, if it was, and when it was over.
    outcome: Outcome | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: What we want the store to write, once it is over.
    report: UnitWrite | None = None

    @property
    def ahead(self) -> bool:
        """Whether the store does not know it to be started."""
        return self.unit.state is UnitState.CLAIMED


@dataclass(slots=True)
class Slot:
    """A slot, as the machine knows it."""

    state: SlotState = SlotState.DOWN
    #: What it was given; the first one runs.
    queue: deque[Held] = field(default_factory=deque)
    #: Whether all that it was given is one call.
    together: bool = False
    #: Whether it will start none of the others by itself.
    slow: bool = False
    #: Whether it was told to be killed.
    killed: bool = False
    #: Ends of its process without an attempt in between.
    deaths: int = 0
    restart: float = float("-inf")

    @property
    def certain(self) -> bool:
        """Whether it runs the first of its units, and no other unless we say so."""
        return self.slow or len(self.queue) == 1 or self.together

    def at_work(self) -> Iterable[Held]:
        """What it runs, for all we know."""
        return self.queue if self.together else islice(self.queue, 1)

    def over(self, outcome: Outcome, others: Sequence[Outcome]) -> list[tuple[Held, Outcome]]:
        """Take out what it ran, each with how it came out."""
        if not self.together:
            return [(self.queue.popleft(), outcome)]
        held, outcomes = [*self.queue], [outcome, *others]
        self.queue.clear()
        self.together = False
        if len(outcomes) == 1:
            outcomes *= len(held)
        return [*zip(held, outcomes, strict=True)]


def report_of(held: Held) -> UnitWrite:
    """From the unit as it stands; both its start and its end when it was claimed ahead."""
    assert held.outcome is not None
    assert held.ended_at is not None
    unit = held.unit if held.started_at is None else begun(held.unit, held.started_at)
    after = unit_after(unit, held.outcome, held.ended_at, held.progress)
    return UnitWrite(after, held.unit.fence)


def renewal_of(held: Held, until: datetime) -> Renewal:
    """Its heartbeat."""
    assert held.unit.owner is not None
    return Renewal(held.unit.key, held.unit.attempt, held.unit.owner, until, held.progress)


def is_still_held(stored: Unit | None, ours: Unit) -> bool:
    """Whether a refused unit is ours all the same, in another held state than we thought."""
    return (
        stored is not None
        and stored.state in (UnitState.CLAIMED, UnitState.IN_PROGRESS)
        and (stored.attempt, stored.owner) == (ours.attempt, ours.owner)
        and stored.state is not ours.state
    )


def is_ours(stored: Unit | None, written: Unit) -> bool:
    """Whether the store refused a write because it had taken it before (F21)."""
    if stored is None:
        return False
    ours = written.transitions[-1]
    return ours in stored.transitions or (
        (stored.version, stored.state, stored.attempt)
        == (ours.version, written.state, written.attempt)
        and (stored.finished_at, stored.not_before) == (written.finished_at, written.not_before)
    )
