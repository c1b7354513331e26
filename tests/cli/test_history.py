"""`history`, and what `jobs` picks: how long work took and waited, and what is late."""

import csv
import io
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from synergy.core.context import Context, daily, freerun, hourly, tree
from synergy.core.model import Unit
from synergy.core.recovery import given_up
from synergy.reading import Reading
from synergy.testing.stage import fails
from tests.cli.kept import Kept, keep, this_hour

HOURS = 30
#: The place of the one that is repeated, of the one that fails for good, and of the slow one.
REPEATED, FAILED, SLOW = 10, 20, 15


def label(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H}"


@pytest.fixture(scope="module")
def begin() -> datetime:
    return this_hour() - timedelta(hours=HOURS + 5)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, begin: datetime) -> Kept:
    """Hours that wait two minutes for a worker and then take so many minutes as their place says;
    nothing was worked for the last five."""
    start = f"{begin:%Y-%m-%dT%H:%M}"
    hours = hourly("hour", run="w:f", max_attempts=2, backoff=60, lag=300)
    later = hourly("later", run="w:f", after="hour", lag=0)
    context = Context(
        tree("hours", [hours], start=start),
        tree("copies", [later], start=start),
        freerun("ping", run="w:f", at="every 36000", start=begin),
    )
    kept = keep(tmp_path_factory.mktemp("history"), context, begin)
    stage = kept.stage
    for place in range(HOURS):
        stage.until(begin + timedelta(hours=place + 1, minutes=7))
        minutes = 40 if place == SLOW else 1 + place % 5
        for attempt in range(2):
            (unit,) = stage.claim(only="hour")
            stage.clock.advance(timedelta(minutes=minutes))  # its worker renews its lease
            bad = place == FAILED or (place == REPEATED and attempt == 0)
            stage.report(unit, fails) if bad else stage.report(unit)
            if not bad:
                break
            stage.advance(minutes=2)
        stage.work(only="ping")
        stage.work(only="later")
    stage.until(this_hour())
    return kept


def test_each_interval_has_its_row_with_its_times(kept: Kept, begin: datetime) -> None:
    told = kept("history", "hour", "--last", "100", "--json").json
    rows = told["intervals"]
    assert len(rows) == HOURS + 4, "the fifth is not due yet by the clock of the stage"
    first = begin + timedelta(hours=1)
    assert rows[0] == {
        "process": "hour",
        "interval": label(begin),
        "state": "processed",
        "generation": 1,
        "attempts": 1,
        "due": f"{first + timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}",
        "requested": f"{first + timedelta(minutes=5):%Y-%m-%dT%H:%M:%SZ}",
        "started": f"{first + timedelta(minutes=7):%Y-%m-%dT%H:%M:%SZ}",
        "ended": f"{first + timedelta(minutes=8):%Y-%m-%dT%H:%M:%SZ}",
        "waited": 120.0,
        "queued": 120.0,
        "ran": 60.0,
    }
    assert rows[-1]["state"] == "in_progress"
    assert (rows[-1]["attempts"], rows[-1]["started"], rows[-1]["ran"]) == (0, None, None)


def test_of_several_attempts_the_first_ends_the_wait_and_the_last_is_the_run(kept: Kept) -> None:
    rows = kept("history", "hour", "--last", "100", "--json").json["intervals"]
    repeated, failed = rows[REPEATED], rows[FAILED]
    assert (repeated["attempts"], repeated["waited"], repeated["ran"]) == (2, 120.0, 60.0)
    assert (failed["state"], failed["attempts"], failed["ran"]) == ("failed", 2, 60.0)


