"""The ports: what the engine's shells need of a store, a doorbell and a clock.

The store's contract is shaped by what MongoDB can keep: **every write is conditional on one
document**, a batch is a saving of round trips and never a transaction.  `synergy.testing`
has the suite that every implementation passes.  All methods raise `Unreachable` when the store
does not answer or cannot be written just now, and then nothing of that document has changed or
the caller reads back what stands (protocol D1).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from synergy.core.model import (
    Applied,
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

    def claim(self, claim: Claim) -> list[Unit]:
        """Start up to ``claim.limit`` units whose `not_before` has passed, for this owner.

        Order: priority (high first), then interval start, then key.  Of what comes behind those,
        up to ``claim.ahead`` units in their first attempt of a process in ``claim.quick`` become
        claimed.  Each unit is taken by one conditional write, so that two workers never hold the
        same attempt (I5).  The transition is embedded and the units are returned as they stand
        after it: the started ones, then those claimed ahead.
        """
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

        Returns how many it were; 0 when nothing was pending.  Idempotent by (document, version):
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
        """Insert; filing the same id again is harmless."""
        ...

    def read_request(self, request_id: str) -> Request | None:
        """The request as it stands."""
        ...

    def open_requests(self) -> list[Request]:
        """Filed and not yet answered, in the order of filing."""
        ...

    def answer_request(self, request: Request) -> None:
        """Store the answer where the request is still ``filed``."""
        ...

    def read_catalog(self) -> Mapping[str, Json] | None:
        """The catalog document that the scheduler works by, with its ``version``."""
        ...

    def save_catalog(self, content: Mapping[str, Json], expected: int) -> bool:
        """Replace where the stored version is `expected` (0: none); False when it is not."""
        ...

    def take_lease(self, name: str, owner: str, now: datetime, until: datetime) -> Lease:
        """Take or renew a free, expired or own lease; returns the lease as it stands after.

        The epoch grows by one whenever the owner changes.
        """
        ...

    def read_lease(self, name: str) -> Lease | None:
        """Who holds it, or held it last."""
        ...

    def drop_lease(self, name: str, owner: str, now: datetime) -> None:
        """Let it expire now, if it is this owner's."""
        ...


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
        """Wake everybody who listens as `role` ("scheduler" or "worker"); never fails."""
        ...

    def listen(self, role: str) -> Listener:
        """Begin to listen."""
        ...
