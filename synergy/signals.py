"""Signals: asked to end, and woken from a wait by them."""

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType


def stop_on_signals() -> Callable[[], bool]:
    """Whether SIGTERM or SIGINT has come since."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    return lambda: bool(received)


@contextlib.contextmanager
def wakeup_by_signals() -> Iterator[socket.socket]:
    """A socket that is readable after a signal that somebody handles; main thread only."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(before)
        ours.close()
        theirs.close()


def drain(wakeup: socket.socket) -> None:
    """Forget the signals so far."""
    with contextlib.suppress(BlockingIOError):
        while wakeup.recv(4096):
            pass
