"""What passes between the worker's machine (`synergy.worker.protocol`) and its shell.

*Events* are what happened, the store's answers among them; *actions* are what is to be done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from synergy.core.model import Applied, Claim, Refused, Renewal, Unit, UnitWrite
from synergy.ports import Delivery
from synergy.worker.outcomes import Outcome
from synergy.worker.work import Progress

#: Exit codes of the worker program: all handed in; something left for the leases to recover.
DONE: Final = 0
UNREPORTED: Final = 5


# events


@dataclass(frozen=True, slots=True)
class SlotReady:
    """The slot's process has started and waits for work."""

    slot: int


@dataclass(frozen=True, slots=True)
class SlotGone:
    """The slot's process and all its descendants have ended, and its attempt's log is closed.

    Of the units that it was given, the first one that has not `Ended` may have been at work, and
    those with it that are one call; `outcome` and `others` are how that came out, if it said so
    before.  What came behind was not started.
    """

    slot: int
    reason: str
    outcome: Outcome | None = None
    others: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The slot's attempt is over, nothing of it runs, its log is closed.

    The slot goes on with the next unit that it was given, if there is one.
    """

    slot: int
    outcome: Outcome
    #: Monotonic times at which it was started and over; None for now.
    began: float | None = None
    ended: float | None = None
    #: Of a call for several units, how those behind the first came out; none: all like the first.
    others: tuple[Outcome, ...] = ()


@dataclass(frozen=True, slots=True)
class Slow:
    """The slot's attempt takes more than a moment, and the slot will start no other after it.

    The units that it was given behind it, unless they are of the same call, are unstarted, and the
    machine's again.
    """

    slot: int


@dataclass(frozen=True, slots=True)
class Progressed:
    """The attempt in the slot said how far it is."""

    slot: int
    progress: Progress
    #: Which unit of the call it was said of.
    place: int = 0


@dataclass(frozen=True, slots=True)
class Rang:
    """Somebody rang the workers' bell: there may be units."""


@dataclass(frozen=True, slots=True)
class Offered:
    """The broker has brought units, which nobody has claimed by that."""

    deliveries: Sequence[Delivery]


@dataclass(frozen=True, slots=True)
class BrokerHealth:
    """Whether everything that is published is offered at once, from now on.

    Said before anything is `Offered`.
    """

    healthy: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """The worker shall end (SIGTERM, SIGINT); the second time, at once."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The store's answer to `ClaimUnits`, and to `FindClaimed`."""

    units: Sequence[Unit]


@dataclass(frozen=True, slots=True)
class NextDue:
    """The store's answer to `LookAhead`."""

    at: datetime | None


@dataclass(frozen=True, slots=True)
class Renewed:
    """The store's answer to `Renew`."""

    answers: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Reported:
    """The store's answer to `Report`."""

    answers: Sequence[Applied | Refused[Unit]]


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The store did not answer the action: whether it was done is not known."""

    action: "Question"
    reason: str


Event = (
    SlotReady
    | SlotGone
    | Ended
    | Slow
    | Progressed
    | Rang
    | Offered
    | BrokerHealth
    | Stop
    | Claimed
    | NextDue
    | Renewed
    | Reported
    | Unanswered
)


# actions


@dataclass(frozen=True, slots=True)
class StartSlot:
    """Start the slot's process; answered by `SlotReady` or `SlotGone`."""

    slot: int


@dataclass(frozen=True, slots=True)
class Run:
    """Run the units' attempts in the slot, one after the other, behind those that it has.

    Each is answered by `Ended`, unless `Slow` or `SlotGone` gives it back.  A command line is
    run alone.  Where the task says a batch, the units are one call, given to a slot that has
    nothing else, and answered by one `Ended`.
    """

    slot: int
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill what runs in the slot, with all its descendants; answered by `SlotGone`, or `Ended`."""

    slot: int


@dataclass(frozen=True, slots=True)
class ClaimUnits:
    """Claim in the store."""

    claim: Claim


@dataclass(frozen=True, slots=True)
class FindClaimed:
    """Read the active units back that carry this owner's token."""

    owner: str


@dataclass(frozen=True, slots=True)
class LookAhead:
    """Ask the store when the next unit is due."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Renew in the store."""

    renewals: tuple[Renewal, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Write in the store."""

    writes: tuple[UnitWrite, ...]


@dataclass(frozen=True, slots=True)
class Ring:
    """Ring the bell of "scheduler" or "worker"."""

    role: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell the broker that these units are claimed or refused: it need not bring them again."""

    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class PauseConsuming:
    """Give back to the broker what was offered and not acknowledged; take none for now."""


@dataclass(frozen=True, slots=True)
class ResumeConsuming:
    """Take again what the broker has."""

    #: Of each process at most so many that are not acknowledged; None for as many as at first.
    window: int | None


@dataclass(frozen=True, slots=True)
class StopConsuming:
    """Give back to the broker what was offered and not acknowledged; take no more."""


@dataclass(frozen=True, slots=True)
class Say:
    """One line for the worker's own log."""

    action: str
    text: str
    key: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """End with this exit code."""

    code: int


#: What the store is asked for: each is answered by an event, or by `Unanswered`.
Question = ClaimUnits | FindClaimed | LookAhead | Renew | Report
#: What is just done.
Deed = (
    StartSlot
    | Run
    | Kill
    | Ring
    | Acknowledge
    | PauseConsuming
    | ResumeConsuming
    | StopConsuming
    | Exit
)
Action = Deed | Question | Say
