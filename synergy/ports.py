"""The ports: what the engine's shells need of a store, a broker, a doorbell and a clock.

The store's contract is shaped by what MongoDB can keep: **every write is conditional on one
document**, a batch is a saving of round trips and never a transaction.  `synergy.testing`
has the suite that every implementation passes.  All methods raise `Unreachable` when the store
does not answer or cannot be written just now, and then nothing of that document has changed or
the caller reads back what stands (protocol D1).
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple, Protocol, get_args

from synergy.core.model import (
    Applied,
    BoxRecord,
    Claim,
    FeedEntry,
    Job,
    JobWrite,
    Json,
    Lease,
    LedgerRecord,
    Refused,
    Renewal,
    Request,
    Unit,
    UnitWrite,
)

#: Kinds of documents: the catalog that the scheduler works by (one, of key ``catalog``), processes
#: that are switched off, backfills, workers that listen, promises that were watched, and through
#: when units were forgotten.
Kind = Literal["catalog", "switches", "backfills", "workers", "promises", "retention"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Versioned(NamedTuple):
    """A stored document."""

    version: int
    content: Mapping[str, Json]


class Clock(Protocol):
    """Where shells take the time from."""

    def now(self) -> datetime:
        """The wall clock, aware UTC: for what is stored and compared with the calendar."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never jumps: for durations and local deadlines (I15)."""
        ...


