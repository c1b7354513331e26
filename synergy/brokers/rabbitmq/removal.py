"""Removes what we have on a server: for names that were made to be thrown away."""

import contextlib
from collections.abc import Iterable

import pika

from synergy.brokers.rabbitmq.address import address_of
from synergy.brokers.rabbitmq.server import FAULTS, complaint, parameters_of
from synergy.brokers.rabbitmq.topology import Topology


def remove(url: str, processes: Iterable[str]) -> None:
    """Delete all exchanges and queues of the URL's prefix that there are for these processes, with
    the messages in them.

    Raises:
        Unreachable: the server does not answer, or refuses to let us in.
        Conflict: it refuses to delete them.
    """
    address = address_of(url)
    topology = Topology(address.prefix, address.queues)
    ours = [*topology.for_units(processes), *topology.for_letters(), *topology.for_rings()]
    try:
        with contextlib.closing(pika.BlockingConnection(parameters_of(address))) as connection:
            channel = connection.channel()
            for made in ours:
                if made.call == "queue_declare":
                    channel.queue_delete(made.arguments["queue"])
                elif made.call == "exchange_declare":
                    channel.exchange_delete(made.arguments["exchange"])
    except FAULTS as error:
        raise complaint(address, error) from error
