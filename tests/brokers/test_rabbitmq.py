"""What a RabbitMQ server, its operator and the network do to our things, on the server at hand."""

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika
import pytest
from pika.channel import Channel

from synergy.brokers import open_broker
from synergy.brokers.message import DEAD
from synergy.brokers.rabbitmq.address import Address, address_of
from synergy.brokers.rabbitmq.link import Link
from synergy.brokers.rabbitmq.server import check_version
from synergy.errors import Conflict, Unreachable
from synergy.ports import Broker
from synergy.testing.broker_contract import (
    SOON,
    body_of,
    gather,
    keys,
    letters_of,
    some_units,
    until,
)
from synergy.testing.contracts import a_unit
from tests import servers
from tests.brokers.rig import RabbitRig


@pytest.fixture
def rig() -> Iterator[RabbitRig]:
    with RabbitRig(servers.rabbitmq()) as rig:
        yield rig


@pytest.fixture
def broker(rig: RabbitRig) -> Broker:
    broker = rig.open()
    broker.declare(["site_hourly"])
    return broker


# our things are deleted, or made by somebody else


def test_a_queue_deleted_while_it_is_consumed_is_made_anew(rig: RabbitRig, broker: Broker) -> None:
    publisher, consumer = broker.publisher(), broker.consume(["site_hourly", "a"], 10)
    assert until(lambda: consumer.healthy and not publisher.trouble)
    with rig.channel() as channel:
        channel.queue_delete(rig.topology.queue("site_hourly"))
    publisher.publish(some_units(5))
    assert sorted(keys(gather(consumer, 5))) == [unit.key for unit in some_units(5)]
    assert publisher.flush(SOON)
    assert publisher.published.dropped == 0


def test_an_unroutable_unit_is_counted_and_published_again(rig: RabbitRig, broker: Broker) -> None:
    publisher = broker.publisher()
    publisher.publish(some_units(3, "a"))
    assert publisher.flush(SOON)
    told = publisher.published
    assert (told.handed, told.confirmed, told.returned, told.dropped) == (3, 3, 3, 0)
    with rig.channel() as channel:
        channel.queue_unbind(rig.topology.queue("a"), rig.topology.units, "a")
    publisher.publish(some_units(2, "a"))
    assert publisher.flush(SOON)
    assert publisher.published.returned == 5
    assert len(gather(broker.consume(["a"], 10), 5)) == 5


def test_an_exchange_deleted_while_it_is_published_to_is_made_anew(
    rig: RabbitRig, broker: Broker
) -> None:
    publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 10)
    assert until(lambda: consumer.healthy and not publisher.trouble)
    with rig.channel() as channel:
        channel.exchange_delete(rig.topology.units)
    publisher.publish(some_units(5))
    assert sorted(keys(gather(consumer, 5))) == [unit.key for unit in some_units(5)]
    assert publisher.flush(SOON)


def test_a_queue_of_the_dead_deleted_meanwhile_is_made_anew(rig: RabbitRig, broker: Broker) -> None:
    consumer = broker.consume(["site_hourly"], 1)
    for number in range(3):
        rig.put("site_hourly", b"no message %d" % number)
        [(_, body)] = letters_of(rig, DEAD, 1)
        assert body == b"no message %d" % number
        with rig.channel() as channel:
            channel.queue_delete(rig.topology.aside(DEAD))
    assert consumer.healthy


class Crafted(pika.BasicProperties):
    """An envelope with any bytes as its headers."""

    def __init__(self, table: bytes) -> None:
        super().__init__()
        self.table = table

    def encode(self) -> list[bytes]:
        """The flags, and the table behind its length."""
        flags = struct.pack(">H", self.FLAG_HEADERS)
        return [flags, struct.pack(">I", len(self.table)), self.table]


@pytest.mark.parametrize(
    "table",
    [
        b"\x01tT" + struct.pack(">Q", 1_795_194_000_000),  # in milliseconds, as some write it
        b"\x01tT" + b"\xff" * 8,
        b"\x01\xffS\x00\x00\x00\x01\xff",
        b"\x01xD\xff\x00\x00\x00\x01",
    ],
)
def test_an_envelope_that_cannot_be_read_stops_nobody(
    rig: RabbitRig, broker: Broker, table: bytes
) -> None:
    consumer, publisher = broker.consume(["site_hourly"], 10), broker.publisher()
    with rig.channel() as channel:
        channel.basic_publish(rig.topology.units, "site_hourly", b"odd", Crafted(table))
    publisher.publish(some_units(1))
    assert keys(gather(consumer, 1)) == [a_unit().key]
    [(_, body)] = letters_of(rig, DEAD, 1)
    assert body == b"odd"


