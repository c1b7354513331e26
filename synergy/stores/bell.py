"""Doorbells: a program that has written something wakes those who wait for it.

A bell is a hint and nothing more (D10): it may be missed, and whoever listens also polls now and
then.  On one box it is a Unix datagram socket per listener, in a private folder that all programs
of a store find by its path.  Several rings before somebody looks are one wake-up, because the
listener empties its socket each time, and a full socket means that it has been rung already.
"""

import contextlib
import errno
import hashlib
import os
import socket
import stat
import tempfile
from functools import partial
from pathlib import Path

from synergy.bells import Ear, Wake

#: Longest path that a Unix socket takes on every system we run on (macOS 104, Linux 108 bytes).
_SOCKET_PATH_LIMIT = 103
#: Room for ``/<role>-<pid>-<n>.sock``.
_SOCKET_NAME_ROOM = 36


def place_beside(store: Path) -> Path:
    """The folder of the sockets of the store at this path.

    Not in the store's own folder: that may be too deep for a socket's path.
    """
    return place_of(store.resolve())


def place_of(store: str | Path) -> Path:
    """The folder of the sockets of a store that all programs of the box name alike."""
    digest = hashlib.sha256(os.fsencode(store)).hexdigest()[:16]
    name = f"synergy-{os.getuid()}-{digest}"
    place = Path(tempfile.gettempdir(), name)
    if len(os.fsencode(place)) + _SOCKET_NAME_ROOM > _SOCKET_PATH_LIMIT:
        return Path("/tmp", name)
    return place


class MemoryBell:
    """A bell for the threads that share this object."""

    def __init__(self) -> None:
        self._ears: dict[str, list[Wake]] = {}

    def ring(self, role: str) -> None:
        """Wake everybody who listens as `role`."""
        for ear in tuple(self._ears.get(role, ())):
            ear.set()

    def listen(self, role: str) -> Wake:
        """Begin to listen."""
        ears = self._ears.setdefault(role, [])
        ear = Wake(ears.remove)
        ears.append(ear)
        return ear


class SocketBell:
    """A bell for the programs of one box that share `place`, a folder of this user's alone."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def ring(self, role: str) -> None:
        """Wake everybody who listens as `role`; sockets that nobody listens on are removed."""
        try:
            names = os.listdir(self.place)
        except OSError:
            return  # nobody has ever listened here
        prefix = f"{role}-"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
            mouth.setblocking(False)
            for name in names:
                if name.startswith(prefix):
                    path = os.path.join(self.place, name)
                    try:
                        mouth.sendto(b"!", path)
                    except ConnectionRefusedError:
                        # Its listener died.  A name is free only once its file is gone, so this
                        # hits a new listener at worst when two ringers find the same dead one.
                        with contextlib.suppress(OSError):
                            os.unlink(path)
                    except OSError:
                        pass  # full: it has been rung already; gone: it stopped listening

    def listen(self, role: str) -> Ear:
        """Begin to listen; deaf, so that only polling helps, where the folder is not ours."""
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ear.setblocking(False)
        number = 0
        while self._is_private():
            path = self.place / f"{role}-{os.getpid()}-{number}.sock"
            try:
                ear.bind(os.fspath(path))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    number += 1
                elif error.errno != errno.ENOENT:  # the last of the others has just left
                    break
                continue
            return Ear(ear, partial(self._leave, path))
        return Ear(ear, lambda: None)

    def _leave(self, path: Path) -> None:
        """Take the socket away, and the folder with the last one."""
        with contextlib.suppress(OSError):
            path.unlink()
            self.place.rmdir()

    def _is_private(self) -> bool:
        """Make the folder; False where somebody else made it, who could then ring and listen."""
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.place, 0o700)
        except OSError:
            return False
        try:
            status = self.place.lstat()
        except FileNotFoundError:  # the last of the others has just left: it is made again
            return True
        except OSError:
            return False
        return (
            stat.S_ISDIR(status.st_mode)
            and status.st_uid == os.getuid()
            and not status.st_mode & 0o077
        )
