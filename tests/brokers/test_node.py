"""What happens to a RabbitMQ node does not happen to units: killed, starved, told to cut us off."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synergy.brokers import open_broker
from synergy.brokers.message import DEAD
from synergy.errors import Unreachable
from synergy.ports import Broker
from synergy.testing.broker_contract import (
    SOON,
    gather,
    keys,
    letters_of,
    rung,
    some_units,
    until,
)
from synergy.testing.contracts import a_unit
from tests import servers
from tests.brokers.node import CONSUMER_TIMEOUT, HOST, Node
from tests.brokers.rig import RabbitRig
from tests.certificates import make_certificates

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("rabbitmq"), certificates) as node:
        yield node


@pytest.fixture
def prefix() -> str:
    return servers.fresh_name()


@pytest.fixture(params=["quorum", "classic"])
def url(request: pytest.FixtureRequest, node: Node, prefix: str) -> str:
    return f"amqp://guest:guest@{HOST}:{node.port}/?prefix={prefix}&queues={request.param}"


@pytest.fixture
def broker(url: str) -> Iterator[Broker]:
    broker = open_broker(url)
    assert broker is not None
    broker.declare(["site_hourly"])
    yield broker
    broker.close()


def test_a_broker_killed_in_mid_publish_loses_nothing_that_it_confirmed(
    node: Node, broker: Broker
) -> None:
    publisher, units = broker.publisher(), some_units(9_000)
    assert until(lambda: not publisher.trouble)
    publisher.publish(units)
    assert until(lambda: publisher.published.confirmed > 500)
    node.kill()
    assert until(lambda: publisher.trouble)
    confirmed = publisher.published.confirmed
    assert confirmed < 9_000, "it was killed too late for this test to mean anything"
    node.start()
    assert publisher.flush(SOON), publisher.published
    told = publisher.published
    assert (told.handed, told.confirmed, told.dropped) == (9_000, 9_000, 0)
    consumer = broker.consume(["site_hourly"], 1_000)
    arrived = set(keys(gather(consumer, 9_000)))
    while arrived < {unit.key for unit in units} and (more := gather(consumer, 1, seconds=5)):
        arrived.update(keys(more))  # some came twice
    lost = {unit.key for unit in units} - arrived
    assert not lost, f"{len(lost)} of {confirmed} confirmed before and 9000 after"


def test_connections_that_the_operator_closes_are_made_anew(node: Node, broker: Broker) -> None:
    publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 100)
    bell = broker.bell()
    ear = bell.listen("worker")
    assert until(lambda: not publisher.trouble and consumer.healthy)
    for number in range(3):
        node.control("close_all_connections", "by the operator")
        publisher.publish(some_units(50, first=number * 50))
    arrived = set()
    while len(arrived) < 150 and (more := gather(consumer, 1)):
        arrived.update(keys(more))
    assert arrived == {unit.key for unit in some_units(150)}
    assert publisher.flush(SOON)
    assert publisher.published.dropped == 0
    ear.drain()
    bell.ring("worker")
    assert ear.wait(SOON)


def test_a_starved_broker_blocks_nobody(node: Node, broker: Broker) -> None:
    publisher = broker.publisher()
    consumer = broker.consume(["site_hourly"], 100)
    assert until(lambda: not publisher.trouble and consumer.healthy)
    node.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        publisher.publish(some_units(1))
        assert until(lambda: publisher.trouble)
        assert "memory" in publisher.trouble
        publisher.publish(some_units(20_000, first=1))
        assert publisher.published.dropped > 0
    finally:
        node.control("set_vm_memory_high_watermark", "0.4")
    assert until(lambda: not publisher.trouble)
    assert publisher.flush(SOON)
    told = publisher.published
    assert told.confirmed + told.dropped == 20_001
    assert len(set(keys(gather(consumer, told.confirmed)))) == told.confirmed


def test_a_channel_that_times_out_is_opened_anew(node: Node, broker: Broker) -> None:
    publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 100)
    publisher.publish(some_units(2))
    held = gather(consumer, 2, acknowledge=False)
    connections = node.control("list_connections", "pid")
    again = gather(consumer, 2, seconds=CONSUMER_TIMEOUT / 1000 + SOON)
    consumer.acknowledge(held)
    assert sorted(keys(again)) == sorted(keys(held))
    publisher.publish([a_unit(7)])
    assert keys(gather(consumer, 1)) == [a_unit(7).key]
    assert node.control("list_connections", "pid") == connections


def test_a_program_that_is_busy_still_answers_heartbeats(node: Node, prefix: str) -> None:
    broker = open_broker(f"amqp://guest:guest@{HOST}:{node.port}/?prefix={prefix}&heartbeat=5")
    assert broker is not None
    publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 100)
    assert until(lambda: not publisher.trouble and consumer.healthy)
    connections = node.control("list_connections", "pid")
    busy_until = time.monotonic() + 15  # a server gives up after two heartbeats
    while time.monotonic() < busy_until:
        sum(range(10_000))
    assert node.control("list_connections", "pid") == connections
    assert consumer.healthy
    broker.close()


def test_a_killed_consumers_units_go_to_another(broker: Broker, url: str) -> None:
    publisher = broker.publisher()
    publisher.publish(some_units(5))
    code = (
        "import sys; from synergy.brokers import open_broker\n"
        "from synergy.testing.broker_contract import gather\n"
        "consumer = open_broker(sys.argv[1]).consume(['site_hourly'], 10)\n"
        "print(len(gather(consumer, 5, acknowledge=False)), flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"5\n"
        heir = broker.consume(["site_hourly"], 10)
        assert until(lambda: heir.healthy)
        assert heir.receive() == []
        os.kill(other.pid, signal.SIGKILL)
        assert sorted(keys(gather(heir, 5))) == [unit.key for unit in some_units(5)]


def test_a_user_who_may_not_declare_uses_what_is_there(
    node: Node, broker: Broker, prefix: str
) -> None:
    names = f"^{prefix}\\..*"
    node.control("add_user", prefix, "word")
    node.control("set_permissions", prefix, "^amq\\.gen.*", f"{names}|^amq\\.gen.*", names)
    modest = open_broker(f"amqp://{prefix}:word@{HOST}:{node.port}/?prefix={prefix}")
    assert modest is not None
    modest.declare(["site_hourly"])
    with pytest.raises(Unreachable, match=r"something is missing there: .*other"):
        modest.declare(["other"])
    publisher, consumer = modest.publisher(), modest.consume(["site_hourly"], 1)
    publisher.publish(some_units(3))
    assert keys(gather(consumer, 3)) == [unit.key for unit in some_units(3)]
    modest.close()


def test_a_user_with_the_documented_permissions_can_do_everything(
    node: Node, url: str, prefix: str
) -> None:
    ours = f"{prefix}\\..*|amq\\.gen-.*"
    node.control("add_user", prefix, "word")
    node.control(
        "set_permissions", prefix, f"^({ours})$", f"^({ours}|amq\\.default)$", f"^({ours})$"
    )
    modest = open_broker(url.replace("guest:guest", f"{prefix}:word"))
    assert modest is not None
    modest.declare([])
    publisher, consumer = modest.publisher(), modest.consume(["new"], 1)
    bell = modest.bell()
    ear = bell.listen("worker")
    publisher.publish(some_units(2, "new"))
    assert keys(gather(consumer, 2)) == [unit.key for unit in some_units(2, "new")]
    assert rung(bell, "worker", ear)
    with RabbitRig(f"amqp://{HOST}:{node.port}/", prefix=prefix) as rig:
        rig.put("new", b"no message")
        assert len(letters_of(rig, DEAD, 1)) == 1
    modest.close()


def test_a_foreign_message_that_cannot_be_put_aside_stops_nobody(
    node: Node, broker: Broker, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = f"^{prefix}\\..*"
    node.control("add_user", prefix, "word")
    # Letters go through the default exchange, to which this one may not write.
    node.control("set_permissions", prefix, "", f"^{prefix}\\.units$", names)
    modest = open_broker(f"amqp://{prefix}:word@{HOST}:{node.port}/?prefix={prefix}")
    assert modest is not None
    consumer = modest.consume(["site_hourly"], 1)
    with RabbitRig(f"amqp://{HOST}:{node.port}/", prefix=prefix) as rig:
        rig.put("site_hourly", b"no message")
        publisher = broker.publisher()
        publisher.publish(some_units(1))
        assert keys(gather(consumer, 1)) == [a_unit().key]
    modest.close()
    assert "a message is forgotten: it is not JSON" in caplog.text


# TLS


def over_tls(node: Node, host: str = "localhost", **files: Path) -> Broker:
    options = "&".join(f"{name}={path}" for name, path in files.items())
    broker = open_broker(f"amqps://guest:guest@{host}:{node.tls_port}/?{options}")
    assert broker is not None
    return broker


@pytest.fixture
def ours(certificates: Path) -> dict[str, Path]:
    """What a client needs that is one of us."""
    return {
        "cafile": certificates / "ca.pem",
        "certfile": certificates / "client.pem",
        "keyfile": certificates / "client.key",
    }


def test_units_and_rings_go_over_tls(node: Node, ours: dict[str, Path]) -> None:
    broker = over_tls(node, **ours)
    broker.declare(["site_hourly"])
    publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 500)
    received = []
    thread = threading.Thread(target=lambda: received.extend(gather(consumer, 5_000)))
    thread.start()
    publisher.publish(some_units(5_000))
    thread.join()
    assert keys(received) == [unit.key for unit in some_units(5_000)]
    bell = broker.bell()
    ear = bell.listen("worker")
    assert ear.wait(SOON)
    broker.close()


def test_a_server_of_another_authority_is_refused(
    node: Node, ours: dict[str, Path], certificates: Path
) -> None:
    broker = over_tls(node, **{**ours, "cafile": certificates / "rival.pem"})
    with pytest.raises(Unreachable, match=r"its certificate is refused: .*cafile="):
        broker.declare(["site_hourly"])
    publisher = broker.publisher()
    assert until(lambda: "certificate is refused" in publisher.trouble)
    broker.close()


def test_a_server_of_another_name_is_refused(node: Node, ours: dict[str, Path]) -> None:
    broker = over_tls(node, host=HOST, **ours)
    with pytest.raises(Unreachable, match=r"certificate is refused: .*127\.0\.0\.1"):
        broker.declare(["site_hourly"])


def test_a_client_without_certificate_is_refused(node: Node, certificates: Path) -> None:
    broker = over_tls(node, cafile=certificates / "ca.pem")
    with pytest.raises(Unreachable, match=r"ends the talk as soon as TLS stands; .*certfile="):
        broker.declare(["site_hourly"])
