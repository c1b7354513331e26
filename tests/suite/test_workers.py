"""What each worker of the suite does with one unit."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db import figures
from db.figures import Figures, Of
from db.intake import read_file
from db.traffic import StaleResult, Traffic
from synergy.core.intervals import Interval
from synergy.core.states import UnitState
from synergy.worker import Result, Work
from workers import alert, client, host, site, stream
from workers.configuration import Configuration
from workers.host import Sample, Spread
from workers.unit import granularity

Line = Callable[..., bytes]
Make = Callable[..., Work]
NOOP, PROCESSED = UnitState.NOOP, UnitState.PROCESSED
HOUR = "2024-05-12T10"


@pytest.fixture
def hour(traffic: Traffic, tmp_path: Path, line: Line) -> Path:
    """A log with one hour of two sites, read."""
    log = tmp_path / "access.log"
    log.write_bytes(
        line("10:00:00") + line("10:05:00", status=404, size="-")
        + line("10:10:00", "/blog/", agent="Mozilla/5.0 (Windows NT 10.0) Firefox/127.0")
        + line("10:59:59", status=700, size="7") + line("11:00:00")
    )  # fmt: skip
    read_file(traffic, log)
    return log


def _rows(traffic: Traffic, level: str = "hourly", label: str = HOUR) -> dict[str, Any]:
    found = figures.at(traffic.db, Of.SITE, level, label)
    return {name: its.document() for name, its in found.items()}


def test_an_hour_is_counted_by_site(
    traffic: Traffic, hour: Path, unit: Make, configuration: Configuration
) -> None:
    result = site.count(unit("site_hourly", HOUR), configuration)
    assert (result.state, result.count, result.fingerprint) == (PROCESSED, 4, None)
    assert _rows(traffic) == {
        "shop": {
            "requests": 3,
            "bytes": 17,
            "visits": 2,
            "status": {"2xx": 1, "4xx": 1, "other": 1},
            "browsers": {"curl": 3},
            "systems": {"other": 3},
        },
        "blog": {
            "requests": 1,
            "bytes": 10,
            "visits": 1,
            "status": {"2xx": 1},
            "browsers": {"firefox": 1},
            "systems": {"windows": 1},
        },
    }


def test_an_hour_without_requests_is_noop_and_has_no_rows(
    traffic: Traffic, hour: Path, unit: Make, configuration: Configuration
) -> None:
    site.count(unit("site_hourly", HOUR), configuration)
    site.roll_up(unit("site_daily", "2024-05-12"), configuration)
    traffic.db.execute("DELETE FROM events")
    traffic.db.execute("DELETE FROM sessions")
    result = site.count(unit("site_hourly", HOUR, generation=2), configuration)
    assert (result.state, result.reason) == (NOOP, "no requests in this hour")
    assert _rows(traffic) == {}
    result = site.roll_up(unit("site_daily", "2024-05-12", generation=2), configuration)
    assert result.state is NOOP
    assert _rows(traffic, "daily", "2024-05-12") == {}


def test_a_second_attempt_replaces_its_own_result(
    traffic: Traffic, hour: Path, unit: Make, configuration: Configuration
) -> None:
    for attempt in (1, 2, 2):
        site.count(unit("site_hourly", HOUR, attempt=attempt), configuration)
    assert _rows(traffic)["shop"]["requests"] == 3


@pytest.mark.parametrize(
    ("later", "late"),
    [
        ({"generation": 2}, {"generation": 1, "attempt": 9}),
        ({"attempt": 2}, {"attempt": 1}),
        ({"attempt": 10}, {"attempt": 9}),
        ({}, {"run": 3, "attempt": 2}),
        ({"run": 2}, {"run": 1, "attempt": 2}),
    ],
)
def test_an_attempt_that_was_overtaken_writes_nothing(
    traffic: Traffic,
    hour: Path,
    unit: Make,
    configuration: Configuration,
    later: dict[str, int],
    late: dict[str, int],
) -> None:
    site.count(unit("site_hourly", HOUR, **later), configuration)
    before = _rows(traffic)
    traffic.db.execute("DELETE FROM events")
    traffic.db.execute("DELETE FROM sessions")
    with pytest.raises(StaleResult, match="changed nothing"):
        site.count(unit("site_hourly", HOUR, **late), configuration)
    assert _rows(traffic) == before


def test_provisional_runs_see_what_is_there_and_the_final_one_comes_after(
    traffic: Traffic, hour: Path, line: Line, unit: Make, configuration: Configuration
) -> None:
    counts = [site.count(unit("site_hourly", HOUR, run=1), configuration).count]
    hour.write_bytes(hour.read_bytes() + line("10:58:00"))
    read_file(traffic, hour)
    counts.append(site.count(unit("site_hourly", HOUR, run=2), configuration).count)
    counts.append(site.count(unit("site_hourly", HOUR), configuration).count)
    assert counts == [4, 5, 5]


def test_the_hour_that_fails_on_purpose_does_until_it_is_healed(
    hour: Path, unit: Make, configuration: Configuration
) -> None:
    assert configuration.fail_file is not None
    Path(configuration.fail_file).write_text(f"{HOUR}\n")
    with pytest.raises(site.FailedOnPurpose, match=f"the hour {HOUR} fails on purpose"):
        site.count(unit("site_hourly", HOUR), configuration)
    site.count(unit("site_hourly", "2024-05-12T11"), configuration)
    Path(configuration.fail_file).unlink()
    assert site.count(unit("site_hourly", HOUR), configuration).state is PROCESSED


def test_children_are_chosen_by_their_start_never_by_their_label(
    traffic: Traffic, configuration: Configuration
) -> None:
    # A day of Kolkata: 18:30 UTC to 18:30 UTC; the labels of its hours are local.
    begin = datetime(2024, 5, 11, 18, 30, tzinfo=UTC)
    with traffic.writing() as db:
        for number in range(-1, 25):
            start = begin + timedelta(hours=number)
            label = (start + timedelta(hours=5, minutes=30)).strftime("%Y-%m-%dT%H")
            figures.replace(db, Of.SITE, "hourly", label, start, {"shop": Figures(requests=1)})
    day = Interval(start=begin, end=begin + timedelta(days=1), label="2024-05-12")
    assert site.roll_up(Work(process="site_daily", interval=day), configuration).count == 24


@pytest.mark.parametrize(
    ("label", "arguments", "name"),
    [
        ("2024", {}, "yearly"),
        ("2024-Q2", {}, "quarterly"),
        ("2024-05", {}, "monthly"),
        ("2024-W20", {}, "weekly"),
        ("2024-05-12", {}, "daily"),
        (HOUR, {}, "hourly"),
        ("2024-10-27T02+02:00", {}, "hourly"),
        ("2024-05-12T10:30", {}, "minutely"),
        ("2024-05-12T09/PT3H", {"granularity": "three_hourly"}, "three_hourly"),
    ],
)
def test_a_label_tells_its_granularity(label: str, arguments: dict[str, str], name: str) -> None:
    start = datetime(2024, 5, 12, tzinfo=UTC)
    interval = Interval(start=start, end=start + timedelta(hours=1), label=label)
    assert granularity(Work(process="p", interval=interval, arguments=arguments)) == name


def test_a_label_that_does_not_tell_asks_for_the_argument() -> None:
    start = datetime(2024, 5, 12, tzinfo=UTC)
    interval = Interval(start=start, end=start + timedelta(hours=3), label="2024-05-12T00/PT3H")
    with pytest.raises(ValueError, match="give the process the argument `granularity`"):
        granularity(Work(process="p", interval=interval))


def test_clients_own_sites_and_the_others_belong_to_nobody(
    traffic: Traffic, hour: Path, unit: Make, configuration: Configuration, tmp_path: Path
) -> None:
    site.count(unit("site_hourly", HOUR), configuration)
    site.roll_up(unit("site_daily", "2024-05-12"), configuration)
    clients = tmp_path / "clients.json"
    clients.write_text(json.dumps({"blog": "writers", "unknown": "x"}))
    owned = replace(configuration, clients_file=str(clients))
    assert client.roll_up(unit("client_daily", "2024-05-12"), owned).count == 4
    found = figures.at(traffic.db, Of.CLIENT, "daily", "2024-05-12")
    assert {name: its.requests for name, its in found.items()} == {"writers": 1, client.NOBODY: 3}
    assert client.roll_up(unit("client_daily", "2024-05-13"), owned).state is NOOP


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', "{", '"x"'])
def test_a_clients_file_that_is_none_says_what_it_should_be(
    unit: Make, configuration: Configuration, tmp_path: Path, content: str
) -> None:
    clients = tmp_path / "clients.json"
    clients.write_text(content)
    with pytest.raises(ValueError, match="the clients file"):
        client.roll_up(
            unit("client_daily", "2024-05-12"), replace(configuration, clients_file=str(clients))
        )


@pytest.mark.parametrize(
    ("requests", "before", "message"),
    [
        (100, 100, None),
        (199, 100, None),
        (200, 100, "200 requests, 100 a week ago: 2.0 times more"),
        (100, 250, "100 requests, 250 a week ago: 2.5 times fewer"),
        (49, 1, None),
        (50, 0, "50 requests, 0 a week ago"),
        (0, 50, "0 requests, 50 a week ago"),
    ],
)
def test_what_is_remarkable(requests: int, before: int, message: str | None) -> None:
    assert alert.judge(requests, before) == message


def test_a_day_is_compared_with_the_same_weekday_a_week_ago(
    traffic: Traffic, unit: Make, configuration: Configuration
) -> None:
    with traffic.writing() as db:
        for day, requests in ((5, 100), (11, 1000), (12, 300)):
            start = datetime(2024, 5, day, tzinfo=UTC)
            parts = {"a": Figures(requests=requests - 10), "b": Figures(requests=10)}
            figures.replace(db, Of.SITE, "daily", f"2024-05-{day:02}", start, parts)
    assert alert.compare(unit("alert_daily", "2024-05-11"), configuration).state is NOOP
    for attempt in (1, 2):
        work = unit("alert_daily", "2024-05-12", attempt=attempt)
        assert alert.compare(work, configuration).count == 1
    query = "SELECT label, requests, requests_before FROM alerts"
    assert traffic.db.execute(query).fetchall() == [("2024-05-12", 300, 100)]
    traffic.db.execute("UPDATE figures SET requests = 60 WHERE label = '2024-05-12'")
    again = unit("alert_daily", "2024-05-12", generation=2)
    assert alert.compare(again, configuration).count == 0
    assert traffic.db.execute(query).fetchall() == []
    # Its traffic has vanished: no figures at all, and 1000 a week before.
    assert alert.compare(unit("alert_daily", "2024-05-18"), configuration).count == 1


def _sample(taken: datetime, cpu: float, received: int) -> Sample:
    return Sample(taken.timestamp(), cpu, 50.0, 0.5, 0, 0, received, 0)


def test_samples_of_an_open_minute_are_summed_up_when_it_closed(
    traffic: Traffic, unit: Make, configuration: Configuration
) -> None:
    label = (datetime.now(UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M")
    start = unit("host_minutely", label).interval.start
    taken = [_sample(start, 10, 1000), _sample(start + timedelta(seconds=10), 30, 3000)]
    for run, one in enumerate(taken, 1):
        work = unit("host_minutely", label, run=run)
        assert host.sample(work, configuration, look=iter([one]).__next__).count == 1
    assert host.sample(unit("host_minutely", label), configuration).count == 2
    query = "SELECT low, mean, high, samples FROM host_figures WHERE granularity = ? AND metric = ?"
    assert traffic.db.execute(query, ("minutely", "cpu")).fetchall() == [(10, 20, 30, 2)]
    rates = traffic.db.execute(query, ("minutely", "net_received_rate")).fetchall()
    assert rates == [(200, 200, 200, 1)]

    for level, text in (("hourly", label[:13]), ("daily", label[:10])):
        assert host.roll_up(unit(f"host_{level}", text), configuration).count == 2
        assert traffic.db.execute(query, (level, "cpu")).fetchall() == [(10, 20, 30, 2)]


def test_a_minute_without_samples_is_noop(unit: Make, configuration: Configuration) -> None:
    label = (datetime.now(UTC) - timedelta(minutes=2)).strftime("%Y-%m-%dT%H:%M")
    assert host.sample(unit("host_minutely", label), configuration).state is NOOP
    assert host.roll_up(unit("host_hourly", label[:13]), configuration).state is NOOP


def test_figures_outlive_their_samples(
    traffic: Traffic, unit: Make, configuration: Configuration
) -> None:
    traffic.db.execute(
        "INSERT INTO host_figures VALUES ('minutely', '2024-05-12T10:30', 'cpu', 1, 1, 1, 1, 1)"
    )
    work = unit("host_minutely", "2024-05-12T10:30", generation=2)
    assert "figures stay" in host.sample(work, configuration).reason
    assert traffic.db.execute("SELECT count(*) FROM host_figures").fetchone() == (1,)


def test_counters_that_begin_anew_give_no_rate() -> None:
    start = datetime(2024, 5, 12, tzinfo=UTC)
    found = host.summarise(
        [_sample(start + timedelta(seconds=n), 1, counter) for n, counter in enumerate((90, 5, 6))]
    )
    assert found["net_received_rate"] == Spread(1, 1, 1, 1)


def test_this_machine_can_be_sampled() -> None:
    one = host.look()
    assert 0 <= one.cpu <= 100
    assert 0 < one.memory < 100


def test_the_stream_worker_reads_the_logs_of_the_settings_and_says_what_it_met(
    unit: Make, configuration: Configuration, tmp_path: Path, line: Line
) -> None:
    log = tmp_path / "access.log"
    said: list[tuple[float, float | None, str]] = []
    conf = replace(configuration, log_files=(str(log),))

    def read(**arguments: Any) -> Result:
        return stream.read(
            replace(unit("stream", "2024"), arguments=arguments, _report=said.append), conf
        )

    assert "there is no such file" in read().reason
    log.write_bytes(line("10:00:00") * 3 + line("10:00:01")[:-1])
    assert read().count == 3
    assert said[-1][2] == "access.log"
    assert read().reason == "the logs have nothing new"
    assert read(complete=True).count == 1
    assert read(files=[str(tmp_path / "other.log")]).state is NOOP
    assert stream.read(unit("stream", "2024"), configuration).reason == "no log files are named"


def test_the_source_of_an_interval_is_its_first_and_last_event(
    hour: Path, unit: Make, configuration: Configuration
) -> None:
    interval = unit("p", HOUR).interval
    start = int(interval.start.timestamp())
    assert stream.keys(interval, configuration) == (start, start + 3599)
    assert stream.keys(unit("p", "2024-05-13").interval, configuration) is None
