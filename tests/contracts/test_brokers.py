"""The brokers keep the contract of their port."""

import contextlib
from collections.abc import Iterator

import pytest

from synergy.brokers import open_broker
from synergy.brokers.memory import MemoryBroker, Message
from synergy.brokers.message import TYPE
from synergy.ports import Broker
from synergy.testing.broker_contract import BrokerContract, BrokerRig
from tests import servers


class MemoryRig:
    """The one object is its own server."""

    def __init__(self) -> None:
        broker = open_broker("memory://")
        assert isinstance(broker, MemoryBroker)
        self._broker = broker

    def open(self) -> Broker:
        """The same again: there is no second one by nature."""
        return self._broker

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Nobody can use it."""
        self._broker.leave("the broker has left")
        yield
        self._broker.come_back()

    def put(self, process: str, body: bytes, kind: str | None = TYPE) -> None:
        """Any message."""
        self._broker.put(process, Message(body, kind))

    def letters(self, place: str) -> list[tuple[str, bytes]]:
        """Take all that are there."""
        letters = self._broker.letters.pop(place, [])
        return [(letter.reason, letter.message.body) for letter in letters]


class TestMemory(BrokerContract):
    """Between threads."""

    @pytest.fixture
    def rig(self) -> BrokerRig:
        return MemoryRig()


class RabbitMQ(BrokerContract):
    """A real server."""

    options = ""

    @pytest.fixture
    def rig(self) -> Iterator[BrokerRig]:
        url = servers.rabbitmq()
        from tests.brokers.rig import RabbitRig

        with RabbitRig(url, self.options) as rig:
            yield rig


class TestRabbitMQ(RabbitMQ):
    """With quorum queues."""


class TestRabbitMQClassic(RabbitMQ):
    """With classic queues."""

    options = "&queues=classic"
