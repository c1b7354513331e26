"""Plots of characters: nothing is left out, and nothing looks larger than it is."""

import pytest

from synergy.cli.plot import columns


def test_the_axis_begins_at_zero_and_ends_at_the_largest() -> None:
    lines = columns("ran", [("a", 10.0), ("b", 5.0), ("c", None), ("d", 0.1), ("e", 0.0)], 40, 4)
    assert lines == [
        "ran, each column an interval",
        "10 s |###",
        "     |###",
        "     |######",
        "     |######   ......",
        "   0 +---------------",
        "      a             e",
    ]


@pytest.mark.parametrize("number", [1, 2, 7, 30, 31, 59, 60, 61, 1000])
@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_it_fits_the_width_and_shows_the_longest(number: int, width: int) -> None:
    for longest in {0, number // 2, number - 1}:
        points = [(f"{n:03}", 100.0 if n == longest else 1.0) for n in range(number)]
        lines = columns("ran", points, width)
        drawn = [line for line in lines[1:-1] if "|" in line]
        assert all(len(line) <= max(width, 24) for line in lines[1:-1])
        assert "#" in drawn[0], "the longest is seen"


def test_of_nothing_there_is_no_plot() -> None:
    assert columns("ran", [], 80) == []
    assert columns("ran", [("a", None)], 80) == []
