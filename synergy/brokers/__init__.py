"""The brokers, each behind the port `synergy.ports.Broker`: `open_broker(url)` picks one.

none         there is no broker: workers look into the store
memory://    between the threads of this process, gone with it: tests and simulations
"""

from synergy.brokers.memory import MemoryBroker
from synergy.errors import BadInput
from synergy.ports import Broker

ACCEPTED = "none or memory://"


def open_broker(url: str) -> Broker | None:
    """The broker at `url`, None for ``none``; nothing is asked of it yet.

    Raises:
        BadInput: the URL is none that is accepted.
    """
    if url == "none":
        return None
    if url == "memory://":
        return MemoryBroker(url)
    raise BadInput(f"{url!r} is not the address of a broker; accepted are {ACCEPTED}")
