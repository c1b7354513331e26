"""`forecast` as people and programs read it."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from synergy import forecast
from synergy.cli import main
from synergy.core.context import Context, daily, hourly, tree
from synergy.testing.stage import fails
from tests.cli.kept import Kept, keep, this_hour


@pytest.fixture(scope="module")
def begin() -> datetime:
    return (this_hour() - timedelta(days=2)).replace(hour=0)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, begin: datetime) -> Kept:
    """Hours since two days ago, in a tree whose days wait for them; beside them days of which the
    first has failed, and what is built on those."""
    start = begin.isoformat()
    context = Context(
        tree("t", [daily("day", run="w:f"), hourly("hour", run="w:f")], start=start, lag=0),
        tree("u", [daily("bad", run="w:f", max_attempts=1)], start=start, lag=0),
        tree("v", [daily("held", run="w:f", after="bad")], start=start, lag=0),
    )
    kept = keep(tmp_path_factory.mktemp("forecast"), context, begin)
    kept.stage.until(this_hour())
    for unit in kept.stage.claim(only="hour"):
        kept.stage.clock.advance(timedelta(milliseconds=100))
        kept.stage.report(unit)
    kept.stage.report(kept.stage.claim(only="bad")[0], fails)
    kept.stage.work()
    return kept


def test_an_interval_to_come_has_its_time_its_band_and_its_chain(kept: Kept) -> None:
    tomorrow = (this_hour() + timedelta(days=1)).replace(hour=0)
    label = f"{tomorrow:%Y-%m-%d}"
    told = kept("forecast", "day", label, "--json", "--seconds", "60", "--plays", "39").json
    end = tomorrow + timedelta(days=1)
    assert told["plays"] >= 19
    assert told["band"]["chance"] >= 0.9
    assert end <= datetime.fromisoformat(told["complete"]) < end + timedelta(minutes=5)
    assert told["band"]["from"] <= told["complete"] <= told["band"]["until"]
    assert [step["process"] for step in told["path"]] == ["hour", "day"]
    assert [step["waits_for"] for step in told["path"]] == ["calendar", "step before"]
    said = kept("forecast", "day", label, "--plays", "19")
    assert said.rows[0].startswith(f"day {label} will be complete at ")
    assert said.rows[1].startswith("90% between ")
    assert "what makes the end" in said.out
    assert "plays of what comes, by what is recorded\n" in said.err
    few = kept("forecast", "day", label, "--plays", "3")
    assert "90%" not in few.out
    assert "from 3 plays of what comes, by what is recorded; too few for a band" in few.err


def test_what_never_ends_by_itself_says_what_to_do(kept: Kept, begin: datetime) -> None:
    label = f"{begin:%Y-%m-%d}"
    told = kept("forecast", "held", label)
    assert told.rows == [
        f"held {label} will never be complete, unless something is done:",
        f"  bad {label} has failed: reprocess or skip it",
    ]
    assert kept("forecast", "held", label, "--json").json["stuck"] == [told.rows[1].strip()]


def test_what_is_over_is_not_forecast(kept: Kept, begin: datetime) -> None:
    label = f"{begin:%Y-%m-%d}T00"
    assert kept("forecast", "hour", label).out.startswith(f"hour {label} is processed since ")
    told = kept("forecast", "hour", label, "--json").json
    assert (told["state"], told["plays"], told["path"], told["stuck"]) == ("processed", 0, [], [])
    assert told["complete"] < told["now"]
    open_one = kept("forecast", "hour", f"{this_hour():%Y-%m-%dT%H}", "--plays", "1", "--json").json
    assert open_one["state"] == "embryo"
    assert told.keys() == open_one.keys(), "programs read one form"


def test_since_when_it_is_over_is_not_when_it_was_marked(kept: Kept, begin: datetime) -> None:
    label = f"{begin:%Y-%m-%d}T01"
    before = kept("forecast", "hour", label).out
    kept.stage.clock.advance(timedelta(seconds=5))
    kept.stage.request("mark", "hour", label)
    after = kept("forecast", "hour", label).out
    assert after == before.rstrip("\n") + "; it is marked stale\n"


def test_the_next_starts_are_told_in_order(kept: Kept) -> None:
    told = kept("forecast", "--hours", "30", "--json").json
    starts = [start["starts"] for start in told["starts"]]
    assert starts == sorted(starts)
    assert {start["process"] for start in told["starts"]} >= {"day", "hour"}
    lines = kept("forecast", "--hours", "3").rows
    assert lines[0].split() == ["starts", "(UTC)", "ends", "process", "interval"]
    assert len(lines) - 1 >= 3


def test_who_starts_often_hides_nobody(kept: Kept) -> None:
    told = kept("forecast", "--hours", "30")
    named = [line.split()[4] if ":" in line.split()[1] else line.split()[2] for line in told.rows]
    assert named.count("hour") == 12
    assert "day" in named, "which starts after more hours than that"
    assert "the first 12 of each" in told.err
    assert kept("forecast", "--hours", "30", "--all").out.count(" hour ") >= 29


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["day"], 2, "which interval of day"),
        (["day", "2026-13-01"], 2, "2026-13-01"),
        (["dya", "2026-11-01"], 3, "did you mean day"),
        (["day", "2001-01-01"], 3, "has no interval"),
        (["day", "2026-11-01", "--hours", "3"], 2, "until it is complete"),
        (["--hours", "0"], 2, "from 1 up"),
        (["day", "9998-01-01"], 2, "reach 100 years ahead"),
        (["--hours", "876001"], 2, "reach 100 years ahead"),
        (["--hours", "9" * 12], 2, "at most 999999999"),
        (["--plays", "9" * 5000], 2, "at most 999999999"),
    ],
)
def test_what_makes_no_sense_is_refused(kept: Kept, words: list[str], code: int, said: str) -> None:
    answer = kept("forecast", *words)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err


def test_too_far_ahead_for_the_time_is_said(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10**9, 100))
    monkeypatch.setitem(forecast.foretell.__kwdefaults__, "clock", lambda: float(next(ticks)))
    far = f"{this_hour() + timedelta(days=300):%Y-%m-%d}"
    answer = kept("forecast", "day", far)
    assert (answer.code, answer.out) == (1, "")
    assert "--seconds" in answer.err


def test_a_store_without_a_timetable_is_said(tmp_path: Path) -> None:
    assert main(["forecast", "--store", f"sqlite:///{tmp_path}/none.db"], tmp_path) == 3
