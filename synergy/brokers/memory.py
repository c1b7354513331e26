"""A broker between the threads of this process: for tests, simulations and trying things out.

Units go through it as the messages that they would be elsewhere, so they come out as they would
there.  `leave` and `come_back` make it go away as a server does, for those who want to see what
happens then.  It starts no thread and needs no clock: whoever publishes, acknowledges or closes
does what there is to do.
"""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from synergy.bells import Wake
from synergy.brokers.message import KEPT, TYPE, Misfit, decode, encode
from synergy.core.model import Unit
from synergy.ports import Delivery, Published


@dataclass(frozen=True, slots=True)
class Message:
    """A body, and what its envelope says of its kind."""

    body: bytes
    kind: str | None = TYPE


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that was put aside, why, and the process in whose queue it had come."""

    message: Message
    reason: str
    process: str


class MemoryBroker:
    """The `Broker` port over deques.  Public methods lock; the private ones expect that."""

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        #: What was put aside, by place.
        self.letters: dict[str, list[Letter]] = {}
        self._lock = threading.RLock()
        self._queues: dict[str, deque[Message]] = {}
        self._away = ""
        self._publishers: list[MemoryPublisher] = []
        self._consumers: list[MemoryConsumer] = []
        self._bells: list[MemoryBell] = []

    def declare(self, processes: Iterable[str]) -> None:
        """A queue for each of these processes."""
        with self._lock:
            for process in processes:
                self._queue(process)

    def publisher(self) -> "MemoryPublisher":
        """Begin to publish."""
        publisher = MemoryPublisher(self, self._lock)
        self._publishers.append(publisher)
        return publisher

    def consume(self, processes: Iterable[str], window: int) -> "MemoryConsumer":
        """Begin to be handed units, of each process at most `window` unacknowledged ones."""
        consumer = MemoryConsumer(self, self._lock, tuple(processes), window)
        with self._lock:
            self._consumers.append(consumer)
            self._hand_out(consumer.processes)
        return consumer

    def bell(self) -> "MemoryBell":
        """A doorbell for the threads of this process."""
        bell = MemoryBell(self)
        self._bells.append(bell)
        return bell

    def close(self) -> None:
        """Close all publishers, consumers and bells that it gave."""
        for publisher in tuple(self._publishers):
            publisher.close()
        for consumer in tuple(self._consumers):
            consumer.close()
        for bell in self._bells:
            bell.close()

    # what tests and simulations do with it

    def leave(self, why: str) -> None:
        """Be away from now on; what was handed out is taken back."""
        with self._lock:
            self._away = why
            for consumer in self._consumers:
                self._take_back(consumer)

    def come_back(self) -> None:
        """Be there again, with everything that was in the queues."""
        with self._lock:
            self._away = ""
            for publisher in self._publishers:
                publisher._send_kept()
            self._hand_out(self._queues)
            for consumer in self._consumers:
                consumer._wake.set()

    def wipe(self) -> None:
        """Forget every message that is in a queue, as an operator may do."""
        with self._lock:
            for queue in self._queues.values():
                queue.clear()

    def put(self, process: str, message: Message) -> None:
        """Let any message come in the queue of a process."""
        with self._lock:
            self._queue(process).append(message)
            self._hand_out([process])

    # what its parties ask of it

    def _queue(self, process: str) -> deque[Message]:
        return self._queues.setdefault(process, deque())

    def _hand_out(self, processes: Iterable[str]) -> None:
        """Give what waits in these queues to consumers that have room, one after the other."""
        if self._away:
            return
        for process in list(processes):
            queue = self._queue(process)
            while queue and (takers := [each for each in self._consumers if each._room(process)]):
                for taker in takers[: len(queue)]:
                    taker._take(process, queue.popleft())

    def _take_back(self, consumer: "MemoryConsumer") -> None:
        """Put what a consumer has not acknowledged where it was taken from."""
        for process, message in reversed(consumer._give_up()):
            self._queue(process).appendleft(message)


class MemoryPublisher:
    """The `Publisher` port of a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, lock: threading.RLock) -> None:
        self._broker = broker
        self._lock = lock
        self._kept: deque[Unit] = deque()
        self._published = Published()

    def publish(self, units: Sequence[Unit]) -> None:
        """Put them into the queues of their processes, or keep some while the broker is away."""
        with self._lock:
            kept = units[: KEPT - len(self._kept)]
            self._kept.extend(kept)
            self._count(handed=len(units), dropped=len(units) - len(kept))
            if not self._broker._away:
                self._send_kept()

    def flush(self, seconds: float) -> bool:
        """Whether nothing is kept."""
        return not self._kept

    @property
    def published(self) -> Published:
        """What became of the units so far."""
        return self._published

    @property
    def trouble(self) -> str:
        """Why the broker is away."""
        return self._broker._away

    def close(self) -> None:
        """Publish nothing any more."""
        with self._lock:
            self._kept.clear()
            if self in self._broker._publishers:
                self._broker._publishers.remove(self)

    def _send_kept(self) -> None:
        sent: dict[str, None] = {}
        while self._kept:
            unit = self._kept.popleft()
            body = encode(unit)
            if body is None:
                self._count(dropped=1)
            else:
                self._broker._queue(unit.process).append(Message(body))
                sent[unit.process] = None
                self._count(confirmed=1)
        self._broker._hand_out(sent)

    def _count(self, handed: int = 0, confirmed: int = 0, dropped: int = 0) -> None:
        so_far = self._published
        self._published = replace(
            so_far,
            handed=so_far.handed + handed,
            confirmed=so_far.confirmed + confirmed,
            dropped=so_far.dropped + dropped,
        )


