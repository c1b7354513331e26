"""A project of its own, its programs as real processes, and real servers to be killed.

The project is a small tree of hours, days and months.  Its work does nothing but to leave a line in
the witness when it starts and when it ends; an hour takes the time that the file ``pace`` says.
"""

import contextlib
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil

from synergy.app import SCHEDULER
from synergy.bench.place import Place as Fresh
from synergy.bench.place import fresh
from synergy.clock import SystemClock
from synergy.core.model import FeedEntry, Request
from synergy.errors import SynergyError, TimedOut, Unreachable
from synergy.programs import Identity, PidFile, alive, identity_of, kill_tree
from synergy.services import Place, Server, kinds_named, servers_down, servers_up, wire
from synergy.stores import open_bell, open_store
from synergy.supervisor.loop import SUPERVISOR
from tests.brokers.proxy import Proxy
from tests.chaos.witness import LEVELS, Expected, Line, Verdict, judge, read_witness

REPO = Path(__file__).resolve().parents[2]
#: Seconds that anything may take: a lease of a worker lasts 15.
PATIENCE = 90.0
#: Seconds between two looks at what is waited for.
LOOK = 0.02
#: The worker programs, and how many units each works at a time.
WORKERS, SLOTS = ("worker-1", "worker-2"), 2
PROGRAMS = (*WORKERS, SCHEDULER)

#: The box where they run.
FIRST = "box-1"

_CONTEXT = """\
from synergy import Context, daily, hourly, monthly, program, tree

LIMITS = {{"run": "work:work", "max_attempts": 999, "backoff": 0}}
context = Context(
    tree(
        "chaos",
        [monthly("month", **LIMITS), daily("day", **LIMITS), hourly("hour", **LIMITS)],
        start="{begin}",
        until="{until}",
        lag=0,
    ),
    *(program(name, slots={slots}, boxes="{first}") for name in {workers}),
)
"""
_WORK = """\
import json
import os
import random
import time

from synergy import Result, Work, processed

WITNESS = os.open("witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def tell(what: str, work: Work) -> None:
    words = [time.monotonic(), what, work.process, work.interval.label, work.generation]
    os.write(WITNESS, (json.dumps([*words, work.attempt]) + "\\n").encode())


def work(work: Work) -> Result:
    tell("start", work)
    with open("pace") as file:
        shortest, longest = map(float, file.read().split())
    if longest and work.process == "hour":
        time.sleep(random.Random(f"{work.key} {work.attempt}").uniform(shortest, longest))
    tell("end", work)
    return processed(count=1, fingerprint=work.key)
"""


