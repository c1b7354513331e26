"""The content of a log file: plain or gzip, as one stream of bytes from its beginning.

Gzip is told by its first two bytes, not by the name. Positions are those of the content, so a
file and its compressed copy have the same ones. A gzip that is cut off or damaged gives what can
be read and then says so in `Content.ending`.
"""

import zlib
from collections.abc import Iterator
from enum import Enum
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

_GZIP = b"\x1f\x8b"
#: Bytes taken from the disk at once.
_READ = 1 << 16
#: zlib's word for "a gzip header and trailer are expected".
_GZIP_WINDOW = 31


class Ending(Enum):
    """How the content ended, once `Content.read` has returned nothing."""

    #: Not at its end yet.
    OPEN = "open"
    #: A plain file: what is there now has been read, and more may be written.
    PRESENT = "present"
    #: A gzip with all its trailers: nothing follows.
    COMPLETE = "complete"
    #: A gzip that stops in the middle.
    TRUNCATED = "truncated"
    #: A gzip whose bytes make no sense from some place on.
    DAMAGED = "damaged"


class Content:
    """A log file opened for reading. Use it in a `with` block."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path)
        self.ending = Ending.OPEN
        #: Bytes of content given out or skipped so far.
        self.position = 0
        self._wanted = _READ

    def __enter__(self) -> Self:
        self._file = self._path.open("rb")
        self.compressed = self._file.read(2) == _GZIP
        self.rewind()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def consumed(self) -> int:
        """Bytes taken from the disk so far, for a progress bar."""
        return self._file.tell()

    def rewind(self) -> None:
        """Begin again at the beginning of the same file, whatever its path names by now."""
        self._file.seek(0)
        self._inflated = self._inflate()
        self.ending = Ending.OPEN
        self.position = 0

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`, fewer only at the end; nothing at the end."""
        parts: list[bytes] = []
        while size > 0 and self.ending is Ending.OPEN:
            part = self._piece(size)
            parts.append(part)
            size -= len(part)
            self.position += len(part)
        return b"".join(parts)

    def skip_to(self, position: int) -> None:
        """Go forward to a position that is known to exist."""
        if not self.compressed:
            self._file.seek(position)
            self.position = position
            return
        while self.position < position and self.read(min(_READ, position - self.position)):
            pass

    def _piece(self, size: int) -> bytes:
        if self.compressed:
            return self._next_inflated(size)
        piece = self._file.read(size)
        if not piece:
            self.ending = Ending.PRESENT
        return piece

    def _next_inflated(self, size: int) -> bytes:
        self._wanted = size
        return next(self._inflated, b"")

    def _inflate(self) -> Iterator[bytes]:
        """The content of a gzip of one or more members, in pieces of at most `_wanted` bytes."""
        raw = b""
        while True:
            engine = zlib.decompressobj(_GZIP_WINDOW)
            while not engine.eof:
                raw = raw or self._file.read(_READ)
                before = engine.copy()
                try:
                    piece = engine.decompress(raw, self._wanted)
                except zlib.error:
                    yield from self._until_damage(before, raw)
                    self.ending = Ending.DAMAGED
                    return
                if not raw and not piece and not engine.eof:
                    self.ending = Ending.TRUNCATED
                    return
                raw = engine.unconsumed_tail
                if piece:
                    yield piece
            raw = engine.unused_data.lstrip(b"\0")
            while not raw and (raw := self._file.read(_READ)):
                raw = raw.lstrip(b"\0")  # tapes and block devices pad with zeros
            if not raw:
                self.ending = Ending.COMPLETE
                return

    def _until_damage(self, engine: "zlib._Decompress", raw: bytes) -> Iterator[bytes]:
        """What the bytes still hold before the one that makes no sense."""
        for place in range(len(raw)):
            try:
                piece = engine.decompress(raw[place : place + 1])
            except zlib.error:
                return
            while piece:
                wanted = self._wanted
                yield piece[:wanted]
                piece = piece[wanted:]
