"""Consumes the queues of some processes, each with a window of unacknowledged messages.

What is no proper message goes to the queue of the dead or the parked, with the reason and where
it came from in its headers, and is acknowledged once the server has confirmed that.  Where that
cannot be had it is written to the log and acknowledged all the same: it never stops a consumer.

It consumes in *turns*, between a pause and the next.  Whoever uses it says which one it shall be
at; the link's thread goes through to that, one step after the other, and what was brought in
another turn is seen by nobody.
"""

import contextlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import takewhile
from typing import Any, Final

from pika.channel import Channel
from pika.spec import Basic, BasicProperties

from synergy.bells import Wake
from synergy.brokers.message import Misfit, decode
from synergy.brokers.rabbitmq.address import Address
from synergy.brokers.rabbitmq.link import Link
from synergy.brokers.rabbitmq.topology import Topology
from synergy.logs import logger
from synergy.ports import Delivery

#: So often it is tried to put a message aside.
_LETTER_TRIES: Final = 3
#: Seconds between two such tries.
_LETTER_WAIT: Final = 0.5

_PERSISTENT: Final = 2

_log = logger("broker")


class _Step(Enum):
    """Where the link's thread is with a turn."""

    #: Nothing is consumed.
    IDLE = "idle"
    #: The server was asked to bring what is in the queues.
    BEGINS = "begins"
    #: All queues are consumed.
    CONSUMES = "consumes"
    #: The server was asked to bring nothing more.
    ENDS = "ends"


@dataclass(slots=True)
class _Letter:
    """A message on its way to where it is put aside."""

    tag: int
    place: str
    properties: BasicProperties
    body: bytes
    tries: int = 0


