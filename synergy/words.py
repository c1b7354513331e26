"""Times, durations and names as people read them, in sentences and tables."""

import re
from datetime import UTC, datetime


def who(owner: str) -> str:
    """The name of a scheduler or worker as people read it: ``worker (process 4711 at box)``."""
    found = re.match(r"([^@]+)@(.+?):(\d+):", owner)
    if found is None:
        return owner
    return f"{found[1]} (process {found[3]} at {found[2].partition('/')[0]})"


def instant(when: datetime) -> str:
    """RFC 3339 in UTC, for programs."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def clock(when: datetime) -> str:
    """``2026-11-20 17:30`` in UTC, for people; seconds where there are any."""
    utc = when.astimezone(UTC)
    return utc.strftime("%Y-%m-%d %H:%M:%S" if utc.second else "%Y-%m-%d %H:%M")


def ago(then: datetime, now: datetime) -> str:
    """How long ago, or in how long, in words."""
    seconds = (now - then).total_seconds()
    words = duration(abs(seconds))
    return f"{words} ago" if seconds >= 0 else f"in {words}"


def duration(seconds: float) -> str:
    """``48 ms``, ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
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
