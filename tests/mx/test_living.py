"""The picture that follows the feed: always what a reading from scratch would say, and cheaper."""

import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from synergy import Context, daily, hourly, minutely, tree
from synergy.app import save_context
from synergy.core.context import to_document
from synergy.core.intervals import Calendar, Granularity
from synergy.core.states import JobState
from synergy.errors import NotFound, Unreachable
from synergy.explanation import explain
from synergy.mx.counting import number_between
from synergy.mx.living import Glance, Living
from synergy.mx.roles import Role
from synergy.reading import Reading
from synergy.stores import open_store
from synergy.testing.stage import fails, finds_nothing, processes

from .conftest import FAILED, START, Build, House


def same(house: House) -> None:
    """The picture stands as what is read anew."""
    house.console.living.look()
    with house.console.living.picture() as picture:
        anew = Reading(house.stage.store, picture.catalog)
        assert picture.timetable.active == anew.timetable.active
        for name, ledger in anew.timetable.ledgers.items():
            end = house.now + timedelta(days=400)
            assert [*picture.timetable.ledgers[name].runs(START, end)] == [
                *ledger.runs(START, end)
            ], name


@pytest.mark.parametrize("seed", range(4))
def test_it_follows_whatever_happens(build: Build, seed: int) -> None:
    house, chance = build(at="2026-11-18T12:00Z"), random.Random(seed)
    stage = house.stage
    same(house)
    for _ in range(12):
        worker = chance.choice([processes, processes, fails, finds_nothing])
        match chance.randrange(5):
            case 0:
                stage.advance(hours=chance.randrange(1, 9))
            case 1:
                stage.work(worker)
            case 2:
                stage.claim(limit=2)
            case 3:
                hour = chance.randrange(24)
                stage.request("reprocess", "site_hourly", f"2026-11-18T{hour:02}", reason="x")
            case _:
                stage.request("skip", "site_hourly", "2026-11-18T03", reason="x")
        same(house)


