"""Several doorbells as one: the bell of this box, and that of a broker beside it."""

import selectors
from collections.abc import Sequence

from synergy.ports import Bell, Listener


class Bells:
    """The `Bell` port over others: rings all of them, and listens to each."""

    def __init__(self, *bells: Bell) -> None:
        self._bells = bells

    def ring(self, role: str) -> None:
        """Wake everybody who listens as `role`; who hears several of them may wake more often."""
        for bell in self._bells:
            bell.ring(role)

    def listen(self, role: str) -> "Ears":
        """Begin to listen."""
        return Ears([bell.listen(role) for bell in self._bells])


class Ears:
    """The `Listener` port over others."""

    def __init__(self, ears: Sequence[Listener]) -> None:
        self._ears = ears
        self._selector = selectors.DefaultSelector()
        for ear in ears:
            self._selector.register(ear.fileno(), selectors.EVENT_READ)

    def wait(self, seconds: float) -> bool:
        """Sleep until one of them rings, or so long; whether it rang."""
        rang = bool(self._selector.select(max(0.0, seconds)))
        self.drain()
        return rang

    def fileno(self) -> int:
        """Readable when one of them is: epoll and kqueue can be waited for themselves."""
        return self._selector.fileno()

    def drain(self) -> None:
        """Forget the rings so far."""
        for ear in self._ears:
            ear.drain()

    def close(self) -> None:
        """Stop listening; twice is harmless."""
        self._selector.close()
        for ear in self._ears:
            ear.close()
