"""The clock of the machine, as a port's implementation."""

import time
from datetime import UTC, datetime


class SystemClock:
    """Wall clock and monotonic clock of this machine."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()
