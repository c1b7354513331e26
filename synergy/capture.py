"""What a command prints, kept per attempt: its beginning and its end, within a limit of bytes.

The first half of the limit goes into the log file as it comes. What follows goes into a ring on
disk beside it (`….log.tail`): memory stays flat, and the end of the output survives a kill of the
worker too, for it is the end that says why. `close` folds the ring into the log:

    beginning … 123,456 bytes left out … end

`read_log` shows the same text before the fold, while the command runs or after a kill.
Files are 0600, new folders 0700: what a command prints may be secret.
"""

import contextlib
import hashlib
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

#: Bytes kept of one attempt's output, the note about what is left out included.
DEFAULT_LIMIT = 4 * 1024 * 1024
#: Room within the limit for that note.
NOTE_ROOM = 64
#: The least limit: below it, no beginning and no end could be kept.
LEAST_LIMIT = 4 * NOTE_ROOM
#: Before the ring's bytes: the limit of the log, and how many bytes the ring was given so far.
RING_HEADER = struct.Struct("<QQ")
#: Longest name of a file or folder made from a text; longer ones end in a hash.
LONGEST_NAME = 150
#: Characters that a name keeps; every other byte becomes %XX.
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")


class Capture:
    """A sink for one attempt's output.

    A log that exists already is set aside under the next free number (`….log.1`), never overwritten
    and never mixed. Output is evidence, not result: when the disk refuses, the rest is counted
    and dropped, and `trouble` says why.
    """

    def __init__(self, path: Path, limit: int = DEFAULT_LIMIT) -> None:
        """Keep at most `limit` bytes at `path`; raise ValueError for a limit that is too small."""
        if limit < LEAST_LIMIT:
            raise ValueError(f"the limit of a log is at least {LEAST_LIMIT} bytes, got {limit}")
        self.path = path
        self.limit = limit
        #: Bytes given so far, kept or not.
        self.total = 0
        #: The first refusal of the disk, after which nothing more is written.
        self.trouble: OSError | None = None
        self._log: int | None = None
        self._ring: int | None = None

    def open(self) -> Self:
        """Create the file and its folders. Raises OSError when they cannot be made."""
        make_private_folders(self.path.parent)
        set_aside(self.path)
        self._log = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return self

    def write(self, data: bytes) -> None:
        """Take the next bytes of the output. Never raises for a disk that is full or gone."""
        if self._log is None:
            raise ValueError(f"the log {self.path} is not open")
        before, self.total = self.total, self.total + len(data)
        if self.trouble is not None:
            return
        room = max(head_size(self.limit) - before, 0)
        try:
            if room:
                write_all(self._log, data[:room], before)
            if len(data) > room:
                self._write_ring(memoryview(data)[room:], max(before - head_size(self.limit), 0))
        except OSError as error:
            self.trouble = error

    def close(self) -> None:
        """Fold the end into the log. Closing twice is harmless."""
        log, self._log = self._log, None
        ring, self._ring = self._ring, None
        if log is None:
            return
        try:
            if ring is not None:
                self._fold(log, ring)
        except OSError as error:
            self.trouble = self.trouble or error  # the ring is left, and is still read
        finally:
            os.close(log)
            if ring is not None:
                os.close(ring)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write_ring(self, data: memoryview, before: int) -> None:
        if self._ring is None:
            flags = os.O_CREAT | os.O_TRUNC | os.O_RDWR | os.O_CLOEXEC
            self._ring = os.open(ring_path(self.path), flags, 0o600)
        size = ring_size(self.limit)
        after = before + len(data)
        data = data[-size:]
        at = (after - len(data)) % size
        first = data[: size - at]
        write_all(self._ring, first, RING_HEADER.size + at)
        write_all(self._ring, data[len(first) :], RING_HEADER.size)
        # Last, so that a kill in between costs the order of the oldest bytes and not the newest.
        write_all(self._ring, RING_HEADER.pack(self.limit, after), 0)

    def _fold(self, log: int, ring: int) -> None:
        write_all(log, end_of_log(ring), head_size(self.limit))
        path = ring_path(self.path)
        with contextlib.suppress(FileNotFoundError):
            # A log that was set aside meanwhile took its ring along; the name may be a newer one's.
            if os.path.samestat(os.fstat(ring), os.stat(path)):
                os.unlink(path)


