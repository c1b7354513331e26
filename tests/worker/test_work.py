"""The public names for those who write workers, and those for their tests."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from synergy.core.intervals import BadLabel, Calendar, Granularity
from synergy.core.states import UnitState
from synergy.testing.work import work
from synergy.worker import GiveUp, Retry, Work, noop, processed
from synergy.worker.work import fence_text


class Index:
    """A whole number of somebody else's making, as numpy has them."""

    def __index__(self) -> int:
        return 7


def test_a_result_says_what_came_of_it() -> None:
    result = processed(count=Index(), fingerprint="abc")
    assert (result.state, result.count, result.fingerprint) == (UnitState.PROCESSED, 7, "abc")
    assert (noop("quiet").state, noop("quiet").reason) == (UnitState.NOOP, "quiet")


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": -1},
        {"count": 2**63},
        {"count": 1.5},
        {"count": "3"},
        {"fingerprint": 3},
        {"fingerprint": "x" * 501},
    ],
)
def test_a_result_that_no_store_could_keep_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        processed(**wrong)


@pytest.mark.parametrize(
    ("after", "wait"),
    [(None, None), (90, timedelta(seconds=90)), (timedelta(hours=1), timedelta(hours=1))],
)
def test_a_retry_names_its_wait(after: Any, wait: timedelta | None) -> None:
    assert Retry("not yet", after=after).after == wait


@pytest.mark.parametrize("after", [-1, timedelta(days=400), float("nan"), 1e9])
def test_a_wait_that_makes_no_sense_is_refused(after: Any) -> None:
    with pytest.raises(ValueError):
        Retry(after=after)


def test_errors_keep_their_reason() -> None:
    assert str(GiveUp("no such site")) == GiveUp("no such site").reason == "no such site"


def test_arguments_are_a_copy_that_cannot_be_written() -> None:
    given = {"sites": ["a"]}
    mine = work("p", "2026-11-20", **given)
    given["sites"].append("b")
    assert mine.arguments == {"sites": ["a"]}
    with pytest.raises(TypeError):
        mine.arguments["sites"] = []  # type: ignore[index]


def test_later_attempts_have_greater_fences() -> None:
    order = [
        (1, 1, 1),
        (1, 1, 2),
        (1, 2, 1),
        (1, 10, 1),
        (1, 0, 1),
        (1, 0, 10),
        (2, 1, 1),
        (10, 0, 1),
    ]
    assert all(fence_text(*one) < fence_text(*next_) for one, next_ in pairwise(order))


@pytest.mark.parametrize(
    ("label", "granularity"),
    [
        ("2026-11-20T17", Granularity.HOURLY),
        ("2026-11-20T15/PT3H", Granularity.HOURLY),
        ("2026-11-20T17:30/PT30M", Granularity.MINUTELY),
        ("2026-11-20", Granularity.DAILY),
        ("2026-W47", Granularity.WEEKLY),
        ("2026-11", Granularity.MONTHLY),
        ("2026-11/P2M", Granularity.MONTHLY),
        ("2026-Q4", Granularity.QUARTERLY),
        ("2026", Granularity.YEARLY),
    ],
)
def test_a_label_tells_its_granularity(label: str, granularity: Granularity) -> None:
    inferred = work("p", label).interval
    assert inferred == work("p", label, granularity=granularity.value).interval
    assert label.startswith(inferred.label)


@pytest.mark.parametrize("label", ["2026112017", "2026-11-20T17:30", "yesterday", ""])
def test_a_label_that_does_not_tell_is_refused_with_the_remedy(label: str) -> None:
    with pytest.raises(BadLabel, match="name its granularity"):
        work("p", label)


def test_what_cannot_be_inferred_can_be_named() -> None:
    assert work("p", "2026112017", granularity="hourly").interval.label == "2026-11-20T17"
    quarters = Calendar(Granularity.MINUTELY, 15, "Europe/Berlin")
    mine = work("p", "2026-11-20T17:30", calendar=quarters)
    assert mine.interval.duration == timedelta(minutes=15)
    assert work("p", "2026-11-20", zone="Europe/Berlin").interval.start.hour == 23


def test_tested_work_is_work_and_remembers_progress() -> None:
    mine = work("p", "2026-11-20", generation=2, attempt=3, provisional=True, source="s")
    mine.progress(1)
    mine.progress(2, 4, "two\nlines  of " + "x" * 500)
    assert isinstance(mine, Work)
    assert (mine.key, mine.provisional, mine.source) == ("p@2026-11-20#2.1", True, "s")
    assert mine.recorded[0] == (1.0, None, "")
    assert mine.recorded[1][:2] == (2.0, 4.0)
    assert len(mine.recorded[1][2]) == 200


@pytest.mark.parametrize("done", [float("nan"), float("inf"), "half"])
def test_progress_is_a_number(done: Any) -> None:
    with pytest.raises(ValueError):
        work("p", "2026-11-20").progress(done)
