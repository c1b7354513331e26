"""A daily alert: a day against the same weekday a week ago.

The rule is kept simple on purpose: an alert is written when the requests of the day are at least
`RATIO` times those of the day a week ago, or the other way round, and the larger of the two is at
least `FLOOR`. A day whose traffic has vanished is the loudest of all, so a day without figures
counts as 0 requests; without figures a week ago there is nothing to compare with.
"""

from datetime import datetime, timedelta
from sqlite3 import Connection

from db.traffic import Traffic, seconds
from synergy import Result, noop, processed
from workers.configuration import Configuration, load
from workers.unit import Unit, results

#: How many times more, or fewer, requests are strongly different.
RATIO = 2.0
#: Requests below which a day is too quiet to compare.
FLOOR = 50

_WEEK = timedelta(days=7)
#: A clock change moves a local midnight by this much at most.
_CLOCK_CHANGE = timedelta(hours=2)


def compare(unit: Unit, configuration: Configuration | None = None) -> Result:
    """Compare the requests of a day with those of a week ago; the count is that of alerts."""
    conf = configuration or load()
    start, label = unit.interval.start, unit.interval.label
    with Traffic(conf.traffic_db) as traffic, results(traffic, unit) as db:
        db.execute("DELETE FROM alerts WHERE label = ?", (label,))
        requests = _requests(db, start) or 0
        before = _requests(db, start - _WEEK)
        message = None if before is None else judge(requests, before)
        if message is not None:
            db.execute(
                "INSERT INTO alerts VALUES (?, ?, ?, ?, ?)",
                (label, seconds(start), requests, before, message),
            )
    if before is None:
        return noop("no figures of the day a week ago")
    return processed(count=int(message is not None))


def judge(requests: int, before: int) -> str | None:
    """What is remarkable about a day, in a sentence; None when nothing is."""
    more, fewer = max(requests, before), min(requests, before)
    if more < FLOOR or more < RATIO * fewer:
        return None
    if not fewer:
        return f"{requests} requests, {before} a week ago"
    word = "more" if requests > before else "fewer"
    return f"{requests} requests, {before} a week ago: {more / fewer:.1f} times {word}"


def _requests(db: Connection, start: datetime) -> int | None:
    """The requests of the day that starts about then; None when it has no figures."""
    requests: int | None = db.execute(
        "SELECT sum(requests) FROM figures WHERE granularity = 'daily' AND start BETWEEN ? AND ?",
        (seconds(start - _CLOCK_CHANGE), seconds(start + _CLOCK_CHANGE)),
    ).fetchone()[0]
    return requests