def read_log(path: Path, offset: int = 0, limit: int = DEFAULT_LIMIT) -> bytes:
    """At most `limit` bytes of a log from `offset`; a negative offset counts from the end.

    Works while it is written, and after a kill. Raises FileNotFoundError when there is no log.
    """
    with open(path, "rb") as log:
        try:
            ring = os.open(ring_path(path), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return read_part(log.fileno(), os.fstat(log.fileno()).st_size, b"", offset, limit)
        try:
            end = end_of_log(ring)
            head = head_size(RING_HEADER.unpack(os.pread(ring, RING_HEADER.size, 0))[0])
        except struct.error:  # killed before the first header was written
            end, head = b"", os.fstat(log.fileno()).st_size
        finally:
            os.close(ring)
        # Beyond the beginning there may be a fold that a kill cut short.
        return read_part(log.fileno(), head, end, offset, limit)


def read_part(log: int, head: int, end: bytes, offset: int, limit: int) -> bytes:
    """Bytes `offset` to `offset + limit` of the log's first `head` bytes followed by `end`."""
    size = head + len(end)
    start = min(max(offset + size, 0) if offset < 0 else offset, size)
    stop = min(start + max(limit, 0), size)
    first = os.pread(log, min(stop, head) - start, start) if start < head else b""
    return first + end[max(start - head, 0) : max(stop - head, 0)]


def end_of_log(ring: int) -> bytes:
    """What follows the beginning: the note about what is left out, if anything is, and the ring."""
    limit, given = RING_HEADER.unpack(os.pread(ring, RING_HEADER.size, 0))
    size = ring_size(limit)
    kept = os.pread(ring, min(given, size), RING_HEADER.size)
    if given <= size:
        return kept
    at = given % size
    note = f"\n… {given - size:,} bytes left out …\n".encode()
    return note + kept[at:] + kept[:at]


def head_size(limit: int) -> int:
    """Bytes kept of the beginning."""
    return limit // 2


def ring_size(limit: int) -> int:
    """Bytes kept of the end."""
    return limit - head_size(limit) - NOTE_ROOM


def ring_path(path: Path) -> Path:
    return path.with_name(path.name + ".tail")


def write_all(descriptor: int, data: bytes | memoryview, at: int) -> None:
    """Write everything at an offset; a write may take less than it was given."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, at)
        rest, at = rest[written:], at + written


def set_aside(path: Path) -> None:
    """Move an existing log and its ring to the next free number."""
    if not path.exists():
        return
    number = 1
    while path.with_name(f"{path.name}.{number}").exists():
        number += 1
    aside = path.with_name(f"{path.name}.{number}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(ring_path(path), ring_path(aside))
    os.rename(path, aside)


def make_private_folders(folder: Path) -> None:
    """Make a folder and its missing parents, each 0700; existing ones are left as they are."""
    if not folder.is_dir():
        make_private_folders(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


# ---- where an attempt's log stands


def attempt_log_path(
    root: Path, process: str, label: str, generation: int, run: int, attempt: int
) -> Path:
    """The log of one attempt: `root/PROCESS/LABEL/gGENERATION.rRUN.aATTEMPT.log`.

    Different attempts have different paths, whatever the texts contain, and none leads outside
    `root`.
    """
    name = f"g{generation:d}.r{run:d}.a{attempt:d}.log"
    return root / safe_name(process) / safe_name(label) / name


def safe_name(text: str) -> str:
    """A text as the name of one file: readable, reversible in kind, never special to a path."""
    raw = text.encode("utf-8", "surrogatepass")
    name = "".join(chr(byte) if byte in PLAIN else f"%{byte:02X}" for byte in raw)
    if name.startswith("."):
        name = "%2E" + name[1:]  # neither hidden, nor here, nor above
    if len(name) > LONGEST_NAME:
        return name[:LONGEST_NAME].rstrip("%") + "%~" + hashlib.sha256(raw).hexdigest()[:32]
    return name or "%"
