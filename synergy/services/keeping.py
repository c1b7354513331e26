"""Brings servers up, knows them again, takes them down.

Everything lies in one folder: ``state.json`` says what was started (each process by its id and its
birth, so that `down` ends nothing else), beside it the servers' data and logs.  Whoever comes after
a call that was killed finds what it left: a process is written down as soon as it runs, and one
that was not, because the call died in between, is known by a mark in its environment.
"""

import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from synergy.errors import BadInput, Conflict, SynergyError, TimedOut, Unreachable
from synergy.programs import Identity, PidFile, alive, identity_of, start_detached, stop
from synergy.services.kinds import HOST, KINDS, MARK, Kind, MongoSet, own_environment
from synergy.services.sources import Say, Source, Way, choose, install, machine_now
from synergy.services.standing import FILE, Standing, read, write

#: Held while something is being brought up or taken down.
LOCK = "services.pid"
#: Seconds that a server has to become ready; a replica set elects within them.
PATIENCE = 90.0
#: Seconds between two looks whether it is.
LOOK = 0.05
#: Seconds that an unknown server has to take a connection.
CONNECT_PATIENCE = 5.0
#: Seconds that a port has to become free whose process has ended.
RELEASE = 2.0
#: Lines of what a server said that did not start.
LAST_WORDS = 12
#: Ports are taken from here: below those that the system gives to outgoing connections, so that
#: a server that was killed finds its own free again.
PORTS = range(23000, 32000)
#: Ports of URLs that name none.
DEFAULT_PORTS: Mapping[str, int] = {"mongodb": 27017, "amqp": 5672, "amqps": 5671}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server as it is now."""

    name: str
    title: str
    #: ``running``, ``broken`` (some of its processes have ended), ``given`` by the environment,
    #: ``absent``.
    state: str
    #: Empty when it is absent.
    url: str
    #: The variable that names its URL to the tests.
    variable: str
    #: Where it comes from, in words.
    source: str
    #: Its processes that live, by name.
    pids: Mapping[str, int]
    ports: Mapping[str, int]
    #: Path of its program, empty when it is not ours.
    program: str


@dataclass(frozen=True, slots=True)
class Place:
    """The folder, and the file from which containers are made."""

    folder: Path
    compose_file: Path


def servers_up(
    place: Place, kinds: Iterable[Kind], environment: Mapping[str, str], say: Say
) -> list[Server]:
    """Bring these servers up, those that run already as they are; one after the other.

    Raises:
        BadInput: the folder holds something else.
        Unavailable: one cannot be had here (those before it stay).
        Conflict: somebody else is at it, or a set with another number of members runs.
        Unreachable: a server that the environment names does not answer.
        SynergyError: it did not start, with what it said last.
    """
    _refuse_foreign(place.folder)
    with PidFile(place.folder / LOCK):
        return [_up(place, kind, environment, say) for kind in kinds]


def servers_down(place: Place, kinds: Iterable[Kind], say: Say) -> list[str]:
    """End what was started of these and remove what they left; the names of those that stood.

    Nothing else in the folder is touched; it goes with the last of them, when it is empty then.

    Raises:
        Conflict: somebody is bringing them up just now.
    """
    if not place.folder.exists():
        return []
    with PidFile(place.folder / LOCK):
        standing = read(place.folder)
        ended = [kind.name for kind in kinds if kind.name in standing]
        for name in ended:
            _end(place, name, standing.pop(name))
            write(place.folder, standing)
            say(f"{name}: ended, and its data removed")
        if not standing:
            (place.folder / FILE).unlink(missing_ok=True)
    if not standing:
        with contextlib.suppress(OSError):
            place.folder.rmdir()
    return ended


def servers_status(place: Place, environment: Mapping[str, str]) -> list[Server]:
    """Every kind of server as it is now; nothing is changed, and nobody is waited for."""
    standing = read(place.folder)
    return [
        _server(kind, standing.get(kind.name), _given(kind, standing, environment))
        for kind in KINDS
    ]


def choose_sources(
    place: Place, kinds: Sequence[Kind], environment: Mapping[str, str]
) -> dict[str, Source | str]:
    """For each where it would come from; the reason, where from nowhere. Nothing is changed."""
    standing = read(place.folder)
    machine = machine_now(environment, place.compose_file)
    found: dict[str, Source | str] = {}
    for kind in kinds:
        stands = standing.get(kind.name)
        if stands is not None and not _given(kind, standing, environment):
            found[kind.name] = Source(way=stands.way, program=stands.program)
            continue
        try:
            found[kind.name] = choose(kind, machine)
        except SynergyError as error:
            found[kind.name] = str(error)
    return found


# ---- up


def _refuse_foreign(folder: Path) -> None:
    """That the folder is ours alone: what lies in it is removed one day.

    Raises:
        BadInput: it is not.
    """
    if (folder / FILE).exists() or not folder.exists():
        return
    if any(path.name != LOCK for path in folder.iterdir()):
        raise BadInput(f"{folder} holds something else; name a folder that is empty or not there")


def _up(place: Place, kind: Kind, environment: Mapping[str, str], say: Say) -> Server:
    standing = read(place.folder)
    if url := _given(kind, standing, environment):
        _check_reachable(kind, url)
        return _server(kind, None, url)
    known = standing.get(kind.name)
    stands = known
    if stands is None:
        stands = _begun(place, kind, environment, say)
    if stands.members != kind.members:
        raise Conflict(
            f"{kind.name} stands with {_count(stands.members, 'member')}, not {kind.members}; "
            f"take it down first: services down {kind.name}"
        )
    before = stands
    try:
        kind.write_files(place.folder, stands.native, stands.ports, stands.password)
        if stands.way is Way.CONTAINER:
            _compose(place, kind, stands, "up", "--detach", *kind.compose_services())
        else:
            stands = _start(place, kind, stands)
        _await(place, kind, stands)
    except (SynergyError, OSError) as error:
        if not before.processes:  # nothing of it stood before this call: nothing is left
            _forget(place, kind.name)
        if isinstance(error, OSError):
            raise SynergyError(f"{kind.title}: {error}") from error
        raise
    if stands != known:
        say(f"{kind.name}: runs ({stands.source})")
    return _server(kind, stands, "")


def _begun(place: Place, kind: Kind, environment: Mapping[str, str], say: Say) -> Standing:
    """A new server: its program found or installed, its ports chosen, and both remembered."""
    source = choose(kind, machine_now(environment, place.compose_file))
    program = install(kind, say) if source.way is Way.INSTALL else source.program
    made = Standing(
        way=Way.CONTAINER if source.way is Way.CONTAINER else Way.PROGRAM,
        program=program,
        members=kind.members,
        ports=dict(zip(kind.port_names(), _free_ports(len(kind.port_names())), strict=True)),
        password=secrets.token_hex(16),
    )
    _remember(place, kind.name, made)
    return made


def _start(place: Place, kind: Kind, stands: Standing) -> Standing:
    """Start those of its processes that do not live, and remember each at once."""
    for launch in kind.launches(place.folder, stands.program, stands.ports):
        known = stands.processes.get(launch.name)
        if known is not None and alive(known):
            continue
        for name in launch.ports:
            await_free(kind, launch.name, stands.ports[name])
        log = _log(place, launch.name)
        environment = own_environment(launch.environment, _mark(place, kind.name))
        pid = start_detached(launch.argv, log, place.folder, environment)
        identity = identity_of(pid)
        if identity is None:
            raise SynergyError(_last_words(kind, launch.name, log))
        stands = replace(stands, processes={**stands.processes, launch.name: identity})
        _remember(place, kind.name, stands)
    return stands


def _await(place: Place, kind: Kind, stands: Standing) -> None:
    """Wait until it can be used.

    Raises:
        SynergyError: one of its processes ended.
        TimedOut: it did not become ready.
    """
    give_up = time.monotonic() + PATIENCE
    while True:
        for name, identity in stands.processes.items():
            if not alive(identity):
                raise SynergyError(_last_words(kind, name, _log(place, name)))
        try:
            awaited = kind.awaited(stands.ports)
        except OSError as error:
            awaited = f"an answer ({error})"
        if awaited is None:
            return
        if time.monotonic() > give_up:
            raise TimedOut(f"{kind.title}: waited {PATIENCE:.0f} s in vain for {awaited}")
        time.sleep(LOOK)


def _check_reachable(kind: Kind, url: str) -> None:
    """That somebody listens where the environment says so; the URL, with its password, is not told.

    Raises:
        Unreachable: nobody does.
    """
    parts = urlsplit(url)
    port = DEFAULT_PORTS.get(parts.scheme)
    if port is None:
        return  # another scheme (mongodb+srv) is for the drivers
    hosts = parts.netloc.rpartition("@")[2].split(",")
    troubles = []
    for host in hosts:
        one = urlsplit(f"//{host}")
        try:
            address = (one.hostname or HOST, one.port or port)
            socket.create_connection(address, CONNECT_PATIENCE).close()
        except (OSError, ValueError) as error:
            troubles.append(f"{host}: {error}")
        else:
            return
    raise Unreachable(
        f"{kind.title}: {kind.variable} names a server that does not answer "
        f"({'; '.join(troubles)}); start it, or unset the variable"
    )


def await_free(kind: Kind, name: str, port: int) -> None:
    """That a remembered port is free, for the process `name`.

    A process that was killed is gone some milliseconds before its sockets are, if it had many
    threads: the system closes them with the last of these.

    Raises:
        Conflict: somebody else has it.
    """
    give_up = time.monotonic() + RELEASE
    while not _is_free(port):
        if time.monotonic() > give_up:
            raise Conflict(
                f"{kind.title}: port {port} of its {name} is taken by somebody else; "
                f"choose anew with: services down {kind.name}, then services up"
            )
        time.sleep(LOOK)


def _free_ports(count: int) -> list[int]:
    """As many different ports of the loopback on which nobody listens.

    Raises:
        SynergyError: there are not that many.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == count:
            return found
        if _is_free(port):
            found.append(port)
    raise SynergyError(f"no {count} ports are free between {PORTS[0]} and {PORTS[-1]}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: what a dead one left in TIME_WAIT does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _last_words(kind: Kind, name: str, log: Path) -> str:
    try:
        said = log.read_text("utf-8", "replace").strip().splitlines()[-LAST_WORDS:]
    except OSError:
        said = []
    return "\n".join([f"{kind.title}: its {name} ended; it said last:", *said])


# ---- down


def _end(place: Place, name: str, stands: Standing) -> None:
    """End its processes, at once: their data are thrown away with them."""
    if stands.way is Way.CONTAINER:
        kind = next(_as_it_stands(kind, stands) for kind in KINDS if kind.name == name)
        words = ("rm", "--stop", "--force", "--volumes", *kind.compose_services())
        _compose(place, kind, stands, *words)
    for identity in [*reversed([*stands.processes.values()]), *_marked(_mark(place, name))]:
        stop(identity, 0)
    for own in {name, *stands.ports, *stands.processes}:
        shutil.rmtree(place.folder / own, ignore_errors=True)
        _log(place, own).unlink(missing_ok=True)


def _marked(mark: str) -> list[Identity]:
    """Processes with this mark, where the system lets their environment be read (Linux)."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        # Who it is, before what it is: the number may go to another in between.
        identity = identity_of(int(path.parent.name))
        try:
            ours = wanted in path.read_bytes().split(b"\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        if ours and identity is not None:
            found.append(identity)
    return found


def _mark(place: Place, name: str) -> str:
    return f"{place.folder}/{name}"


def _forget(place: Place, name: str) -> None:
    """Take back a server that did not come up."""
    standing = read(place.folder)
    stands = standing.pop(name, None)
    if stands is not None:
        _end(place, name, stands)
        write(place.folder, standing)


# ---- containers


def _compose(place: Place, kind: Kind, stands: Standing, *words: str) -> None:
    """Call the engine's compose with our ports.

    Raises:
        SynergyError: it failed, with what it said.
    """
    project = ("--project-name", f"synergy-{stands.password[:8]}")
    file = ("--file", str(place.compose_file))
    done = subprocess.run(
        [*stands.program.split(), *project, *file, *words],
        env={**os.environ, **compose_environment(place.folder, stands.ports)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", "replace").strip()
        raise SynergyError(f"{kind.title}: {stands.program} failed ({done.returncode}): {said}")


def compose_environment(folder: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """The variables of ``compose.yaml``."""
    names = {
        f"SYNERGY_PORT_{name.upper().replace('-', '_')}": str(port) for name, port in ports.items()
    }
    return {**names, "SYNERGY_SERVICES": str(folder)}


# ---- what is remembered


def _as_it_stands(kind: Kind, stands: Standing) -> Kind:
    """The kind with as many members as were started."""
    return MongoSet(stands.members) if isinstance(kind, MongoSet) else kind


def _given(kind: Kind, standing: Mapping[str, Standing], environment: Mapping[str, str]) -> str:
    """The URL of somebody else's server; empty when none is given, or it is our own."""
    url, stands = environment.get(kind.variable, ""), standing.get(kind.name)
    if stands is None:
        return url
    own = _as_it_stands(kind, stands).url(stands.ports, stands.password)
    return "" if url == own else url


def _remember(place: Place, name: str, stands: Standing) -> None:
    write(place.folder, {**read(place.folder), name: stands})


def _server(kind: Kind, stands: Standing | None, given: str) -> Server:
    state, url, source = "absent", "", ""
    pids: dict[str, int] = {}
    if given:
        state, url, source = "given", given, str(Source(way=Way.ENVIRONMENT, url=given))
        stands = None
    elif stands is not None:
        whole = _as_it_stands(kind, stands)
        pids = {name: one.pid for name, one in stands.processes.items() if alive(one)}
        wanted = whole.launches(Path(), "", stands.ports) if stands.native else []
        state = "running" if all(one.name in pids for one in wanted) else "broken"
        url, source = whole.url(stands.ports, stands.password), stands.source
    return Server(
        name=kind.name,
        title=kind.title,
        state=state,
        url=url,
        variable=kind.variable,
        source=source,
        pids=pids,
        ports=dict(stands.ports) if stands else {},
        program=stands.native if stands else "",
    )


def _log(place: Place, name: str) -> Path:
    return place.folder / f"{name}.log"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
