"""What has to be on the server: exchanges, queues and what binds them, as data.

Queues are quorum queues unless the URL says otherwise: they are the ones that survive the loss of
a server of a cluster, they confirm only what is on disk, and RabbitMQ 4 has no other replicated
kind.  A classic one hands a message out before that is on disk, which is quicker by as much as a
write takes, and it loses nothing either while its one server stands.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from synergy.brokers.message import DEAD, PARKED
from synergy.errors import BadInput

#: Bytes of the longest name that AMQP can carry.
_LONGEST = 255
#: Of foreign messages so many are kept, the latest: whoever floods us does not fill the disk.
_DEAD_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Declaration:
    """One call of a channel that makes something, or finds it made alike."""

    #: The channel's method.
    call: str
    arguments: dict[str, Any]
    #: "exchange NAME" or "queue NAME".
    what: str


@dataclass(frozen=True, slots=True)
class Topology:
    """The names of our things, and how they are declared."""

    prefix: str
    #: "quorum" or "classic".
    queues: str

    @property
    def units(self) -> str:
        """The exchange that units are published to, by process."""
        return f"{self.prefix}.units"

    @property
    def bell(self) -> str:
        """The exchange that carries rings, by role."""
        return f"{self.prefix}.bell"

    def queue(self, process: str) -> str:
        """The queue of a process.

        Raises:
            BadInput: the name would be too long.
        """
        name = f"{self.units}.{process}"
        if len(name.encode()) > _LONGEST:
            raise BadInput(f"process {process!r} has too long a name: {name} is no name of a queue")
        return name

    def aside(self, place: str) -> str:
        """The queue of what was put aside: `DEAD` or `PARKED`."""
        return f"{self.prefix}.{place}"

    def for_units(self, processes: Iterable[str]) -> list[Declaration]:
        """What publishers and consumers of these processes need."""
        found = [self._exchange(self.units)]
        for process in processes:
            queue = self.queue(process)
            found.append(self._queue(queue))
            bound = {"queue": queue, "exchange": self.units, "routing_key": process}
            found.append(Declaration("queue_bind", bound, f"queue {queue}"))
        return found

    def for_letters(self) -> list[Declaration]:
        """The queues of what was put aside."""
        return [
            self._queue(self.aside(DEAD), {"x-max-length": _DEAD_KEPT}),
            self._queue(self.aside(PARKED)),
        ]

    def for_rings(self) -> list[Declaration]:
        """What bells need."""
        return [self._exchange(self.bell)]

    def _exchange(self, name: str) -> Declaration:
        arguments = {"exchange": name, "exchange_type": "direct", "durable": True}
        return Declaration("exchange_declare", arguments, f"exchange {name}")

    def _queue(self, name: str, more: dict[str, Any] | None = None) -> Declaration:
        kind = {"x-queue-type": self.queues}
        arguments = {"queue": name, "durable": True, "arguments": {**kind, **(more or {})}}
        return Declaration("queue_declare", arguments, f"queue {name}")
