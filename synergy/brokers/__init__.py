"""The brokers, each behind the port `synergy.ports.Broker`: `open_broker(url)` picks one.

none                              there is no broker: workers look into the store
memory://                         between the threads of this process: tests and simulations
amqp://user:password@host/vhost   RabbitMQ; `synergy.brokers.rabbitmq.address` has the options
amqps://…                         the same over TLS
"""

from synergy.brokers.memory import MemoryBroker
from synergy.errors import BadInput
from synergy.ports import Broker
from synergy.urls import masked

ACCEPTED = "none, memory://, amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…"


def open_broker(url: str) -> Broker | None:
    """The broker at `url`, None for ``none``; nothing is asked of it yet.

    Raises:
        BadInput: the URL is none that is accepted.
    """
    if url == "none":
        return None
    if url == "memory://":
        return MemoryBroker(url)
    if url.startswith(("amqp://", "amqps://")):
        from synergy.brokers.rabbitmq import RabbitBroker  # pika takes its time to import

        return RabbitBroker(url)
    raise BadInput(f"{masked(url)!r} is not the address of a broker; accepted are {ACCEPTED}")
