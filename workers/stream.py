"""Reads access logs into events and visits.

It works beside the timetable, as a freerun, or before it: how far a log has been read is known to
the database, not to an interval. See `db.intake` for what is promised.
"""

from collections.abc import Callable, Sequence
from os import PathLike

from db.intake import Reading
from db.intake import read_files as read_into
from db.traffic import Traffic, seconds
from synergy import Result, noop, processed
from workers.configuration import Configuration, load
from workers.unit import Interval, Unit


def read(unit: Unit, configuration: Configuration | None = None) -> Result:
    """Read the logs to their present end.

    Arguments: `files`, a list of paths (the setting `LOG_FILES` by default); `complete`, whether a
    last line without its newline counts already (false by default: it may still be growing).
    """
    conf = configuration or load()
    files = list(unit.arguments.get("files") or conf.log_files)
    complete = bool(unit.arguments.get("complete", False))
    if not files:
        return noop("no log files are named")
    readings = read_files(
        conf.traffic_db, files, conf.site_segment, complete=complete, progress=unit.progress
    )
    notes = [note for reading in readings for note in reading.notes]
    if notes:
        unit.progress(1, 1, "; ".join(notes))
    lines = sum(reading.lines for reading in readings)
    if lines <= 0:
        return noop("; ".join(notes) or "the logs have nothing new")
    return processed(count=lines)


def read_files(
    db_path: str | PathLike[str],
    paths: Sequence[str | PathLike[str]],
    segment: int = 1,
    complete: bool = False,
    progress: Callable[[int, int, str], object] | None = None,
) -> list[Reading]:
    """Read log files, in any order, to their present end; see `db.intake.read_files`.

    `progress` is told bytes read, bytes in all, and the name of the file.
    """
    with Traffic(db_path) as traffic:
        return read_into(traffic, paths, segment=segment, complete=complete, progress=progress)


def span(
    db_path: str | PathLike[str],
) -> tuple[int, int] | None:
    """The instants of the first and the last event, in seconds since 1970; None without events."""
    with Traffic(db_path) as traffic, traffic.reading() as db:
        first, last = db.execute("SELECT min(time), max(time) FROM events").fetchone()
    return None if first is None else (first, last)


def keys(interval: Interval, configuration: Configuration | None = None) -> tuple[int, int] | None:
    """The source of recomputing processes: first and last event of an interval; None without."""
    conf = configuration or load()
    with Traffic(conf.traffic_db) as traffic, traffic.reading() as db:
        first, last = db.execute(
            "SELECT min(time), max(time) FROM events WHERE time >= ? AND time < ?",
            (seconds(interval.start), seconds(interval.end)),
        ).fetchone()
    return None if first is None else (first, last)