def test_percentiles_are_values_that_there_were(kept: Kept) -> None:
    told = kept("history", "hour", "--last", "100", "--json").json
    ran = sorted(row["ran"] for row in told["intervals"] if row["ran"] is not None)
    assert told["ran"] == {
        "intervals": HOURS,
        "p50": ran[HOURS // 2 - 1],
        "p90": ran[26],
        "p99": 2400.0,
        "max": 2400.0,
    }
    assert told["waited"]["intervals"] == HOURS
    assert told["waited"]["max"] == 120.0


def test_a_range_names_its_intervals_and_what_was_never_worked_has_no_row(
    kept: Kept, begin: datetime
) -> None:
    some = f"{label(begin + timedelta(hours=3))}..{label(begin + timedelta(hours=5))}"
    rows = kept("history", "hour", some, "--json").json["intervals"]
    assert [row["interval"] for row in rows] == [
        label(begin + timedelta(hours=place)) for place in (3, 4, 5)
    ]
    future = label(begin + timedelta(hours=2000))
    assert kept("history", "hour", future, "--json").json["intervals"] == []
    assert "nothing of hour" in kept("history", "hour", future).err


def test_people_read_a_table_and_percentiles_and_plots_where_they_ask(kept: Kept) -> None:
    plain = kept("history", "hour", "--last", "20").rows
    assert plain[0].split()[:4] == ["interval", "state", "generation", "attempts"]
    assert len(plain) == 1 + 20 + 1 + 4, "no plot in a pipe"
    assert plain[-1].split()[:1] == ["ran"]
    assert "40 min" in plain[-1]
    drawn = kept("history", "hour", "--last", "20", "--plot").rows
    assert "ran, each column an interval" in drawn
    axis = drawn[drawn.index("ran, each column an interval") + 9]
    assert axis.strip().startswith("0 +---")


def test_a_freeruns_firings_have_a_history_and_no_ranges(kept: Kept, begin: datetime) -> None:
    rows = kept("history", "ping", "--json").json["intervals"]
    end = begin + timedelta(hours=HOURS + 5)
    # It fires at each tenth hour of all time: by the hour of the day there are three, or four.
    assert len(rows) == end.timestamp() // 36000 - begin.timestamp() // 36000
    assert all(row["waited"] is not None for row in rows[:3])
    refused = kept("history", "ping", "2026-11-20")
    assert (refused.code, "has firings" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hour", "2026", "--last", "3"], "not both"),
        (["hour", "--json", "--csv"], "not both"),
        (["hour", "--last", "0"], "from 1 up"),
        (["hour", "--last", "9" * 20], "at most 999999999"),
    ],
)
def test_what_makes_no_sense_is_refused(kept: Kept, words: list[str], said: str) -> None:
    answer = kept("history", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


# jobs


def test_jobs_since_an_instant_or_so_long_ago(kept: Kept, begin: datetime) -> None:
    since = begin + timedelta(hours=HOURS)
    told = kept("jobs", "hour", "--since", f"{since:%Y-%m-%dT%H:%M}", "--json").json
    assert told[0]["interval"] == label(since), "the one that ended then is over"
    ago = kept("jobs", "hour", "--since", "4h", "--json").json
    assert 5 <= len(ago) <= 6
    assert kept("jobs", "--since", "100000d", "hour", "--json").json[0]["interval"] == label(begin)
    refused = kept("jobs", "--since", "yesterday")
    assert refused.code == 2
    assert "90min" in refused.err


@pytest.mark.parametrize("since", ["999999w", "0001-01-01", "9999-12-31T23:30"])
def test_no_instant_is_too_early_or_too_late(kept: Kept, since: str) -> None:
    rows = kept("jobs", "hour", "--since", since, "--json").json
    assert bool(rows) == (not since.startswith("9999-"))


def test_late_is_what_is_unfinished_and_due_for_twice_as_long_as_usual(
    kept: Kept, begin: datetime
) -> None:
    late = kept("jobs", "--late", "--json").json
    hours = [job["interval"] for job in late if job["process"] == "hour"]
    # The median hour ends five minutes after it was due; the last one ended at most an hour ago.
    expected = [label(begin + timedelta(hours=place)) for place in (FAILED, *range(30, 34))]
    assert hours in (expected, [*expected, label(begin + timedelta(hours=34))])
    states = [job["state"] for job in late if job["process"] == "hour"]
    assert states[:5] == ["failed", *["in_progress"] * 4]
    held = [job for job in late if job["process"] == "later"]
    assert held[0]["interval"] == label(begin + timedelta(hours=FAILED))


def test_what_is_late_is_found_without_looking_at_what_is_over(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    original = Reading._row

    def counted(self: Reading, *rest: object) -> object:
        made.append(rest)
        return original(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Reading, "_row", counted)
    for words in (["--late"], ["--state", "failed"]):
        made.clear()
        kept("jobs", "hour", *words, "--json")
        assert len(made) == 7, "the failed one, the five that wait, and the open hour"


def test_csv_has_a_line_of_headings_and_is_read_back(kept: Kept) -> None:
    answer = kept("jobs", "hour", "--csv")
    assert answer.out.endswith("\r\n")
    rows = [*csv.DictReader(io.StringIO(answer.out, newline=""))]
    assert len(rows) == HOURS + 6, "the open hour among them"
    failed = rows[FAILED]
    assert (failed["state"], failed["stale"]) == ("failed", "false")
    assert "the last of 2" in failed["reason"]
    history = [*csv.DictReader(io.StringIO(kept("history", "hour", "--csv").out, newline=""))]
    assert (history[-1]["ran"], history[0]["queued"]) == ("", "120.0")


def test_nothing_found_says_whether_there_is_nothing_or_nothing_like_it(kept: Kept) -> None:
    asked = kept("jobs", "hour", "--state", "skipped")
    assert (asked.code, asked.out, asked.err) == (0, "", "no job is as asked for\n")
    assert kept("jobs", "ping", "--since", "0s").err == "no job is as asked for\n"


def test_csv_of_nothing_has_its_headings(kept: Kept, begin: datetime) -> None:
    later = label(this_hour() + timedelta(days=3))
    full, empty = kept("history", "hour", "--csv"), kept("history", "hour", later, "--csv")
    assert empty.out == full.out[: len(empty.out)]
    assert empty.out.startswith("process,interval,")


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    evil = "=HYPERLINK(1)"

    def worker(unit: Unit, now: datetime) -> Unit:
        return given_up(unit, now, evil)

    begin = this_hour() - timedelta(days=2)
    day = daily("day", run="w:f")
    kept = keep(tmp_path, Context(tree("t", [day], start=f"{begin:%Y-%m-%d}", lag=0)), begin)
    kept.stage.until(this_hour())
    kept.stage.work(worker)
    rows = [*csv.DictReader(io.StringIO(kept("jobs", "--csv").out, newline=""))]
    assert {row["reason"] for row in rows if row["state"] == "failed"} == {f"'{evil}"}
