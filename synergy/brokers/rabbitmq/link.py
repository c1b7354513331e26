"""One connection to the server on a thread of its own, opened again whenever it breaks.

All of pika happens in that thread: other threads leave there what is to be done (`call`).  It
answers heartbeats whatever the program is busy with (F1), looks once a second whether the channel
is still open, because a server may close that alone and quietly (F2), and opens anew what is not:
after a short while at first, then less and less often, never at the same moment as all others.
"""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, Self

import pika
from pika import spec
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel
from pika.exceptions import ChannelClosedByBroker, ChannelClosedByClient

from synergy.brokers.rabbitmq.address import Address
from synergy.brokers.rabbitmq.server import (
    TAKEN_AS_MADE,
    complaint,
    parameters_of,
)
from synergy.brokers.rabbitmq.topology import Declaration
from synergy.errors import SynergyError
from synergy.logs import logger

#: Seconds between two looks at what may have happened quietly.
_LOOK_EVERY: Final = 1.0
#: Seconds before the first try again, and at most; a half up to the whole of it is waited.
_SHORTEST_WAIT: Final = 0.1
_LONGEST_WAIT: Final = 1.5
#: Seconds that `close` gives the thread to say good-bye.
_GOOD_BYE: Final = 2.0

_log = logger("broker")


class _Envelope(spec.BasicProperties):  # type: ignore[misc]
    """The properties of a message, whatever anybody has written into them.

    pika leaves a connection over a date or number in the headers that Python does not have, such
    as a time in milliseconds; and the server would hand out that message again and again.
    """

    def decode(self, encoded: bytes, offset: int = 0) -> Self:
        """Read what can be read; what stands behind the fault, the type too, is missing then."""
        try:
            super().decode(encoded, offset)
        except Exception:
            self.headers = None
        return self


class Party(Protocol):
    """Whom a link serves.  All of this is called in the link's thread."""

    def opened(self, channel: Channel) -> None:
        """A new channel is open; when all is set up on it, call `Link.settled`."""
        ...

    def lost(self) -> None:
        """The channel is gone, with everything that was under way on it."""
        ...

    def changed(self) -> None:
        """`Link.trouble` has changed."""
        ...


