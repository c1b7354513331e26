"""Scheduler and worker reach MongoDB and RabbitMQ over TLS alone, or are told why they do not."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from pymongo import MongoClient

from tests import servers
from tests.brokers.node import Node
from tests.certificates import make_certificates
from tests.contracts.mongodb import a_mongod

pytestmark = pytest.mark.slow

Wait = Callable[..., Any]

USER = "shop"
#: What may be read nowhere: the passwords at the two servers.
STORE_SECRET, BROKER_SECRET = "st0re-s3cret", "br0ker-s3cret"

CONTEXT = """
from synergy import Context, daily, hourly, tree

shop = tree(
    "shop",
    [
        daily("day", run="workers.hello:count", blocking="children"),
        hourly("hour", run="workers.hello:greet"),
    ],
    start="2024-05-12",
    until="2024-05-13",
    lag=0,
)
context = Context(shop)
"""


@dataclass(frozen=True)
class Place:
    """Two servers that speak nothing but TLS, with clients whose certificate they know."""

    certificates: Path
    store_port: int
    broker_port: int

    def store(self, database: str, ca: str = "ca", client: str = "client") -> str:
        """URL of a database."""
        files = f"tlsCAFile={self.certificates}/{ca}.pem"
        if client:
            files += f"&tlsCertificateKeyFile={self.certificates}/{client}.both"
        return (
            f"mongodb://{USER}:{STORE_SECRET}@localhost:{self.store_port}/{database}"
            f"?authSource=admin&tls=true&{files}&serverSelectionTimeoutMS=2000"
        )

    def broker(self, prefix: str, ca: str = "ca", client: str = "client") -> str:
        """URL of the broker, with names of its own there."""
        files = f"cafile={self.certificates}/{ca}.pem"
        if client:
            own = self.certificates / client
            files += f"&certfile={own}.pem&keyfile={own}.key"
        return (
            f"amqps://{USER}:{BROKER_SECRET}@localhost:{self.broker_port}/?prefix={prefix}&{files}"
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    options = (
        *("--auth", "--tlsMode", "requireTLS"),
        *("--tlsCertificateKeyFile", f"{certificates}/server.both"),
        *("--tlsCAFile", f"{certificates}/ca.pem"),
    )
    with (
        a_mongod(tmp_path_factory.mktemp("mongod"), *options) as mongod,
        Node(tmp_path_factory.mktemp("rabbitmq"), certificates, plain=False) as node,
    ):
        with MongoClient[Any](
            "localhost",
            mongod.port,
            tls=True,
            tlsCAFile=f"{certificates}/ca.pem",
            tlsCertificateKeyFile=f"{certificates}/client.both",
        ) as first:
            first.admin.command("createUser", USER, pwd=STORE_SECRET, roles=["root"])
        node.control("add_user", USER, BROKER_SECRET)
        node.control("set_permissions", USER, ".*", ".*", ".*")
        yield Place(certificates, mongod.port, node.tls_port)


@pytest.fixture
def name() -> str:
    """Of a database and of a broker's things that nobody has used."""
    return servers.fresh_name()


@pytest.fixture
def project(fresh: Any) -> Any:
    """One day of hours, long past."""
    fresh.write("context.py", CONTEXT)
    return fresh


def is_secret_in(text: str) -> bool:
    return STORE_SECRET in text or BROKER_SECRET in text


def assert_nothing_is_given_away(project: Any) -> None:
    """Neither in what the programs wrote nor in what everybody can read of any process."""
    written = [file for file in (project.folder / ".synergy").rglob("*") if file.is_file()]
    for file in written:
        assert not is_secret_in(file.read_text("utf-8", "replace")), file
    titles = []
    for process in psutil.process_iter():
        try:
            titles.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    assert titles
    assert not [title for title in titles if is_secret_in(title)]


