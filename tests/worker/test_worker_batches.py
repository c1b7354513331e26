"""Several intervals in one call, by real worker programs over SQLite."""

from datetime import timedelta
from pathlib import Path

import pytest

from synergy.core.states import UnitState
from synergy.history import duration, durations
from tests.worker.yard import Yard, until

AT_ONCE = timedelta(0)


def calls(yard: Yard) -> list[tuple[str, int, int]]:
    """Of each call its first interval, for how many it was, and which attempt."""
    lines = Path(yard.folder, "calls.txt").read_text().splitlines()
    return [(label, int(count), int(attempt)) for label, count, attempt in map(str.split, lines)]


def test_a_backlog_of_hours_is_worked_in_few_calls(yard: Yard) -> None:
    units = yard.backlog("loads", 100, batch=24, arguments={"folder": str(yard.folder)})
    program = yard.program()
    ended = [yard.ended(unit) for unit in units]
    assert [count for _, count, _ in calls(yard)] == [24, 24, 24, 24, 4]
    assert {unit.state for unit in ended} == {UnitState.PROCESSED}
    assert [(unit.count, unit.fingerprint) for unit in ended] == [
        (unit.interval.start.hour, unit.key) for unit in units
    ]
    assert all(unit.progress is not None for unit in ended[::24])
    for first in range(0, 100, 24):  # what the call took is shared out among them
        call = ended[first : first + 24]
        whole, shares = duration(call[0]), [took for _, took in durations(call)]
        assert whole is not None
        assert len(shares) == len(call)
        assert abs(sum(shares, AT_ONCE) - whole) < timedelta(milliseconds=1)
    assert yard.log(units[0]) == b"loads 2026-11-19T00 to 2026-11-19T23\n"
    beside = f"synergy: one call with {units[0].key}, whose log has what was printed\n"
    assert {yard.log(unit) for unit in units[1:24]} == {beside.encode()}
    assert program.stop() == 0


def test_an_interval_that_fails_is_found_alone_and_takes_no_other_with_it(yard: Yard) -> None:
    poison = "2026-11-20T06"
    said = {"folder": str(yard.folder), "poison": poison}
    units = yard.backlog("loads", 72, batch=24, arguments=said, backoff=AT_ONCE, max_attempts=2)
    yard.program()
    ended = {unit.interval.label: yard.ended(unit) for unit in units}
    bad = ended.pop(poison)
    assert (bad.state, bad.attempt, bad.failures) == (UnitState.INVALID, 3, 2)
    assert bad.reason == f"attempt 3 (the last of 2): KeyError: '{poison}'"
    assert {unit.state for unit in ended.values()} == {UnitState.PROCESSED}
    assert {unit.failures for unit in ended.values()} == {0}
    made = calls(yard)
    assert sorted(count for _, count, _ in made) == [1] * 25 + [24] * 3
    assert [attempt for label, _, attempt in made if label == poison] == [2, 3]
    assert yard.log(bad, 3).endswith(f"KeyError: '{poison}'\n".encode())


def test_one_result_is_that_of_all(yard: Yard) -> None:
    said = {"folder": str(yard.folder), "one": True}
    units = yard.backlog("loads", 5, batch=24, arguments=said)
    yard.program()
    assert {yard.ended(unit).count for unit in units} == {5}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("loads_too_few", "its worker returned 2 results for 3 intervals: one result is for all"),
        ("loads_wrongly", "its worker returned 42 (int); a worker returns processed("),
    ],
)
def test_an_answer_that_does_not_fit_fails_all(yard: Yard, entry: str, reason: str) -> None:
    units = yard.backlog(entry, 3, batch=24, backoff=timedelta(hours=1))
    yard.program()
    for unit in units:
        until(lambda unit=unit: yard.now(unit).attempt == 2)  # type: ignore[misc]
        assert yard.now(unit).reason.startswith(f"attempt 1: {reason}")


def test_a_call_is_killed_for_one_that_is_canceled_and_the_others_run_alone(yard: Yard) -> None:
    said = {"folder": str(yard.folder)}
    units = yard.backlog("Loads", 3, batch=24, arguments=said)
    program = yard.program(lease=1.5)
    until((yard.folder / "2026-11-19T00.1.pid").exists)
    assert all(map(yard.running, units))
    yard.cancel(units[1])
    until((yard.folder / "2026-11-19T00.2.pid").exists)
    (yard.folder / "go").touch()
    first, canceled, last = map(yard.ended, units)
    assert canceled.state is UnitState.CANCELED
    for unit in (first, last):
        assert (unit.state, unit.attempt, unit.failures) == (UnitState.PROCESSED, 2, 0)
        assert unit.count == 1, "alone"
    assert program.stop() == 0


def test_who_kills_the_worker_kills_none_of_the_others(yard: Yard) -> None:
    said = {"folder": str(yard.folder)}
    units = yard.backlog("Loads", 3, batch=24, arguments=said, max_attempts=1)
    program = yard.program(lease=1.5)
    until((yard.folder / "2026-11-19T00.1.pid").exists)
    program.process.kill()
    (yard.folder / "go").touch()
    for unit in units:
        yard.lose(unit)
    yard.program()
    for unit in map(yard.ended, units):
        assert (unit.state, unit.attempt, unit.failures) == (UnitState.PROCESSED, 2, 0)
