"""`promises`, and what `status` and `jobs --late` say of them."""

import csv
import io
from datetime import datetime, timedelta

import pytest

from synergy.core.context import Context, daily, hourly, tree
from tests.cli.kept import Kept, keep, this_hour


@pytest.fixture(scope="module")
def begin() -> datetime:
    return this_hour() - timedelta(hours=6)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, begin: datetime) -> Kept:
    """Six hours: three in time, one too late, two not yet; the day promises something, too."""
    start = begin.isoformat()
    context = Context(
        tree(
            "t",
            [
                daily("day", run="w:f", complete_by="06:00"),
                hourly("hour", run="w:f", complete_by=1800),
            ],
            start=start,
            lag=0,
        ),
        tree("u", [hourly("free", run="w:f")], start=start, lag=0),
    )
    kept = keep(tmp_path_factory.mktemp("promises"), context, begin)
    for hour in (1, 2, 3):
        kept.stage.until(begin + timedelta(hours=hour))
        kept.stage.work()
    kept.stage.until(begin + timedelta(hours=4, minutes=40))
    kept.stage.work(only="hour")
    kept.stage.until(this_hour() + timedelta(minutes=29))
    return kept


def label(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H}"


def test_promises_tells_what_is_open_and_what_was(kept: Kept, begin: datetime) -> None:
    told = kept("promises", "hour", "--json").json
    assert told["processes"] == [
        {"process": "hour", "complete_by": None, "complete_within": 1800.0, "zone": "UTC"}
    ]
    late, missed, risky = told["promises"]
    assert (late["interval"], late["state"], late["open"]) == (
        label(begin + timedelta(hours=3)),
        "broken, complete now",
        False,
    )
    assert (missed["state"], missed["warned"] < missed["broken"] == missed["promised"]) == (
        "broken",
        True,
    )
    assert (risky["state"], risky["broken"], risky["open"]) == ("at risk", None, True)
    lines = kept("promises", "hour").rows
    assert lines[1].split() == ["hour", "30", "min", "after", "the", "end", "of", "the", "interval"]
    assert [line.split()[0] for line in lines[3:]] == ["process", "hour", "hour", "hour"]
    assert "forecast hour" in kept("promises", "hour").err


def test_status_counts_them(kept: Kept) -> None:
    told = kept("status", "--json").json["promises"]
    assert [(one["process"], one["state"]) for one in told] == [
        ("hour", "broken"),
        ("hour", "at risk"),
    ]
    (line,) = [line for line in kept("status").rows if line.startswith("promises")]
    assert line.startswith("promises   1 broken, 1 at risk: ")


def test_late_jobs_are_those_that_broke_their_promise_or_will(kept: Kept, begin: datetime) -> None:
    rows = [*csv.DictReader(io.StringIO(kept("jobs", "hour", "--late", "--csv").out, newline=""))]
    assert [row["interval"] for row in rows] == [
        label(begin + timedelta(hours=hour)) for hour in (4, 5)
    ]
    assert rows[0]["reason"].startswith("broken, promised by ")
    assert rows[1]["reason"].startswith("at risk, promised by ")


def test_without_promises_it_says_how_to_make_one(kept: Kept) -> None:
    assert "complete_by" in kept("promises", "free").err
    assert kept("promises", "nothing").code == 3
