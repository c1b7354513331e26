"""A project whose units a real RabbitMQ brings."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pika
import pytest

from synergy.brokers import open_broker
from synergy.brokers.message import DEAD, PARKED
from synergy.brokers.rabbitmq.address import address_of
from synergy.brokers.rabbitmq.server import parameters_of
from synergy.brokers.rabbitmq.topology import Topology
from tests import servers

Wait = Callable[..., Any]
PROCESSES = ("hello_hourly", "hello_daily")


@pytest.fixture
def url() -> Iterator[str]:
    """A broker in which nothing has been; it leaves nothing there."""
    url = f"{servers.rabbitmq()}?prefix={servers.fresh_name()}"
    yield url
    address = address_of(url)
    topology = Topology(address.prefix, address.queues)
    with closing(pika.BlockingConnection(parameters_of(address))) as connection:
        channel = connection.channel()
        for process in PROCESSES:
            channel.queue_delete(topology.queue(process))
        for place in (DEAD, PARKED):
            channel.queue_delete(topology.aside(place))
        for exchange in (topology.units, topology.bell):
            channel.exchange_delete(exchange)


def test_a_project_s_units_are_brought_to_its_worker(fresh: Any, wait: Wait, url: str) -> None:
    fresh.write("settings.py", f"BROKER = {url!r}\n")
    for name in ("scheduler", "worker"):
        done = fresh.run("start", name)
        assert (done.returncode, done.stderr) == (0, "")
    wait(lambda: fresh.jobs("hello_daily", "--state", "processed"), "the first day")
    assert fresh.json("status")["broker"]["trouble"] == ""
    fresh.ok("stop", "worker")
    log = (fresh.folder / ".synergy" / "logs" / "worker.log").read_text()
    counts = re.search(r"claimed=(\d+), brought=(\d+), applied=(\d+), superseded=0", log)
    assert counts is not None, log
    claimed, brought, applied = map(int, counts.groups())
    assert claimed == applied >= 25
    assert brought > 0, "some may be found by looking: the worker began before it was connected"
    left = open_broker(url)
    assert left is not None
    with closing(left):
        consumer = left.consume(PROCESSES, 9)
        wait(lambda: consumer.healthy, "the consumer")
        stands = {delivery.unit.key for delivery in consumer.receive()}
    assert not stands & {f"{key}#1" for key in fresh.jobs("--state", "processed")}
