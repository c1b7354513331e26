"""Which units are one call."""

from collections.abc import Iterable, Iterator

import pytest

from synergy.core import batches
from synergy.core.admission import DISPATCH_AHEAD
from synergy.core.batches import calls_of, followers
from synergy.core.model import Unit
from synergy.testing.contracts import a_unit, in_a_batch


def hours(calls: Iterable[Iterable[Unit]]) -> list[list[int]]:
    """By the hour of the day, which is the number of the unit."""
    return [[unit.interval.start.hour for unit in call] for call in calls]


def test_adjacent_units_are_one_call_as_far_as_the_batch_goes() -> None:
    units = [in_a_batch(number, 3) for number in (0, 1, 2, 3, 5, 6)]
    assert hours(calls_of(units)) == [[0, 1, 2], [3], [5, 6]]


def test_units_of_other_processes_come_in_between() -> None:
    units = [in_a_batch(number, 3, process) for number in range(3) for process in ("a", "b")]
    assert hours(calls_of(units)) == [[0, 1, 2], [0, 1, 2]]


def test_one_that_comes_first_for_its_priority_is_in_the_call_that_it_begins() -> None:
    units = [in_a_batch(2, priority=1), in_a_batch(1), in_a_batch(3)]
    assert hours(calls_of(units)) == [[2, 3], [1]]


@pytest.mark.parametrize(
    "second",
    [
        a_unit(1),
        in_a_batch(2),
        in_a_batch(1, attempt=2),
        in_a_batch(1, batch=9),
        in_a_batch(1, process="another"),
        in_a_batch(1, arguments={"site": "b"}),
    ],
    ids=["without a batch", "a gap", "not its first", "a new batch", "another", "arguments"],
)
def test_what_does_not_go_together_are_two_calls(second: Unit) -> None:
    assert hours(calls_of([in_a_batch(0), second])) == [[0], [second.interval.start.hour]]


def test_generation_and_run_may_differ() -> None:
    assert hours(calls_of([in_a_batch(0, generation=3), in_a_batch(1, run=2)])) == [[0, 1]]


@pytest.mark.parametrize("batch", [2, 3, 5])
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("missing", [(), (3,), (0, 4, 5)])
def test_a_claim_is_for_so_many_calls_at_most(
    batch: int, limit: int, missing: tuple[int, ...]
) -> None:
    waiting = [in_a_batch(number, batch) for number in range(12) if number not in missing]

    def behind(last: Unit) -> Iterator[Unit]:
        return (unit for unit in waiting if unit.interval.start >= last.interval.end)

    begun = waiting[:limit]
    more = followers(begun, behind)
    assert not {unit.key for unit in begun} & {unit.key for unit in more}
    calls = calls_of([*begun, *more])
    assert len(calls) <= limit
    assert max(map(len, calls)) <= batch
    last, left = calls[-1], {unit.interval.start for unit in waiting}
    assert len(last) == batch or last[-1].interval.end not in left, "it could be fuller"


def test_a_call_is_never_larger_than_what_is_out_at_once() -> None:
    assert batches.LARGEST == DISPATCH_AHEAD
