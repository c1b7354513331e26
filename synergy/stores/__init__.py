"""The stores, each behind the port `synergy.ports.Store`: `open_store(url)` picks one.

memory://                       in this process, gone with it: tests and simulations
sqlite:///data/synergy.db       one SQLite file, path relative to the working directory
sqlite:////var/lib/s.db         the same, absolute path
mongodb://user:pw@host/synergy  one database of a MongoDB server or replica set, for many boxes
"""

import os
from pathlib import Path
from typing import Any

from synergy.errors import BadInput
from synergy.ports import Bell, Store
from synergy.stores.bell import MemoryBell, SocketBell, place_beside, place_of
from synergy.stores.memory import MemoryStore
from synergy.stores.migrations import pending_migrations
from synergy.stores.sqlite import SQLiteStore
from synergy.urls import masked

ACCEPTED = (
    "memory://, sqlite:///relative/path.db, sqlite:////absolute/path.db "
    "or mongodb://user:password@host:port/database"
)


def open_store(url: str, *, create: bool = True) -> Store:
    """The store at `url`, brought to this version's schema.

    With `create`, files, folders and databases that are not there are made; without, their absence
    is `NotFound`.  A newer schema is `NewerSchema` and stays untouched.
    """
    if is_mongodb(url):
        # The driver takes a while to load, and only those need it who have such a store.
        from synergy.stores.mongodb import MongoStore

        return MongoStore.open(url, create=create)
    path = _path_of(url)
    return MemoryStore(url) if path is None else SQLiteStore.open(path, url, create=create)


def open_bell(url: str) -> Bell:
    """The doorbell of the store at `url`, for the programs of this box.

    That of ``memory://`` rings within this object only.
    """
    if is_mongodb(url):
        from synergy.stores.mongodb_server import place_in_words

        return SocketBell(place_of(place_in_words(url)))
    path = _path_of(url)
    return MemoryBell() if path is None else SocketBell(place_beside(path))


def migrate(url: str, dry_run: bool = False) -> list[str]:
    """Bring the store to this version's schema; the names of what was, or would be, applied."""
    if is_mongodb(url):
        from synergy.stores.mongodb_schema import missing

        names = missing(url)
    else:
        path = _path_of(url)
        names = [] if path is None else [each.name for each in pending_migrations(path)]
    if names and not dry_run:
        open_store(url).close()
    return names


def role_commands(url: str) -> list[dict[str, Any]]:
    """The commands that create the roles for the programs in the database of a MongoDB store.

    Raises:
        BadInput: it is another store, which knows no users.
    """
    _need_mongodb(url)
    from synergy.stores.mongodb_roles import commands

    return commands(url)


def create_roles(url: str) -> dict[str, bool]:
    """Create them, or bring them up to date; role → whether it is new."""
    _need_mongodb(url)
    from synergy.stores.mongodb_roles import create

    return create(url)


def _need_mongodb(url: str) -> None:
    if not is_mongodb(url):
        raise BadInput(f"{masked(url)} knows no users and roles; MongoDB does")


def is_mongodb(url: str) -> bool:
    """Whether this is, or is meant to be, the address of a MongoDB store."""
    return url.startswith(("mongodb://", "mongodb+srv://"))


def _path_of(url: str) -> Path | None:
    """The file meant, None for memory; `BadInput` for what is neither."""
    scheme, found, rest = url.partition("://")
    if not found or scheme not in ("memory", "sqlite"):
        raise BadInput(f"{masked(url)!r} is not the address of a store; accepted are {ACCEPTED}")
    if scheme == "memory":
        return None
    if not rest.startswith("/") or rest.endswith("/") or "\0" in rest:
        raise BadInput(f"{url!r} names no file; accepted are {ACCEPTED}")
    path = Path(rest[1:])
    if os.path.isdir(path):  # of what may not be looked at, opening it tells more
        raise BadInput(f"{url!r} names a folder; accepted are {ACCEPTED}")
    return path
