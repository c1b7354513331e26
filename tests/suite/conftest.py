"""What the tests of the suite share: the real log with its truth, units, and whole dumps."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db.traffic import Traffic
from synergy.core.intervals import Interval
from synergy.worker import Work
from workers.configuration import Configuration

_SHARED = Path(__file__).resolve().parents[3] / "shared"

_STEPS = {
    "minutely": ("%Y-%m-%dT%H:%M", timedelta(minutes=1)),
    "hourly": ("%Y-%m-%dT%H", timedelta(hours=1)),
    "daily": ("%Y-%m-%d", timedelta(days=1)),
    "monthly": ("%Y-%m", timedelta(days=31)),
    "yearly": ("%Y", timedelta(days=366)),
}


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the independent truth; its absence fails only where CI runs."""
    folder = Path(os.environ.get("SYNERGY_TEST_DATA", _SHARED))
    if not (folder / "data" / "erddap_2024_05.json").exists():
        sentence = f"the independent truth is not in {folder}; set SYNERGY_TEST_DATA"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return folder


@pytest.fixture(scope="session")
def truth(shared: Path) -> dict[str, Any]:
    """The independent figures of the nine real log files."""
    found: dict[str, Any] = json.loads((shared / "data" / "erddap_2024_05.json").read_text())
    return found


@pytest.fixture(scope="session")
def logs(shared: Path) -> list[Path]:
    """The nine real log files, the newest first."""
    return sorted((shared / "data" / "erddap_2024_05").glob("*.log*"))


@pytest.fixture(scope="session")
def folders() -> Callable[[], "tempfile.TemporaryDirectory[str]"]:
    """Makes temporary folders, in memory where the system has such a place.

    Hundreds of small databases would spend most of the tests waiting for the disk; and what is
    killed here are processes, not machines, so nothing depends on it.
    """
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    return lambda: tempfile.TemporaryDirectory(prefix="suite-", dir=place)


@pytest.fixture
def tmp_path(folders: Callable[[], "tempfile.TemporaryDirectory[str]"]) -> Iterator[Path]:
    """A folder of the test's own, in the place of pytest's."""
    with folders() as folder:
        yield Path(folder)


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Traffic]:
    """An empty database, open."""
    with Traffic(tmp_path / "traffic.db") as opened:
        yield opened


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    """A configuration whose database is that of `traffic`."""
    return Configuration(
        traffic_db=str(tmp_path / "traffic.db"), fail_file=str(tmp_path / "fail_hour")
    )


@pytest.fixture(scope="session")
def intervals() -> Callable[[str, datetime, datetime], list[Interval]]:
    """The UTC intervals of a granularity that touch a span, made without synergy's calendar."""

    def cut(granularity: str, start: datetime, end: datetime) -> list[Interval]:
        form, step = _STEPS[granularity]
        found = []
        begin = _floor(granularity, start)
        while begin < end:
            after = _floor(granularity, begin + step)
            found.append(Interval(start=begin, end=after, label=begin.strftime(form)))
            begin = after
        return found

    return cut


def _floor(granularity: str, instant: datetime) -> datetime:
    first = {"minute": 0, "hour": 0, "day": 1, "month": 1}
    keep = ["minutely", "hourly", "daily", "monthly", "yearly"].index(granularity)
    return instant.replace(second=0, **dict(list(first.items())[:keep]))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def unit(intervals: Callable[[str, datetime, datetime], list[Interval]]) -> Callable[..., Work]:
    """A unit by the label of its hour, day, month, year or minute."""

    def make(process: str, label: str, **options: Any) -> Work:
        for granularity, (form, _) in _STEPS.items():
            try:
                start = datetime.strptime(label, form).replace(tzinfo=UTC)
            except ValueError:
                continue
            (interval,) = intervals(granularity, start, start + timedelta(seconds=1))
            return Work(process=process, interval=interval, **options)
        raise ValueError(label)

    return make


@pytest.fixture(scope="session")
def dump() -> Callable[[Traffic], dict[str, Any]]:
    """Everything that was counted, independent of the order in which it became known."""

    def make(traffic: Traffic) -> dict[str, Any]:
        with traffic.reading() as db:
            return {
                "counters": db.execute(
                    "SELECT coalesce(sum(lines), 0), coalesce(sum(records), 0),"
                    " coalesce(sum(malformed), 0), coalesce(sum(continuation), 0) FROM files"
                ).fetchone(),
                "events": sorted(
                    db.execute(
                        "SELECT address, agent, site, time, status, size"
                        " FROM events JOIN visitors ON visitors.id = visitor"
                    )
                ),
                "sessions": sorted(
                    db.execute(
                        "SELECT address, agent, site, start, last, requests"
                        " FROM sessions JOIN visitors ON visitors.id = visitor"
                    )
                ),
                "rejected": sorted(db.execute("SELECT offset, text, reason FROM rejected")),
            }

    return make


@pytest.fixture(scope="session")
def line() -> Callable[..., bytes]:
    """A line of a Combined log, with its newline."""

    def make(
        time: str,
        path: str = "/shop/a",
        *,
        address: str = "192.0.2.1",
        day: str = "12/May/2024",
        status: int = 200,
        size: str = "10",
        agent: str = "curl/8.7.1",
        zone: str = "+0000",
    ) -> bytes:
        return (
            f'{address} - - [{day}:{time} {zone}] "GET {path} HTTP/1.1" {status} {size} '
            f'"-" "{agent}"\n'
        ).encode()

    return make
