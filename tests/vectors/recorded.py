"""The recorded cases of other projects' suites, each a pytest case of its own name.

A case is named by its file and its place in it, `synergy_tree:03`. The recordings themselves stay
outside the repository (`SYNERGY_TEST_DATA`); what is committed are the tests, and in `bettered` the
few answers in which we differ on purpose.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.bettered import BETTERED, not_ours

FOLDER = (
    Path(os.environ.get("SYNERGY_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared"))
    / "vectors"
)

#: Names of all cases that were handed to a test.
HANDED: set[str] = set()


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded case."""

    name: str
    vector: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.vector[key]

    def compare(self, ours: object, recorded: object) -> None:
        """Require that we answer as recorded or, where we do better, as the table says."""
        better = BETTERED.get(self.name)
        if better is None:
            assert ours == recorded
        else:
            assert better.ours != recorded, f"{self.name} is no exception any more"
            assert ours == better.ours


@cache
def document(file: str) -> dict[str, Any]:
    """A whole file."""
    found: dict[str, Any] = json.loads((FOLDER / f"{file}.json").read_text())
    return found


@cache
def cases(file: str) -> tuple[Case, ...]:
    """All cases of a file, in its order."""
    content = document(file)
    if "levels" in content:
        vectors = [
            {"op": level["level"], **expected}
            for level in content["levels"]
            for expected in level["expected"]
        ]
    else:
        vectors = content["vectors"]
    return tuple(Case(f"{file}:{place:02}", vector) for place, vector in enumerate(vectors))


def each(file: str, *ops: str) -> Callable[..., Any]:
    """Hand every case of a file (of these operations) to the test, except those not ours."""
    if not FOLDER.exists():
        # The fixture `vectors_are_there` skips it, or fails it where CI runs.
        return pytest.mark.parametrize("case", [Case(file, {})], ids=[file])
    found = [
        case
        for case in cases(file)
        if (not ops or case["op"] in ops) and not_ours(file, case.vector) is None
    ]
    HANDED.update(case.name for case in found)
    return pytest.mark.parametrize(
        "case", found, ids=[f"{case.name}-{case.vector.get('op', 'case')}" for case in found]
    )
