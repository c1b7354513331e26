"""The real log in full: every figure of every interval equals the independent truth."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from db.traffic import Traffic
from synergy.core.intervals import Interval
from synergy.worker import Result, Work
from workers import client, site, stream
from workers import report as reports
from workers.configuration import Configuration

_START, _END = datetime(2024, 5, 12, tzinfo=UTC), datetime(2024, 5, 21, tzinfo=UTC)
_LEVELS = ("hourly", "daily", "monthly", "yearly")


def _iso(granularity: str, digits: str) -> str:
    """The label of a ten-digit one."""
    year, month, day, hour = digits[:4], digits[4:6], digits[6:8], digits[8:]
    return {
        "hourly": f"{year}-{month}-{day}T{hour}",
        "daily": f"{year}-{month}-{day}",
        "monthly": f"{year}-{month}",
        "yearly": year,
    }[granularity]


def _expected(granularity: str, figures: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {_iso(granularity, old): (its["count"], its["bytes"]) for old, its in figures.items()}


def _found(figures: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {label: (its["requests"], its["bytes"]) for label, its in figures.items()}


@pytest.fixture(scope="module")
def configuration(
    folders: Callable[[], AbstractContextManager[str]], truth: dict[str, Any]
) -> Iterator[Configuration]:
    with folders() as folder:
        clients = Path(folder, "clients.json")
        clients.write_text(json.dumps(truth["site_owner"]["map"]))
        yield Configuration(
            traffic_db=str(Path(folder, "traffic.db")), site_segment=2, clients_file=str(clients)
        )


@pytest.fixture(scope="module")
def report(
    configuration: Configuration,
    logs: list[Path],
    intervals: Callable[[str, datetime, datetime], list[Interval]],
) -> dict[str, Any]:
    """The timetable worked off by hand: files in any order, children before their parents."""
    shuffled = random.Random(3).sample(logs, len(logs))
    stream.read_files(configuration.traffic_db, shuffled, configuration.site_segment, True)

    def work(process: str, run: Callable[..., Result], level: str) -> list[Result]:
        return [
            run(Work(process=process, interval=interval), configuration)
            for interval in intervals(level, _START, _END)
        ]

    # Held open, so that not every unit is the last to close the file, with all that costs.
    with Traffic(configuration.traffic_db):
        results = work("site_hourly", site.count, "hourly")
        for level in _LEVELS[1:]:
            work(f"site_{level}", site.roll_up, level)
            work(f"client_{level}", client.roll_up, level)
    assert len(results) == 216
    assert sum(result.count or 0 for result in results) == 10479
    return reports.report(configuration.traffic_db)


def test_the_lines_are_all_accounted_for(report: dict[str, Any]) -> None:
    assert (report["lines"], report["malformed"], report["continuation"]) == (16275, 0, 5796)


@pytest.mark.parametrize("level", _LEVELS)
def test_the_figures_of_every_interval(
    report: dict[str, Any], truth: dict[str, Any], level: str
) -> None:
    assert _found(report[level]) == _expected(level, truth["utc"][level])


@pytest.mark.parametrize("level", _LEVELS)
def test_the_figures_of_every_site(
    report: dict[str, Any], truth: dict[str, Any], level: str
) -> None:
    found = {name: _found(labels) for name, labels in report["by_site"][level].items()}
    expected = {name: _expected(level, its) for name, its in truth["by_site_utc"][level].items()}
    assert found == expected


@pytest.mark.parametrize("level", _LEVELS[1:])
def test_the_figures_of_every_client(
    report: dict[str, Any], truth: dict[str, Any], level: str
) -> None:
    found = {name: _found(labels) for name, labels in report["by_client"][level].items()}
    expected = {name: _expected(level, its) for name, its in truth["by_client_utc"][level].items()}
    assert found == expected


def test_the_year_is_the_sum_of_everything(report: dict[str, Any]) -> None:
    year = report["yearly"]["2024"]
    assert (year["requests"], year["bytes"]) == (10479, 2309191897)
    # Checked by a query of its own over the events (see test_sessions), and pinned here.
    assert year["visits"] == 2172
    for families in ("status", "browsers", "systems"):
        assert sum(year[families].values()) == 10479
    assert year["status"] == {"2xx": 9472, "3xx": 105, "4xx": 902}


@pytest.mark.parametrize("part", ["visits", "status", "browsers", "systems"])
def test_a_day_is_the_sum_of_its_hours(report: dict[str, Any], part: str) -> None:
    for day, figures in report["daily"].items():
        hours = [its[part] for label, its in report["hourly"].items() if label.startswith(day)]
        if part == "visits":
            assert sum(hours) == figures[part]
        else:
            names = {name for hour in hours for name in hour}
            assert figures[part] == {
                name: sum(hour.get(name, 0) for hour in hours) for name in names
            }


def test_equal_data_gives_equal_bytes(
    configuration: Configuration, report: dict[str, Any], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    reports.write(first, report)
    reports.write(second, dict(reversed(reports.report(configuration.traffic_db).items())))
    assert first.read_bytes() == second.read_bytes()
    assert json.loads(first.read_bytes()) == report
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_the_span_is_that_of_the_events(
    configuration: Configuration, truth: dict[str, Any]
) -> None:
    span = stream.span(configuration.traffic_db)
    assert span is not None
    first, last = (datetime.fromtimestamp(instant, UTC).isoformat()[:19] for instant in span)
    assert (first, last) == (truth["first_utc"], truth["last_utc"])