class MemoryConsumer:
    """The `Consumer` port of a `MemoryBroker`."""

    def __init__(
        self, broker: MemoryBroker, lock: threading.RLock, processes: tuple[str, ...], window: int
    ) -> None:
        self.processes = processes
        self._broker = broker
        self._lock = lock
        self._widest = self._window = window
        self._paused = False
        self._wake = Wake()
        self._arrived: list[Delivery] = []
        #: What is not acknowledged, by tag, in the order of handing out.
        self._held: dict[tuple[int, ...], tuple[str, Message]] = {}
        #: How many of them are of each process.
        self._load = dict.fromkeys(processes, 0)
        self._number = 0

    def fileno(self) -> int:
        """Readable when something arrived or `healthy` has changed."""
        return self._wake.fileno()

    def receive(self) -> list[Delivery]:
        """What has arrived since."""
        self._wake.drain()
        with self._lock:
            arrived, self._arrived = self._arrived, []
        return arrived

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Make room for as many others."""
        with self._lock:
            released: dict[str, None] = {}
            for delivery in deliveries:
                held = self._held.pop(delivery.tag, None)
                if held is not None:
                    self._load[held[0]] -= 1
                    released[held[0]] = None
            self._broker._hand_out(released)

    @property
    def healthy(self) -> bool:
        """Whether the broker is there."""
        return not self._broker._away

    @property
    def trouble(self) -> str:
        """Why the broker is away."""
        return self._broker._away

    def pause(self) -> None:
        """Give back what is not acknowledged; be handed nothing."""
        with self._lock:
            if self in self._broker._consumers and not self._paused:
                self._paused = True
                self._broker._take_back(self)
                self._broker._hand_out(self.processes)

    def resume(self, window: int | None = None) -> None:
        """Be handed units again."""
        with self._lock:
            if self in self._broker._consumers and self._paused:
                self._paused = False
                self._window = self._widest if window is None else window
                self._broker._hand_out(self.processes)

    def close(self) -> None:
        """Give back what is not acknowledged."""
        with self._lock:
            if self in self._broker._consumers:
                self._broker._consumers.remove(self)
                self._broker._take_back(self)
                self._broker._hand_out(self.processes)
                self._wake.close()

    def _room(self, process: str) -> bool:
        return not self._paused and self._load.get(process, self._window) < self._window

    def _take(self, process: str, message: Message) -> None:
        found = decode(message.body, message.kind, process)
        if isinstance(found, Misfit):
            letters = self._broker.letters.setdefault(found.place, [])
            letters.append(Letter(message, found.reason, process))
            return
        self._number += 1
        tag = (0, self._number)
        self._held[tag] = (process, message)
        self._load[process] += 1
        self._arrived.append(Delivery(found, tag))
        self._wake.set()

    def _give_up(self) -> list[tuple[str, Message]]:
        held = list(self._held.values())
        self._held.clear()
        self._arrived.clear()
        self._load = dict.fromkeys(self.processes, 0)
        self._wake.set()
        return held


class MemoryBell:
    """The `Bell` port for the threads of this process; silent while the broker is away."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._listeners: list[tuple[str, Wake]] = []

    def ring(self, role: str) -> None:
        """Wake everybody who listens as `role`, at whichever bell of this broker."""
        if not self._broker._away:
            for bell in self._broker._bells:
                for listens_as, listener in tuple(bell._listeners):
                    if listens_as == role:
                        listener.set()

    def listen(self, role: str) -> Wake:
        """Begin to listen."""
        listener = Wake(lambda wake: self._listeners.remove((role, wake)))
        self._listeners.append((role, listener))
        return listener

    def close(self) -> None:
        """Stop listening."""
        for _, listener in tuple(self._listeners):
            listener.close()
