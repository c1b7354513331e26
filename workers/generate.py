"""Invented visitors: access log lines of given hours, for a demonstration without a log at hand.

The lines of an hour depend on the seed and the hour only, so a log can be continued at any time,
after a crash too, and comes out the same. That they are invented can be seen: the file is called
`generated.log`, a note lies beside it, and the visitors come from the addresses that RFC 5737
reserves for examples.
"""

import fcntl
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from os import PathLike
from pathlib import Path
from typing import BinaryIO

#: How the file should be called.
NAME = "generated.log"
#: The sites that are visited (path segment 1), and how popular each is.
SITES = {"shop": 5, "blog": 3, "docs": 3, "forum": 2, "api": 2}
#: To whom they belong.
OWNERS = {"shop": "acme", "api": "acme", "blog": "writers", "forum": "writers"}

_NOTE = """{name} is generated: no real person made these requests.
The visitors are invented by workers/generate.py of the demonstration; their addresses are those
which RFC 5737 reserves for examples.
"""
_HOUR = timedelta(hours=1)
#: Visits that start in each hour of the day, UTC: quiet nights, a busy evening.
_VISITS = (6, 4, 3, 2, 2, 3, 6, 12, 20, 24, 25, 26, 28, 26, 25, 24, 24, 26, 30, 34, 36, 30, 20, 11)
_PAGES = ("", "index.html", "about", "search?q=%d", "item/%d", "item/%d/photos", "style.css")
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 "
    "Mobile Safari/537.36",
    "Mozilla/5.0 (compatible; ExampleBot/1.0; +https://example.org/bot)",
    "curl/8.7.1",
    "python-requests/2.32.3",
)
_NETS = ("192.0.2", "198.51.100", "203.0.113")
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def lines(start: datetime, end: datetime, seed: int = 1) -> Iterator[str]:
    """The log lines of `[start, end)`, in order, each with its newline."""
    hour = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < end:
        for instant, line in _hour(hour, seed):
            if start <= instant < end:
                yield line
        hour += _HOUR


class Visitors:
    """Writes a generated log from `start` (aware) on, and goes on with one that was left off.

    Several writers take turns and write every line once. A last line that was severed by a crash
    is cut off and written anew; no reader has counted it, because its newline was missing.
    """

    def __init__(self, path: str | PathLike[str], start: datetime, seed: int = 1) -> None:
        if start.tzinfo is None:
            raise ValueError(f"the generated log must start at an aware datetime, not {start}")
        self.path = Path(path)
        self._start = start
        self._seed = seed
        #: Up to when the log was written, and how long it was then.
        self._left: tuple[datetime, int] | None = None

    def write_until(self, end: datetime) -> int:
        """Append all lines before `end` (whole seconds) that are not there yet; how many."""
        end = end.replace(microsecond=0)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        note = self.path.with_name(self.path.name + ".README")
        note.write_text(_NOTE.format(name=self.path.name), encoding="ascii")
        with self.path.open("a+b") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            if self._left is not None and self._left[1] == log.seek(0, os.SEEK_END):
                fresh = list(lines(self._left[0], end, self._seed))
                end = max(end, self._left[0])
            else:
                present = _whole_lines(log)
                wanted = list(lines(self._start, end, self._seed))
                if present > len(wanted):
                    return 0  # another writer is ahead of `end`
                fresh = wanted[present:]
            log.write("".join(fresh).encode("ascii"))
            log.flush()
            os.fsync(log.fileno())
            self._left = (end, log.tell())
        return len(fresh)


def _whole_lines(log: BinaryIO) -> int:
    """Make the file end with a whole line; how many lines it has."""
    present = end = 0
    log.seek(0)
    for line in log:
        if line.endswith(b"\n"):
            present, end = present + 1, end + len(line)
    log.truncate(end)
    log.seek(end)
    return present


def _hour(hour: datetime, seed: int) -> list[tuple[datetime, str]]:
    """The lines of one hour: of visits that start in it or ran on from the hour before."""
    found = [
        (instant, line)
        for begun in (hour - _HOUR, hour)
        for instant, line in _visits(begun, seed)
        if hour <= instant < hour + _HOUR
    ]
    return sorted(found)


def _visits(hour: datetime, seed: int) -> Iterator[tuple[datetime, str]]:
    """The requests of the visits that start in an hour, over by the end of the next one."""
    dice = random.Random(f"{seed} {hour:%Y-%m-%dT%H}")
    usual = _VISITS[hour.hour] * (0.7 if hour.weekday() >= 5 else 1.0)
    for _ in range(max(1, round(dice.gauss(usual, usual / 6)))):
        address = f"{dice.choice(_NETS)}.{dice.randint(1, 254)}"
        agent = dice.choice(_AGENTS)
        site = dice.choices(list(SITES), list(SITES.values()))[0]
        instant = hour + timedelta(seconds=dice.randrange(3600))
        for _ in range(min(1 + int(dice.expovariate(0.2)), 30)):
            yield instant, _line(dice, address, agent, site, instant)
            instant += timedelta(seconds=1 + int(min(dice.expovariate(1 / 40), 115)))


def _line(dice: random.Random, address: str, agent: str, site: str, instant: datetime) -> str:
    page = dice.choice(_PAGES)
    page = page % dice.randrange(1000) if "%d" in page else page
    status = dice.choices((200, 304, 301, 404, 403, 500), (85, 6, 3, 4, 1, 1))[0]
    size = 0 if status == 304 else int(dice.lognormvariate(8.5, 1.2))
    # Not strftime: its month names follow the locale.
    written = f"{instant:%d}/{_MONTHS[instant.month - 1]}/{instant:%Y:%H:%M:%S} +0000"
    return (
        f'{address} - - [{written}] "GET /{site}/{page} HTTP/1.1" '
        f'{status} {size or "-"} "-" "{agent}"\n'
    )
