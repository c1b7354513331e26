"""Where an attempt's progress stands: one page of memory that a slot writes and its worker reads.

Not a message, because a worker function may report a million times a second, and the last report
before an hour of silence is the one that counts: here the newest always wins, nobody waits for
anybody, and nothing piles up.  A checksum tells a half-written page, which is passed over.
"""

import json
import mmap
import os
import struct
import tempfile
import zlib
from typing import Final

from synergy.worker.work import Progress

_SIZE: Final = 4096
#: Length and checksum of the JSON that follows.
_HEADER: Final = struct.Struct("<II")


class Board:
    """One page, seen from one of its sides."""

    def __init__(self, fd: int) -> None:
        """Map the page behind a descriptor, which is not needed any longer afterwards."""
        self._page = mmap.mmap(fd, _SIZE)

    def write(self, number: int, progress: Progress) -> None:
        """Put the progress of the attempt with this number there."""
        content = json.dumps([number, *progress]).encode()
        if len(content) <= _SIZE - _HEADER.size:
            self._page[_HEADER.size : _HEADER.size + len(content)] = content
            self._page[: _HEADER.size] = _HEADER.pack(len(content), zlib.crc32(content))

    def read(self, number: int) -> Progress | None:
        """The progress of the attempt with this number, if it reported and it can be read now."""
        size, checksum = _HEADER.unpack(self._page[: _HEADER.size])
        content = self._page[_HEADER.size : _HEADER.size + size]
        if not size or zlib.crc32(content) != checksum:
            return None
        try:
            whose, done, total, text = json.loads(content)
            if whose != number:
                return None
            return float(done), None if total is None else float(total), str(text)
        except (ValueError, TypeError):
            return None

    def close(self) -> None:
        """Let go of the page."""
        self._page.close()


def open_page() -> int:
    """The descriptor of an empty page without a name."""
    with tempfile.TemporaryFile() as file:
        os.ftruncate(file.fileno(), _SIZE)
        return os.dup(file.fileno())
