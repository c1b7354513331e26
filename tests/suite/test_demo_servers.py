"""Where a demonstration keeps its timetable: what it refuses, and what it leaves behind."""

import json
import os
from contextlib import closing
from pathlib import Path

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from synergy import Context, daily, tree
from synergy.app import save_context
from synergy.brokers.rabbitmq import RabbitBroker
from synergy.brokers.rabbitmq.address import address_of
from synergy.brokers.rabbitmq.server import parameters_of
from synergy.brokers.rabbitmq.topology import Topology
from synergy.cli.output import Output
from synergy.clock import SystemClock
from synergy.errors import Conflict, NotFound, Unreachable
from synergy.project import Project, adopt, open_project
from synergy.stores import open_store
from tests import servers as real
from workers import demo
from workers.servers import Servers, Where

#: Nobody listens there.
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return open_project(tmp_path, "sqlite:///synergy.db", "none")


def make_timetable(project: Project) -> None:
    """What a scheduler leaves at once."""
    context = Context(tree("some", [daily("some_daily", run="workers.some:thing")]))
    document = adopt(context, None, SystemClock().now())
    store = open_store(project.store)
    assert save_context(store, document, 0)
    store.close()


def test_a_timetable_that_something_else_made_is_refused(project: Project, tmp_path: Path) -> None:
    make_timetable(project)
    with pytest.raises(Conflict, match="name another database"):
        demo.match_figures(tmp_path / "data", project)


def test_figures_whose_timetable_is_gone_are_counted_anew(project: Project, tmp_path: Path) -> None:
    figures = [tmp_path / name for name in ("traffic.db", "traffic.db-wal")]
    others = tmp_path / "clients.json"
    for file in (*figures, others):
        file.touch()
    demo.match_figures(tmp_path, project)
    assert [file.exists() for file in (*figures, others)] == [False, False, True]


def test_figures_with_their_timetable_stay(project: Project, tmp_path: Path) -> None:
    make_timetable(project)
    (tmp_path / "traffic.db").touch()
    demo.match_figures(tmp_path, project)
    assert (tmp_path / "traffic.db").exists()


def test_a_broker_that_does_not_answer_is_told_before_anything_is_done(tmp_path: Path) -> None:
    project = open_project(tmp_path, "sqlite:///synergy.db", f"amqp://me:s3cret@{NOWHERE}/x")
    with pytest.raises(Unreachable, match=rf"amqp://me:\*\*\*@{NOWHERE}/x.*start it"):
        demo.match_figures(tmp_path, project)
    assert [*tmp_path.iterdir()] == []


def test_a_broker_that_goes_away_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = open_project(tmp_path, "sqlite:///synergy.db", f"amqp://{NOWHERE}/x")
    watch = demo.BrokerWatch(project, Output(json=False), 0.0)
    watch.look(demo.BROKER_LOOK - 1)
    assert capsys.readouterr().err == ""
    for number in (1, 2):
        watch.look(number * demo.BROKER_LOOK)
    said = capsys.readouterr().err
    assert said.count(NOWHERE) == said.count("workers look into the store") == 1


@pytest.mark.parametrize("other", ["--store=mongodb://host/x", "--broker=amqp://host/x"])
def test_servers_are_brought_up_or_named(other: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--servers", other]) == 2
    assert "leave it out, or --store and --broker" in capsys.readouterr().err


def test_servers_that_cannot_be_had_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MONGODB", "RABBITMQ"):
        monkeypatch.setenv(f"SYNERGY_TEST_{name}", f"mongodb://{NOWHERE}/")
    servers = Servers(tmp_path)
    with pytest.raises(Unreachable, match=NOWHERE):
        servers.up("generated", lambda text: None)
    assert not (tmp_path / ".synergy" / "services").exists()
    known = json.loads((tmp_path / ".synergy" / "demo-servers.json").read_text("utf-8"))
    assert known["ours"] == []


def test_of_servers_that_the_environment_names_only_what_is_ours_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNERGY_TEST_MONGODB", real.mongodb())
    monkeypatch.setenv("SYNERGY_TEST_RABBITMQ", real.rabbitmq())
    where = Servers(tmp_path).up("generated", lambda text: None)
    assert where.broker is not None
    (tmp_path / ".synergy" / where.name).mkdir()
    make_timetable(where.project(tmp_path))
    with closing(RabbitBroker(where.broker)) as broker:
        broker.declare(["some_daily"])
    Servers(tmp_path).take_back(lambda text: None)
    with pytest.raises(NotFound, match="there is no store"):
        open_store(str(where.store), create=False)
    address = address_of(where.broker)
    with closing(pika.BlockingConnection(parameters_of(address))) as connection:
        channel = connection.channel()
        with pytest.raises(ChannelClosedByBroker, match="no queue"):
            channel.queue_declare(
                Topology(address.prefix, address.queues).queue("some_daily"), passive=True
            )
    assert not (tmp_path / ".synergy" / "demo-servers.json").exists()


def test_what_was_told_is_for_its_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".synergy").mkdir()
    monkeypatch.setattr(demo, "FOLDER", tmp_path)
    demo.configure(Where(name="some", store="mongodb://me:s3cret@host/some").told)
    file = tmp_path / ".synergy" / "demo.json"
    assert os.stat(file).st_mode & 0o077 == 0
    assert json.loads(file.read_text("utf-8"))["workers"] == ["worker", "worker-2"]


def test_an_embedded_demonstration_tells_no_addresses() -> None:
    assert Where(name="some").told == {"name": "some"}
