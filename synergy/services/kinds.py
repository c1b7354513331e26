"""What each server is made of: its processes, their ports, its URL, and when it is ready.

All of them listen on the loopback only, keep everything in the folder they are given, and are for
development and tests: MongoDB without passwords, RabbitMQ with a generated one.
"""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from synergy.errors import BadInput
from synergy.services import wire

HOST = "127.0.0.1"
#: Name of the replica set.
REPLICA_SET = "synergy"
#: How many members it may have.
MEMBERS = (1, 3)
#: Milliseconds without a primary until its members elect another.
ELECTION_TIMEOUT = 1000
#: MongoDB's answer to a second `replSetInitiate`.
ALREADY_INITIALIZED = 23
#: User and vhost of RabbitMQ.
RABBITMQ_NAME = "synergy"
#: Of mongod, beside its port and folder. A small cache: several of them share a small machine.
MONGOD_OPTIONS = (
    *("--bind_ip", HOST, "--nounixsocket"),
    *("--networkMessageCompressors", "disabled"),
    *("--wiredTigerCacheSizeGB", "0.25"),
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
)
#: What the shell of whoever brings servers up says to other RabbitMQ nodes is not for ours.
FOREIGN = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")

#: Set for every process of ours, and by that for all that it starts: whose it is.
MARK = "SYNERGY_SERVICE"

RABBITMQ_CONF = """\
listeners.tcp.1 = {host}:{amqp}
default_user = {name}
default_pass = {password}
default_vhost = {name}
default_user_tags.administrator = true
default_permissions.configure = .*
default_permissions.read = .*
default_permissions.write = .*
"""
RABBITMQCTL = """\
#!/bin/sh
# rabbitmqctl of this node.
{exports}
exec {program} "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One process of a server."""

    name: str
    argv: tuple[str, ...]
    #: Of the server's ports, by name, those on which it will listen.
    ports: tuple[str, ...]
    #: What it needs in its environment; nothing that names another node is inherited.
    environment: Mapping[str, str]


class Kind(Protocol):
    """A kind of server: everything that can be known without starting it."""

    #: What people call it on the command line.
    name: str
    #: What it is called in sentences.
    title: str
    #: The variable that names its URL to the tests, and a server of somebody else's to us.
    variable: str
    #: Its program, as looked for on PATH.
    program: str

    @property
    def members(self) -> int:
        """How many members it has."""

    def port_names(self) -> tuple[str, ...]:
        """The ports it needs."""

    def compose_services(self) -> tuple[str, ...]:
        """Its services in ``compose.yaml``."""

    def url(self, ports: Mapping[str, int], password: str) -> str:
        """How clients reach it."""

    def write_files(
        self, folder: Path, program: str, ports: Mapping[str, int], password: str
    ) -> None:
        """Write what it reads when it starts; `program` is empty in a container."""

    def launches(self, folder: Path, program: str, ports: Mapping[str, int]) -> list[Launch]:
        """Its processes, in the order of their start."""

    def awaited(self, ports: Mapping[str, int]) -> str | None:
        """What is still to happen until it can be used, in words; None when it is ready.

        Does what lies with us for that, again and again until it is true.

        Raises:
            OSError: it does not answer yet.
        """


@dataclass(frozen=True, slots=True)
class Mongo:
    """A mongod by itself."""

    name = "mongodb"
    title = "MongoDB"
    variable = "SYNERGY_TEST_MONGODB"
    program = "mongod"
    members = 1

    def port_names(self) -> tuple[str, ...]:
        return ("mongodb",)

    def compose_services(self) -> tuple[str, ...]:
        return ("mongodb",)

    def url(self, ports: Mapping[str, int], password: str) -> str:
        return f"mongodb://{HOST}:{ports['mongodb']}/"

    def write_files(
        self, folder: Path, program: str, ports: Mapping[str, int], password: str
    ) -> None:
        (folder / "mongodb").mkdir(exist_ok=True)

    def launches(self, folder: Path, program: str, ports: Mapping[str, int]) -> list[Launch]:
        return [_mongod("mongodb", folder, program, ports)]

    def awaited(self, ports: Mapping[str, int]) -> str | None:
        hello = wire.command(ports["mongodb"], {"hello": 1})
        return None if hello.get("isWritablePrimary") else "that it accepts writes"


@dataclass(frozen=True, slots=True)
class MongoSet:
    """A replica set, its members known as ``127.0.0.1:PORT``."""

    members: int = 1

    name = "mongodb-set"
    title = "MongoDB replica set"
    variable = "SYNERGY_TEST_MONGODB_SET"
    program = "mongod"

    def __post_init__(self) -> None:
        """Refuse a number of members that is not offered."""
        if self.members not in MEMBERS:
            offered = " or ".join(map(str, MEMBERS))
            raise BadInput(f"a replica set has {offered} members here, not {self.members}")

    def port_names(self) -> tuple[str, ...]:
        return tuple(f"mongodb-set-{number}" for number in range(1, self.members + 1))

    def compose_services(self) -> tuple[str, ...]:
        return self.port_names()

    def url(self, ports: Mapping[str, int], password: str) -> str:
        hosts = ",".join(f"{HOST}:{ports[name]}" for name in self.port_names())
        return f"mongodb://{hosts}/?replicaSet={REPLICA_SET}"

    def write_files(
        self, folder: Path, program: str, ports: Mapping[str, int], password: str
    ) -> None:
        for name in self.port_names():
            (folder / name).mkdir(exist_ok=True)

    def launches(self, folder: Path, program: str, ports: Mapping[str, int]) -> list[Launch]:
        options = ("--replSet", REPLICA_SET, "--oplogSize", "128")
        return [_mongod(name, folder, program, ports, *options) for name in self.port_names()]

    def awaited(self, ports: Mapping[str, int]) -> str | None:
        places = [ports[name] for name in self.port_names()]
        hellos = [wire.command(port, {"hello": 1}) for port in places]
        if not any("setName" in hello for hello in hellos):
            answer = wire.command(places[0], {"replSetInitiate": self._config(places)})
            if answer["ok"] != 1 and answer.get("code") != ALREADY_INITIALIZED:
                return f"that it becomes a replica set ({answer.get('errmsg')})"
            return "the election of a primary"
        if not any(hello.get("isWritablePrimary") for hello in hellos):
            return "the election of a primary"
        if not all(hello.get("isWritablePrimary") or hello.get("secondary") for hello in hellos):
            return "that its members have caught up"
        return None

    def _config(self, places: Sequence[int]) -> dict[str, object]:
        return {
            "_id": REPLICA_SET,
            "members": [
                {"_id": number, "host": f"{HOST}:{port}"} for number, port in enumerate(places)
            ],
            "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT},
        }


