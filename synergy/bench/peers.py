"""Queues of tasks at the same nothing as our units, on the same servers, in turns with ours.

With RabbitMQ as the broker they are Celery and dramatiq, without one huey on SQLite; each in a
virtual environment of its own, with its own worker.  Rounds alternate: ours, a peer, ours, the
next peer; so what else the machine is busy with is in both, and each ratio is the median over the
rounds of two neighbours.
"""

import argparse
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from synergy.bench.frame import (
    head,
    median,
    options,
    peer_python,
    peers_option,
    positive,
)
from synergy.bench.place import fresh, servers_of, shown, with_options
from synergy.bench.yard import PATIENCE, catch_up
from synergy.errors import BadInput
from synergy.stores import is_mongodb

#: What stands beside all ratios.
DIFFERENCE = (
    "Peers run a callback that was sent to them, one after the other, in any order. Ours is a "
    "whole attempt of an interval: inserted by the scheduler from the calendar, claimed with a "
    "lease, run with a log of its own, reported, applied to its job, the parents waiting for their "
    "children; five transitions, each durable and kept as history. Peers are timed from the first "
    "task sent to the last one executed, ours from the first unit made to the last result applied; "
    "the workers run before. "
    "Their queues are durable classic ones; ours are as the URL says, quorum queues by default."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One of them, with one of its settings."""

    #: Its name in the script.
    name: str
    #: What its environment has, itself first, at the versions that are compared.
    requirements: tuple[str, ...]
    #: What is promised when a task was sent, and when it was done.
    promises: str
    #: For the script: confirms, processes, threads.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it leaves results in MongoDB.
    results: bool = False
    #: Whether each task waits for the disk by itself, so that fewer are enough to tell its pace.
    slow: bool = False


_CELERY = ("celery==5.7.0", "pymongo==4.20.0")
_DRAMATIQ = ("dramatiq[rabbitmq]==2.2.1",)
_UNCONFIRMED = "the message is persistent, but nobody confirms it; no result is kept"

#: On RabbitMQ.
ON_RABBITMQ: Mapping[str, Peer] = {
    "celery": Peer(
        name="celery",
        requirements=_CELERY,
        promises=f"{_UNCONFIRMED}; acknowledged before the task runs, so a dying worker loses it",
    ),
    "celery_durable": Peer(
        name="celery",
        requirements=_CELERY,
        promises="each message confirmed, acknowledged when the task has run (acks_late), "
        "its result in MongoDB, journaled",
        settings={"confirms": True},
        results=True,
        slow=True,
    ),
    "dramatiq_8_threads": Peer(
        name="dramatiq",
        requirements=_DRAMATIQ,
        promises=f"{_UNCONFIRMED}; acknowledged when the task has run",
        settings={"threads": 8},
    ),
    "dramatiq_2_processes": Peer(
        name="dramatiq",
        requirements=_DRAMATIQ,
        promises=f"{_UNCONFIRMED}; acknowledged when the task has run",
        settings={"processes": 2, "threads": 4},
    ),
    "dramatiq_confirms": Peer(
        name="dramatiq",
        requirements=_DRAMATIQ,
        promises="each message confirmed, acknowledged when the task has run; no result is kept",
        settings={"confirms": True, "threads": 8},
        slow=True,
    ),
}
#: Without a broker.
ON_SQLITE: Mapping[str, Peer] = {
    "huey": Peer(
        name="huey",
        requirements=("huey==3.5.4",),
        promises="each task is on the disk when it was sent (fsync) and taken off before it runs; "
        "no result is kept",
        slow=True,
    ),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--n",
        type=positive,
        default=20_000,
        metavar="N",
        help="so many units and tasks a round, of slow peers a quarter; 20000",
    )
    parser.add_argument(
        "--rounds", type=positive, default=3, metavar="N", help="medians of N rounds; 3"
    )
    options(parser, {**ON_RABBITMQ, **ON_SQLITE})
    peers_option(parser)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All rounds of all that can run on these servers, or of the one that is asked for."""
    store, broker = servers_of(args)
    all_of_them = possible(store or "sqlite:///", broker or "none")
    peers = {name: peer for name, peer in all_of_them.items() if args.only in (None, name)}
    if not peers:
        raise BadInput(
            f"{args.only or 'no peer'} cannot be measured on these servers; "
            "celery and dramatiq want --broker amqp://…, celery_durable also "
            "--store mongodb://…, and huey neither"
        )
    pythons = {
        name: peer_python(args.peers, *peer.requirements, otherwise="--only names another")
        for name, peer in peers.items()
    }
    count = 50 if args.small else args.n
    ours: dict[str, list[float]] = {name: [] for name in peers}
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    serial = []
    for _ in range(args.rounds):
        for name, peer in peers.items():
            tasks = max(1, count // 4) if peer.slow else count
            ours[name].append(_pace(catch_up(store, broker, count)))
            theirs[name].append(_pace(_played(peer, pythons[name], tasks, store, broker)))
        serial.append(_pace(catch_up(store, broker, max(1, count // 5), ahead=False)))
    return {
        **head("peers"),
        **shown(args),
        "difference": DIFFERENCE,
        "rounds": args.rounds,
        "ours": {
            "batched_per_second": round(median(one for each in ours.values() for one in each)),
            "serial_per_second": round(median(serial)),
        },
        "peers": {
            name: _told(peer, ours[name], theirs[name], serial) for name, peer in peers.items()
        },
    }


def possible(store: str, broker: str) -> dict[str, Peer]:
    """Those that can work on these servers."""
    if broker == "none":
        return dict(ON_SQLITE) if store.startswith("sqlite:") else {}
    return {
        name: peer for name, peer in ON_RABBITMQ.items() if is_mongodb(store) or not peer.results
    }


def _told(
    peer: Peer, ours: Sequence[float], theirs: Sequence[float], serial: Sequence[float]
) -> dict[str, Any]:
    return {
        "version": peer.requirements[0].partition("==")[2],
        "promises": peer.promises,
        "settings": dict(peer.settings),
        "per_second": round(median(theirs)),
        "each_round": [round(one) for one in theirs],
        "ours_each_round": [round(one) for one in ours],
        "ratio": ratio(ours, theirs),
        "serial_ratio": ratio(serial, theirs),
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times as quick we are, by the median over the rounds."""
    return round(median(mine / other for mine, other in zip(ours, theirs, strict=True)), 2)


def _pace(done: Mapping[str, Any]) -> float:
    """Tasks, or units, per second."""
    return float((done.get("units") or done["tasks"]) / done["seconds"])


def _played(
    peer: Peer, python: Path, tasks: int, store: str | None, broker: str | None
) -> dict[str, Any]:
    """Have a peer do so many tasks; how many seconds it took."""
    with fresh(store, broker) as place:
        (place.folder / "times").write_bytes(bytes(8 * (tasks + 1)))
        setting = {
            "peer": peer.name,
            "confirms": False,
            "processes": 1,
            "threads": 1,
            **peer.settings,
            "broker": urlunsplit(urlsplit(place.broker)._replace(query="")),  # those are ours
            "queue": place.name,
            "results": with_options(place.store, journal="true") if peer.results else None,
            "count": tasks,
            "folder": str(place.folder),
        }
        done = subprocess.run(
            [python, "-I", Path(__file__).with_name("queue_tasks.py")],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "SYNERGY_BENCH_PEER": json.dumps(setting)},
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
