"""What it costs to bring a unit through a broker, and how long it takes: nothing else is done.

* ``publish``: units handed over in batches of 500, until the last one is confirmed.
* ``consume``: the same units by one consumer that acknowledges what it receives, a thousand
  unacknowledged at most; from the first one to the last.
* ``hop``: on an otherwise idle broker, from `publish` in this process to `receive` in another,
  one unit every few milliseconds; both clocks are the machine's monotonic one.

Processor time is that of our side, per unit, all threads.
"""

import argparse
import contextlib
import os
import resource
import select
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from synergy.bench.frame import head, positive, spread
from synergy.bench.place import LEVELS, fresh, servers_of, shown
from synergy.brokers import open_broker
from synergy.core.intervals import Interval
from synergy.core.model import Task, Unit
from synergy.errors import BadInput, TimedOut
from synergy.garbage import seldom_collected
from synergy.ports import Broker, Consumer, Publisher

PROCESS = LEVELS[0]
_BATCH = 500
_WINDOW = 1_000
#: Seconds between two units of ``hop``.
_PAUSE = 0.003
#: Seconds that anything may take before the measurement is given up.
_PATIENCE = 120.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--n", type=positive, default=20_000, metavar="N", help="units; 20000")
    parser.add_argument(
        "--hops", type=positive, default=500, metavar="N", help="units of the hop; 500"
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure it all."""
    _, url = servers_of(args)
    if (url or "none") == "none":
        raise BadInput("without a broker there is nothing to measure; name one: --broker amqp://…")
    with fresh(None, url) as place, contextlib.closing(_opened(place.broker)) as broker:
        publisher = broker.publisher()
        _await(lambda: not publisher.trouble, lambda: publisher.trouble)
        with seldom_collected():
            published = _publish(publisher, [_unit(number) for number in range(args.n)])
            consumer = broker.consume([PROCESS], _WINDOW)
            consumed = _consume(consumer, args.n)
            consumer.close()
            hop = _hop(place.broker, publisher, args.hops)
    return {
        **head("broker"),
        "broker": shown(args)["broker"],
        "n": args.n,
        "publish": published,
        "consume": consumed,
        "hop_ms": hop,
    }


def _publish(publisher: Publisher, units: list[Unit]) -> dict[str, float]:
    began, busy = time.perf_counter(), _cpu()
    for start in range(0, len(units), _BATCH):
        publisher.publish(units[start : start + _BATCH])
    if not publisher.flush(_PATIENCE):
        raise TimedOut(f"after {_PATIENCE:g} s there are {publisher.published}")
    return _speed(len(units), time.perf_counter() - began, _cpu() - busy)


def _consume(consumer: Consumer, count: int) -> dict[str, float]:
    began = busy = 0.0
    received = 0
    while received < count:
        deliveries = _receive(consumer)
        if not received:
            began, busy = time.perf_counter(), _cpu()
        consumer.acknowledge(deliveries)
        received += len(deliveries)
    return _speed(received, time.perf_counter() - began, _cpu() - busy)


def _hop(url: str, publisher: Publisher, count: int) -> dict[str, float]:
    """Have so many units received in another process."""
    with subprocess.Popen(
        [sys.executable, "-m", "synergy.bench.broker", str(count)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SYNERGY_BROKER": url},  # arguments are for all to see, passwords not
    ) as other:
        assert other.stdout is not None
        if other.stdout.readline() != "ready\n":
            raise TimedOut("the process that was to receive did not begin")
        sent = []
        for number in range(count):
            time.sleep(_PAUSE)
            sent.append(time.monotonic())
            publisher.publish([_unit(number)])
        received = [float(text) for text in other.stdout.readline().split()]
    return spread(there - here for here, there in zip(sent, received, strict=True))


def _listen(url: str, count: int) -> None:
    """The other side of ``hop``: print when each unit was received."""
    broker = _opened(url)
    consumer = broker.consume([PROCESS], _WINDOW)
    _await(lambda: consumer.healthy, lambda: consumer.trouble)
    print("ready", flush=True)
    instants: list[float] = []
    while len(instants) < count:
        deliveries = _receive(consumer)
        instants += [time.monotonic()] * len(deliveries)
        consumer.acknowledge(deliveries)
    print(*instants, flush=True)
    broker.close()


def _receive(consumer: Consumer) -> list[Any]:
    if not select.select([consumer.fileno()], [], [], _PATIENCE)[0]:
        raise TimedOut(f"nothing has come for {_PATIENCE:g} s; {consumer.trouble}")
    return consumer.receive()


def _await(fact: Any, trouble: Any) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not fact():
        if time.monotonic() > deadline:
            raise TimedOut(trouble())
        time.sleep(0.01)


def _opened(url: str) -> Broker:
    broker = open_broker(url)
    assert broker is not None
    return broker


def _unit(number: int) -> Unit:
    start = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(hours=number)
    interval = Interval(start, start + timedelta(hours=1), f"{start:%Y-%m-%dT%H}")
    task = Task(entry="workers.site:count", source="events")
    return Unit(process=PROCESS, interval=interval, generation=1, task=task, created_at=start)


def _cpu() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _speed(count: int, seconds: float, busy: float) -> dict[str, float]:
    return {"units_per_s": round(count / seconds), "cpu_us": round(1e6 * busy / count, 1)}


if __name__ == "__main__":
    _listen(os.environ["SYNERGY_BROKER"], int(sys.argv[1]))
