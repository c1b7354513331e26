"""Watching a lease that is another's, without trusting the clock that set its end."""

from datetime import timedelta

from synergy.core.model import Lease
from synergy.ports import Clock


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
