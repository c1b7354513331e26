"""Recorded site aggregators: the suite's workers count and sum up to the recorded figures.

The recorded records have more dimensions than ours, so each level is worked several times, every
time with other dimensions standing in the place of ours.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from sqlite3 import Connection
from tempfile import TemporaryDirectory
from typing import Any

from db import figures
from db.figures import Figures, Of
from db.traffic import Traffic, seconds
from synergy.core.intervals import Calendar, Granularity, Interval
from synergy.testing.work import work
from tests.vectors.recorded import Case, document, each
from workers import site
from workers.configuration import Configuration

#: What stands for our systems, browsers and status classes when figures are summed up.
SUMMED = (("os", "browser", "country"), ("language", "screen_resolution", "country"))
#: What stands for our systems, browsers and bytes when visits are counted.
COUNTED = (
    ("os", "browser", "total_duration"),
    ("country", "language", "number_of_pageviews"),
    ("screen_resolution", "os", "total_duration"),
)
FINER = {"daily": "hourly", "monthly": "daily", "yearly": "monthly"}


def parsed(granularity: str, label: str) -> Interval:
    return Calendar(Granularity(granularity)).parse(label)


def level(name: str) -> dict[str, Any]:
    found = document("synergy_site_aggregators")["levels"]
    (its,) = [each_level for each_level in found if each_level["level"] == name]
    assert isinstance(its, dict)
    return its


Row = dict[str, Any]


@cache
def worked(name: str) -> Mapping[tuple[str, str], Row]:
    """Our figures of a level by site and recorded label, in the recorded words."""
    rows: dict[tuple[str, str], Row] = {}
    labels = sorted({expected["timeperiod"] for expected in level(name)["expected"]})
    make = counted if name == "hourly" else rolled_up
    for view in COUNTED if name == "hourly" else SUMMED:
        with TemporaryDirectory(prefix="vectors-") as folder:
            path = str(Path(folder) / "traffic.db")
            conf = Configuration(traffic_db=path, fail_file=str(Path(folder) / "none"))
            with Traffic(path) as traffic:
                for label in labels:
                    interval = parsed(name, label)
                    for domain, its in make(traffic, conf, name, interval, view).items():
                        rows.setdefault((domain, label), {}).update(its)
    return rows


def rolled_up(
    traffic: Traffic, conf: Configuration, name: str, interval: Interval, view: tuple[str, ...]
) -> dict[str, Row]:
    """Sum up the records of the next finer level."""
    finer = FINER[name]
    with traffic.writing() as db:
        put(db, finer, level(name)["inputs"], view)
    site.roll_up(work(f"site_{name}", interval.label), conf)
    systems, browsers, status = view
    return {
        domain: {
            "number_of_visits": its.visits,
            "number_of_pageviews": its.requests,
            "total_duration": its.bytes,
            systems: dict(its.systems),
            browsers: dict(its.browsers),
            status: dict(its.status),
        }
        for domain, its in figures.at(traffic.db, Of.SITE, name, interval.label).items()
    }


def put(db: Connection, granularity: str, inputs: Iterable[Row], view: tuple[str, ...]) -> None:
    """Store recorded records as figures of the suite."""
    systems, browsers, status = view
    by_label: dict[str, dict[str, Figures]] = {}
    for given in inputs:
        stat = given["stat"]
        its = by_label.setdefault(given["timeperiod"], {})
        assert given["domain"] not in its
        its[given["domain"]] = Figures(
            stat["number_of_pageviews"],
            stat["total_duration"],
            stat["number_of_visits"],
            Counter(stat[status]),
            Counter(stat[browsers]),
            Counter(stat[systems]),
        )
    for label, names in by_label.items():
        interval = parsed(granularity, label)
        figures.replace(db, Of.SITE, granularity, interval.label, interval.start, names)


def counted(
    traffic: Traffic, conf: Configuration, name: str, interval: Interval, view: tuple[str, ...]
) -> dict[str, Row]:
    """Count the recorded sessions, each as one visit of one request."""
    systems, browsers, size = view
    with traffic.writing() as db:
        db.execute("INSERT OR IGNORE INTO files (id, path) VALUES (1, 'recorded')")
        for place, session in enumerate(level(name)["inputs"]):
            visit(db, place, session, view)
    site.count(work("site_hourly", interval.label), conf)
    found = figures.at(traffic.db, Of.SITE, name, interval.label)
    assert all(its.requests == its.visits for its in found.values())
    return {
        domain: {
            "number_of_visits": its.visits,
            size: its.bytes,
            systems: dict(its.systems),
            browsers: dict(its.browsers),
        }
        for domain, its in found.items()
    }


def visit(db: Connection, place: int, session: Row, view: tuple[str, ...]) -> None:
    """Store a recorded session, unless an interval before this one has."""
    systems, browsers, size = view
    profile = session["user_profile"]
    shown = {**profile, "screen_resolution": str((profile["screen_x"], profile["screen_y"]))}
    start = seconds(parsed("hourly", session["timeperiod"]).start)
    sent, domain = session["browsing_history"][size], session["domain"]
    db.execute(
        "INSERT OR IGNORE INTO visitors (id, address, agent, browser, system)"
        " VALUES (?, ?, '', ?, ?)",
        (place, f"visitor {place}", shown[browsers], shown[systems]),
    )
    db.execute(
        "INSERT OR IGNORE INTO events (file, offset, time, site, visitor, status, size)"
        " VALUES (1, ?, ?, ?, ?, 200, ?)",
        (place, start, domain, place, sent),
    )
    db.execute(
        "INSERT OR IGNORE INTO sessions (visitor, site, start, last, requests)"
        " VALUES (?, ?, ?, ?, 1)",
        (place, domain, start, start),
    )


@each("synergy_site_aggregators")
def test_a_site_has_the_recorded_figures(case: Case) -> None:
    ours = worked(case["op"])[case["domain"], case["timeperiod"]]
    case.compare(ours, case["stat"])
