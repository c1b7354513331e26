"""The yards in which worker programs are tested."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.yard import Yard


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A yard with a worker of two slots that all tests of a module share."""
    with contextlib.closing(Yard(tmp_path_factory.mktemp("busy"))) as yard:
        yard.program(slots=2)
        yield yard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    """A yard without a worker."""
    with contextlib.closing(Yard(tmp_path)) as yard:
        yield yard
