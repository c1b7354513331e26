"""Databases for tests on a MongoDB server."""

import contextlib
from collections.abc import Iterator
from typing import Any

from pymongo import MongoClient

from synergy.stores.mongodb_feed import EMPTY_HEAD
from tests import servers


@contextlib.contextmanager
def a_database(server: str) -> Iterator[str]:
    """The URL of a database of its own on that server, dropped in the end."""
    url = servers.with_database(server, servers.fresh_name())
    try:
        yield url
    finally:
        with MongoClient[Any](url) as client:
            client.drop_database(client.get_default_database().name)


def empty(url: str) -> None:
    """Forget all that is in the store, its indexes excepted: making them takes long."""
    with MongoClient[Any](url) as client:
        database = client.get_default_database()
        for name in database.list_collection_names():
            if name not in ("schema", "feed"):
                database[name].delete_many({})
        database["feed"].delete_many({"_id": {"$ne": "head"}})
        database["feed"].replace_one({"_id": "head"}, EMPTY_HEAD)
