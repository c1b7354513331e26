"""The schema of the MongoDB store: indexes, and what upgrades a database to this version.

Steps only go forward and are never edited once released.  MongoDB has no transaction around them,
so each is harmless when it is done twice, or by two programs at once; how far a database is stands
in ``schema`` only after the step.  One that has taken more steps than this version knows is
`NewerSchema` and stays untouched.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

from synergy.errors import NewerSchema, NotFound
from synergy.ports import KINDS
from synergy.stores.mongodb_feed import EMPTY_HEAD
from synergy.stores.mongodb_server import LONG_PATIENCE_SECONDS, Document, Server

_VERSION = {"_id": "version"}


@dataclass(frozen=True, slots=True)
class Migration:
    """One step; `change` does it."""

    number: int
    name: str
    change: Callable[[Server], None]


#: What is over has no part in an index but the one by start, so that the others stay small.
_INDEXES = {
    "jobs": [
        IndexModel([("process", 1), ("start", 1)], name="by_start"),
        IndexModel([("active", 1)], name="active", partialFilterExpression={"active": 1}),
        IndexModel(
            [("pending", 1)], name="pending", partialFilterExpression={"pending": {"$gt": 0}}
        ),
    ],
    "units": [
        # Of each process in the order of claims, with all that a claim asks for, so that what it
        # passes over is not read.  The state is the same in all of it, and is there because it is
        # asked for.
        IndexModel(
            [
                *(("state", 1), ("process", 1), ("priority", -1), ("start", 1), ("_id", 1)),
                *(("not_before", 1), ("attempt", 1)),
            ],
            name="requested",
            partialFilterExpression={"state": "requested"},
        ),
        IndexModel(
            [("state", 1), ("not_before", 1)],
            name="in_back_off",
            partialFilterExpression={"state": "requested", "not_before": {"$exists": True}},
        ),
        IndexModel([("active", 1)], name="active", partialFilterExpression={"active": 1}),
        IndexModel(
            [("pending", 1)], name="pending", partialFilterExpression={"pending": {"$gt": 0}}
        ),
    ],
    "requests": [
        IndexModel(
            [("state", 1), ("arrival", 1)], name="filed", partialFilterExpression={"state": "filed"}
        ),
    ],
}

#: Every collection of the store.
COLLECTIONS = (
    *("boxes", "feed", "jobs", "leases", "ledgers", "requests", "schema", "switched_off", "units"),
    *KINDS,
)


def _first(server: Server) -> None:
    for name, indexes in _INDEXES.items():
        create = partial(server.collection(name).create_indexes, indexes)
        server.answered(create, LONG_PATIENCE_SECONDS)
    _insert(server, "feed", EMPTY_HEAD)


def _requests_by_arrival(server: Server) -> None:
    create = partial(server.collection("requests").create_index, "arrival", name="by_arrival")
    server.answered(create, LONG_PATIENCE_SECONDS)


def _outdated(server: Server) -> None:
    """Nothing to change; a version that knows nothing of marks cannot read an entry with one."""


MIGRATIONS: tuple[Migration, ...] = (
    Migration(1, "indexes", _first),
    Migration(2, "requests by arrival", _requests_by_arrival),
    Migration(3, "outdated", _outdated),
)


def prepare(server: Server, *, create: bool, known: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the database to this version's schema.

    Raises:
        NotFound: there is no store in it, and `create` is not given.
        NewerSchema: a newer version has upgraded it.
    """
    number = version_of(server)
    if number == 0 and not create:
        raise NotFound(f"there is no store at {server.shown}; starting the scheduler makes one")
    for migration in pending_migrations(server, known):
        migration.change(server)
        _insert(server, "schema", {**_VERSION, "number": 0})
        taken = {"$max": {"number": migration.number}}
        server.answered(partial(server.collection("schema").update_one, _VERSION, taken))


def pending_migrations(server: Server, known: Sequence[Migration] = MIGRATIONS) -> list[Migration]:
    """The steps that the database still needs; `NewerSchema` when it has taken unknown ones."""
    number = version_of(server)
    if number > known[-1].number:
        raise NewerSchema(
            f"the store {server.shown} has schema {number}, which a newer version of synergy made; "
            f"this one knows {known[-1].number}. Upgrade synergy here, too"
        )
    return [migration for migration in known if migration.number > number]


def missing(url: str) -> list[str]:
    """The names of the steps that the database at this address still needs."""
    server = Server(url)
    try:
        return [migration.name for migration in pending_migrations(server)]
    finally:
        server.close()


def version_of(server: Server) -> int:
    """The number of the last step that was taken; 0 where there is no store."""
    found = server.answered(lambda: server.collection("schema").find_one(_VERSION))
    return 0 if found is None else int(found["number"])


def _insert(server: Server, collection: str, document: Document) -> None:
    def insert() -> None:
        with contextlib.suppress(DuplicateKeyError):  # it is there
            server.collection(collection).insert_one(dict(document))

    server.answered(insert)
