"""Where it is measured: a store and a broker of its own on the servers that are named.

A fresh SQLite file beside the one of the URL, a fresh database of the same MongoDB, fresh names on
the same RabbitMQ.  They are gone after it, and nothing that was there before is touched.
"""

import argparse
import contextlib
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from synergy.brokers import open_broker
from synergy.errors import BadInput
from synergy.programs import Identity, listener_on, processor_seconds
from synergy.stores import is_mongodb
from synergy.stores.removal import drop_database
from synergy.urls import masked

#: The processes of all that is measured, and so the queues of a broker.
LEVELS = ("hour", "day", "month", "year")
#: What a server is called in reports, and where it listens when its URL tells no port.
_SERVERS = {
    "mongodb": ("mongodb", 27017),
    "amqp": ("rabbitmq", 5672),
    "amqps": ("rabbitmq", 5671),
}
_THIS_MACHINE = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A fresh store and a fresh broker, by their URLs."""

    store: str
    #: ``none`` where there is no broker.
    broker: str
    #: For everything else; of a SQLite store, beside it.
    folder: Path
    #: That nobody else has: what the database and the queues are called.
    name: str


@contextlib.contextmanager
def fresh(store: str | None, broker: str | None) -> Iterator[Place]:
    """A place on the servers of these URLs, gone after the block; None: on this machine's disk.

    Raises:
        BadInput: a store or a broker that programs cannot share.
        Unreachable: a broker that does not answer, or does not let us in.
    """
    name = f"synergy_bench_{secrets.token_hex(4)}"
    store, broker = store or "sqlite:///", broker or "none"
    parts = urlsplit(store)
    folder = None
    if parts.scheme == "sqlite" and len(parts.path) > 1:
        folder = Path(store.removeprefix("sqlite:///")).resolve().parent
        folder.mkdir(parents=True, exist_ok=True)
    elif parts.scheme != "sqlite" and not is_mongodb(store):
        raise BadInput(
            f"programs cannot share {masked(store)}; accepted are sqlite:/// and mongodb://"
        )
    with (
        tempfile.TemporaryDirectory(prefix="synergy-bench-", dir=folder) as made,
        contextlib.ExitStack() as removal,
    ):
        if parts.scheme == "sqlite":
            store = f"sqlite:///{made}/units.db"
        else:
            store = with_database(store, name)
            removal.callback(drop_database, store)
        if broker != "none":
            broker = _own_names(broker, name)
            removal.callback(_remove_names, broker)
        yield Place(store=store, broker=broker, folder=Path(made), name=name)


def _own_names(broker: str, name: str) -> str:
    """The URL of the broker with names of our own, made there.

    Programs would start without a broker that does not answer; here it would not be measured.
    """
    if urlsplit(broker).scheme == "memory":
        raise BadInput(f"programs cannot share {masked(broker)}; accepted are none and amqp://")
    broker = with_options(broker, prefix=name)
    opened = open_broker(broker)
    assert opened is not None
    with contextlib.closing(opened):
        opened.declare(LEVELS)
    return broker


def _remove_names(broker: str) -> None:
    # Here, as who measures without a broker need not load what speaks with one.
    from synergy.brokers.rabbitmq.removal import remove

    remove(broker, LEVELS)


def servers_of(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """The store and the broker that are asked for."""
    return getattr(args, "store", None), getattr(args, "broker", None)


def shown(args: argparse.Namespace) -> dict[str, str]:
    """What it is measured with, as a report may tell it."""
    store, broker = servers_of(args)
    return {"store": masked(store or "sqlite"), "broker": masked(broker or "none")}


def with_database(url: str, name: str) -> str:
    """The same MongoDB, another database; who we are is still known where it was."""
    parts = urlsplit(url)
    if "@" in parts.netloc and "authSource" not in dict(parse_qsl(parts.query)):
        url = with_options(url, authSource=parts.path[1:] or "admin")
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def with_options(url: str, **options: str) -> str:
    """The URL with these options, the others kept."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | options)))


def servers_here(place: Place) -> dict[str, list[Identity]]:
    """The servers' processes by name; only those that run on this machine and can be seen."""
    found = {}
    for url in (place.store, place.broker):
        parts = urlsplit(url)
        if parts.scheme not in _SERVERS:
            continue
        name, usual = _SERVERS[parts.scheme]
        members = [
            _process_at(member, usual) for member in parts.netloc.rpartition("@")[2].split(",")
        ]
        known = [member for member in members if member is not None]
        if len(known) == len(members):
            found[name] = known
    return found


def used_by(servers: Iterable[Identity]) -> float:
    """Seconds of processor time that they have used so far, whatever for."""
    return sum(processor_seconds(server) or 0.0 for server in servers)


def _process_at(address: str, usual: int) -> Identity | None:
    """Who listens at ``host:port``, or at the usual port of ``host``, if that is this machine."""
    host, port = address, usual
    if not address.endswith("]") and ":" in address:
        host, _, text = address.rpartition(":")
        port = int(text)
    return listener_on(port) if host in _THIS_MACHINE else None
