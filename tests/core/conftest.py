"""Recorded cases of other projects' test suites, read from outside the repository."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Vectors = Callable[[str], list[dict[str, Any]]]

DATA = Path(
    os.environ.get("SYNERGY_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared")
)


@pytest.fixture(scope="session")
def vectors() -> Vectors:
    """Read the cases of one file: skipped without the data, except in CI, where that fails."""

    def read(name: str) -> list[dict[str, Any]]:
        path = DATA / "vectors" / f"{name}.json"
        if not path.exists():
            missing = f"{path} is missing; SYNERGY_TEST_DATA names the folder that has it"
            pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
        cases: list[dict[str, Any]] = json.loads(path.read_text())["vectors"]
        return cases

    return read
