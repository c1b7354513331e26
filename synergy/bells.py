"""What doorbells are made of: ears, which may be waited for, and several bells as one."""

import contextlib
import select
import selectors
import socket
from collections.abc import Callable, Sequence

from synergy.ports import Bell, Listener


class Ear:
    """The `Listener` port: a datagram socket that is readable when it has been rung."""

    def __init__(self, ear: socket.socket, forget: Callable[[], None]) -> None:
        self._ear = ear
        self._forget = forget
        self._poll = select.poll()
        self._poll.register(ear, select.POLLIN)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._ear.fileno()

    def wait(self, seconds: float) -> bool:
        """Sleep until it rings, or so long; True when it rang."""
        if not self._poll.poll(max(0.0, seconds) * 1000):
            return False
        self.drain()
        return True

    def drain(self) -> None:
        """Forget the rings so far."""
        with contextlib.suppress(OSError):
            while True:
                self._ear.recv(16)

    def close(self) -> None:
        """Stop listening; twice is harmless."""
        if self._ear.fileno() >= 0:
            self._forget()
            self._ear.close()


class Wake(Ear):
    """An ear that any thread of this process may ring; several rings before it looks are one."""

    def __init__(self, forget: "Callable[[Wake], None]" = lambda _: None) -> None:
        ear, self._mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ear.setblocking(False)
        self._mouth.setblocking(False)

        def close() -> None:
            forget(self)
            self._mouth.close()

        super().__init__(ear, close)

    def set(self) -> None:
        """Ring; never fails, also when it is closed."""
        with contextlib.suppress(OSError):
            self._mouth.send(b"!")


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
