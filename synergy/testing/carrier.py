"""The broker of the world: messages are lost, doubled and late in it, and it is away for a while.

It keeps what a broker promises and nothing beyond: what is in a queue is handed to one consumer at
a time, and what that one does not acknowledge is handed out again when its connection is gone.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import Final

from synergy.core.model import Unit
from synergy.ports import Delivery

#: Seconds that a message is on its way.
PROMPT: Final = 0.0005
#: Seconds by which one is late at most.
LATE: Final = 3.0
#: Seconds for which the broker is away, or a connection gone.
ABSENCES: Final = (0.2, 2.0, 9.0)

#: Have something done in so many seconds.
Later = Callable[[float, Callable[[], None]], None]
#: Whether a fault of this kind, here, happens.
Fault = Callable[["Carrier", str, str], bool]


class Carrier:
    """A broker with a queue for each process.

    How much is drawn does not depend on which faults happen, so that one can be left out.
    """

    id = "broker"

    def __init__(self, chance: Random, later: Later, fault: Fault) -> None:
        self.chance, self._later, self._fault = chance, later, fault
        #: What it has come to: it names the faults.
        self.steps = 0
        self.away = False
        self._calm = False
        #: How many unacknowledged messages of a process a consumer is handed.
        self.window = chance.choice([1, 3, 50])
        #: Share of the messages to which something happens.
        self._share = chance.choice([0.1, 0.3, 0.6])
        #: Mean seconds from one trouble of the whole broker to the next.
        self._pace = chance.choice([2.0, 8.0, 1000.0])
        self._queues: dict[str, deque[Unit]] = {}
        self._links: list[Link] = []
        self._handed = 0
        self._later(self._pause(), self._trouble)

    def publish(self, units: Iterable[Unit]) -> None:
        """Bring them; each message by itself may come to grief."""
        for unit in units:
            self.steps += 1
            drawn, late = self.chance.random(), LATE * self.chance.random()
            arrivals = [PROMPT]
            if drawn < self._share:
                kind, arrivals = (("lost", []), ("doubled", [PROMPT, late]), ("late", [late]))[
                    int(3 * drawn / self._share)
                ]
                if not self._fault(self, kind, f"the message of {unit.key}"):
                    arrivals = [PROMPT]
            for seconds in arrivals:
                self._later(seconds, partial(self._arrive, unit))

    def consume(self, stir: Callable[[], None]) -> "Link":
        """Connect; `stir` is called when something arrived or its health has changed."""
        link = Link(self, stir)
        self._links.append(link)
        self.hand_out()
        return link

    def calm(self) -> None:
        """Nothing goes wrong any more, and everybody is connected."""
        self._calm = True
        self._come_back()

    def hand_out(self) -> None:
        """Give what waits in the queues to who has room for it, one after the other."""
        for process, queue in () if self.away else self._queues.items():
            while queue and (takers := [link for link in self._links if link.has_room(process)]):
                self._handed += 1
                takers[self._handed % len(takers)].take(queue.popleft())

    def put_back(self, units: Sequence[Unit]) -> None:
        """These were not acknowledged: they are the first ones again."""
        for unit in reversed(units):
            self._queues.setdefault(unit.process, deque()).appendleft(unit)

    def forget(self, link: "Link") -> None:
        """It is closed."""
        self._links.remove(link)

    def _arrive(self, unit: Unit) -> None:
        if not self.away:
            self._queues.setdefault(unit.process, deque()).append(unit)
            self.hand_out()

    def _pause(self) -> float:
        return self.chance.expovariate(1 / self._pace)

    def _trouble(self) -> None:
        self.steps += 1
        kind = self.chance.choice(["away", "purged", "reversed", "disconnected"])
        seconds, wiped = self.chance.choice(ABSENCES), self.chance.random() < 0.5
        victim, pause = self.chance.random(), self._pause()
        if self._calm:
            return
        if not self.away and self._fault(self, kind, "the broker"):
            if kind == "reversed":
                for queue in self._queues.values():
                    queue.reverse()
            elif kind == "disconnected" and self._links:
                link = self._links[int(victim * len(self._links))]
                link.lose()
                self.hand_out()
                self._later(seconds, link.restore)
            elif kind == "away":
                self.away = True
                for link in self._links:
                    link.lose()
                self._later(seconds, self._come_back)
            if kind == "purged" or (kind == "away" and wiped):
                self._queues.clear()
        self._later(pause, self._trouble)

    def _come_back(self) -> None:
        self.away = False
        for link in tuple(self._links):
            link.restore()


class Link:
    """A worker's connection; what a `Consumer` is, without a descriptor."""

    def __init__(self, carrier: Carrier, stir: Callable[[], None]) -> None:
        self._carrier, self._stir = carrier, stir
        self._connected = not carrier.away
        self._arrived: list[Delivery] = []
        #: What is not acknowledged, by connection and number.
        self._held: dict[tuple[int, ...], Unit] = {}
        self._connection = self._number = 0
        self._window = carrier.window
        self._closed = self._paused = False

    @property
    def healthy(self) -> bool:
        """Whether everything published arrives at once."""
        return self._connected

    def receive(self) -> list[Delivery]:
        """What has arrived since."""
        arrived, self._arrived = self._arrived, []
        return arrived

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        """Make room for as many others; what came over a connection that is gone comes again."""
        for delivery in deliveries:
            self._held.pop(delivery.tag, None)
        self._carrier.hand_out()

    def pause(self) -> None:
        """Give back what is not acknowledged; be handed nothing."""
        self._paused = True
        self._give_back()
        self._carrier.hand_out()

    def resume(self, window: int | None = None) -> None:
        """Be handed units again."""
        if self._paused:
            self._paused = False
            self._window = self._carrier.window if window is None else window
            self._carrier.hand_out()

    def close(self) -> None:
        """Give back what is not acknowledged."""
        self._closed = True
        self._carrier.forget(self)
        self._give_back()
        self._carrier.hand_out()

    # for the carrier

    def has_room(self, process: str) -> bool:
        """Whether it may be handed one more unit of this process."""
        held = sum(unit.process == process for unit in self._held.values())
        return self._connected and not self._paused and held < self._window

    def take(self, unit: Unit) -> None:
        """It is handed this one."""
        self._number += 1
        tag = (self._connection, self._number)
        self._held[tag] = unit
        self._arrived.append(Delivery(unit, tag))
        self._stir()

    def lose(self) -> None:
        """The connection is gone."""
        if self._connected:
            self._connected = False
            self._connection += 1
            self._give_back()
            self._stir()

    def restore(self) -> None:
        """It is there again, if the broker is and it is still wanted."""
        if not self._connected and not self._closed and not self._carrier.away:
            self._connected = True
            self._carrier.hand_out()
            self._stir()

    def _give_back(self) -> None:
        held = list(self._held.values())
        self._held.clear()
        self._arrived.clear()
        self._carrier.put_back(held)
