"""Who did what: a file to which lines are only added, each bound to the one before.

A line carries a keyed hash of itself and of the line before it, and beside the file stands how many
there are: whoever edits, removes, reorders or cuts off lines without the installation's secret is
found by `verify`.  A record is on disk before what it tells takes effect.
"""

import contextlib
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from synergy.mx.files import locked, replace

#: What the first line is bound to.
BEGINNING = "0" * 64
#: Bytes of a line that are reckoned with when the end of the file is read.
AVERAGE = 1024
#: Characters of one value: what strangers send is cut.
LONGEST = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit is worth."""

    #: Lines that are there.
    count: int
    #: Hash of the last one: noted elsewhere, it proves that nothing before it was changed.
    last: str
    #: All that is wrong; empty where nothing is.
    problems: tuple[str, ...]


class Audit:
    """The audit of one project; several programs may write to it."""

    def __init__(self, folder: Path, secret: bytes) -> None:
        self.path = folder / "audit.jsonl"
        self._head = folder / "audit.head"
        self._secret = secret

    def record(
        self,
        at: datetime,
        who: str,
        address: str,
        action: str,
        result: str,
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Add a line; on disk when this returns.

        Raises:
            OSError: it cannot be written, so what it tells must not happen.
        """
        told = {
            "at": at.isoformat().replace("+00:00", "Z"),
            "who": who,
            "from": address,
            "action": action,
            "result": result,
            **(details or {}),
        }
        told = {
            key: value[:LONGEST] if isinstance(value, str) else value for key, value in told.items()
        }
        with locked(self.path):
            count, last = self._tail()
            line = {"n": count + 1, **told}
            line["mac"] = self._mac(last, line)
            descriptor = os.open(
                self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600
            )
            try:
                os.write(descriptor, json.dumps(line).encode() + b"\n")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            replace(self._head, json.dumps({"count": count + 1, "mac": line["mac"]}))

    def newest(self, most: int) -> list[dict[str, Any]]:
        """The last lines, the newest first; so many, or as many as are in the file's end."""
        try:
            with open(self.path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - most * AVERAGE))
                texts = file.read().split(b"\n")
        except FileNotFoundError:
            return []
        found = []
        for text in reversed(texts):  # the first may be half a line, which is no JSON
            with contextlib.suppress(ValueError):
                found.append(json.loads(text))
        return [line for line in found if isinstance(line, dict)][:most]

    def verify(self) -> Verdict:
        """Whether all that was ever written is there, as it was written."""
        with locked(self.path):
            problems, last, count = [], BEGINNING, 0
            macs = {BEGINNING}
            for count, line in enumerate(self._lines(), 1):
                if not isinstance(line, dict) or "mac" not in line:
                    problems.append(f"line {count} is no record")
                    continue
                mac = str(line.pop("mac"))
                if line.get("n") != count:
                    problems.append(f"line {count} says that it is number {line.get('n')}")
                if not hmac.compare_digest(mac, self._mac(last, line)):
                    problems.append(f"line {count} is not what was written there")
                last = mac
                macs.add(mac)
            head = self._stored_head()
            if head["count"] > count:
                problems.append(f"{head['count'] - count} lines are missing at the end")
            elif head["mac"] not in macs:
                problems.append("the last line that was noted is not there")
        return Verdict(count, last, tuple(problems))

    def _mac(self, last: str, line: Mapping[str, object]) -> str:
        text = last + json.dumps(line, sort_keys=True)
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def _stored_head(self) -> dict[str, Any]:
        try:
            head: dict[str, Any] = json.loads(self._head.read_text("utf-8"))
            return head
        except (FileNotFoundError, ValueError):
            return {"count": 0, "mac": BEGINNING}

    def _tail(self) -> tuple[int, str]:
        """Number and hash of the last line; what a power cut left of a line is cut away, since its
        writer was not told that it is there."""
        head = self._stored_head()
        with contextlib.suppress(FileNotFoundError), open(self.path, "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 65_536))
            end = file.read()
            whole, mark, torn = end.rpartition(b"\n")
            if torn:
                file.truncate(size - len(torn))
            if mark:
                with contextlib.suppress(ValueError):
                    line = json.loads(whole.rpartition(b"\n")[2])
                    if line["n"] == head["count"] + 1:  # written, and not noted any more
                        return line["n"], line["mac"]
        return head["count"], head["mac"]

    def _lines(self) -> Iterator[Any]:
        try:
            file = open(self.path, encoding="utf-8", errors="replace")  # noqa: SIM115
        except FileNotFoundError:
            return
        with file:
            for text in file:
                try:
                    yield json.loads(text)
                except ValueError:
                    yield None
