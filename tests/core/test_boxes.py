"""Which boxes a name or a pattern means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.core.boxes import admits, is_pattern, may_meet

PIECES = st.lists(st.sampled_from(["a", "b", "1", "-", "*", "?", "[ab]", "[!a]"]), min_size=1)
PATTERNS = st.lists(PIECES.map("".join), max_size=3).map(tuple)
BOXES = st.text("ab1-", min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("patterns", "box", "meant"),
    [
        ((), "db-1", True),
        (("db-1",), "db-1", True),
        (("db-1",), "db-10", False),
        (("db-1",), "DB-1", False),
        (("db-*",), "db-", True),
        (("db-?",), "db-12", False),
        (("web-1", "db-[0-9]"), "db-7", True),
        (("db-[!7]",), "db-7", False),
        (("*",), "anything", True),
    ],
)
def test_a_box_is_meant(patterns: tuple[str, ...], box: str, meant: bool) -> None:
    assert admits(patterns, box) is meant


@pytest.mark.parametrize("text", ["", " ", "db 1", "a/b", "[", "a]", "[]", "db-[1", "é", "a\n"])
def test_what_no_box_bears_is_no_pattern(text: str) -> None:
    assert not is_pattern(text)


@given(PATTERNS, PATTERNS, BOXES)
def test_two_bindings_that_share_a_box_may_meet(
    one: tuple[str, ...], other: tuple[str, ...], box: str
) -> None:
    assert may_meet(one, other) == may_meet(other, one)
    if admits(one, box) and admits(other, box):
        assert may_meet(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a",), ("b",)), (("a", "b"), ("c*",)), (("a*",), ("b", "c"))],
)
def test_names_that_the_other_does_not_mean_never_meet(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    assert not may_meet(one, other)