class Store(Protocol):
    """The timetable's memory and its queue of units."""

    #: ``scheme://…`` it was opened with.
    url: str

    def close(self) -> None:
        """Let go of files and connections.  Closing twice is harmless."""
        ...

    def checkpoint(self) -> None:
        """Tidy up what only one program may; the leading scheduler calls it now and then."""
        ...

    def together(self) -> AbstractContextManager[None]:
        """Within this block, calls of this thread may share what each of them costs.

        A saving and no promise: others may see each effect at once, or all at the end.  Nobody is
        to be told of an effect before the block has ended; when anything in it raises, or its end
        raises `Unreachable`, then the outcome of all of its calls is unknown, also of those that
        were answered.
        """
        ...

    # jobs

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        """One conditional write each: insert where `expected` is 0, else replace that version."""
        ...

    def read_jobs(self, keys: Iterable[str]) -> dict[str, Job]:
        """The stored jobs among these keys; those never written are absent."""
        ...

    def active_jobs(self) -> list[Job]:
        """All stored jobs that are not terminal, or are held, or whose last transition is not in
        the feed yet: cost independent of history."""
        ...

    def jobs_between(self, process: str, start: datetime, end: datetime) -> list[Job]:
        """Stored jobs of a process with ``start <= interval.start < end``, in that order."""
        ...

    def last_jobs(self, process: str, limit: int) -> list[Job]:
        """The latest stored jobs of a process by interval start, newest first."""
        ...

    def prune_jobs(self, process: str, before: datetime) -> int:
        """Forget terminal, folded jobs (and their units) that start before an instant."""
        ...

    def prune_units(self, process: str, start: datetime, end: datetime) -> int:
        """Forget the units of the jobs that begin within ``[start, end)``; how many.

        The jobs stay.  Those that are not over, or whose last transitions are not in the feed yet,
        keep theirs, and every unit that is out or not told of in the feed stays.
        """
        ...

    # units of work

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        """One conditional write each; an insert that finds the key there is refused with it.

        Beyond the fence, a document whose version is lower than the stored one is refused too: a
        unit that was claimed and handed back passes the fence of who saw it before.
        """
        ...

    def read_units(self, keys: Iterable[str], *, history: bool = True) -> dict[str, Unit]:
        """The stored units among these keys.

        Without `history`, their transitions may be missing, which costs less; when such a unit is
        written again, the stored ones stay.
        """
        ...

    def active_units(self) -> list[Unit]:
        """All units that are not terminal."""
        ...

    def held_units(self) -> list[Unit]:
        """All units that a worker holds, claimed or in progress, by start and key."""
        ...

    def claim(self, claim: Claim) -> list[Unit]:
        """Start up to ``claim.limit`` units whose `not_before` has passed, for this owner.

        Order: priority (high first), then interval start, then key.  Of what comes behind those,
        up to ``claim.ahead`` units in their first attempt of a process in ``claim.quick`` become
        claimed.  Each unit is taken by one conditional write, so that two workers never hold the
        same attempt (I5).  The transition is embedded and the units are returned as they stand
        after it: the started ones, then those claimed ahead.

        The limit is one of calls: with a unit that may share its call, those are started that
        make the call full (`synergy.core.batches.followers`), whether their keys are named or not.
        """
        ...

    def save_and_claim(
        self, writes: Sequence[UnitWrite], claim: Claim
    ) -> tuple[list[Applied | Refused[Unit]], list[Unit]]:
        """What `save_units` and `claim` answer, of which neither builds on what the other does:
        who has done one unit and begins the next waits once."""
        ...

    def next_claimable(self) -> datetime | None:
        """The earliest `not_before` among requested units; the epoch for one without."""
        ...

    def renew(self, renewals: Sequence[Renewal]) -> list[bool]:
        """Extend leases (no transition, no new version); False where attempt or owner changed."""
        ...

    # the feed: transitions move from the documents into a numbered stream

    def fold(self, limit: int) -> int:
        """Number the pending transitions of up to `limit` documents, so that `feed` has them.

        Returns how many it were; 0 when nothing was pending, as always where `feed` has them at
        once.  Idempotent by (document, version):
        a transition gets one number, also when two schedulers fold at once or one dies in
        between.  Entries of one document keep their order.
        """
        ...

    def feed(self, after: int, limit: int) -> list[FeedEntry]:
        """Entries with ``seq > after``, ascending."""
        ...

    def changes(self, after: int, limit: int) -> list[tuple[int, str, str, int]]:
        """Of the entries that `feed` would give: their number, kind, key and version.

        For those who read the documents themselves; it costs a fraction.
        """
        ...

    def follow(self, after: int, limit: int, known: Container[tuple[str, int]]) -> "News":
        """Fold, and tell what the feed has behind a number: `fold` and `changes` in one, with the
        units, for one who follows what others do.

        `known` are keys and versions of documents that need not be told again.
        """
        ...

    def prune_feed(self, through: int) -> int:
        """Forget the entries up to a number (retention)."""
        ...

    def read_ledgers(self) -> dict[str, LedgerRecord]:
        """The stored ledgers by process."""
        ...

    def save_ledgers(self, records: Sequence[LedgerRecord]) -> None:
        """Store ledgers; one whose stored `through` is already higher is left as it is."""
        ...

    # requests, catalog, leases

    def file_request(self, request: Request) -> None:
        """Insert, filed or only planned; filing the same id again is harmless."""
        ...

    def read_request(self, request_id: str) -> Request | None:
        """The request as it stands."""
        ...

    def open_requests(self) -> list[Request]:
        """Filed and not yet answered, in the order of filing."""
        ...

    def last_requests(self, limit: int) -> list[Request]:
        """The latest requests in whatever state, newest first."""
        ...

    def move_request(self, request: Request, expected: str) -> bool:
        """Put it where it stands in the state `expected`; whether it stands so after that."""
        ...

    # documents: what else is to be remembered, few of each kind

    def read_documents(self, kind: Kind) -> dict[str, Versioned]:
        """All documents of a kind, by key."""
        ...

    def save_document(
        self, kind: Kind, key: str, content: Mapping[str, Json] | None, expected: int | None
    ) -> bool:
        """Replace where the stored version is `expected` (0: none is stored; None: whatever is).

        Its version becomes one more than before.  None as content removes it.  False where
        another version stands, and nothing has changed.
        """
        ...

    def take_lease(self, name: str, owner: str, now: datetime, until: datetime) -> Lease:
        """Take or renew a free, expired or own lease; returns the lease as it stands after.

        The epoch grows by one whenever the owner changes, and `since` becomes `now`.
        """
        ...

    def read_lease(self, name: str) -> Lease | None:
        """Who holds it, or held it last."""
        ...

    def drop_lease(self, name: str, owner: str, now: datetime) -> None:
        """Let it expire now, if it is this owner's."""
        ...

    # boxes

    def save_box(self, record: BoxRecord) -> None:
        """Put the record of a box in the place of the one before; what is switched off stays."""
        ...

    def read_boxes(self) -> list[BoxRecord]:
        """Every box that was ever seen, by name."""
        ...

    def switch_program(self, box: str, program: str, on: bool) -> None:
        """Say whether a program shall run on a box; what was never switched shall.

        The box need not have been seen.  Switching twice is harmless.
        """
        ...

    def switched_off(self, box: str) -> frozenset[str]:
        """The programs that shall not run on a box."""
        ...


@dataclass(frozen=True, slots=True)
class News:
    """What is new in the feed."""

    #: Number, kind, key and version of the entries, without gaps.
    changes: Sequence[tuple[int, str, str, int]]
    #: By key, the units that these are of beside what was known, as they stand then or later;
    #: perhaps without their history, as in `Store.read_units`.
    units: Mapping[str, Unit]
    #: Whether there may be more; else everything that was written before the call is told now.
    more: bool


#: Role of those who wait for a lease to become free: the bell rings for them when one is dropped.
STANDBY: Final = "standby"


