"""The faults: each has a project at work, hurts it in rounds, and says how long it hurt.

In each round some hours, drawn by the seed, are asked to be run again, with the days and months
that are made of them.  The fault comes while they are at work.  The next round begins when all is
finished, so that it is known exactly which generations must be there at the end.
"""

import contextlib
import itertools
import json
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pika
import psutil

from synergy.app import SCHEDULER
from synergy.brokers.rabbitmq.address import address_of
from synergy.brokers.rabbitmq.server import parameters_of
from synergy.brokers.rabbitmq.topology import Topology
from synergy.errors import SynergyError
from synergy.leases import LEADER
from synergy.programs import age_of
from synergy.supervisor.loop import SUPERVISOR
from tests.brokers.proxy import Proxy
from tests.chaos.rig import LOOK, PROGRAMS, WORKERS, Box, Rig, Servers, rig, wait_for
from tests.chaos.witness import LEVELS, Line, Opening

#: Two days of January, whose hours are asked for to see who answers; the rest is hurt.
BEGIN, HURT = datetime(2024, 1, 30, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
UNTIL = datetime(2024, 2, 9, tzinfo=UTC)
#: Seconds that an hour's work takes, and hours of a round: with four slots it lasts a good second.
PACE = (0.02, 0.12)
HOURS = 72
#: Seconds within which the fault comes.
WITHIN = 0.9
#: Milliseconds that a consumer may hold a message, where that is the fault.
CONSUMER_TIMEOUT = 2_000
#: What RabbitMQ says of it.
_CLOSED = "timed out. Timeout value used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a fault is played."""

    seed: int
    rounds: int
    #: Whether a supervisor keeps the programs, where that makes a difference.
    supervised: bool = True
    #: Whether a second box has a scheduler too, where schedulers are killed.
    standby: bool = False
    #: Of a long outage.
    seconds: float = 60.0
    #: Seconds that a supervised program has run before it is killed, at least: one that ended
    #: sooner is started again after a wait, as something may be wrong with it.
    age: float = 10.5
    #: Where a copy of the project is left, with its logs and its witness; None: nowhere.
    keep: Path | None = None


@dataclass(slots=True)
class Told:
    """What a fault has to tell."""

    injected: dict[str, int] = field(default_factory=dict)
    #: Seconds, by what they are; each with what is aimed at, if anything is.
    times: dict[str, list[float]] = field(default_factory=dict)
    aims: dict[str, str] = field(default_factory=dict)
    #: Other figures.
    figures: dict[str, float] = field(default_factory=dict)

    def count(self, what: str, number: int = 1) -> None:
        """So many were injected."""
        self.injected[what] = self.injected.get(what, 0) + number

    def time(self, what: str, *seconds: float) -> None:
        """So long it took."""
        self.times.setdefault(what, []).extend(seconds)


Fault = Callable[[Rig, Options, Told], None]


def some_hours(rig: Rig, count: int = HOURS) -> list[datetime]:
    """Hours to be hurt."""
    hurt = [hour for hour in rig.expected.hours if hour >= HURT]
    return rig.dice.sample(hurt, min(count, len(hurt)))


def a_while(rig: Rig) -> None:
    """Until the fault comes."""
    time.sleep(rig.dice.uniform(0.05, WITHIN))


def old_enough(box: Box, program: str, options: Options) -> None:
    """Until the program runs, and has run for as long as it has to before it is killed."""
    least = options.age if options.supervised else 0.0

    def old() -> bool:
        holder = box.holder(program)
        return holder is not None and age_of(holder) >= least

    wait_for(old, f"the age of {program}")


def silences(lines: list[Line], since: float) -> list[tuple[float, float]]:
    """How long nothing was started, and when that ended; the longest first."""
    starts = [since, *(line.at for line in lines if line.what == "start" and line.at > since)]
    return sorted(
        ((later - sooner, later) for sooner, later in itertools.pairwise(starts)), reverse=True
    )


# ---- programs


def kill_scheduler(rig: Rig, options: Options, told: Told) -> None:
    """The leading scheduler is killed; then an hour is asked for, which needs a scheduler.

    Another one stands by on a second box, if there is to be one, or if there is no supervisor.
    """
    rig.begin(supervised=options.supervised)
    if not options.supervised:
        rig.box("box-2").start(SCHEDULER)
    elif options.standby:
        rig.box("box-2").supervise(SCHEDULER)
    told.aims["killed_to_next_dispatch"] = "p50 <= 1.5" if options.supervised else "max <= 4"
    rig.pace(*PACE)
    for _ in range(options.rounds):
        leader = _leader(rig)
        old_enough(rig.box(leader), SCHEDULER, options)
        rig.wave(some_hours(rig))
        a_while(rig)
        place = rig.mark()
        killed = rig.box(leader).kill(SCHEDULER)
        told.count("sigkill_scheduler")
        probe = rig.dice.choice([hour for hour in rig.expected.hours if hour < HURT])
        rig.wave([probe])
        rig.settle()
        asked = rig.expected.latest("hour", f"{probe:%Y-%m-%dT%H}")
        told.time("killed_to_next_dispatch", _first_start(rig.lines(place), asked) - killed)
        if not options.supervised:
            rig.box(leader).start(SCHEDULER)


def _leader(rig: Rig) -> str:
    """The box of the scheduler that leads."""
    found: list[str] = []

    def leads() -> bool:
        lease = rig.store.read_lease(LEADER)
        found[:] = [
            name
            for name, box in rig.boxes.items()
            if lease is not None
            and (holder := box.holder(SCHEDULER))
            and f":{holder.pid}:" in lease.owner
        ]
        return bool(found)

    wait_for(leads, "a leader")
    return found[0]


def _first_start(lines: list[Line], opening: Opening) -> float:
    """When it was started."""
    return next(line.at for line in lines if line[1:3] == ("start", opening))


def kill_worker(rig: Rig, options: Options, told: Told) -> None:
    """One of two workers is killed while it has units in hand.

    Without a supervisor nobody starts it again before the round is over.
    """
    box = rig.begin(supervised=options.supervised)
    told.aims["killed_to_started_again"] = "p99 <= 1" if options.supervised else "p99 <= 17"
    rig.pace(*PACE)
    for _ in range(options.rounds):
        victim = rig.dice.choice(WORKERS)
        old_enough(box, victim, options)
        place = rig.mark()
        rig.wave(some_hours(rig))
        a_while(rig)
        killed = box.kill(victim)
        told.count("sigkill_worker")
        rig.settle()
        told.time("killed_to_started_again", *_started_again(rig.lines(place), killed))
        if not options.supervised:
            box.start(victim)


def _started_again(lines: list[Line], killed: float) -> Iterator[float]:
    """Seconds from then to the next attempt, of what was at work then and had one."""
    starts = {(line.opening, line.attempt): line.at for line in lines if line.what == "start"}
    for (opening, attempt), at in starts.items():
        before = starts.get((opening, attempt - 1))
        if before is not None and before < killed:
            yield at - killed


def kill_supervisor(rig: Rig, options: Options, told: Told) -> None:
    """The supervisor is killed, and a program that it kept; then it is started again."""
    box = rig.begin(supervised=True)
    rig.pace(*PACE)
    for _ in range(options.rounds):
        victim = rig.dice.choice(PROGRAMS)
        old_enough(box, victim, options)
        rig.wave(some_hours(rig))
        a_while(rig)
        box.kill(SUPERVISOR)
        told.count("sigkill_supervisor")
        killed = box.kill(victim)
        told.count(f"sigkill_{victim}")
        time.sleep(rig.dice.uniform(0, 0.5))
        place = rig.mark()
        box.supervise(*PROGRAMS)
        told.time("killed_to_all_running", time.monotonic() - killed)
        rig.settle()
        assert rig.lines(place), "something was still to do"
        for name in PROGRAMS:
            if (running := _running(rig, name)) != 1:
                raise SynergyError(f"{name} runs {running} times")
    told.count("programs_doubled", 0)


def _running(rig: Rig, program: str) -> int:
    """How many processes of the project are that program."""
    found = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            ours = words[3:5] == ["start", program] and process.cwd() == str(rig.folder)
            found += ours and process.status() != psutil.STATUS_ZOMBIE
    return found


def two_schedulers(rig: Rig, options: Options, told: Told) -> None:
    """Two schedulers take themselves for the leader; now and then one of them is stopped for a
    while, so that it goes on with what is long decided."""
    boxes = [rig.box(), rig.box("box-2")]
    for box in boxes:
        box.start_leaseless()
    for program in WORKERS:
        boxes[0].start(program)
    rig.settle()
    rig.pace(*PACE)
    for _ in range(options.rounds):
        rig.wave(some_hours(rig))
        a_while(rig)
        process = rig.dice.choice(boxes).process("leaseless")
        process.send_signal(signal.SIGSTOP)
        time.sleep(rig.dice.uniform(0.05, 1.0))
        process.send_signal(signal.SIGCONT)
        told.count("sigstop_of_one")
        rig.settle()
    told.count("schedulers_at_work", sum(box.holder("leaseless") is not None for box in boxes))


# ---- the store


def kill_primary(rig: Rig, options: Options, told: Told) -> None:
    """The primary of three members is killed; it comes back when the round is over."""
    rig.begin(supervised=True)
    told.aims["killed_to_next_unit"] = "<= 2.5"
    rig.pace(*PACE)
    for _ in range(options.rounds):
        rig.wave(some_hours(rig, 2 * HOURS))
        a_while(rig)
        place = rig.mark()
        killed = time.monotonic()
        rig.servers.kill_primary()
        told.count("sigkill_primary")
        rig.settle()
        # What had been claimed before may still start: the next one ends the longest silence.
        told.time("killed_to_next_unit", silences(rig.lines(place), killed)[0][1] - killed)
        rig.servers.up()


# ---- the broker


def kill_broker(rig: Rig, options: Options, told: Told) -> None:
    """The RabbitMQ is killed, and started again at once."""
    rig.begin(supervised=True)
    rig.pace(*PACE)
    for _ in range(options.rounds):
        rig.wave(some_hours(rig, 2 * HOURS))
        a_while(rig)
        place = rig.mark()
        killed = time.monotonic()
        rig.servers.kill_broker()
        told.count("sigkill_broker")
        rig.servers.up()
        rig.settle()
        told.time("longest_silence", silences(rig.lines(place), killed)[0][0])


def broker_down(rig: Rig, options: Options, told: Told) -> None:
    """There is no RabbitMQ for a long while; units that do nothing tell what is still done.

    All hours are run again and again: first with it, as long as it will be away, then without it,
    then with it again.
    """
    rig.begin(supervised=True)
    rates = []
    for number in range(3):
        if number == 1:
            rig.servers.kill_broker()
            told.count("seconds_without_broker", round(options.seconds))
        rates.append(_rate(rig, options.seconds if number < 2 else options.seconds / 4))
        if number == 1:
            rig.servers.up()
    told.aims["kept"] = ">= 0.6"
    with_it, without, afterwards = rates
    told.figures = {
        "units_per_second_before": round(with_it, 1),
        "units_per_second_without": round(without, 1),
        "units_per_second_afterwards": round(afterwards, 1),
        "kept": round(without / with_it, 3),
    }


def _rate(rig: Rig, seconds: float) -> float:
    """Units a second while all hours are run again and again for so long."""
    units, took = 0, 0.0
    while took < seconds:
        place = rig.mark()
        before = len(rig.expected.inputs)
        began = rig.wave(rig.expected.hours)
        rig.settle()
        took += max(line.at for line in rig.lines(place)) - began
        units += len(rig.expected.inputs) - before
        rig.read_feed()
    return units / took


def purge_queue(rig: Rig, options: Options, told: Told) -> None:
    """What is published never comes to the workers.

    First the queues are purged while no worker lives: those that do have taken everything out.
    Then, under living ones, a consumer that goes before them throws away what it is given.
    """
    box = rig.begin(supervised=False)
    rig.pace(*PACE)
    for _ in range(options.rounds):
        for program in WORKERS:
            box.kill(program)
        rig.wave(some_hours(rig))
        told.count("purged", _purge(rig))
        for program in WORKERS:
            box.start(program)
        rig.settle()
        _steal(rig, told)


def _purge(rig: Rig) -> int:
    """Empty the queue of the hours as soon as there is something in it; how many messages."""
    with _channel(rig) as (_, channel, topology):
        queue, found = topology.queue("hour"), 0

        def purged() -> bool:
            nonlocal found
            found += channel.queue_purge(queue).method.message_count
            return found > 0

        a_while(rig)
        wait_for(purged, "messages to be purged")
    return found


def _steal(rig: Rig, told: Told) -> None:
    """A wave whose messages somebody takes who does nothing with them, for a while."""
    stolen: dict[str, float] = {}

    def throw_away(channel: Any, method: Any, properties: Any, body: bytes) -> None:
        unit = json.loads(body)
        stolen[f"{unit['process']}@{unit['label']}#{unit['generation']}"] = time.monotonic()

    place = rig.mark()
    with _channel(rig) as (connection, channel, topology):
        before_them = {"x-priority": 9}
        for name in LEVELS:
            queue = topology.queue(name)
            channel.basic_consume(queue, throw_away, auto_ack=True, arguments=before_them)
        rig.wave(some_hours(rig))
        until = time.monotonic() + rig.dice.uniform(0.2, WITHIN)

        def enough() -> bool:
            connection.process_data_events(LOOK)
            return bool(stolen) and time.monotonic() >= until

        wait_for(enough, "messages to be stolen")
    told.count("stolen", len(stolen))
    rig.settle()
    starts = {line.opening.unit: line.at for line in rig.lines(place) if line.attempt == 1}
    told.time("stolen_to_started", *(starts[key] - at for key, at in stolen.items()))


def consumer_timeout(rig: Rig, options: Options, told: Told) -> None:
    """Workers hold messages for longer than RabbitMQ lets them: it closes their channels.

    Those at long units give back what they were brought, so they have to be stopped in between.
    """
    servers = rig.servers
    usual = servers.control("eval", "application:get_env(rabbit, consumer_timeout).")
    for name, value in (("consumer_timeout", CONSUMER_TIMEOUT), ("channel_tick_interval", 1000)):
        servers.control("eval", f"application:set_env(rabbit, {name}, {value}).")
    before = servers.broker_log().count(_CLOSED)
    try:
        box = rig.begin(supervised=True)
        rig.pace(*PACE)
        for _ in range(options.rounds):
            rig.wave(some_hours(rig, HOURS))
            a_while(rig)
            workers = [box.process(program) for program in WORKERS]
            for worker in workers:
                worker.send_signal(signal.SIGSTOP)
            time.sleep(CONSUMER_TIMEOUT / 1000 + 2)
            for worker in workers:
                worker.send_signal(signal.SIGCONT)
            rig.settle()
    finally:
        told.count("channels_closed", servers.broker_log().count(_CLOSED) - before)
        servers.control("eval", "application:set_env(rabbit, channel_tick_interval, 60000).")
        kept = usual.strip().removeprefix("{ok,").removesuffix("}")
        servers.control("eval", f"application:set_env(rabbit, consumer_timeout, {kept}).")


def jumble(rig: Rig, options: Options, told: Told) -> None:
    """Messages come twice, late, and in another order.

    They are copied, or taken away, and published again by us, as a proxy cannot put AMQP's frames
    into another order.  What programs and broker say to each other goes through a proxy, which
    keeps it back for a while, or cuts the connections.
    """
    proxy = rig.proxy
    assert proxy is not None
    rig.begin(supervised=True)
    rig.pace(*PACE)
    with _channel(rig) as (connection, channel, topology):
        copies = channel.queue_declare("", exclusive=True).method.queue
        for name in LEVELS:
            channel.queue_bind(copies, topology.units, name)
        for _ in range(options.rounds):
            rig.wave(some_hours(rig))
            due: deque[tuple[float, str, bytes, Any]] = deque()

            def meddle(due: deque[tuple[float, str, bytes, Any]] = due) -> None:
                now = time.monotonic()
                queues = [topology.queue(name) for name in LEVELS]
                for queue in (copies, *queues):
                    taken = [channel.basic_get(queue, auto_ack=True) for _ in range(8)]
                    for method, envelope, body in taken:
                        if method is None:
                            continue
                        target = topology.queue(method.routing_key)
                        if queue != copies:
                            target = queue
                            told.count("delayed")
                        for _ in range(rig.dice.randint(1, 2)):
                            late = rig.dice.choice([0.05, 0.3, 1.0, 3.0]) * rig.dice.random()
                            due.append((now + late, target, body, envelope))
                for each in sorted(each for each in due if each[0] <= now):
                    due.remove(each)
                    _, target, body, envelope = each
                    channel.basic_publish("", target, body, envelope)
                    told.count("republished")
                connection.process_data_events(0)

            moment = time.monotonic() + rig.dice.uniform(0.05, WITHIN)
            while time.monotonic() < moment:
                meddle()
                time.sleep(LOOK)
            if rig.dice.random() < 0.5:
                with proxy.silence():
                    time.sleep(rig.dice.uniform(0.1, 1.0))
                told.count("silences")
            else:
                proxy.reset()
                told.count("connections_cut")
            rig.settle(meddle)
            while due:  # the rest comes when all is over
                meddle()
                time.sleep(LOOK)


@contextlib.contextmanager
def _channel(rig: Rig) -> Iterator[tuple[Any, Any, Topology]]:
    """To the RabbitMQ itself, and what our things are called there."""
    ours = address_of(rig.place.broker)
    parameters = parameters_of(address_of(rig.servers.broker))
    with contextlib.closing(pika.BlockingConnection(parameters)) as connection:
        yield connection, connection.channel(), Topology(ours.prefix, ours.queues)


FAULTS: Mapping[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_scheduler,
        kill_worker,
        kill_supervisor,
        two_schedulers,
        kill_primary,
        kill_broker,
        broker_down,
        purge_queue,
        consumer_timeout,
        jumble,
    )
}