class Servers:
    """A replica set of three members and a RabbitMQ, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._place = Place(folder, REPO / "compose.yaml")
        self._kinds = kinds_named(["mongodb-set", "rabbitmq"], members=3)
        # Not those of somebody else, which the environment may name: ours are to be killed.
        self._environment = {
            name: value for name, value in os.environ.items() if "SYNERGY_" not in name
        }
        self._servers: dict[str, Server] = {}

    def up(self) -> None:
        """Start what does not run; returns when all of it is ready."""
        found = servers_up(self._place, self._kinds, self._environment, _say)
        self._servers = {server.name: server for server in found}
        if not all(server.pids for server in found):
            raise SynergyError("these servers run in containers, where they cannot be killed")

    def down(self) -> None:
        """End them, and remove their data."""
        servers_down(self._place, self._kinds, _say)

    @property
    def store(self) -> str:
        """URL of the replica set."""
        return self._servers["mongodb-set"].url

    @property
    def broker(self) -> str:
        """URL of the RabbitMQ."""
        return self._servers["rabbitmq"].url

    def kill_broker(self) -> None:
        """SIGKILL for the RabbitMQ."""
        _kill(self._servers["rabbitmq"].pids["rabbitmq"])

    def kill_primary(self) -> str:
        """SIGKILL for the primary of the replica set; its name."""
        server = self._servers["mongodb-set"]
        for name, port in server.ports.items():
            with contextlib.suppress(OSError):
                if wire.command(port, {"hello": 1}).get("isWritablePrimary"):
                    _kill(server.pids[name])
                    return name
        raise SynergyError("the replica set has no primary")

    def control(self, *words: str) -> str:
        """What ``rabbitmqctl`` says."""
        program = self._place.folder / "rabbitmq" / "rabbitmqctl"
        done = subprocess.run(
            [program, "-q", *words], check=True, capture_output=True, text=True, timeout=PATIENCE
        )
        return done.stdout

    def broker_log(self) -> str:
        """What the RabbitMQ has told."""
        return (self._place.folder / "rabbitmq.log").read_text("utf-8", "replace")


class Box:
    """The programs of one box."""

    def __init__(self, rig: "Rig", name: str) -> None:
        self.name = name
        self._rig = rig
        self._run = rig.folder / name / "run"
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, program: str) -> None:
        """Start a program in the foreground, and wait until it has shown itself."""
        self._spawn(program, "-m", "synergy.cli", "start", program, "--console")

    def supervise(self, *programs: str) -> None:
        """Start the supervisor, and wait until the programs that it keeps have shown themselves."""
        self._spawn(SUPERVISOR, "-m", "synergy.cli", "super", "--start", "--console")
        wait_for(lambda: all(map(self.holder, programs)), "the supervised programs")

    def start_leaseless(self) -> None:
        """Start a scheduler that takes itself for the leader, whoever else does."""
        self._spawn("leaseless", "-m", "tests.chaos.leaseless", str(self._rig.folder))

    def holder(self, program: str) -> Identity | None:
        """The living process that is the program."""
        return PidFile(self._run / f"{program}.pid").holder()

    def process(self, program: str) -> psutil.Process:
        """The same, to be dealt with."""
        holder = self.holder(program)
        if holder is None:
            raise SynergyError(f"{program} does not run on {self.name}")
        return psutil.Process(holder.pid)

    def kill(self, program: str) -> float:
        """SIGKILL; when (monotonic)."""
        process = self.process(program)
        at = time.monotonic()
        process.kill()
        if started := self._started.pop(program, None):
            started.wait()
        return at

    def stop(self) -> None:
        """Stop everything; what does not stop is killed, and so is what a supervisor left."""
        for started in self._started.values():
            started.terminate()
        for started in self._started.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(PATIENCE / 3)
        left = [PidFile(path).holder() for path in self._run.glob("*.pid")]
        left += [identity_of(started.pid) for started in self._started.values()]
        for identity in filter(None, left):
            kill_tree(identity)
        for started in self._started.values():
            started.wait()
        self._started.clear()

    def _spawn(self, program: str, *words: str) -> None:
        self._run.mkdir(parents=True, exist_ok=True)
        with open(self._rig.folder / self.name / f"{program}.log", "ab") as log:
            self._started[program] = subprocess.Popen(
                [sys.executable, *words],
                cwd=self._rig.folder,
                env=self._rig.environment(self.name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started = self._started[program]

        def shown() -> bool:
            if started.poll() is not None:
                raise SynergyError(f"{program} has ended at once: {Path(log.name).read_text()}")
            holder = self.holder(program)
            return holder is not None and holder.pid == started.pid

        wait_for(shown, f"{program} on {self.name}")


class Rig:
    """The project, what is expected of it, and what became of it.  Close it: `rig` does."""

    def __init__(
        self, servers: Servers, place: Fresh, seed: int, span: tuple[datetime, datetime]
    ) -> None:
        """A project at a fresh place on these servers; the hours of `span` are its timetable."""
        self.servers = servers
        self.place = place
        self.folder = place.folder
        self.dice = random.Random(seed)
        self.expected = Expected(*span)
        self.feed: list[FeedEntry] = []
        self.boxes: dict[str, Box] = {}
        #: Whether a supervisor keeps the programs.
        self.supervised = False
        #: Between the programs and the broker, where there is one.
        self.proxy: Proxy | None = None
        self.store = open_store(place.store)
        self._bell = open_bell(place.store)
        self._witness = self.folder / "witness"
        begin, until = (each.isoformat() for each in span)
        context = _CONTEXT.format(
            begin=begin, until=until, slots=SLOTS, workers=WORKERS, first=FIRST
        )
        (self.folder / "context.py").write_text(context)
        (self.folder / "work.py").write_text(_WORK)
        self.pace(0, 0)

    def environment(self, box: str) -> dict[str, str]:
        """Of the programs of a box."""
        own = {name: value for name, value in os.environ.items() if "SYNERGY_" not in name}
        settings = {
            "STORE": self.place.store,
            "BROKER": self.place.broker,
            "LOG_DIR": f"{box}/logs",
            "RUN_DIR": f"{box}/run",
            "GRACE": "2",
            "BOX": box,
        }
        mine = {f"SYNERGY_{name}": value for name, value in settings.items()}
        return {**own, **mine, "PYTHONPATH": str(REPO)}

    def box(self, name: str = FIRST) -> Box:
        """A box of the project; the same for the same name."""
        return self.boxes.setdefault(name, Box(self, name))

    def begin(self, *, supervised: bool) -> Box:
        """One box with a scheduler and the workers; the first wave of all hours is through."""
        box, self.supervised = self.box(), supervised
        if supervised:
            box.supervise(*PROGRAMS)
        else:
            for program in PROGRAMS:
                box.start(program)
        self.settle()
        return box

    def close(self) -> None:
        """Stop all programs."""
        for box in self.boxes.values():
            box.stop()
        self.store.close()

    def pace(self, shortest: float, longest: float) -> None:
        """Seconds that an hour's work takes which begins from now on."""
        new = self.folder / "pace.new"
        new.write_text(f"{shortest} {longest}")
        new.replace(self.folder / "pace")

    def wave(self, hours: Iterable[datetime]) -> float:
        """Ask for these hours to be run again, whatever stands in the way; when (monotonic).

        Only while everything that is made of them is finished: `settle`.
        """
        asked = tuple(sorted(hours))
        self.expected.wave(asked)
        request = Request(
            id=f"chaos-{secrets.token_hex(8)}",
            action="reprocess",
            process="hour",
            starts=asked,
            filed_at=SystemClock().now(),
        )
        at = time.monotonic()
        while True:
            try:
                self.store.file_request(request)
            except Unreachable:
                continue  # filing it twice is harmless
            break
        self._bell.ring(SCHEDULER)
        return at

    def settle(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until everything that is expected is finished; `meanwhile` is done all the time."""
        highest = [each for each in self.expected.standing() if each.process == LEVELS[-1]]
        wanted = {each.job: each.generation for each in highest}

        def finished() -> bool:
            meanwhile()
            with contextlib.suppress(Unreachable):
                jobs = self.store.read_jobs(wanted)
                return len(jobs) == len(wanted) and all(
                    job.state.terminal and not job.holds and job.generation >= wanted[key]
                    for key, job in jobs.items()
                )
            return False

        wait_for(finished, "the end of all work")

    def mark(self) -> int:
        """A place in the witness: what is written later stands after it."""
        return self._witness.stat().st_size if self._witness.exists() else 0

    def lines(self, after: int = 0) -> list[Line]:
        """What the work has told after that place."""
        return [*read_witness(self._witness, after)]

    def read_feed(self) -> None:
        """Read what is new in the feed; old entries are forgotten there after a while."""
        while True:
            after = self.feed[-1].seq if self.feed else 0
            if not (found := self.store.feed(after, 5000)):
                return
            self.feed += found

    def verdict(self) -> Verdict:
        """Stop everything, and compare what happened with what should have."""
        for box in self.boxes.values():
            box.stop()
        while self.store.fold(5000):
            pass
        self.read_feed()
        year = timedelta(days=366)  # what is outside of the span must not be there
        first, last = self.expected.hours[0] - year, self.expected.hours[-1] + year
        found = [job for name in LEVELS for job in self.store.jobs_between(name, first, last)]
        return judge(self.expected, self.lines(), self.feed, {job.key: job for job in found})


@contextlib.contextmanager
def rig(
    servers: Servers, seed: int, span: tuple[datetime, datetime], broker: str = ""
) -> Iterator[Rig]:
    """A rig on fresh names, which are gone after it; `broker`: another way to the same RabbitMQ."""
    servers.up()
    with fresh(servers.store, broker or servers.broker) as place:
        made = Rig(servers, place, seed, span)
        try:
            yield made
        finally:
            servers.up()  # so that what we have there can be removed
            made.close()


def wait_for(fact: Callable[[], object], what: str) -> None:
    """Look until it is so.

    Raises:
        TimedOut: it took too long.
    """
    give_up = time.monotonic() + PATIENCE
    while not fact():
        if time.monotonic() > give_up:
            raise TimedOut(f"waited {PATIENCE:g} s in vain for {what}")
        time.sleep(LOOK)


def _kill(pid: int) -> None:
    """SIGKILL, and wait until it is gone."""
    identity = identity_of(pid)
    psutil.Process(pid).kill()
    wait_for(lambda: identity is None or not alive(identity), f"the end of process {pid}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
