"""Databases for tests on the MongoDB servers that the environment names."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from pymongo import MongoClient

from synergy.stores.mongodb_feed import EMPTY_HEAD


def address(variable: str) -> str:
    """The server's URL; without it the test is skipped, and fails where ``CI`` is set."""
    url = os.environ.get(variable)
    if not url:
        reason = f"{variable} names no MongoDB server"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return url


@contextlib.contextmanager
def a_database(variable: str) -> Iterator[str]:
    """The URL of a database of its own, dropped in the end."""
    parts = urlsplit(address(variable))
    name = f"synergy_test_{os.getpid()}_{secrets.token_hex(4)}"
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        with MongoClient[Any](urlunsplit(parts)) as client:
            client.drop_database(name)


def empty(url: str) -> None:
    """Forget all that is in the store, its indexes excepted: making them takes long."""
    with MongoClient[Any](url) as client:
        database = client.get_default_database()
        for name in database.list_collection_names():
            if name not in ("schema", "feed"):
                database[name].delete_many({})
        database["feed"].delete_many({"_id": {"$ne": "head"}})
        database["feed"].replace_one({"_id": "head"}, EMPTY_HEAD)
