"""How the console writes instants, durations, names and what programs printed."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

#: Sequences that colour a terminal or move its cursor.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
#: What would steer a terminal or turn the direction of reading; line ends and tabs stay.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_OWNER = re.compile(r"([^@]+)@(.+?):(\d+):")


def clock(when: datetime, zone: str = "UTC") -> str:
    """``2026-11-20 17:30``; seconds where there are any."""
    local = when.astimezone(ZoneInfo(zone))
    return local.strftime("%Y-%m-%d %H:%M:%S" if local.second else "%Y-%m-%d %H:%M")


def instant(when: datetime | None) -> str | None:
    """RFC 3339 in UTC, for programs."""
    return None if when is None else when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def took(length: timedelta | float) -> str:
    """``3.2 s``, ``4 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    for size, name, smaller, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = int(seconds % size // smaller)
            return f"{int(seconds // size)} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{seconds:.0f} s"


def ago(then: datetime, now: datetime) -> str:
    """How long ago, or in how long, in words."""
    words = took(abs((now - then).total_seconds()))
    return f"{words} ago" if now >= then else f"in {words}"


def who(owner: str | None) -> str:
    """A scheduler or worker as people read it: ``worker@box-3, process 4711``."""
    found = _OWNER.match(owner or "")
    if found is None:
        return owner or ""
    return f"{found[1]}@{found[2].partition('/')[0]}, process {found[3]}"


def number(count: int, noun: str, several: str = "") -> str:
    """``1 interval``, ``14 intervals``."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def printed(data: bytes | str) -> str:
    """What a program printed, as text that does nothing: whatever it was meant to do elsewhere."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CONTROLS.sub("�", _ANSI.sub("", text))
    return text.encode("utf-8", "replace").decode("utf-8")