def test_a_day_of_hours_goes_over_tls_and_no_password_is_shown(
    project: Any, wait: Wait, place: Place, name: str
) -> None:
    project.write(
        "settings.py", f"STORE = {place.store(name)!r}\nBROKER = {place.broker(name)!r}\n"
    )
    said = []
    for program in ("scheduler", "worker"):
        done = project.run("start", program)
        assert (done.returncode, done.stderr) == (0, ""), done
        said.append(done.stdout)
        assert_nothing_is_given_away(project)
    wait(lambda: project.jobs("day", "--state", "processed"), "the day")
    assert len(project.jobs("--state", "processed")) == 25
    status = project.json("status")
    assert status["broker"]["trouble"] == ""
    assert status["store"].startswith(f"mongodb://{USER}:***@localhost")
    assert status["broker"]["url"].startswith(f"amqps://{USER}:***@localhost")
    said += [project.ok(*words) for words in (["status"], ["query"], ["why", "day", "2024-05-12"])]
    assert len(project.titles()) >= 2, "the programs are alive while their titles are read"
    assert_nothing_is_given_away(project)
    for program in ("worker", "scheduler"):
        said.append(project.ok("stop", program))
    counts = re.search(
        r"claimed=25, brought=(\d+), applied=25",
        (project.folder / ".synergy" / "logs" / "worker.log").read_text(),
    )
    assert counts is not None
    assert int(counts[1]) > 0, "nothing came over the broker"
    assert_nothing_is_given_away(project)
    assert not is_secret_in("".join([*said, str(status)]))


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"ca": "rival"}, r"cannot be reached over TLS: .*certificate verify failed.*tlsCAFile"),
        ({"client": "stranger"}, r"closes the connection: .*tlsCertificateKeyFile"),
        ({"client": ""}, r"closes the connection: .*tlsCertificateKeyFile"),
    ],
    ids=["server of another authority", "client of another authority", "no certificate"],
)
def test_a_store_that_refuses_is_told_of_and_nothing_is_begun(
    project: Any, place: Place, name: str, files: dict[str, str], why: str
) -> None:
    project.write("settings.py", f"STORE = {place.store(name, **files)!r}\n")
    for words in (["start", "scheduler"], ["start", "worker"], ["status"]):
        done = project.run(*words)
        assert (done.returncode, done.stdout) == (5, ""), done
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert re.search(rf"mongodb://{USER}:\*\*\*@localhost.* {why}", done.stderr), done.stderr
        assert not is_secret_in(done.stderr)
    assert project.pids() == {}
    assert project.processes() == []
    with MongoClient[Any](place.store(name)) as client:
        assert name not in client.list_database_names()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"ca": "rival"}, r"its certificate is refused: .*cafile="),
        ({"client": "stranger"}, r"it ends the talk as soon as TLS stands; .*certfile="),
    ],
    ids=["server of another authority", "client of another authority"],
)
def test_a_broker_that_refuses_is_told_of_and_the_day_is_done_from_the_store(
    project: Any, wait: Wait, place: Place, name: str, files: dict[str, str], why: str
) -> None:
    project.write(
        "settings.py",
        f"STORE = {place.store(name)!r}\nBROKER = {place.broker(name, **files)!r}\n",
    )
    for program in ("scheduler", "worker"):
        done = project.run("start", program)
        assert done.returncode == 0, done
        assert len(done.stderr.splitlines()) == 1, done.stderr
        told = rf"amqps://{USER}:\*\*\*@localhost.* {why}.*look into the store"
        assert re.search(told, done.stderr), done.stderr
        assert not is_secret_in(done.stderr)
    wait(lambda: project.jobs("day", "--state", "processed"), "the day")
    trouble = project.json("status")["broker"]["trouble"]
    assert re.search(why, trouble)
    assert trouble in project.ok("status")
    project.ok("stop", "worker")
    log = (project.folder / ".synergy" / "logs" / "worker.log").read_text()
    assert trouble in log
    assert "claimed=25, brought=0, applied=25" in log
    assert_nothing_is_given_away(project)


def test_who_forgets_tls_is_told(project: Any, place: Place, name: str) -> None:
    store = f"mongodb://{USER}:{STORE_SECRET}@localhost:{place.store_port}/{name}"
    done = project.run("start", "scheduler", "--store", f"{store}?serverSelectionTimeoutMS=500")
    assert done.returncode == 5
    assert re.search(r"closes the connection: .* wants TLS \(tls=true\)$", done.stderr)
    broker = f"amqp://{USER}:{BROKER_SECRET}@localhost:{place.broker_port}/"
    done = project.run("bench", "broker", "--broker", broker)
    assert (done.returncode, done.stdout) == (5, "")
    assert re.search(r"does not speak AMQP .* amqp:// or amqps://$", done.stderr)
    assert not is_secret_in(done.stderr)
