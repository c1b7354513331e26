"""Visits: what one visitor did on one site without a pause of 30 minutes.

The rule:

* A visitor is an address together with a user agent. A visit is of one visitor on one site.
* Two neighbouring requests less than 30 minutes apart are of one visit; 30 minutes or more of
  silence end it. So a request exactly 30 minutes after the last one begins a new visit.
* **A visit belongs to the interval in which it starts**, as a whole. A visit that runs over
  midnight counts once, on the day before; the day after counts its requests and bytes, not the
  visit. Hence the visits of a day are the sum of the visits of its hours.
* The order in which requests become known does not matter: one that arrives late may lengthen a
  visit, begin it earlier, or join two into one.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Seconds of silence that end a visit.
SILENCE = 30 * 60


class Visit(NamedTuple):
    """First and last request in seconds since 1970, and how many there were."""

    start: int
    last: int
    requests: int


def chain(visits: Iterable[Visit]) -> list[Visit]:
    """The same requests as the fewest visits that the rule allows, in order."""
    chained: list[Visit] = []
    for visit in sorted(visits):
        if chained and visit.start - chained[-1].last < SILENCE:
            before = chained.pop()
            visit = Visit(
                before.start, max(before.last, visit.last), before.requests + visit.requests
            )
        chained.append(visit)
    return chained


def add(db: sqlite3.Connection, requests: Iterable[tuple[int, str, int]]) -> None:
    """Add requests, each `(visitor, site, time)`, to the stored visits."""
    by_visitor: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for visitor, site, time in requests:
        by_visitor[visitor, site].append(time)
    for (visitor, site), times in by_visitor.items():
        near = _near(db, visitor, site, min(times), max(times))
        _replace(db, visitor, site, near, chain([*near, *(Visit(t, t, 1) for t in times)]))


def remove(db: sqlite3.Connection, visitor: int, site: str, time: int) -> None:
    """Rebuild the visit that held a request, after its event is gone."""
    near = [v for v in _near(db, visitor, site, time, time) if v.start <= time <= v.last]
    left = [
        Visit(t, t, 1)
        for visit in near
        for (t,) in db.execute(
            "SELECT time FROM events WHERE visitor = ? AND site = ? AND time BETWEEN ? AND ?",
            (visitor, site, visit.start, visit.last),
        )
    ]
    _replace(db, visitor, site, near, chain(left))


def _near(db: sqlite3.Connection, visitor: int, site: str, start: int, last: int) -> list[Visit]:
    return [
        Visit(*row)
        for row in db.execute(
            "SELECT start, last, requests FROM sessions"
            " WHERE visitor = ? AND site = ? AND start < ? AND last > ?",
            (visitor, site, last + SILENCE, start - SILENCE),
        )
    ]


def _replace(
    db: sqlite3.Connection, visitor: int, site: str, old: Sequence[Visit], new: Sequence[Visit]
) -> None:
    db.executemany(
        "DELETE FROM sessions WHERE visitor = ? AND site = ? AND start = ?",
        [(visitor, site, visit.start) for visit in old],
    )
    db.executemany(
        "INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", [(visitor, site, *visit) for visit in new]
    )
