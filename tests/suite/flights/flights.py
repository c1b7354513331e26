"""Workers over one SQLite file of events: `flights(time, site, miles)`, made by the test."""

import sqlite3

from synergy import Result, Work, noop, processed

#: From the first event's hour to the end of the last's.
FIRST, LAST = "2013-01-01T10:00+00:00", "2014-01-01T05:00+00:00"


def count(work: Work) -> Result:
    """Flights and miles of each airport in one hour."""
    with _events() as db:
        rows = db.execute(
            "SELECT site, count(*), sum(miles) FROM flights WHERE time >= ? AND time < ?"
            " GROUP BY site",
            _span(work),
        ).fetchall()
        return _write(db, work, rows)


def roll_up(work: Work) -> Result:
    """The sums of the finer intervals."""
    with _events() as db:
        rows = db.execute(
            "SELECT site, sum(flights), sum(miles) FROM figures"
            " WHERE process = ? AND start >= ? AND start < ? GROUP BY site",
            (work.arguments["of"], *_span(work)),
        ).fetchall()
        return _write(db, work, rows)


def _events() -> sqlite3.Connection:
    db = sqlite3.connect("events.db", timeout=30)
    db.execute("PRAGMA synchronous = OFF")  # the test does not cut the power
    return db


def _span(work: Work) -> tuple[float, float]:
    return work.interval.start.timestamp(), work.interval.end.timestamp()


def _write(db: sqlite3.Connection, work: Work, rows: list) -> Result:
    start, end = _span(work)
    db.execute("DELETE FROM figures WHERE process = ? AND start = ?", (work.process, start))
    db.executemany(
        "INSERT INTO figures VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(work.process, work.interval.label, start, end, *row) for row in rows],
    )
    if not rows:
        return noop("nobody left New York")
    return processed(count=sum(row[1] for row in rows))
