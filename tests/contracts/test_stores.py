"""The stores keep the contract of their port."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from synergy.ports import Store
from synergy.stores import open_store
from synergy.testing.contracts import OpenAnother, StoreContract
from tests import servers
from tests.contracts.mongodb import a_database, empty


class TestMemory(StoreContract):
    """Handles are the same object: there is no second one by nature."""

    shareable = False

    @pytest.fixture
    def open_another(self) -> OpenAnother:
        store = open_store("memory://")
        return lambda: store


class TestSQLite(StoreContract):
    """Each handle is a connection of its own."""

    folds = False

    @pytest.fixture
    def open_another(self, tmp_path: Path) -> Iterator[OpenAnother]:
        handles: list[Store] = []

        def open_another() -> Store:
            handles.append(open_store(f"sqlite:///{tmp_path}/deep/er/store.db"))
            return handles[-1]

        yield open_another
        for handle in handles:
            handle.close()


class MongoContract(StoreContract):
    """Each handle is a client of its own; the cases use one database after the other."""

    exact_commit_order = False

    @staticmethod
    def server() -> str:
        """The URL of the server."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def database(cls) -> Iterator[str]:
        with a_database(cls.server()) as url:
            open_store(url).close()
            yield url

    @pytest.fixture
    def open_another(self, database: str) -> Iterator[OpenAnother]:
        handles: list[Store] = []

        def open_another() -> Store:
            handles.append(open_store(database))
            return handles[-1]

        empty(database)
        yield open_another
        for handle in handles:
            handle.close()


class TestMongoStandalone(MongoContract):
    """`mongodb standalone`"""

    server = staticmethod(servers.mongodb)


class TestMongoReplicaSet(MongoContract):
    """`mongodb replica set`"""

    server = staticmethod(servers.mongodb_set)
