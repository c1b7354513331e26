"""A RabbitMQ server as the broker."""

from collections.abc import Iterable

from synergy.brokers.rabbitmq.address import address_of
from synergy.brokers.rabbitmq.bell import RabbitBell
from synergy.brokers.rabbitmq.consumer import RabbitConsumer
from synergy.brokers.rabbitmq.publisher import RabbitPublisher
from synergy.brokers.rabbitmq.server import declare
from synergy.brokers.rabbitmq.topology import Topology


class RabbitBroker:
    """The `Broker` port; it asks nothing of the server by itself."""

    def __init__(self, url: str) -> None:
        self._address = address_of(url)
        self._topology = Topology(self._address.prefix, self._address.queues)
        self.url = self._address.shown
        self._parties: list[RabbitPublisher | RabbitConsumer | RabbitBell] = []

    def declare(self, processes: Iterable[str]) -> None:
        """Exchanges, the queues of these processes and those of what is put aside."""
        topology = self._topology
        declare(
            self._address,
            [*topology.for_units(processes), *topology.for_letters(), *topology.for_rings()],
        )

    def publisher(self) -> RabbitPublisher:
        """Begin to publish."""
        publisher = RabbitPublisher(self._address, self._topology)
        publisher.start()
        self._parties.append(publisher)
        return publisher

    def consume(self, processes: Iterable[str], window: int) -> RabbitConsumer:
        """Begin to be handed units, of each process at most `window` unacknowledged ones."""
        consumer = RabbitConsumer(self._address, self._topology, tuple(processes), window)
        consumer.start()
        self._parties.append(consumer)
        return consumer

    def bell(self) -> RabbitBell:
        """A doorbell that rings wherever this server is reached."""
        bell = RabbitBell(self._address, self._topology)
        bell.start()
        self._parties.append(bell)
        return bell

    def close(self) -> None:
        """Close all publishers, consumers and bells that it gave."""
        for party in self._parties:
            party.close()
        self._parties.clear()