class Listener(Protocol):
    """One party's ear for the doorbell."""

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody rings, or so long; True when it rang.  Several rings are one."""
        ...

    def fileno(self) -> int:
        """A descriptor that is readable when it has rung, for use in a selector."""
        ...

    def drain(self) -> None:
        """Forget the rings so far (call before looking, so that none is lost)."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class Bell(Protocol):
    """Wakes the other programs; a hint only: whoever misses it polls the store (D10)."""

    def ring(self, role: str) -> None:
        """Wake everybody who listens as `role` ("scheduler", "worker", `STANDBY`); never fails."""
        ...

    def listen(self, role: str) -> Listener:
        """Begin to listen."""
        ...


# the broker: a doorbell that carries the whole unit (D10)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A unit that a consumer was handed and has not acknowledged yet."""

    #: As it was published, of which only what never changes can be relied upon: whether it is
    #: still to be worked is known to the store alone, so it is claimed there first (D3).
    unit: Unit
    #: The broker's mark of this very delivery; means something to the consumer that gave it.
    tag: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """What became of the units that a publisher was handed; numbers since it was made.

    ``handed - confirmed - dropped`` are still on their way.
    """

    handed: int = 0
    #: The broker has taken responsibility for them.
    confirmed: int = 0
    #: Given up: refused, too large, unroutable twice, or too many while the broker was away.  Only
    #: the store has them, where the workers find them by looking.
    dropped: int = 0
    #: Came back since no queue took them; their queue was declared and they were published again.
    returned: int = 0
    #: Published anew after a connection had broken before they were confirmed: perhaps twice now.
    repeated: int = 0


class Publisher(Protocol):
    """Hands units to the broker; for one thread."""

    def publish(self, units: Sequence[Unit]) -> None:
        """Have them brought to who works their processes, in this order within each process.

        What found no queue comes behind those that found it just being made: nothing that is right
        or wrong may rest on the order.

        To be called after they are durable in the store.  Never raises and never waits for the
        broker: while it is away some thousand units are kept until it is back, and what is beyond
        those, or refused, is counted and dropped.
        """
        ...

    def flush(self, seconds: float) -> bool:
        """Wait until all are confirmed or dropped, at most so long; whether they are."""
        ...

    @property
    def published(self) -> Published:
        """What became of the units so far."""
        ...

    @property
    def trouble(self) -> str:
        """Why units are not brought just now, in a sentence; empty while they are."""
        ...

    def close(self) -> None:
        """Stop at once; what is not confirmed may be lost.  Twice is harmless."""
        ...


class Consumer(Protocol):
    """Is handed the units of some processes; for one thread.

    Each message goes to one consumer at a time.  What is not acknowledged when the consumer closes,
    dies or loses its connection is handed out again, so a unit may come more than once.  What is
    no proper message of ours is put aside with the reason and never seen here.
    """

    def fileno(self) -> int:
        """A descriptor that is readable when something arrived or `healthy` has changed."""
        ...

    def receive(self) -> list[Delivery]:
        """What has arrived since, in order within each process; empty when nothing has."""
        ...

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """These are claimed or refused in the store: they are never handed out again.

        Also what has been lost meanwhile may be acknowledged; it comes again nevertheless.
        """
        ...

    @property
    def healthy(self) -> bool:
        """Whether everything published arrives at once; while not, look into the store instead."""
        ...

    @property
    def trouble(self) -> str:
        """Why it is not healthy, in a sentence; empty while it is."""
        ...

    def pause(self) -> None:
        """Give back at once what is not acknowledged; be handed nothing from now on.

        What is given back keeps its order and stands before what waits, unless somebody is handed
        that in the same moment.  It is not seen here any more, and acknowledging it does nothing.
        It stays so over an outage.  Health is told as ever.  Twice, or when closed, is harmless.
        """
        ...

    def resume(self, window: int | None = None) -> None:
        """Be handed units again after `pause`; harmless without it, or when closed.

        Of each process at most `window` unacknowledged ones, from now on; None for as many as at
        first.
        """
        ...

    def close(self) -> None:
        """Give back what is not acknowledged.  Twice is harmless."""
        ...


class Broker(Protocol):
    """Brings units to workers, and rings.  Whoever opened it may do without it at any time.

    An absent broker is an error only to `declare`, by which programs start; the publishers,
    consumers and bells connect by themselves, in the background and again and again.
    """

    #: Where it was opened, the password masked.
    url: str

    def declare(self, processes: Iterable[str]) -> None:
        """See to it that the broker can be used and has a queue for each of these processes.

        Raises:
            Unreachable: it does not answer, or refuses to let us in.
            Conflict: it is too old, or has something else under a name that we need.
            BadInput: a process whose name is too long for a queue.
        """
        ...

    def publisher(self) -> Publisher:
        """Begin to publish."""
        ...

    def consume(self, processes: Iterable[str], window: int) -> Consumer:
        """Begin to be handed units, of each process at most `window` unacknowledged ones."""
        ...

    def bell(self) -> Bell:
        """A doorbell that rings wherever this broker is reached."""
        ...

    def close(self) -> None:
        """Close all publishers, consumers and bells that it gave.  Twice is harmless."""
        ...