def play(name: str, servers: Servers, options: Options) -> dict[str, Any]:
    """One fault from beginning to end; what it did, and what that did to the work."""
    servers.up()
    span = (BEGIN, UNTIL if name != "broker_down" else UNTIL + timedelta(days=20))
    told = Told()
    with contextlib.ExitStack() as stack:
        broker, proxy = "", None
        if name == "jumble":
            parts = urlsplit(servers.broker)
            assert parts.hostname is not None
            assert parts.port is not None
            proxy = stack.enter_context(Proxy(parts.hostname, parts.port))
            login = parts.netloc.rpartition("@")[0]
            broker = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{proxy.port}"))
        made = stack.enter_context(rig(servers, options.seed, span, broker))
        made.proxy = proxy
        trouble = ""
        try:
            FAULTS[name](made, options, told)
        except SynergyError as error:
            trouble = str(error)
        verdict = made.verdict()
        if options.keep is not None:
            shutil.copytree(made.folder, options.keep / f"{name}-{options.seed}")
    if trouble:
        verdict.wrong.insert(0, trouble)
    return {
        "fault": name,
        "seed": options.seed,
        "rounds": options.rounds,
        "supervised": made.supervised,
        "standby": options.standby,
        "injected": told.injected,
        "openings": verdict.openings,
        "starts": verdict.starts,
        "started_again": verdict.started_again,
        "lost": len(verdict.lost),
        "applied_twice": len(verdict.applied_twice),
        "wrong": [*verdict.wrong, *verdict.lost, *verdict.applied_twice][:20],
        "seconds": {what: spread(times) for what, times in told.times.items()},
        **told.figures,
        "aims": told.aims,
        # What else the machine had to do says what the seconds are worth.
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def spread(seconds: list[float]) -> dict[str, float]:
    """How many, the middle one, the worst but one in a hundred, the worst."""
    if not seconds:
        return {"n": 0}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    named = {"p50": round(last / 2), "p99": min(last, int(len(ordered) * 0.99)), "max": last}
    return {"n": len(ordered), **{name: round(ordered[at], 3) for name, at in named.items()}}