class RabbitConsumer:
    """The `Consumer` port over one link."""

    def __init__(
        self, address: Address, topology: Topology, processes: tuple[str, ...], window: int
    ) -> None:
        self._topology = topology
        self._processes = {topology.queue(process): process for process in processes}
        self._widest = self._window = window
        #: The turn that is wanted, and whether it is over.
        self._wanted, self._paused = 1, False
        #: The turn that the link's thread is at, and where it is with it.
        self._turn, self._step = 0, _Step.IDLE
        self._settled = False
        self._wake = Wake()
        #: Their tags are: turn, number of the channel, and the server's tag on that.
        self._arrived: deque[Delivery] = deque()
        self._rung = False
        #: Tags that other threads have acknowledged.
        self._done: deque[tuple[int, ...]] = deque()
        self._acknowledging = False
        #: How many channels there have been: a tag means nothing on another one.
        self._epoch = 0
        self._channel: Channel | None = None
        #: Tags that the server awaits an answer for, in order.
        self._unacknowledged: dict[int, None] = {}
        self._aside: Channel | None = None
        #: By number on the channel `_aside`.
        self._letters: dict[int, _Letter] = {}
        self._letters_sent = 0
        self._letters_waiting: deque[_Letter] = deque()
        self._opening_aside = False
        self._link = Link(address, self, "consumer")

    def start(self) -> None:
        """Begin to connect."""
        self._link.start()

    def fileno(self) -> int:
        """Readable when something arrived or `healthy` has changed."""
        return self._wake.fileno()

    def receive(self) -> list[Delivery]:
        """What has arrived since."""
        self._wake.drain()
        self._rung = False
        arrived = []
        with contextlib.suppress(IndexError):  # empty; the link's thread may take some, too
            while True:
                arrived.append(self._arrived.popleft())
        return [each for each in arrived if self._is_of_this_turn(each)]

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Have the link's thread acknowledge them."""
        self._done.extend([each.tag for each in deliveries if self._is_of_this_turn(each)])
        if self._done and not self._acknowledging:
            self._acknowledging = True
            self._link.call(self._acknowledge)

    @property
    def healthy(self) -> bool:
        """Whether all queues are being consumed."""
        return not self._link.trouble

    @property
    def trouble(self) -> str:
        """Why it is not healthy."""
        return self._link.trouble

    def pause(self) -> None:
        """Have the link's thread give back what is not acknowledged, and end the turn."""
        if not self._paused:
            self._paused = True
            self._link.call(self._go_on)

    def resume(self, window: int | None = None) -> None:
        """Have it begin another turn."""
        if self._paused:
            self._window = self._widest if window is None else window
            self._wanted += 1
            self._paused = False
            self._link.call(self._go_on)

    def close(self) -> None:
        """Give back what is not acknowledged."""
        if self._done:
            self._link.call(self._acknowledge)
        self._link.close()
        self._wake.close()

    def _is_of_this_turn(self, delivery: Delivery) -> bool:
        """Whether it was not given back by a pause."""
        return not self._paused and delivery.tag[0] == self._wanted

    # the party of the link

    def opened(self, channel: Channel) -> None:
        """Declare the queues, then consume them."""
        declarations = self._topology.for_units(self._processes.values())
        self._link.declare(declarations, lambda: self._begin(channel))

    def lost(self) -> None:
        """Forget what will be handed out again."""
        self._channel = self._aside = None
        self._step, self._settled = _Step.IDLE, False
        self._epoch += 1
        self._unacknowledged.clear()
        self._letters.clear()
        self._letters_waiting.clear()
        self._opening_aside = False
        self._arrived.clear()

    def changed(self) -> None:
        """`healthy` may have."""
        self._wake.set()

    def _begin(self, channel: Channel) -> None:
        if not channel.is_open:
            return
        self._channel = channel
        channel.add_on_cancel_callback(self._on_cancel)
        self._go_on()

    def _go_on(self) -> None:
        """Take the next step to the turn that is wanted; what the server answers leads on."""
        channel = self._channel
        if channel is None or not channel.is_open:
            return
        if self._step is _Step.IDLE and not self._paused:
            self._step, self._turn = _Step.BEGINS, self._wanted
            self._consume(channel)
        elif self._step is _Step.CONSUMES and (self._paused or self._turn != self._wanted):
            self._step = _Step.ENDS
            self._cancel(channel, list(self._processes))
        if self._step in (_Step.IDLE, _Step.CONSUMES) and not self._settled:
            self._settled = True
            self._link.settled()

    def _consume(self, channel: Channel) -> None:
        channel.basic_qos(prefetch_count=self._window)
        waiting_for = set(self._processes)

        def consuming(queue: str, _: Any) -> None:
            waiting_for.discard(queue)
            if not waiting_for:
                self._stands_at(channel, _Step.CONSUMES)

        for queue in self._processes:
            # The tag is the queue's name, so that a message tells which one it came from.
            channel.basic_consume(
                queue,
                partial(self._on_message, queue),
                consumer_tag=queue,
                callback=partial(consuming, queue),
            )
        if not waiting_for:
            self._stands_at(channel, _Step.CONSUMES)

    def _cancel(self, channel: Channel, queues: list[str]) -> None:
        """Consume these no more, one after the other, then give back: in this order, as the server
        would hand out to us again what it still may."""

        def canceled(_: Any) -> None:
            self._link.later(0, go_on)  # pika forgets the consumer only after this call

        def go_on() -> None:
            if channel.is_open and channel is self._channel:
                self._cancel(channel, queues[1:])

        if queues:
            channel.basic_cancel(queues[0], callback=canceled)
        else:
            self._give_back(channel)
            self._stands_at(channel, _Step.IDLE)

    def _stands_at(self, channel: Channel, step: _Step) -> None:
        if channel is self._channel:
            self._step = step
            self._go_on()

    def _give_back(self, channel: Channel) -> None:
        """All that is not acknowledged; not what is being put aside."""
        letters = {each.tag for each in (*self._letters.values(), *self._letters_waiting)}
        tags = [tag for tag in self._unacknowledged if tag not in letters]
        self._unacknowledged = {tag: None for tag in self._unacknowledged if tag in letters}
        if tags and not self._unacknowledged:
            channel.basic_nack(tags[-1], multiple=True)
            return
        for tag in tags:
            channel.basic_nack(tag)

    def _on_cancel(self, frame: Any) -> None:
        """The queue was deleted: begin anew on another channel, all of it declared."""
        channel, queue = self._channel, frame.method.consumer_tag
        if channel is not None and channel.is_open:
            _log.warning(f"the queue {queue} was deleted", extra={"action": "broker"})
            channel.close()

    def _on_message(
        self, queue: str, channel: Channel, method: Any, properties: Any, body: bytes
    ) -> None:
        tag = method.delivery_tag
        self._unacknowledged[tag] = None
        found = decode(body, properties.type, self._processes[queue])
        if isinstance(found, Misfit):
            self._put_aside(_Letter(tag, found.place, _marked(properties, queue, found), body))
            return
        self._arrived.append(Delivery(found, (self._turn, self._epoch, tag)))
        if not self._rung:
            # Not before all that came with it is there, too: who is woken for each would take them
            # one by one, at half the speed.
            self._rung = True
            self._link.later(0, self._wake.set)

    def _acknowledge(self) -> None:
        self._acknowledging = False
        tags = set()
        while self._done:
            _, epoch, tag = self._done.popleft()
            if epoch == self._epoch:
                tags.add(tag)
        self._answer(tags)

    def _answer(self, tags: set[int]) -> None:
        """Acknowledge these: all up to the first that is kept with one answer, others singly."""
        channel, unacknowledged = self._channel, self._unacknowledged
        if channel is None or not channel.is_open:
            return
        foremost = list(takewhile(tags.__contains__, unacknowledged))
        if foremost:
            for tag in foremost:
                del unacknowledged[tag]
            channel.basic_ack(foremost[-1], multiple=True)
        for tag in sorted(tags & unacknowledged.keys()):
            del unacknowledged[tag]
            channel.basic_ack(tag)

    # what is no proper message

    def _put_aside(self, letter: _Letter) -> None:
        self._letters_waiting.append(letter)
        self._send_letters()

    def _send_letters(self) -> None:
        """Publish those that wait, as soon as there is a channel for it."""
        aside = self._aside
        if aside is None or not aside.is_open:
            if self._letters_waiting and not self._opening_aside:
                self._open_aside()
            return
        while self._letters_waiting:
            letter = self._letters_waiting.popleft()
            letter.tries += 1
            self._letters_sent += 1
            self._letters[self._letters_sent] = letter
            queue = self._topology.aside(letter.place)
            aside.basic_publish("", queue, letter.body, letter.properties, mandatory=True)

    def _open_aside(self) -> None:
        """Declare where letters go and open a channel for them.

        Another one, because the server closes it when it does not take them.
        """
        channel, epoch = self._channel, self._epoch
        if channel is None:
            return
        self._opening_aside = True

        def opened(aside: Channel) -> None:
            aside.add_on_close_callback(closed)
            aside.add_on_return_callback(self._on_letter_return)
            aside.confirm_delivery(self._on_letter_confirm, partial(confirming, aside))

        def confirming(aside: Channel, _: Any) -> None:
            if epoch == self._epoch:
                self._opening_aside = False
                self._aside, self._letters_sent = aside, 0
                self._send_letters()

        def closed(aside: Channel, reason: BaseException) -> None:
            if epoch == self._epoch:
                self._opening_aside = False
                self._aside = None
                self._letters_failed(list(self._letters), str(reason))

        def declared() -> None:
            channel.connection.channel(on_open_callback=opened)

        self._link.declare(self._topology.for_letters(), declared)

    def _on_letter_confirm(self, frame: Any) -> None:
        method = frame.method
        number = method.delivery_tag
        numbers = list(takewhile(number.__ge__, self._letters)) if method.multiple else [number]
        if isinstance(method, Basic.Ack):
            # One that was returned is no longer there.
            letters = [self._letters.pop(each, None) for each in numbers]
            self._answer({letter.tag for letter in letters if letter is not None})
        else:
            self._letters_failed(numbers, "the broker refuses it")

    def _on_letter_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        for number, letter in self._letters.items():
            if letter.body == body and self._topology.aside(letter.place) == method.routing_key:
                self._letters_failed([number], "its queue is gone")
                channel.close()  # the queues are declared before the next one
                break

    def _letters_failed(self, numbers: Iterable[int], why: str) -> None:
        """Try them again in a while; of those that were tried often enough tell, and forget them.

        The store has all that is ours; what is not must not fill the window.
        """
        given_up = set()
        for number in numbers:
            letter = self._letters.pop(number, None)
            if letter is None:
                continue
            if letter.tries < _LETTER_TRIES:
                self._letters_waiting.append(letter)
            else:
                given_up.add(letter.tag)
                reason = (letter.properties.headers or {}).get("reason")
                _log.error(
                    f"a message is forgotten: {reason}; it cannot be kept as {letter.place}: {why}",
                    extra={"action": "broker"},
                )
        self._answer(given_up)
        if self._letters_waiting:
            self._link.later(_LETTER_WAIT, self._send_letters)


def _marked(properties: BasicProperties, queue: str, misfit: Misfit) -> BasicProperties:
    """The envelope of a message that is put aside: its own kind, why, and where it came from."""
    return BasicProperties(
        content_type=properties.content_type,
        type=properties.type,
        delivery_mode=_PERSISTENT,
        headers={"reason": misfit.reason, "queue": queue},
    )
