"""Small private files that several programs may change: locked, and replaced whole."""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synergy.capture import make_private_folders
from synergy.errors import BadInput


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone at a file, among all programs, while the block lasts."""
    make_private_folders(path.parent)
    descriptor = os.open(
        path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace(path: Path, text: str) -> None:
    """Put a text in the place of a file, whole or not at all, also over a power cut."""
    make_private_folders(path.parent)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


class Document:
    """One JSON object in a file, read again only when the file has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark: tuple[int, int, int] | None = None
        self._content: dict[str, Any] = {}

    def read(self) -> dict[str, Any]:
        """As it stands; empty where there is no file.

        Raises:
            BadInput: it is damaged.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._mark, self._content = None, {}
            return {}
        mark = stat.st_mtime_ns, stat.st_ino, stat.st_size
        if mark != self._mark:
            try:
                content = json.loads(self.path.read_text("utf-8"))
            except ValueError as error:
                raise BadInput(
                    f"{self.path} is damaged ({error}): restore it from a backup, or remove it "
                    "and make what was in it anew"
                ) from error
            if not isinstance(content, dict):
                raise BadInput(f"{self.path} is damaged: it is no JSON object")
            self._content, self._mark = content, mark
        return self._content

    @contextlib.contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """A copy to change, which is written when the block ends well; alone among all programs."""
        with locked(self.path):
            content: dict[str, Any] = json.loads(json.dumps(self.read()))
            yield content
            replace(self.path, json.dumps(content, indent=1))


def secret_of(folder: Path) -> bytes:
    """The secret of this installation, made at its first use."""
    path = folder / "secret"
    with locked(path):
        if not path.exists():
            replace(path, secrets.token_hex(32))
        return bytes.fromhex(path.read_text("ascii").strip())