@pytest.mark.parametrize("kind", [b"\xff\xfe", "é" * 100, "synergy.unit/1\n"])
def test_a_type_that_is_no_text_of_ours_is_put_with_the_dead(
    rig: RabbitRig, broker: Broker, kind: Any
) -> None:
    consumer = broker.consume(["site_hourly"], 1)
    rig.put("site_hourly", body_of(a_unit()), kind)
    rig.put("site_hourly", body_of(a_unit(1)))
    assert keys(gather(consumer, 1)) == [a_unit(1).key]
    [(why, _)] = letters_of(rig, DEAD, 1)
    assert why.startswith("its type is ")


def test_a_queue_of_another_kind_is_told_at_the_start_and_used_nevertheless(
    rig: RabbitRig, broker: Broker
) -> None:
    other = rig.open("&queues=classic")
    with pytest.raises(Conflict, match=r"queue .*site_hourly that is not as we make it .*x-queue-"):
        other.declare(["site_hourly"])
    publisher, consumer = other.publisher(), other.consume(["site_hourly"], 10)
    publisher.publish(some_units(2))
    assert keys(gather(consumer, 2)) == [unit.key for unit in some_units(2)]


def test_a_queue_that_is_full_makes_trouble_until_it_is_not(rig: RabbitRig) -> None:
    queue = rig.topology.queue("site_hourly")
    with rig.channel() as channel:
        channel.queue_declare(
            queue, durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
        )
    broker = rig.open()
    publisher = broker.publisher()
    broker.consume([], 1)
    publisher.publish(some_units(1, "a"))
    assert publisher.flush(SOON)  # now there is the exchange
    with rig.channel() as channel:
        channel.queue_bind(queue, rig.topology.units, "site_hourly")
    publisher.publish(some_units(10))
    assert publisher.flush(SOON)
    assert publisher.published.dropped == 8
    assert "a queue is full" in publisher.trouble
    assert len(gather(broker.consume(["site_hourly"], 10), 2)) == 2
    publisher.publish([a_unit(99)])
    assert publisher.flush(SOON)
    assert until(lambda: not publisher.trouble)


# the network


@pytest.mark.slow
def test_a_silent_network_is_noticed_and_left(rig: RabbitRig) -> None:
    broker = rig.open("&heartbeat=5")
    publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 10)
    publisher.publish(some_units(1))
    assert len(gather(consumer, 1)) == 1
    with rig.proxy.silence():
        publisher.publish([a_unit(1)])
        assert until(lambda: "has given no sign for too long" in publisher.trouble)
        assert until(lambda: not consumer.healthy)
        rig.proxy.reset()
    arrived: set[str] = set()
    while a_unit(1).key not in arrived and (more := gather(consumer, 1)):
        arrived.update(keys(more))  # the first one, too, when its acknowledgement was not heard
    assert a_unit(1).key in arrived


def test_a_silent_server_does_not_keep_a_program_from_ending(rig: RabbitRig) -> None:
    broker = rig.open()
    publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 10)
    assert until(lambda: consumer.healthy and not publisher.trouble)
    with rig.proxy.silence():
        before = time.monotonic()
        broker.close()
        broker.close()
        assert time.monotonic() - before < 10


