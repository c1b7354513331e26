"""How the console writes instants in a zone, numbers, and what programs printed; the rest of what
people read is written as everywhere (`synergy.words`)."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from synergy import words
from synergy.words import ago, who

__all__ = ["ago", "clock", "instant", "number", "printed", "took", "who"]

#: Sequences that colour a terminal or move its cursor.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
#: What would steer a terminal or turn the direction of reading; line ends and tabs stay.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)


def clock(when: datetime, zone: str = "UTC") -> str:
    """``2026-11-20 17:30`` by the clock of a zone; seconds where there are any."""
    local = when.astimezone(ZoneInfo(zone))
    return local.strftime("%Y-%m-%d %H:%M:%S" if local.second else "%Y-%m-%d %H:%M")


def instant(when: datetime | None) -> str | None:
    """RFC 3339 in UTC, for programs; None stays None."""
    return None if when is None else words.instant(when)


def took(length: timedelta) -> str:
    """``3.2 s``, ``4 min 10 s``; nothing is shorter than nothing."""
    return words.duration(max(0.0, length.total_seconds()))


def number(count: int, noun: str, several: str = "") -> str:
    """``1 interval``, ``14 intervals``."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def printed(data: bytes | str) -> str:
    """What a program printed, as text that does nothing: whatever it was meant to do elsewhere."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROLS.sub("�", _ANSI.sub("", text))
    return text.encode("utf-8", "replace").decode("utf-8")
