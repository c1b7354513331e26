"""Publishes units: persistent messages in a sliding window of confirms.

What is waiting is sent as long as fewer than `WINDOW` messages are unconfirmed.  When the
connection breaks, those go out again before all others on the next one: the server may have them
already, and then its consumer is refused by the store.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, Final

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from synergy.brokers.message import KEPT, TYPE, encode
from synergy.brokers.rabbitmq.address import Address
from synergy.brokers.rabbitmq.link import Link
from synergy.brokers.rabbitmq.topology import Topology
from synergy.core.model import Unit
from synergy.ports import Published

#: How many messages may be unconfirmed at once.
WINDOW: Final = 2_000

#: Seconds before a missing queue is declared.  Perhaps it has only just been deleted, and a quorum
#: queue that is made again at once swallows messages (3.10: they are confirmed, and gone).
_HOME_AFTER: Final = 0.5

_PERSISTENT: Final = 2
_ENVELOPE: Final = BasicProperties(
    content_type="application/json", delivery_mode=_PERSISTENT, type=TYPE
)


@dataclass(frozen=True, slots=True)
class _Message:
    process: str
    body: bytes
    #: Whether no queue took it before.
    returned: bool = False


class RabbitPublisher:
    """The `Publisher` port over one link."""

    def __init__(self, address: Address, topology: Topology) -> None:
        self._topology = topology
        #: Handed over and not sent yet; the link's thread takes from the left.
        self._units: deque[Unit] = deque()
        #: To be sent before those.
        self._again: deque[_Message] = deque()
        self._channel: Channel | None = None
        #: By number of the message on the channel, in order.
        self._unconfirmed: dict[int, _Message] = {}
        self._number = 0
        #: Came back, while their queues are being declared.
        self._homeless: dict[str, list[_Message]] = {}
        #: What is wrong since the last refusal, until a message sent after it is taken.
        self._refused = ""
        self._refused_until = 0
        self._pumping = False
        self._idle = threading.Condition()
        # Each is written by one thread only.
        self._handed = 0
        self._dropped_here = 0
        self._confirmed = 0
        self._dropped = 0
        self._returned = 0
        self._repeated = 0
        self._link = Link(address, self, "publisher")

    def start(self) -> None:
        """Begin to connect."""
        self._link.start()

    def publish(self, units: Sequence[Unit]) -> None:
        """Hand them to the link's thread."""
        self._handed += len(units)
        if self._link.trouble:
            room = max(0, KEPT - len(self._units))
            self._dropped_here += len(units[room:])
            units = units[:room]
        self._units.extend(units)
        if units and not self._pumping:
            self._pumping = True
            self._link.call(self._pump)

    def flush(self, seconds: float) -> bool:
        """Wait until all are confirmed or dropped."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._under_way, seconds)

    @property
    def published(self) -> Published:
        """What became of the units so far."""
        return Published(
            handed=self._handed,
            confirmed=self._confirmed,
            dropped=self._dropped_here + self._dropped,
            returned=self._returned,
            repeated=self._repeated,
        )

    @property
    def trouble(self) -> str:
        """Why units are not brought just now."""
        return self._link.trouble or self._refused

    def close(self) -> None:
        """Stop at once."""
        self._link.close()

    # the party of the link

    def opened(self, channel: Channel) -> None:
        """Declare the exchange, and have the channel confirm."""
        self._link.declare(self._topology.for_units(()), lambda: self._begin(channel))

    def lost(self) -> None:
        """Send again what was not confirmed."""
        homeless = [message for waiting in self._homeless.values() for message in waiting]
        self._homeless.clear()
        again = [*self._unconfirmed.values(), *homeless]
        self._repeated += len(self._unconfirmed)
        self._unconfirmed.clear()
        self._again.extendleft(reversed(again))
        self._channel = None

    def changed(self) -> None:
        """Go on after the server had blocked us."""
        self._pump()

    def _begin(self, channel: Channel) -> None:
        if not channel.is_open:
            return

        def confirming(_: Any) -> None:
            self._channel = channel
            self._number = self._refused_until = 0
            self._link.settled()

        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, confirming)

    def _pump(self) -> None:
        """Send as much as the window allows."""
        self._pumping = False
        channel = self._channel
        if channel is None or not channel.is_open or self._link.trouble:
            return
        unconfirmed, exchange = self._unconfirmed, self._topology.units
        while len(unconfirmed) < WINDOW and (message := self._next()) is not None:
            channel.basic_publish(exchange, message.process, message.body, _ENVELOPE, True)
            self._number += 1
            unconfirmed[self._number] = message

    def _next(self) -> _Message | None:
        if self._again:
            return self._again.popleft()
        while self._units:
            unit = self._units.popleft()
            body = encode(unit)
            if body is not None:
                return _Message(unit.process, body)
            self._dropped += 1
            self._settle()
        return None

    def _on_confirm(self, frame: Any) -> None:
        """The server has taken a message, or all up to one, or could not."""
        method = frame.method
        number, unconfirmed = method.delivery_tag, self._unconfirmed
        # One that was returned is no longer there.
        settled = list(takewhile(number.__ge__, unconfirmed)) if method.multiple else [number]
        count = sum(unconfirmed.pop(each, None) is not None for each in settled)
        if isinstance(method, Basic.Ack):
            self._confirmed += count
            if number > self._refused_until:
                self._refused = ""
        else:
            self._dropped += count
            self._refused = "the broker refuses messages: a queue is full, or has lost its servers"
            self._refused_until = self._number
        self._settle()
        self._pump()

    def _on_return(self, channel: Channel, method: Any, properties: Any, body: bytes) -> None:
        """No queue took it; its confirm comes next and means nothing."""
        process = method.routing_key
        for number, message in self._unconfirmed.items():
            if message.body == body and message.process == process:
                del self._unconfirmed[number]
                break
        else:
            return
        if message.returned:
            self._dropped += 1
            self._settle()
            return
        self._returned += 1
        again = _Message(process, body, returned=True)
        if process in self._homeless:
            self._homeless[process].append(again)
        else:
            self._homeless[process] = [again]
            self._link.later(_HOME_AFTER, partial(self._find_home, process))

    def _find_home(self, process: str) -> None:
        """Declare the queue, then send what is for it, unless the connection broke meanwhile."""
        if process in self._homeless:
            declarations = self._topology.for_units([process])
            self._link.declare(declarations, partial(self._send_home, process))

    def _send_home(self, process: str) -> None:
        self._again.extend(self._homeless.pop(process, ()))
        self._pump()

    @property
    def _under_way(self) -> int:
        return self._handed - self._confirmed - self._dropped - self._dropped_here

    def _settle(self) -> None:
        """Wake who waits for the last one."""
        if not self._under_way:
            with self._idle:
                self._idle.notify_all()
