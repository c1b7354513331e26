"""Figures of traffic: what is counted per interval, of a site or of a client.

Visits follow the rule of `db.sessions`. The figures of an interval are replaced in the caller's
transaction as a whole, so that nobody ever sees half of them.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Self

from db.traffic import seconds


class Of(Enum):
    """Whose figures: the table, and its column with the name."""

    SITE = ("figures", "site")
    CLIENT = ("client_figures", "client")

    @property
    def table(self) -> str:
        return self.value[0]

    @property
    def column(self) -> str:
        return self.value[1]


@dataclass(slots=True)
class Figures:
    """The traffic of one site or client in one interval."""

    requests: int = 0
    #: Bytes sent.
    bytes: int = 0
    #: Visits that started in the interval.
    visits: int = 0
    #: Requests by status class (1xx … 5xx, else other), browser family and system family.
    status: Counter[str] = field(default_factory=Counter)
    browsers: Counter[str] = field(default_factory=Counter)
    systems: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: "Figures") -> Self:
        self.requests += other.requests
        self.bytes += other.bytes
        self.visits += other.visits
        self.status += other.status
        self.browsers += other.browsers
        self.systems += other.systems
        return self

    def document(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "requests": self.requests,
            "bytes": self.bytes,
            "visits": self.visits,
            "status": dict(self.status),
            "browsers": dict(self.browsers),
            "systems": dict(self.systems),
        }


def total(parts: Iterable[Figures]) -> Figures:
    """The sum of figures."""
    whole = Figures()
    for part in parts:
        whole += part
    return whole


def count(db: sqlite3.Connection, start: datetime, end: datetime) -> dict[str, Figures]:
    """The figures of every site from the events and visits of `[start, end)`."""
    span = seconds(start), seconds(end)
    sites: dict[str, Figures] = {}
    for site, status, browser, system, requests, size in db.execute(
        "SELECT site, status / 100, browser, system, count(*), sum(size)"
        " FROM events JOIN visitors ON visitors.id = events.visitor"
        " WHERE time >= ? AND time < ? GROUP BY 1, 2, 3, 4",
        span,
    ):
        figures = sites.setdefault(site, Figures())
        figures.requests += requests
        figures.bytes += size
        figures.status[f"{status}xx" if 1 <= status <= 5 else "other"] += requests
        figures.browsers[browser] += requests
        figures.systems[system] += requests
    for site, visits in db.execute(
        "SELECT site, count(*) FROM sessions WHERE start >= ? AND start < ? GROUP BY site", span
    ):
        sites[site].visits = visits
    return sites


def within(
    db: sqlite3.Connection, of: Of, granularity: str, start: datetime, end: datetime
) -> dict[str, Figures]:
    """The sums over all intervals of a granularity that start in `[start, end)`."""
    names: dict[str, Figures] = {}
    for row in db.execute(
        f"SELECT {of.column}, {_VALUES} FROM {of.table}"
        " WHERE granularity = ? AND start >= ? AND start < ?",
        (granularity, seconds(start), seconds(end)),
    ):
        figures = names.setdefault(row[0], Figures())
        figures += _figures(row[1:])
    return names


def at(db: sqlite3.Connection, of: Of, granularity: str, label: str) -> dict[str, Figures]:
    """The figures of one interval."""
    return {
        row[0]: _figures(row[1:])
        for row in db.execute(
            f"SELECT {of.column}, {_VALUES} FROM {of.table} WHERE granularity = ? AND label = ?",
            (granularity, label),
        )
    }


def everything(db: sqlite3.Connection, of: Of) -> list[tuple[str, str, str, Figures]]:
    """All figures as `(granularity, label, name, figures)`, in the order of time."""
    return [
        (*row[:3], _figures(row[3:]))
        for row in db.execute(
            f"SELECT granularity, label, {of.column}, {_VALUES} FROM {of.table}"
            f" ORDER BY granularity, start, {of.column}"
        )
    ]


def replace(
    db: sqlite3.Connection,
    of: Of,
    granularity: str,
    label: str,
    start: datetime,
    names: Mapping[str, Figures],
) -> None:
    """Put these figures of an interval in the place of all it had."""
    db.execute(f"DELETE FROM {of.table} WHERE granularity = ? AND label = ?", (granularity, label))
    db.executemany(
        f"INSERT INTO {of.table} (granularity, label, {of.column}, start, {_VALUES})"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                granularity,
                label,
                name,
                seconds(start),
                figures.requests,
                figures.bytes,
                figures.visits,
                json.dumps(figures.status, sort_keys=True),
                json.dumps(figures.browsers, sort_keys=True),
                json.dumps(figures.systems, sort_keys=True),
            )
            for name, figures in names.items()
        ],
    )


_VALUES = "requests, bytes, visits, status, browsers, systems"


def _figures(row: tuple[Any, ...]) -> Figures:
    requests, size, visits, status, browsers, systems = row
    return Figures(
        requests,
        size,
        visits,
        Counter(json.loads(status)),
        Counter(json.loads(browsers)),
        Counter(json.loads(systems)),
    )
