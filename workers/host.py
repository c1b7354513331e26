"""This machine: samples while a minute is open, its figures once it closed, then hours and days.

A minute is *continuous*: its provisional runs take a sample each, its final run sums them up as
lowest, mean and highest value. Counters of disk and network run since the machine was started;
figures are their rates between neighbouring samples of the minute, in bytes per second.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from sqlite3 import Connection

import psutil

from db.traffic import Traffic, seconds
from synergy import Result, noop, processed
from workers.configuration import Configuration, load
from workers.unit import Unit, finer, granularity, results

#: How long samples are kept; the figures made of them stay.
KEEP = timedelta(days=7)
#: Seconds over which the use of the processors is measured.
_CPU_WINDOW = 0.1

_LEVELS = ("cpu", "memory", "load")
_COUNTERS = ("disk_read", "disk_written", "net_received", "net_sent")


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the machine."""

    #: Seconds since 1970.
    taken: float
    #: Per cent of all processors, and of the memory.
    cpu: float
    memory: float
    #: Processes ready to run, mean of one minute.
    load: float
    #: Bytes since the machine was started.
    disk_read: int
    disk_written: int
    net_received: int
    net_sent: int


@dataclass(frozen=True, slots=True)
class Spread:
    """Lowest, mean and highest of so many values."""

    low: float
    mean: float
    high: float
    samples: int


def look() -> Sample:
    """Take a sample of this machine; takes a tenth of a second."""
    cpu = psutil.cpu_percent(interval=_CPU_WINDOW)
    disk, net = psutil.disk_io_counters(), psutil.net_io_counters()
    return Sample(
        taken=time.time(),
        cpu=cpu,
        memory=psutil.virtual_memory().percent,
        load=psutil.getloadavg()[0],
        disk_read=disk.read_bytes if disk else 0,  # a container may have no disks of its own
        disk_written=disk.write_bytes if disk else 0,
        net_received=net.bytes_recv if net else 0,
        net_sent=net.bytes_sent if net else 0,
    )


def sample(
    unit: Unit,
    configuration: Configuration | None = None,
    look: Callable[[], Sample] = look,
) -> Result:
    """Take a sample while the minute is open; sum the samples up when it has closed."""
    conf = configuration or load()
    with Traffic(conf.traffic_db) as traffic:
        if unit.provisional:
            taken = look()
            with traffic.writing() as db:
                db.execute(
                    "INSERT OR IGNORE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?)", astuple(taken)
                )
            return processed(count=1)
        with results(traffic, unit) as db:
            samples = _samples(db, unit.interval.start, unit.interval.end)
            if not samples and unit.interval.end < datetime.now(UTC) - KEEP:
                return noop(f"samples are kept for {KEEP.days} days; the figures stay as they are")
            _replace(db, unit, summarise(samples))
            db.execute("DELETE FROM samples WHERE taken < ?", (time.time() - KEEP.total_seconds(),))
    return processed(count=len(samples)) if samples else noop("no samples in this minute")


def summarise(samples: Sequence[Sample]) -> dict[str, Spread]:
    """The figures of some samples, in the order they were taken."""
    values = {name: [float(getattr(one, name)) for one in samples] for name in _LEVELS}
    for name in _COUNTERS:
        values[f"{name}_rate"] = [
            (getattr(after, name) - getattr(before, name)) / (after.taken - before.taken)
            for before, after in pairwise(samples)
            if after.taken > before.taken and getattr(after, name) >= getattr(before, name)
        ]
    return {
        name: Spread(min(some), sum(some) / len(some), max(some), len(some))
        for name, some in values.items()
        if some
    }


def roll_up(unit: Unit, configuration: Configuration | None = None) -> Result:
    """Join the figures of the finer intervals; means weigh by their samples.

    Arguments: `from`, the granularity to join (the next finer one by default).
    """
    conf = configuration or load()
    child = finer(unit)
    span = seconds(unit.interval.start), seconds(unit.interval.end)
    with Traffic(conf.traffic_db) as traffic, results(traffic, unit) as db:
        metrics = {
            name: Spread(*values)
            for name, *values in db.execute(
                "SELECT metric, min(low), sum(mean * samples) / sum(samples), max(high),"
                " sum(samples) FROM host_figures"
                " WHERE granularity = ? AND start >= ? AND start < ? GROUP BY metric",
                (child, *span),
            )
        }
        _replace(db, unit, metrics)
    if not metrics:
        return noop(f"no {child} figures in this interval")
    return processed(count=max(spread.samples for spread in metrics.values()))


def _samples(db: Connection, start: datetime, end: datetime) -> list[Sample]:
    return [
        Sample(*row)
        for row in db.execute(
            "SELECT * FROM samples WHERE taken >= ? AND taken < ? ORDER BY taken",
            (start.timestamp(), end.timestamp()),
        )
    ]


def _replace(db: Connection, unit: Unit, metrics: Mapping[str, Spread]) -> None:
    own, label = granularity(unit), unit.interval.label
    db.execute("DELETE FROM host_figures WHERE granularity = ? AND label = ?", (own, label))
    db.executemany(
        "INSERT INTO host_figures VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (own, label, name, seconds(unit.interval.start), *astuple(spread))
            for name, spread in metrics.items()
        ],
    )
