"""The least that each program needs of the MongoDB store, as roles of its database."""

from collections.abc import Mapping

from synergy.stores.mongodb_schema import COLLECTIONS
from synergy.stores.mongodb_server import Document, Server

_ALL = ("find", "insert", "update", "remove")
_MAKE = ("createCollection", "createIndex", "dropIndex", "collMod")
_LOOK = ("find",)

#: Role → what it may do in which collections; an empty name stands for all of them.
ROLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    # It makes the collections, and brings them up to its version.
    "synergy_scheduler": dict.fromkeys(
        COLLECTIONS, (*_ALL, "createCollection", "createIndex", "dropIndex", "collMod")
    ),
    # It hands back what died on its box, which may have been the leader, and holds the lease of a
    # program that runs once.  A supervisor, which says what runs on its box, is of its kind.
    "synergy_worker": {
        "schema": _LOOK,
        "units": ("find", "update"),
        "leases": ("find", "insert", "update"),
        "boxes": ("find", "insert", "update"),
        "switched_off": ("find", "insert", "update"),
        "workers": _ALL,
    },
    # It reads, and files requests: an operator switches programs by it, too.
    "synergy_console": {
        **dict.fromkeys(COLLECTIONS, _LOOK),
        "requests": ("find", "insert"),
        "switched_off": ("find", "insert", "update"),
    },
}


def commands(url: str) -> list[Document]:
    """The database commands that create the roles, in the database that `url` names."""
    server = Server(url)
    server.close()
    return [_command(role, server.name) for role in ROLES]


def create(url: str) -> dict[str, bool]:
    """Create the roles, or bring them up to date; role → whether it is new."""
    server = Server(url)
    try:
        return {role: _create(server, role) for role in ROLES}
    finally:
        server.close()


def _create(server: Server, role: str) -> bool:
    known = server.command({"rolesInfo": role})["roles"]
    command = _command(role, server.name)
    if known:
        command = {"updateRole": command.pop("createRole"), **command}
    server.command(command)
    return not known


def _command(role: str, database: str) -> Document:
    privileges = [
        {"resource": {"db": database, "collection": name}, "actions": list(actions)}
        for name, actions in ROLES[role].items()
    ]
    return {"createRole": role, "privileges": privileges, "roles": []}
