"""Pools: so many units of all members at once, the highest priority first, then the oldest."""

from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core.admission import Counted, LimitReached, PoolFull, obstacles
from synergy.core.context import Context, daily, freerun, hourly, tree
from synergy.core.model import Unit
from synergy.testing.stage import Stage, fails, processes

DAY: dict[str, Any] = {"start": "2026-11-18", "until": "2026-11-19", "lag": 0}


def stage_of(*declared: Any, at: str = "2026-11-20T00:00Z", **pools: int) -> Stage:
    return Stage(Context(*declared, pools=pools), at=at)


def hours(name: str, **options: Any) -> Any:
    return tree(f"t-{name}", [hourly(name, run="w:f", **{"pool": "db", **options})], **DAY)


def keys(units: list[Unit]) -> list[str]:
    return [unit.key for unit in units]


def out(stage: Stage, *names: str) -> int:
    return sum(unit.process in names for unit in stage.store.active_units())


def test_the_members_of_a_pool_share_its_places() -> None:
    stage = stage_of(hours("a"), hours("b"), hours("c", pool=None), db=3)
    assert out(stage, "a", "b") == 3
    assert out(stage, "c") == 24, "it is no member"
    units = stage.claim(only="a")
    stage.report(units[0])
    assert out(stage, "a", "b") == 3, "the place that was left was given to another"


def test_a_free_place_goes_to_the_oldest_interval_of_whatever_member() -> None:
    stage = stage_of(hours("a"), hours("b"), db=1)
    order = []
    while units := stage.claim():
        order += keys(units)
        stage.report(units[0])
    assert order[:4] == [
        "a@2026-11-18T00#1",
        "b@2026-11-18T00#1",
        "a@2026-11-18T01#1",
        "b@2026-11-18T01#1",
    ]
    assert len(order) == 48


def test_a_free_place_goes_to_the_highest_priority_first() -> None:
    later = tree(
        "late", [daily("late", run="w:f", pool="db", priority=1)], start="2026-11-18", lag=0
    )
    stage = stage_of(hours("a"), later, at="2026-11-18T23:59Z", db=2)
    assert out(stage, "a") == 2
    stage.until("2026-11-19T00:00Z")
    assert out(stage, "late") == 0, "what is out is not taken back"
    stage.report(stage.claim()[0])
    assert out(stage, "late") == 1
    assert out(stage, "a") == 1


def test_a_limit_of_its_own_holds_within_the_pool() -> None:
    stage = stage_of(hours("a", parallel=1), hours("b"), db=3)
    assert out(stage, "a") == 1
    assert out(stage, "b") == 2


def test_a_member_that_was_given_up_leaves_its_place() -> None:
    stage = stage_of(hours("a", max_attempts=1), db=1)
    for _ in range(24):
        stage.report(stage.claim()[0], fails)
    assert out(stage, "a") == 0
    assert stage.state("a", "2026-11-18T23") == "failed"


def test_provisional_runs_and_measuring_take_places() -> None:
    open_ended = {"machine": "recomputing", "source": "s", "every": "every 60"}
    stage = Stage(
        Context(
            tree("x", [hourly("x", run="w:f", pool="db", **open_ended)], **DAY),
            tree("y", [hourly("y", run="w:f", pool="db", **open_ended)], **DAY),
            sources={"s": "w:k"},
            pools={"db": 1},
        ),
        at="2026-11-18T00:10Z",
    )
    assert keys(stage.claim()) == ["x@2026-11-18T00#1.1"]
    assert stage.claim() == []
    (held,) = stage.store.active_units()
    stage.report(held)
    assert keys(stage.claim()) == ["y@2026-11-18T00#1.1"]


def test_a_firing_waits_for_its_place_and_has_its_turn_by_priority() -> None:
    fires = freerun("f", at="every 3600", run="w:f", pool="db", priority=1, start="2026-11-20")
    stage = stage_of(hours("a"), fires, db=1)
    stage.until("2026-11-20T03:30Z")
    assert out(stage, "f") == 0
    stage.report(stage.claim()[0])
    assert out(stage, "f") == 1
    (unit,) = stage.claim()
    assert unit.interval.start == datetime.fromisoformat("2026-11-20T03:00Z"), "the latest one"
    stage.report(unit)
    assert out(stage, "a") == 1


def test_a_firing_that_is_triggered_into_a_full_pool_is_refused_with_the_reason() -> None:
    stage = stage_of(hours("a"), freerun("f", at="every 3600", run="w:f", pool="db"), db=1)
    refused = stage.request("trigger", "f")
    assert refused.answer["why"] == (
        "pool db is full: 1 unit is out (1 of a), and no more than 1 may be"
    )


def test_what_is_out_is_counted_again_by_the_next_scheduler() -> None:
    stage = stage_of(hours("a"), hours("b"), db=2)
    stage.claim(limit=1)
    stage.restart()
    assert out(stage, "a", "b") == 2


def test_the_reasons_are_told_from_what_is_active() -> None:
    stage = stage_of(hours("a", parallel=1), hours("b"), db=3)
    view = Counted(stage.catalog, {}, stage.store.active_jobs())
    assert [*obstacles(view, "a")] == [
        LimitReached("a", 1, 1),
        PoolFull("db", 3, (("a", 1), ("b", 2))),
    ]
    assert [str(each) for each in obstacles(view, "a")] == [
        "1 unit of a is out, and no more than 1 may be",
        "pool db is full: 3 units are out (1 of a, 2 of b), and no more than 3 may be",
    ]


@settings(max_examples=40, deadline=None)
@given(
    limits=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    members=st.lists(
        st.fixed_dictionaries(
            {
                "pool": st.sampled_from(["p", "q", None]),
                "priority": st.integers(0, 2),
                "parallel": st.sampled_from([None, 1, 2]),
                "machine": st.sampled_from(["discrete", "continuous"]),
                "max_attempts": st.integers(1, 2),
            }
        ),
        min_size=2,
        max_size=4,
    ),
    choices=st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=60),
)
def test_never_more_are_out_than_may_be_and_everything_is_done_in_the_end(
    limits: tuple[int, int], members: list[dict[str, Any]], choices: list[tuple[int, bool, bool]]
) -> None:
    pools = dict(zip("pq", limits, strict=True))
    trees = [
        tree(
            f"t{number}",
            [
                daily(f"d{number}", run="w:f"),
                hourly(f"h{number}", run="w:f", grouping=6, **options),
            ],
            **DAY,
        )
        for number, options in enumerate(members)
    ]
    stage = Stage(Context(*trees, pools=pools), at="2026-11-18T07:00Z")

    def check() -> None:
        units = stage.store.active_units()
        for pool, limit in pools.items():
            inside = stage.catalog.members[pool]
            assert sum(unit.process in inside for unit in units) <= limit

    check()
    for place, failing, passing in choices:
        units = stage.claim(limit=place)
        if units:
            stage.report(units[-1], fails if failing else processes)
        check()
        if passing:
            stage.advance(minutes=40)
        check()
    stage.until(max(stage.clock.now(), datetime.fromisoformat("2026-11-19T00:00Z")))
    for _ in range(200):
        stage.work()
        for unit in stage.store.active_units():
            if unit.owner is not None:
                stage.report(unit)
        check()
        failed = [job for job in stage.store.active_jobs() if job.state == "failed"]
        stage.advance(seconds=30)
        if not stage.store.active_units() and not failed:
            break
    for number in range(len(members)):
        for hour in ("00", "06", "12", "18"):
            state = stage.state(f"h{number}", f"2026-11-18T{hour}/PT6H")
            assert state.terminal
