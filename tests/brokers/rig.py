"""A RabbitMQ server as the tests see it: through a proxy, with names of each test alone."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import pika
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

from synergy.brokers import open_broker
from synergy.brokers.message import DEAD, PARKED, TYPE
from synergy.brokers.rabbitmq.address import Address, address_of
from synergy.brokers.rabbitmq.server import parameters_of
from synergy.brokers.rabbitmq.topology import Topology
from synergy.ports import Broker
from synergy.testing.broker_contract import PROCESSES
from tests import servers
from tests.brokers.proxy import Proxy


class RabbitRig:
    """What `BrokerRig` wants of a real server, reached through a proxy."""

    def __init__(self, url: str, options: str = "", prefix: str = "") -> None:
        self.address: Address = replace(address_of(url), prefix=prefix or servers.fresh_name())
        self.topology = Topology(self.address.prefix, "quorum")
        self.proxy = Proxy(self.address.host, self.address.port)
        self._parts = urlsplit(url)
        self._options = options
        self._opened: list[Broker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for broker in self._opened:
            broker.close()
        self.proxy.__exit__()
        queues = [self.topology.queue(process) for process in PROCESSES]
        queues += [self.topology.aside(place) for place in (DEAD, PARKED)]
        with self.channel() as channel:
            for queue in queues:
                channel.queue_delete(queue)
            channel.exchange_delete(self.topology.units)
            channel.exchange_delete(self.topology.bell)

    @property
    def url(self) -> str:
        """The server through the proxy."""
        login, _, _ = self._parts.netloc.rpartition("@")
        place = f"{login}@127.0.0.1:{self.proxy.port}" if login else f"127.0.0.1:{self.proxy.port}"
        query = f"prefix={self.address.prefix}{self._options}"
        return urlunsplit(self._parts._replace(netloc=place, query=query))

    def open(self, options: str = "") -> Broker:
        """One more handle, with more options behind the URL."""
        broker = open_broker(self.url + options)
        assert broker is not None
        self._opened.append(broker)
        return broker

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """No connection stands, none can be made."""
        self.proxy.cut()
        yield
        self.proxy.mend()

    def put(self, process: str, body: bytes, kind: str | None = TYPE) -> None:
        """As somebody else's program publishes."""
        with self.channel() as channel:
            channel.confirm_delivery()
            envelope = pika.BasicProperties(type=kind)
            channel.basic_publish(self.topology.units, process, body, envelope, mandatory=True)

    def letters(self, place: str) -> list[tuple[str, bytes]]:
        """Take all that are there; none while the queue is not, or is only being made.

        A server (3.10) answers who asks in that moment with an internal error.
        """
        found = []
        queue = self.topology.aside(place)
        not_yet = contextlib.suppress(ChannelClosedByBroker, ConnectionClosedByBroker)
        with self.channel() as channel, not_yet:
            while True:
                method, properties, body = channel.basic_get(queue, auto_ack=True)
                if method is None:
                    break
                found.append((properties.headers["reason"], body))
        return found

    @contextlib.contextmanager
    def channel(self) -> Iterator[Any]:
        """A channel to the server itself, past the proxy."""
        with pika.BlockingConnection(parameters_of(self.address)) as connection:
            yield connection.channel()
