"""Rings through the server: transient messages, to a queue of each program that listens.

A ring that cannot be sent at once is forgotten, and one that was lost with a connection is made
up for when the next is open: listeners are woken then, to look themselves.
"""

from functools import partial
from typing import Any

from pika.channel import Channel

from synergy.bells import Wake
from synergy.brokers.rabbitmq.address import Address
from synergy.brokers.rabbitmq.link import Link
from synergy.brokers.rabbitmq.topology import Topology


class RabbitBell:
    """The `Bell` port over one link."""

    def __init__(self, address: Address, topology: Topology) -> None:
        self._topology = topology
        self._channel: Channel | None = None
        self._listeners: dict[str, list[Wake]] = {}
        #: The roles whose queue there is on this channel.
        self._heard: set[str] = set()
        self._ringing: set[str] = set()
        self._link = Link(address, self, "bell")

    def start(self) -> None:
        """Begin to connect."""
        self._link.start()

    def ring(self, role: str) -> None:
        """Wake everybody who listens as `role`; several rings before it is sent are one."""
        if role not in self._ringing:
            self._ringing.add(role)
            self._link.call(partial(self._ring, role))

    def listen(self, role: str) -> Wake:
        """Begin to listen."""
        listeners = self._listeners.setdefault(role, [])
        listener = Wake(listeners.remove)
        listeners.append(listener)
        self._link.call(partial(self._hear, role))
        return listener

    def close(self) -> None:
        """Stop listening."""
        self._link.close()
        for listeners in self._listeners.values():
            for listener in tuple(listeners):
                listener.close()

    # the party of the link

    def opened(self, channel: Channel) -> None:
        """Declare the exchange, then a queue for each role."""
        self._link.declare(self._topology.for_rings(), lambda: self._begin(channel))

    def lost(self) -> None:
        """Be deaf and dumb until there is another channel."""
        self._channel = None
        self._heard.clear()

    def changed(self) -> None:
        """A bell has nothing to catch up with."""

    def _begin(self, channel: Channel) -> None:
        if channel.is_open:
            self._channel = channel
            self._link.settled()
            for role in tuple(self._listeners):
                self._hear(role)

    def _ring(self, role: str) -> None:
        self._ringing.discard(role)
        if self._channel is not None and self._channel.is_open and not self._link.trouble:
            self._channel.basic_publish(self._topology.bell, role, b"")

    def _hear(self, role: str) -> None:
        channel = self._channel
        if channel is None or not channel.is_open or role in self._heard:
            return
        self._heard.add(role)

        def wake(*_: Any) -> None:
            for listener in tuple(self._listeners[role]):
                listener.set()

        def declared(frame: Any) -> None:
            queue = frame.method.queue
            channel.queue_bind(queue, self._topology.bell, role)
            channel.basic_consume(queue, wake, auto_ack=True, callback=wake)

        # One unread ring is as good as many.
        channel.queue_declare(
            "", exclusive=True, auto_delete=True, arguments={"x-max-length": 1}, callback=declared
        )
