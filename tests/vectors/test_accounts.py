"""Every recorded case is accounted for: tested here, tested elsewhere, or not ours for a reason."""

import importlib
from collections import Counter
from pathlib import Path

import pytest

from tests.vectors.bettered import BETTERED, ELSEWHERE, NOT_OURS, NOT_OURS_AT_ALL, NotOurs, not_ours
from tests.vectors.recorded import FOLDER, HANDED, cases

PROJECT = Path(__file__).resolve().parents[2]
FILES = sorted(path.stem for path in FOLDER.glob("*.json"))


def handed() -> set[str]:
    """The names of all cases that the modules beside this one test."""
    for module in Path(__file__).parent.glob("test_*.py"):
        importlib.import_module(f"tests.vectors.{module.stem}")
    return HANDED


def test_there_are_recordings() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES)
def test_every_case_is_tested_or_is_not_ours(file: str) -> None:
    tested = {name for name in handed() if name.startswith(f"{file}:")}
    if file in ELSEWHERE:
        assert not tested
        assert f'vectors("{file}")' in (PROJECT / ELSEWHERE[file]).read_text()
        return
    if file in NOT_OURS_AT_ALL:
        assert not tested
        return
    untested = [
        case.name
        for case in cases(file)
        if (case.name in tested) == (not_ours(file, case.vector) is not None)
    ]
    assert not untested
    counted = Counter(
        "not ours" if case.name not in tested else "bettered" if case.name in BETTERED else "agreed"
        for case in cases(file)
    )
    print(file, dict(counted))


def test_every_exception_is_tested() -> None:
    assert BETTERED.keys() <= handed()


@pytest.mark.parametrize("rule", NOT_OURS, ids=[rule.because[:40] for rule in NOT_OURS])
def test_every_rule_of_what_is_not_ours_is_about_something(rule: NotOurs) -> None:
    assert any(not_ours(rule.file, case.vector) is rule for case in cases(rule.file))
