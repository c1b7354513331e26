"""A descriptor that one thread makes readable to wake another that waits in a selector."""

import contextlib
import select
import socket
from collections.abc import Callable


class Wake:
    """Set by any thread, waited for by one; several settings before it looks are one.

    It is also the `Listener` of a bell: setting it is the ring.
    """

    def __init__(self, forget: "Callable[[Wake], None]" = lambda _: None) -> None:
        self._ear, self._mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.setblocking(False)
        self._mouth.setblocking(False)
        self._forget = forget
        self._poll = select.poll()
        self._poll.register(self._ear, select.POLLIN)

    def set(self) -> None:
        """Make it readable; never fails, also when it is closed."""
        with contextlib.suppress(OSError):
            self._mouth.send(b"!")

    def fileno(self) -> int:
        """The descriptor that is readable once it is set."""
        return self._ear.fileno()

    def wait(self, seconds: float) -> bool:
        """Sleep until it is set, or so long; whether it was, and then it no longer is."""
        if not self._poll.poll(max(0.0, seconds) * 1000):
            return False
        self.drain()
        return True

    def drain(self) -> None:
        """Make it not readable; call this before looking at what it is about."""
        with contextlib.suppress(OSError):
            while True:
                self._ear.recv(16)

    def close(self) -> None:
        """Let go of the descriptor; twice is harmless."""
        if self._ear.fileno() >= 0:
            self._forget(self)
            self._ear.close()
            self._mouth.close()