class Link:
    """The connection of one party."""

    def __init__(self, address: Address, party: Party, name: str) -> None:
        self._address = address
        self._party = party
        self._name = name
        self._loop = IOLoop()
        self._connection: pika.SelectConnection | None = None
        self._channel: Channel | None = None
        self._tries = 0
        self._closing = False
        self._blocked = False
        self._settled = False
        self._why = f"the broker {address.shown} is being connected to"
        self._thread = threading.Thread(target=self._run, name=f"broker-{name}", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        # Every lost connection is an error and a traceback to pika; to us it is `trouble`.
        pikas = logging.getLogger("pika")
        if pikas.level == logging.NOTSET:
            pikas.setLevel(logging.CRITICAL + 1)
        spec.props[_Envelope.INDEX] = _Envelope
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why nothing goes through just now; empty while all is well.  For any thread."""
        if self._blocked:
            return (
                f"the broker {self._address.shown} takes no messages: it is short of memory or "
                "disk; free some, or look at its alarms"
            )
        return "" if self._settled else self._why

    def call(self, what: Callable[[], None]) -> None:
        """Have this done in the link's thread, soon; not at all once it is closed."""
        if not self._closing:
            self._loop.add_callback_threadsafe(what)

    def close(self) -> None:
        """Close the connection and end the thread.  Twice is harmless."""
        if not self._closing:
            self.call(self._close)
            self._closing = True
            self._thread.join(_GOOD_BYE)

    # what the party asks for, in the link's thread

    def settled(self) -> None:
        """The party has set up all that it needs."""
        if not self._settled:
            _log.info(f"{self._name}: well", extra={"action": "broker"})
        self._settled = True
        self._tries = 0
        self._party.changed()

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Have this done in so many seconds."""
        self._loop.call_later(seconds, what)

    def declare(self, declarations: Sequence[Declaration], done: Callable[[], None]) -> None:
        """Make what is not there, one after the other; then go on, if the connection lives.

        Each on a channel of its own, because the server closes the one on which it refuses.
        """
        if not declarations:
            done()
            return
        first, rest = declarations[0], declarations[1:]
        connection = self._connection
        if connection is None or not connection.is_open:
            return

        def made(_: Any, aside: Channel) -> None:
            aside.close()

        def closed(_: Channel, reason: BaseException) -> None:
            current = self._connection
            if current is None or current is not connection or not current.is_open:
                return
            if isinstance(reason, ChannelClosedByBroker) and reason.reply_code not in TAKEN_AS_MADE:
                self.fault(reason)
            else:
                self.declare(rest, done)

        def ready(aside: Channel) -> None:
            aside.add_on_close_callback(closed)
            getattr(aside, first.call)(**first.arguments, callback=partial(made, aside=aside))

        connection.channel(on_open_callback=ready)

    def fault(self, reason: BaseException) -> None:
        """Something that the party needs cannot be had: begin anew after a while."""
        self._note(complaint(self._address, reason))
        if self._channel is not None and self._channel.is_open:
            self._channel.close()

    # the thread

    def _run(self) -> None:
        self._loop.call_later(0, self._connect)
        self._loop.call_later(_LOOK_EVERY, self._look)
        while True:
            try:
                self._loop.start()
                break
            except Exception as error:
                # What a server sends must never end the thread; the connection is made anew.
                _log.exception(f"{self._name}: {error}", extra={"action": "broker"})
                self._drop(error)
        self._loop.close()

    def _connect(self) -> None:
        if self._closing:
            return
        self._connection = pika.SelectConnection(
            parameters_of(self._address),
            on_open_callback=self._on_open,
            on_open_error_callback=self._on_gone,
            on_close_callback=self._on_gone,
            custom_ioloop=self._loop,
        )

    def _on_open(self, connection: Any) -> None:
        current = self._connection
        if self._closing or current is None or current is not connection:
            connection.close()
            return
        current.add_on_connection_blocked_callback(lambda *_: self._on_blocked(True))
        current.add_on_connection_unblocked_callback(lambda *_: self._on_blocked(False))
        self._open_channel()

    def _on_gone(self, connection: Any, reason: BaseException) -> None:
        """It could not be opened, or has been closed."""
        if connection is not self._connection:
            return
        self._connection = None
        self._blocked = False
        self._note(complaint(self._address, reason))
        self._lose()
        if self._closing:
            self._loop.stop()
        else:
            self._loop.call_later(self._wait(), self._connect)

    def _on_blocked(self, blocked: bool) -> None:
        self._blocked = blocked
        _log.warning(
            f"{self._name}: {self.trouble or 'takes messages again'}", extra={"action": "broker"}
        )
        self._party.changed()

    def _open_channel(self) -> None:
        connection = self._connection
        if self._channel is None and connection is not None and connection.is_open:
            self._channel = connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        self._party.opened(channel)

    def _on_channel_closed(self, channel: Channel, reason: BaseException) -> None:
        """The server has closed it, or it went with its connection."""
        if channel is self._channel:
            if not isinstance(reason, ChannelClosedByClient):
                self._note(complaint(self._address, reason))
            self._lose()
            if self._connection is not None and self._connection.is_open:
                self._loop.call_later(self._wait(), self._open_channel)

    def _lose(self) -> None:
        if self._channel is not None:
            self._channel = None
            self._settled = False
            self._party.lost()
            self._party.changed()

    def _look(self) -> None:
        """Find what has happened quietly."""
        if self._channel is not None and self._channel.is_closed:
            self._lose()
            self._open_channel()
        self._loop.call_later(_LOOK_EVERY, self._look)

    def _drop(self, error: Exception) -> None:
        """Forget a connection in which something went wrong that never should."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.is_open:
            connection.close(320, "unexpected")
        self._note(complaint(self._address, error))
        self._lose()
        self._loop.call_later(self._wait(), self._connect)

    def _close(self) -> None:
        """One that is only being opened is closed once it is, see `_on_open`."""
        if self._connection is None:
            self._loop.stop()
        elif self._connection.is_open:
            self._connection.close()

    def _wait(self) -> float:
        """Seconds until the next try, more with each one in a row."""
        longest = min(_LONGEST_WAIT, _SHORTEST_WAIT * 2.0 ** min(self._tries, 10))
        self._tries += 1
        return longest * random.uniform(0.5, 1.0)

    def _note(self, why: SynergyError) -> None:
        text = str(why)
        if self._settled or text != self._why:
            if not self._closing:
                _log.warning(f"{self._name}: {text}", extra={"action": "broker"})
        self._why = text