def test_what_is_known_is_not_read_again(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    living = house.console.living
    living.look()
    store: Any = living._store
    called: Counter[str] = Counter()

    def counted(name: str, call: Any, *words: Any) -> Any:
        called[name] += 1
        return call(*words)

    for name in ("read_ledgers", "feed", "active_jobs", "active_units", "read_jobs", "changes"):
        monkeypatch.setattr(store, name, partial(counted, name, getattr(store, name)))
    for _ in range(5):
        living.look()
    assert called == {"changes": 5}
    house.stage.advance(hours=1)
    living.look()
    assert called["read_jobs"] == 1
    assert called["read_ledgers"] == called["feed"] == called["active_jobs"] == 0


def test_pages_share_one_look(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = house.browser(Role.VIEWER)
    browser.get("/timetable")
    looks: list[int] = []
    monkeypatch.setattr(house.console.living, "_look", lambda: looks.append(1))
    for _ in range(10):
        browser.get("/timetable")
    assert looks == []
    house.pass_by(seconds=1)
    browser.get("/timetable")
    assert looks == [1]


def test_a_feed_that_is_not_told_any_more_is_no_gap(house: House) -> None:
    house.console.living.look()
    house.stage.advance(hours=3)
    house.stage.work()
    store = house.stage.store
    house.stage.scheduler._save_ledgers()
    last = store.changes(0, 100_000)[-1][0]
    store.prune_feed(last - 1)
    same(house)


def test_another_context_is_read_by_the_next_scheduler(house: House) -> None:
    living = house.console.living
    living.look()
    more = Context(tree("other", [daily("other_daily", run="w:f")], start="2026-11-18"))
    assert save_context(house.stage.store, to_document(more), 1)
    living.look()
    with living.picture() as picture:
        assert "site_daily" in picture.catalog.processes  # its scheduler still works by it
    store, now = house.stage.store, house.now
    store.drop_lease("scheduler", "stage", now)
    store.take_lease("scheduler", "another", now, now + timedelta(seconds=4))
    living.look()
    with living.picture() as picture:
        assert [*picture.catalog.processes] == ["other_daily"]


def test_a_store_that_is_away_is_told_and_comes_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    living, browser = house.console.living, house.browser(Role.VIEWER)
    living.look()
    store: Any = living._store

    def away(*_: Any) -> Any:
        raise Unreachable("s.db is locked by another program")

    with monkeypatch.context() as patch:
        patch.setattr(store, "read_lease", away)
        house.pass_by(seconds=1)
        page = browser.get("/timetable")
        text = page.get_data(as_text=True)
        assert page.status_code == 200
        assert "The store does not answer since 2026-11-20 15:30:01 UTC" in text
        assert "s.db is locked" in text
        assert "site_hourly" in text  # what was known
        for path in ("/", f"/t/site_hourly/{FAILED}", "/processes"):
            assert browser.get(path).status_code == 200, path
        assert browser.get("/requests").status_code == 503
        assert browser.get("/readyz").status_code == 503
        assert browser.get("/livez").status_code == 200
        assert browser.get("/api/v1/status").json["store"]["away_since"] == "2026-11-20T15:30:01Z"
    living.look()
    assert "does not answer" not in browser.get("/timetable").get_data(as_text=True)
    assert browser.get("/readyz").status_code == 200


def test_a_store_that_was_never_there(tmp_path: Any, house: House) -> None:
    def missing() -> Any:
        raise NotFound("there is no store at s.db")

    living = Living(missing, lambda store: None, house.stage.clock)
    with pytest.raises(NotFound), living.picture():
        pass


def test_explanations_of_the_picture_are_those_of_a_reading(house: House) -> None:
    stage = house.stage
    stage.advance(hours=2)
    stage.claim(limit=1)
    house.console.living.look()
    with house.console.living.picture() as picture:
        glance = Glance(stage.store, picture)
        reading = Reading(stage.store, picture.catalog)
        for process, label in (
            ("site_hourly", FAILED),
            ("site_hourly", "2026-11-20T15"),
            ("site_hourly", "2026-11-20T16"),
            ("site_hourly", "2026-11-21T16"),
            ("site_daily", "2026-11-19"),
            ("site_daily", "2026-11-20"),
            ("site_monthly", "2026-11"),
            ("client_daily", "2026-11-20"),
        ):
            interval = stage.interval(process, label)
            assert explain(glance, process, interval, house.now) == explain(
                reading, process, interval, house.now
            )


# counting


def test_a_roll_up_counts_what_there_is(house: House) -> None:
    stage = house.stage
    stage.request("skip", "site_hourly", "2026-11-19T05", reason="x")
    stage.advance(hours=3)
    stage.claim(limit=2)
    house.console.living.look()
    chance = random.Random(7)
    with house.console.living.picture() as picture:
        for _ in range(60):
            name = chance.choice(["site_hourly", "site_daily", "site_monthly"])
            start = START + timedelta(hours=chance.randrange(-30, 70))
            end = start + timedelta(hours=chance.randrange(1, 60))
            brute: Counter[JobState | None] = Counter()
            for interval in picture.catalog.processes[name].calendar.between(start, end):
                if interval.start >= start and picture.catalog.exists(name, interval):
                    state = picture.timetable.state(name, interval)
                    brute[state] += 1
            found = Counter(picture.counts(name, start, end))
            found[JobState.EMBRYO] += found.pop(None, 0)
            assert +found == brute, (name, start, end)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize(
    ("granularity", "grouping"),
    [
        (Granularity.MINUTELY, 1),
        (Granularity.MINUTELY, 15),
        (Granularity.HOURLY, 1),
        (Granularity.HOURLY, 3),
        (Granularity.HOURLY, 12),
        (Granularity.DAILY, 1),
        (Granularity.WEEKLY, 1),
        (Granularity.MONTHLY, 1),
        (Granularity.MONTHLY, 2),
        (Granularity.QUARTERLY, 1),
        (Granularity.YEARLY, 1),
    ],
)
def test_intervals_are_numbered_by_arithmetic(
    zone: str, granularity: Granularity, grouping: int
) -> None:
    calendar, chance = Calendar(granularity, grouping, zone), random.Random(3)
    longest = 40 if granularity is Granularity.MINUTELY else 9000
    for _ in range(6):
        # Around a change of the clock, for the short ones.
        begin = datetime(2026, chance.choice([3, 10]), 20, tzinfo=UTC) + timedelta(
            hours=chance.randrange(24 * 14)
        )
        interval = calendar.containing(begin)
        until = begin + timedelta(hours=chance.randrange(1, longest))
        end = calendar.containing(until).end
        brute = sum(1 for _ in calendar.between(interval.start, end))
        assert number_between(calendar, interval.start, end) == brute, (interval, end)
    assert number_between(calendar, interval.start, interval.start) == 0


def test_a_page_costs_the_same_with_a_long_past(build: Build) -> None:
    """Ten years of minutes, 5 million intervals: counted without being told one by one."""
    context = Context(
        tree(
            "host",
            [
                daily("host_daily", run="w:f"),
                hourly("host_hourly", run="w:f"),
                minutely("host_minutely", run="w:f"),
            ],
            start="2016-01-01",
            lag=0,
        )
    )
    house = build(context, at="2016-01-01T00:00Z")
    house.pass_by(days=3650)
    browser = house.browser(Role.VIEWER)
    for path in ("/timetable?level=year&from=2016", "/timetable?level=month", "/", "/processes"):
        page = browser.get(path)
        assert page.status_code == 200
        assert len(page.data) < 100_000
    with house.console.living.picture() as picture:
        counted = picture.counts("host_minutely", START - timedelta(days=3000), START)
        assert sum(counted.values()) == 3000 * 24 * 60


def test_it_looks_at_the_file_that_is_there(house: House) -> None:
    """The console never makes a store."""
    path = house.folder / "none.db"
    with pytest.raises(NotFound):
        open_store(f"sqlite:///{path}", create=False)
    assert not path.exists()


def test_a_summary_is_what_one_would_count(house: House) -> None:
    stage = house.stage
    stage.request("skip", "site_hourly", "2026-11-19T05", reason="x")
    stage.request("reprocess", "site_hourly", "2026-11-18T05", reason="x")
    stage.advance(days=20)
    stage.work(fails, only="site_hourly")
    house.console.living.look()
    with house.console.living.picture() as picture:
        for name, process in picture.catalog.processes.items():
            start, _ = picture.catalog.spans[name]
            states = {
                interval: picture.timetable.state(name, interval)
                for interval in process.calendar.between(start, house.now)
            }
            failed = [each for each, state in states.items() if state is JobState.FAILED]
            summary = picture.summary(name)
            assert summary.failed == len(failed)
            assert [*summary.newest_failed] == failed[::-1][:20]
            assert summary.skipped == [*states.values()].count(JobState.SKIPPED)
            finished = [each for each, state in states.items() if not state.finished]
            until = finished[0].start if finished else house.now
            assert summary.finished_until == (until if until > start else None)


def test_a_change_is_counted_in_its_month_only(build: Build, monkeypatch: Any) -> None:
    context = Context(tree("host", [hourly("host_hourly", run="w:f")], start="2016-01-01", lag=0))
    house = build(context, at="2016-01-01T01:00Z")
    house.stage.work()
    house.pass_by(days=3650)
    house.console.living.look()
    with house.console.living.picture() as picture:
        job = house.stage.job("host_hourly", "2016-01-01T00")
        later = house.stage.interval("host_hourly", "2025-06-10T00")
        picture.put(replace(job, interval=later))
        picture.summary("host_hourly")
        counted: list[datetime] = []
        count = type(picture)._counted

        def noted(self: Any, process: str, start: datetime, end: datetime) -> Any:
            counted.append(start)
            return count(self, process, start, end)

        monkeypatch.setattr(type(picture), "_counted", noted)
        newer = house.stage.interval("host_hourly", "2025-06-20T00")
        picture.put(replace(job, interval=newer))
        assert picture.summary("host_hourly").failed == 0
    assert len(counted) <= 2
    assert min(counted) >= datetime(2025, 5, 1, tzinfo=UTC)
