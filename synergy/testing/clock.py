"""A clock that only moves when it is told to."""

from datetime import UTC, datetime, timedelta


class VirtualClock:
    """Implements `ports.Clock`; its monotonic clock moves with it, but never back."""

    def __init__(self, now: datetime) -> None:
        self._now = now.astimezone(UTC)
        self._monotonic = 0.0

    def now(self) -> datetime:
        """The instant that it shows."""
        return self._now

    def monotonic(self) -> float:
        """Seconds that it has moved forward so far."""
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by
        self._monotonic += max(by.total_seconds(), 0.0)

    def set(self, now: datetime) -> None:
        """Move to an instant."""
        self.advance(now.astimezone(UTC) - self._now)