@dataclass(frozen=True, slots=True)
class Rabbit:
    """A RabbitMQ node with an epmd of its own, so that it meets no other Erlang node."""

    name = "rabbitmq"
    title = "RabbitMQ"
    variable = "SYNERGY_TEST_RABBITMQ"
    program = "rabbitmq-server"
    members = 1

    def port_names(self) -> tuple[str, ...]:
        return ("amqp", "distribution", "epmd")

    def compose_services(self) -> tuple[str, ...]:
        return ("rabbitmq",)

    def url(self, ports: Mapping[str, int], password: str) -> str:
        return f"amqp://{RABBITMQ_NAME}:{password}@{HOST}:{ports['amqp']}/{RABBITMQ_NAME}"

    def write_files(
        self, folder: Path, program: str, ports: Mapping[str, int], password: str
    ) -> None:
        own = folder / "rabbitmq"
        own.mkdir(exist_ok=True)
        conf = RABBITMQ_CONF.format(
            host=HOST, amqp=ports["amqp"], name=RABBITMQ_NAME, password=password
        )
        file = own / "rabbitmq.conf"
        file.write_text(conf, "utf-8")
        file.chmod(0o644)  # a container reads it as another user; the folder is closed to others
        if not program:
            return
        # Erlang makes its cookie from the clock; this one nobody can guess.
        cookie = own / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(0o600)
            cookie.write_text(password, "ascii")
            cookie.chmod(0o400)
        control = own / "rabbitmqctl"
        environment = self._environment(own, ports)
        text = RABBITMQCTL.format(
            exports="\n".join(
                f"export {name}={shlex.quote(value)}" for name, value in environment.items()
            ),
            program=shlex.quote(str(Path(program).with_name("rabbitmqctl"))),
        )
        text = RABBITMQCTL.format(
            exports="\n".join(
                f"export {name}={shlex.quote(value)}" for name, value in environment.items()
            ),
            program=shlex.quote(str(Path(program).with_name("rabbitmqctl"))),
        )
        control.write_text(text, "utf-8")
        control.chmod(0o700)

    def launches(self, folder: Path, program: str, ports: Mapping[str, int]) -> list[Launch]:
        environment = self._environment(folder / "rabbitmq", ports)
        return [
            Launch(
                name="epmd",
                argv=("epmd", "-address", HOST, "-port", str(ports["epmd"])),
                ports=("epmd",),
                environment=environment,
            ),
            Launch(
                name="rabbitmq",
                argv=(program,),
                ports=("amqp", "distribution"),
                environment=environment,
            ),
        ]

    def awaited(self, ports: Mapping[str, int]) -> str | None:
        return None if wire.greets(ports["amqp"]) else "its greeting"

    def _environment(self, own: Path, ports: Mapping[str, int]) -> dict[str, str]:
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "HOME": str(own),  # where Erlang looks for its cookie
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "RABBITMQ_NODENAME": f"synergy-{ports['amqp']}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(ports["amqp"]),
            "RABBITMQ_DIST_PORT": str(ports["distribution"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": loopback,
            # It would start an epmd of its own where there is none.
            "RABBITMQ_CTL_ERL_ARGS": f"{loopback} -start_epmd false",
            "RABBITMQ_MNESIA_BASE": str(own / "data"),
            "RABBITMQ_LOG_BASE": str(own / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(own / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(own / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(own / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(own / "enabled_plugins"),
            # Then its script becomes the node, instead of standing before it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }


#: Every kind, in the order in which they are shown.
KINDS: tuple[Kind, ...] = (Mongo(), MongoSet(), Rabbit())


def kinds_named(names: Iterable[str], members: int = 1) -> list[Kind]:
    """The kinds of these names, all for none; `members` is for the replica set.

    Raises:
        BadInput: a name that is none, or a number of members that is not offered.
    """
    wanted = [*names]
    known = [kind.name for kind in KINDS]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise BadInput(f"there is no server {unknown[0]!r}; known are {', '.join(known)}")
    kinds: list[Kind] = [Mongo(), MongoSet(members), Rabbit()]
    return [kind for kind in kinds if not wanted or kind.name in wanted]


def own_environment(additions: Mapping[str, str], mark: str) -> dict[str, str]:
    """The environment of a process of ours, with a mark by which it is known to be ours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**inherited, **additions, MARK: mark}


def _mongod(
    name: str, folder: Path, program: str, ports: Mapping[str, int], *options: str
) -> Launch:
    place = ("--dbpath", str(folder / name), "--port", str(ports[name]))
    return Launch(
        name=name,
        argv=(program, *place, *MONGOD_OPTIONS, *options),
        ports=(name,),
        environment={},
    )
