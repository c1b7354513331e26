"""The stores keep the contract of their port."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from synergy.ports import Store
from synergy.stores import open_store
from synergy.testing.contracts import OpenAnother, StoreContract


class TestMemory(StoreContract):
    """Handles are the same object: there is no second one by nature."""

    shareable = False

    @pytest.fixture
    def open_another(self) -> OpenAnother:
        store = open_store("memory://")
        return lambda: store


class TestSQLite(StoreContract):
    """Each handle is a connection of its own."""

    @pytest.fixture
    def open_another(self, tmp_path: Path) -> Iterator[OpenAnother]:
        handles: list[Store] = []

        def open_another() -> Store:
            handles.append(open_store(f"sqlite:///{tmp_path}/deep/er/store.db"))
            return handles[-1]

        yield open_another
        for handle in handles:
            handle.close()
