"""Taking a lease that may be another's, without trusting the clock that set its end."""

from datetime import timedelta
from typing import Final

from synergy.core.model import Lease
from synergy.ports import Clock, Store

#: Under which name the leader's lease stands in the store.
LEADER: Final = "scheduler"


class LeaseWatch:
    """Whether another's lease is still being renewed, by our own steady clock."""

    def __init__(self, clock: Clock, patience: timedelta) -> None:
        self._clock = clock
        self._patience = patience.total_seconds()
        #: The lease as it was last seen, and since when it is like that (monotonic).
        self._standing: tuple[Lease, float] | None = None

    @property
    def seen(self) -> Lease | None:
        """The lease as it was last seen."""
        return self._standing[0] if self._standing is not None else None

    def has_stood_still(self, lease: Lease) -> bool:
        """Whether it was not renewed for longer than we are patient; to be asked at each look."""
        now = self._clock.monotonic()
        if self._standing is None or self._standing[0] != lease:
            self._standing = (lease, now)
        return now - self._standing[1] > self._patience

    def take(self, store: Store, name: str, owner: str, length: timedelta) -> Lease:
        """Take the lease where it is free, ours, or has stood still; as it stands after that.

        Who stands by only reads it as long as another renews it.  Raises `Unreachable`.
        """
        now = self._clock.now()
        held = store.read_lease(name)
        if held is not None and held.owner != owner and held.until > now:
            if not self.has_stood_still(held):
                return held
            # Its end is not compared with our clock, which may differ from the one that set it.
            now = held.until
        return store.take_lease(name, owner, now, now + length)
