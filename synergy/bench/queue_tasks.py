"""Celery, dramatiq and huey at the work of `synergy.bench.peers`; run by an interpreter that has
one of them, but no synergy.

``queue_tasks.py`` prints one JSON object.  What it does stands in the environment as another, so
that the workers, which the libraries' own commands start, read the same.
"""

import json
import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: ``peer``: celery, dramatiq or huey.  ``broker``: URL of RabbitMQ, and ``queue``: a name there of
#: this run alone.  ``results``: URL of a MongoDB database of this run alone, or null.
#: ``confirms``: publisher confirms, and of Celery late acknowledgments.  ``processes`` and
#: ``threads`` of the workers.  ``count`` of the tasks.  ``folder`` for files.
SETTING: dict[str, Any] = json.loads(os.environ["SYNERGY_BENCH_PEER"])
#: Seconds that all of it may take.
PATIENCE = 600.0


def nothing(number: int) -> None:
    """Nothing, but leaving the time in the task's place."""
    struct.pack_into("d", _times, number * 8, time.time())


@dataclass(frozen=True)
class Peer:
    """One of them, ready to work."""

    #: What the command of its workers wants to find in this module.
    library: Any
    #: Sends one task.
    send: Callable[[int], object]
    #: The command of its workers.
    worker: list[str]
    #: Leaves nothing on the servers.
    clean_up: Callable[[], None]


def celery() -> Peer:
    """Its solo pool: the quickest for tasks that do nothing."""
    from celery import Celery
    from kombu import Exchange, Queue

    queue, results, durable = SETTING["queue"], SETTING["results"], SETTING["confirms"]
    app = Celery("bench", broker=SETTING["broker"], backend=results)
    app.conf.update(
        task_ignore_result=results is None,
        task_acks_late=durable,
        broker_transport_options={"confirm_publish": durable},
        broker_connection_retry_on_startup=True,
        task_queues=[Queue(queue, Exchange(queue), queue)],
        task_default_queue=queue,
        task_default_exchange=queue,
        task_default_routing_key=queue,
        worker_enable_remote_control=False,
        # With the default, 4, an acknowledgment is waited for again and again: 10 times slower.
        worker_prefetch_multiplier=100,
    )

    def clean_up() -> None:
        with app.connection() as connection:
            connection.default_channel.queue_delete(queue)
            connection.default_channel.exchange_delete(queue)

    # By a name of its own: here the module is called otherwise than in the workers.
    task = app.task(name="nothing")(nothing)
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    worker = ["celery", f"--app={MODULE}:library", "worker", "--pool=solo", "-c", "1", *quiet]
    return Peer(app, task.delay, worker, clean_up)


def dramatiq() -> Peer:
    """As it comes, but for the confirms."""
    import dramatiq
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    queue = SETTING["queue"]
    broker = RabbitmqBroker(url=SETTING["broker"], confirm_delivery=SETTING["confirms"])
    actor = dramatiq.actor(nothing, broker=broker, queue_name=queue)

    def clean_up() -> None:
        for name in (queue, f"{queue}.DQ", f"{queue}.XQ"):
            broker.channel.queue_delete(name)

    share = [f"--processes={SETTING['processes']}", f"--threads={SETTING['threads']}"]
    worker = ["dramatiq", f"{MODULE}:library", f"--queues={queue}", *share]
    return Peer(broker, actor.send, worker, clean_up)


def huey() -> Peer:
    """On SQLite, each write waiting for the disk."""
    from huey import SqliteHuey

    file = Path(SETTING["folder"], "huey.db")
    made = SqliteHuey(filename=str(file), fsync=True, results=False, timeout=60)
    nothing.__module__ = MODULE  # by which it is known; here that would be `__main__`
    task = made.task()(nothing)
    consumer = [
        "huey.bin.huey_consumer",
        f"{MODULE}.library",
        "--workers=1",
        "--delay=0.01",
        "--quiet",
    ]
    return Peer(made, task, consumer, lambda: None)


MODULE = Path(__file__).stem
with Path(SETTING["folder"], "times").open("r+b") as _file:
    _times = mmap.mmap(_file.fileno(), 0)
peer = {"celery": celery, "dramatiq": dramatiq, "huey": huey}[SETTING["peer"]]()
library = peer.library


def when_done(count: int) -> float:
    """The time of the last of the first so many tasks, when all have been done."""
    give_up = time.monotonic() + PATIENCE
    while True:
        times: tuple[float, ...] = struct.unpack_from(f"{count}d", _times)
        if all(times):
            return max(times)
        if time.monotonic() > give_up:
            raise SystemExit(f"{sum(map(bool, times))} of {count} tasks were done in time")
        time.sleep(0.02)


def main() -> None:
    """The first task shows that the workers run; then the others are sent and timed."""
    count: int = SETTING["count"]
    command = [sys.executable, "-I", "-m", *peer.worker]
    workers = subprocess.Popen(command, cwd=Path(__file__).parent, stdout=sys.stderr)
    try:
        peer.send(0)
        when_done(1)
        first = time.time()
        for number in range(1, count + 1):
            peer.send(number)
        seconds = when_done(count + 1) - first
    finally:
        workers.terminate()
        workers.wait()
        peer.clean_up()
    json.dump({"tasks": count, "seconds": seconds}, sys.stdout)


if __name__ == "__main__":
    main()
