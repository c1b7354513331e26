"""Without the recordings nothing here is tested: said by a skip, and in CI by a failure."""

import os

import pytest

pytest.register_assert_rewrite("tests.vectors.recorded")

from tests.vectors.recorded import FOLDER  # noqa: E402


@pytest.fixture(autouse=True)
def vectors_are_there() -> None:
    """Skip without the recorded vectors, except in CI, where their absence is a failure."""
    if not FOLDER.exists():
        missing = f"{FOLDER} is missing; SYNERGY_TEST_DATA names the folder that has it"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
