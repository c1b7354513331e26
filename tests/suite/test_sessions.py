"""Visits, checked by hand."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from db.intake import read_file
from db.sessions import SILENCE, Visit, chain
from db.traffic import Traffic
from synergy.worker import Work
from workers import site
from workers.configuration import Configuration

Line = Callable[..., bytes]


def _visits(traffic: Traffic) -> list[tuple[str, int]]:
    """Clock of the start, and requests, of each visit."""
    return traffic.db.execute(
        "SELECT strftime('%d %H:%M:%S', start, 'unixepoch'), requests FROM sessions ORDER BY start"
    ).fetchall()


def _read(traffic: Traffic, folder: Path, *contents: bytes) -> None:
    for number, content in enumerate(contents):
        log = folder / f"{number}.log"
        log.write_bytes(content)
        read_file(traffic, log)


@pytest.mark.parametrize(
    ("times", "visits"),
    [
        (["10:00:00", "10:29:59"], [("12 10:00:00", 2)]),
        (["10:00:00", "10:30:00"], [("12 10:00:00", 1), ("12 10:30:00", 1)]),
        (["10:00:00", "10:29:59", "10:59:58"], [("12 10:00:00", 3)]),
        (["10:00:00", "10:00:00"], [("12 10:00:00", 2)]),
        (["09:00:00", "11:00:00"], [("12 09:00:00", 1), ("12 11:00:00", 1)]),
    ],
)
def test_thirty_minutes_of_silence_end_a_visit(
    traffic: Traffic, tmp_path: Path, line: Line, times: list[str], visits: list[tuple[str, int]]
) -> None:
    _read(traffic, tmp_path, b"".join(line(time) for time in times))
    assert _visits(traffic) == visits


def test_a_visit_is_of_one_address_with_one_agent_on_one_site(
    traffic: Traffic, tmp_path: Path, line: Line
) -> None:
    _read(
        traffic,
        tmp_path,
        line("10:00:00") + line("10:01:00", agent="Wget/1") + line("10:02:00", address="192.0.2.2")
        + line("10:03:00", "/blog/") + line("10:04:00"),
    )  # fmt: skip
    assert [requests for _, requests in _visits(traffic)] == [2, 1, 1, 1]


def test_a_request_that_arrives_late_joins_two_visits(
    traffic: Traffic, tmp_path: Path, line: Line
) -> None:
    _read(traffic, tmp_path, line("10:00:00") + line("10:50:00"))
    assert len(_visits(traffic)) == 2
    _read(traffic, tmp_path, line("10:00:00") + line("10:50:00") + line("10:25:00"))
    assert _visits(traffic) == [("12 10:00:00", 3)]


def test_files_out_of_order_give_the_same_visits(
    traffic: Traffic, tmp_path: Path, line: Line
) -> None:
    _read(
        traffic,
        tmp_path,
        line("12:00:00") + line("12:20:00"),
        line("11:00:00"),
        line("11:20:00") + line("11:40:00"),
    )
    assert _visits(traffic) == [("12 11:00:00", 5)]


def test_a_visit_over_midnight_counts_once_on_the_day_before(
    traffic: Traffic,
    tmp_path: Path,
    line: Line,
    unit: Callable[..., Work],
    configuration: Configuration,
) -> None:
    # By hand: A is there from 23:50 to 00:10, B comes at 00:05 for the first time.
    _read(
        traffic,
        tmp_path,
        line("23:50:00") + line("00:10:00", day="13/May/2024")
        + line("00:05:00", day="13/May/2024", address="192.0.2.2"),
    )  # fmt: skip
    expected = {
        "2024-05-12T23": (1, 1),
        "2024-05-13T00": (2, 1),
        "2024-05-12": (1, 1),
        "2024-05-13": (2, 1),
        "2024-05": (3, 2),
    }
    for label in expected:
        work = site.count if "T" in label else site.roll_up
        work(unit("site", label), configuration)
    found = {
        label: (requests, visits)
        for label, requests, visits in traffic.db.execute(
            "SELECT label, requests, visits FROM figures"
        )
    }
    assert found == expected


@pytest.mark.parametrize("seed", range(5))
def test_any_order_and_grouping_chains_alike(seed: int) -> None:
    dice = random.Random(seed)
    times = [dice.randrange(40 * SILENCE) for _ in range(60)]
    whole = chain(Visit(time, time, 1) for time in times)
    dice.shuffle(times)
    step: list[Visit] = []
    for time in times:
        step = chain([*step, Visit(time, time, 1)])
    assert step == whole
    assert sum(visit.requests for visit in whole) == 60
    for before, after in pairwise(whole):
        assert after.start - before.last >= SILENCE


def test_the_stored_visits_are_those_that_a_query_finds(
    traffic: Traffic, logs: list[Path], truth: dict[str, Any]
) -> None:
    for log in random.Random(7).sample(logs, len(logs)):
        read_file(traffic, log, segment=2)
    stored = traffic.db.execute("SELECT visitor, site, start FROM sessions ORDER BY 1, 2, 3")
    # Another way to say it: a visit starts with each request that has none shortly before it.
    found = traffic.db.execute(
        "SELECT DISTINCT visitor, site, time FROM events AS e WHERE NOT EXISTS (SELECT 1"
        " FROM events AS p WHERE p.visitor = e.visitor AND p.site = e.site AND p.time < e.time"
        " AND p.time > e.time - 1800) ORDER BY 1, 2, 3"
    )
    assert stored.fetchall() == found.fetchall()