def test_what_was_closed_leaves_nothing_behind(rig: RabbitRig) -> None:
    def open_and_close() -> None:
        broker = rig.open()
        publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 10)
        bell = broker.bell()
        ear = bell.listen("worker")
        assert until(lambda: consumer.healthy and not publisher.trouble and ear.wait(0))
        broker.close()
        # Some are closed before they have a connection.
        broker.publisher()
        broker.close()

    open_and_close()
    assert until(lambda: not ours(), seconds=SOON)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        open_and_close()
    assert until(lambda: not ours(), seconds=SOON)
    # Those of the proxy go when the server has closed its side.
    assert until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def ours() -> list[str]:
    """The threads of links."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("broker-")]


class Clumsy:
    """A party that makes mistakes at first."""

    def __init__(self, address: Address) -> None:
        self.told: list[str] = []
        self.link = Link(address, self, "clumsy")

    def opened(self, channel: Channel) -> None:
        """Begin, soon."""
        self.told.append("opened")
        self.link.later(0, self.begin)

    def begin(self) -> None:
        """Fail twice."""
        if self.told.count("opened") < 3:
            raise RuntimeError("a mistake")
        self.link.settled()

    def lost(self) -> None:
        """As it should be."""
        self.told.append("lost")

    def changed(self) -> None:
        """As it should be."""
        self.told.append("changed")


def test_a_mistake_costs_a_connection_and_not_the_thread(
    rig: RabbitRig, caplog: pytest.LogCaptureFixture
) -> None:
    party = Clumsy(rig.address)
    party.link.start()
    assert until(lambda: "something unexpected has happened" in party.link.trouble)
    assert until(lambda: not party.link.trouble)
    party.link.close()
    assert party.told[:7] == ["opened", "lost", "changed"] * 2 + ["opened"]
    assert caplog.text.count("RuntimeError: a mistake") >= 2


def test_a_connection_that_is_reset_now_and_then_loses_nothing(
    rig: RabbitRig, broker: Broker
) -> None:
    publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 100)
    arrived = set()
    for number in range(20):
        publisher.publish(some_units(50, first=50 * number))
        arrived.update(keys(gather(consumer, 10, seconds=0.2)))
        rig.proxy.reset()
    expected = {unit.key for unit in some_units(1000)}
    while arrived < expected and (more := gather(consumer, 1)):
        arrived.update(keys(more))
    assert arrived == expected
    assert publisher.flush(SOON)
    told = publisher.published
    assert (told.handed, told.confirmed, told.dropped) == (1000, 1000, 0)


# the start


def elsewhere(url: str, **parts: str) -> str:
    """The URL with another login, place or vhost."""
    split = urlsplit(url)
    login, _, place = split.netloc.rpartition("@")
    netloc = f"{parts.get('login', login)}@{parts.get('place', place)}"
    return urlunsplit(split._replace(netloc=netloc, path=parts.get("path", split.path)))


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"login": "nobody:secret"}, r"refuses the user 'nobody' or the password; check both"),
        ({"path": "/no%20such"}, r"refuses the vhost 'no such' to the user .*; check the name"),
        ({"place": "127.0.0.1:1"}, r"Connection refused; start it, or check host and port"),
        ({"place": "no-such-host.invalid"}, r"; start it, or check host and port in the URL"),
    ],
)
def test_a_server_that_cannot_be_used_is_told_in_a_sentence(
    parts: dict[str, str], sentence: str
) -> None:
    broker = open_broker(elsewhere(servers.rabbitmq(), **parts))
    assert broker is not None
    with pytest.raises(Unreachable, match=sentence) as caught:
        broker.declare(["site_hourly"])
    told = str(caught.value)
    assert "\n" not in told
    assert "secret" not in told
    publisher = broker.publisher()
    assert until(lambda: "connected to" not in publisher.trouble)
    assert publisher.trouble == told
    broker.close()


def test_a_server_that_does_not_speak_tls_is_told_in_a_sentence() -> None:
    address = address_of(servers.rabbitmq())
    broker = open_broker(f"amqps://{address.host}:{address.port}/")
    assert broker is not None
    told = r"TLS fails: what answers there does not speak it; check that the port speaks TLS"
    with pytest.raises(Unreachable, match=told):
        broker.declare([])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_a_server_that_takes_connections_and_is_silent_is_told_in_a_sentence(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        broker = open_broker(f"{scheme}://user:secret@127.0.0.1:{deaf.getsockname()[1]}/")
        assert broker is not None
        with pytest.raises(Unreachable, match=r"takes connections and does not answer; look at"):
            broker.declare([])


@pytest.mark.parametrize("version", ["3.9.27", "3.8.2", "2.0"])
def test_a_server_that_is_too_old_is_refused(version: str) -> None:
    address = address_of("amqp://guest:secret@host/")
    with pytest.raises(Conflict, match=rf"RabbitMQ {version}, which is too old; upgrade it to 3"):
        check_version(address, {"version": version})


@pytest.mark.parametrize("version", ["3.10.0", "3.13.7+2", "4.1.0-rc.1", "4.0", "", "tip"])
def test_a_server_that_is_new_enough_or_does_not_tell_is_used(version: str) -> None:
    check_version(address_of("amqp://host/"), {"version": version})
