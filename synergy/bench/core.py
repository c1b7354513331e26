"""What a decision costs: the engine alone, its memory, its start, and a peer on the same shape.

The engine is told events and answered as the scheduler's loop would answer: every write applied
at once, every requested unit started and then processed.  Only the time inside the engine counts
there, as processor time of this process, which looks for garbage as seldom as the scheduler does;
all other figures are wall clock.
"""

import argparse
import json
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from synergy import Context, daily, hourly, monthly, tree, yearly
from synergy.bench.frame import (
    Figure,
    head,
    measured,
    median,
    options,
    peer_python,
    peers_option,
    positive,
)
from synergy.core import machines
from synergy.core.building import build
from synergy.core.catalog import Catalog
from synergy.core.commands import SaveJob, SaveUnit
from synergy.core.engine import Engine
from synergy.core.events import Event, JobSaved, Loaded, UnitChanged, UnitSaved
from synergy.core.intervals import Calendar, Granularity, Interval
from synergy.core.model import Job, JobWrite, LedgerRecord, Standing, Unit, UnitWrite
from synergy.core.recovery import LEASE
from synergy.core.states import JobState, UnitInput, next_unit_state
from synergy.core.timetable import Ledger
from synergy.garbage import seldom_collected
from synergy.reading import read_loaded
from synergy.stores import open_store
from synergy.testing.stage import Stage, processes

#: The peer, at the version that is compared.
LUIGI = "luigi==3.8.1"
#: Histories begin here, and last whole years of 365 days.
BEGIN = datetime(2001, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
NOTHING = Loaded(ledgers={}, entries=(), jobs=(), units=(), requests=(), fired={})
#: No two neighbours stand alike: what run-length ledgers like least.
MIXED = tuple(
    Standing(state, generation, generation, attempts)
    for generation, attempts in ((1, 1), (2, 1), (3, 2))
    for state in (JobState.PROCESSED, JobState.NOOP, JobState.SKIPPED)
)
UNIFORM = MIXED[:1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    #: Years that the engine alone works off.
    years: int
    #: Intervals in the ledgers whose memory is taken.
    ledger: int
    #: Finished intervals that the start finds in the store.
    stored: int
    #: Years that lie behind a decision.
    behind: tuple[int, ...]
    #: Days that are decided then.
    ahead: int
    #: Spans of the comparison, by name.
    shapes: Mapping[str, timedelta]


FULL = Size(
    years=3,
    ledger=200_000,
    stored=1_000_000,
    behind=(1, 10, 100),
    ahead=60,
    shapes={"month": timedelta(days=31), "year": YEAR},
)
SMALL = Size(
    years=1,
    ledger=1_000,
    stored=2_000,
    behind=(1, 2),
    ahead=2,
    shapes={"day": timedelta(days=1)},
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--runs", type=positive, default=3, metavar="N", help="medians of N runs; 3"
    )
    options(parser, FIGURES)
    parser.add_argument(
        "--no-peers", action="store_true", help="leave out the others, and installing them"
    )
    peers_option(parser)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    figures = {name: figure for name, figure in FIGURES.items() if name != "peers"}
    asked = figures if args.no_peers else FIGURES
    return {**head("core"), "runs": args.runs, "figures": measured(args, asked)}


# the figures


def engine(args: argparse.Namespace) -> dict[str, Any]:
    """Finished intervals per second of processor time inside the engine; no store, no loop."""
    size = _size(args)
    now = BEGIN + size.years * YEAR
    found: dict[str, Any] = {}
    for shape, context in (("tree", _tree(BEGIN, now)), ("flat", _flat(BEGIN, now))):
        catalog = build(context, now)
        with seldom_collected():
            plays = [Play(catalog, NOTHING, now) for _ in range(args.runs)]
        found[shape] = {
            "finished": plays[0].finished,
            "per_second": round(median(play.finished / play.seconds for play in plays)),
        }
    return found


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Bytes that a ledger takes for each finished interval, as Python allocates them."""
    number = _size(args).ledger
    return {
        "finished": number,
        "bytes_per_interval": {
            "uniform": round(_ledger_bytes(number, UNIFORM) / number, 3),
            "mixed": round(_ledger_bytes(number, MIXED) / number, 3),
        },
    }


def start(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds from opening a SQLite store until the engine has decided what to do first.

    Ten trees; finished intervals stand in the ledgers, one hour in a thousand is at work and has
    its documents, and what is built on it is unfinished.
    """
    size = _size(args)
    found: dict[str, Any] = {}
    for mixture, standings in (("uniform", UNIFORM), ("mixed", MIXED)):
        with tempfile.TemporaryDirectory(prefix="synergy-bench-") as folder:
            url = f"sqlite:///{folder}/store.db"
            history = History(url, size.stored, standings)
            found[mixture] = {
                "finished": history.finished,
                "unfinished": history.unfinished,
                "seconds": round(median(history.start() for _ in range(args.runs)), 3),
            }
    return found


def flatness(args: argparse.Namespace) -> dict[str, Any]:
    """Microseconds of processor time inside the engine for each finished interval, by the years
    of finished history behind it."""
    size = _size(args)
    found: dict[str, Any] = {}
    for mixture, standings in (("uniform", UNIFORM), ("mixed", MIXED)):
        costs = {}
        for years in size.behind:
            today = BEGIN + years * YEAR
            now = today + timedelta(days=size.ahead)
            catalog = build(_tree(BEGIN, now), now)
            loaded = _loaded(catalog, today, standings)
            with seldom_collected():
                plays = [Play(catalog, loaded, now) for _ in range(args.runs)]
            costs[str(years)] = round(
                median(play.seconds / play.finished for play in plays) * 1e6, 1
            )
        found[mixture] = {"microseconds_by_years": costs}
    return found


def year(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds for all of a span (hours, their days, months and year) through the scheduler's loop
    and the memory store, the engine's start included; workers that only say "processed"."""
    return {
        name: _ours(BEGIN, BEGIN + span, args.runs) for name, span in _size(args).shapes.items()
    }


def peers(args: argparse.Namespace) -> dict[str, Any]:
    """The same spans by Luigi: its local scheduler in this machine's memory, one worker in the
    process, tasks that do nothing and whose completeness is looked up in a set."""
    python = peer_python(args.peers, LUIGI, otherwise="--no-peers leaves it out")
    found: dict[str, Any] = {}
    for name, span in _size(args).shapes.items():
        # One that takes minutes is measured once: it does not spread enough to mind.
        runs = args.runs if span < timedelta(days=100) else 1
        done = [_luigi(python, span) for _ in range(runs)]
        found[name] = {
            "tasks": done[0]["tasks"],
            "seconds": round(median(one["seconds"] for one in done), 3),
            "per_second": round(median(one["tasks"] / one["seconds"] for one in done)),
            "runs": runs,
        }
    return {"luigi": {"version": LUIGI.partition("==")[2], **found}}


#: Name → what is measured; its docstring is told with the figures.
FIGURES: Mapping[str, Figure] = {
    "engine": engine,
    "memory": memory,
    "start": start,
    "flatness": flatness,
    "year": year,
    "peers": peers,
}


# how


class Play:
    """An engine that is led through all that is due: what it finished, in what time."""

    def __init__(self, catalog: Catalog, loaded: Loaded, now: datetime) -> None:
        #: Intervals that it finished.
        self.finished = 0
        #: Processor time inside the engine, its start not included.
        self.seconds = 0.0
        self._requested: list[Unit] = []
        self._working: list[Unit] = []
        engine = Engine(catalog)
        events = self._answers(engine.handle([loaded], now), now)
        while events:
            began = time.process_time()
            commands = engine.handle(events, now)
            self.seconds += time.process_time() - began
            events = self._answers(commands, now)

    def _answers(self, commands: Iterable[object], now: datetime) -> list[Event]:
        """What the store says, and when all is said, what the workers do."""
        events: list[Event] = []
        for command in commands:
            match command:
                case SaveJob(write):
                    events.append(JobSaved(write))
                    self.finished += write.job.state.finished
                case SaveUnit(write):
                    events.append(UnitSaved(write))
                    self._requested.append(write.unit)
        if not events and self._requested:
            self._working = [_started(unit, now) for unit in self._requested]
            self._requested = []
            return [UnitChanged(unit) for unit in self._working]
        if not events:
            events = [UnitChanged(processes(unit, now)) for unit in self._working]
            self._working = []
        return events


class History:
    """A store with a long history, as a scheduler leaves it behind."""

    def __init__(self, url: str, finished: int, standings: tuple[Standing, ...]) -> None:
        self.url = url
        hours = finished // 10
        self.now = BEGIN + timedelta(hours=hours)
        self.catalog = build(
            Context(*(_levels(f"t{number}", BEGIN, None) for number in range(10))), self.now
        )
        loaded = _loaded(self.catalog, self.now, standings)
        ledgers = {name: Ledger.of_content(r.content) for name, r in loaded.ledgers.items()}
        self.finished = sum(
            sum(1 for _ in process.calendar.between(BEGIN, self.now))
            for process in self.catalog.processes.values()
        )
        jobs, units = [], []
        unfinished: set[tuple[str, datetime]] = set()
        for name in self.catalog.processes:
            if not name.endswith("hourly"):
                continue
            for hour in range(min(500, hours // 2), hours, 1000):
                at = BEGIN + timedelta(hours=hour)
                interval = self.catalog.processes[name].calendar.starting_at(at)
                job = self.dispatched(Job(process=name, interval=interval))
                jobs.append(JobWrite(job, 0))
                unit = machines.unit_of(job, self.catalog.processes[name].task, self.now)
                units.append(UnitWrite(unit, None))
                above: tuple[str, Interval] | None = (name, interval)
                while above is not None:
                    ledgers[above[0]].put(above[1], None)
                    unfinished.add((above[0], above[1].start))
                    above = self.catalog.parent(*above)
        self.unfinished = len(unfinished)
        self.finished -= self.unfinished
        store = open_store(url)
        store.save_jobs(jobs)
        store.save_units(units)
        through = 0
        while folded := store.fold(10_000):
            through += folded
        store.save_ledgers(
            [LedgerRecord(name, through, ledger.content()) for name, ledger in ledgers.items()]
        )
        store.close()

    def dispatched(self, job: Job) -> Job:
        """The job as it is once its unit is requested."""
        return machines.dispatched("discrete", job, self.now, final=True, consuming={})

    def start(self) -> float:
        """Seconds that a scheduler takes to begin."""
        began = time.perf_counter()
        store = open_store(self.url)
        loaded, _ = read_loaded(store, self.catalog)
        Engine(self.catalog).handle([loaded], self.now)
        taken = time.perf_counter() - began
        store.close()
        return taken


def _size(args: argparse.Namespace) -> Size:
    return SMALL if args.small else FULL


def _levels(name: str, start: datetime, until: datetime | None) -> Any:
    levels = [
        make(f"{name}_{make.__name__}", run="work:nothing")
        for make in (yearly, monthly, daily, hourly)
    ]
    end = until.isoformat() if until is not None else None
    return tree(name, levels, start=start.isoformat(), until=end, lag=0)


def _tree(start: datetime, until: datetime) -> Context:
    return Context(_levels("t", start, until))


def _flat(start: datetime, until: datetime) -> Context:
    level = hourly("t_hourly", run="work:nothing")
    return Context(tree("t", [level], start=start.isoformat(), until=until.isoformat(), lag=0))


def _started(unit: Unit, now: datetime) -> Unit:
    return unit.moved(
        next_unit_state(unit.state, UnitInput.START),
        now,
        owner="worker",
        lease_until=now + LEASE,
        started_at=now,
    )


def _ledger(intervals: Iterable[Interval], standings: tuple[Standing, ...]) -> Ledger:
    ledger = Ledger()
    for number, interval in enumerate(intervals):
        ledger.put(interval, standings[number % len(standings)])
    return ledger


def _ledger_bytes(number: int, standings: tuple[Standing, ...]) -> int:
    hours = [*Calendar(Granularity.HOURLY).between(BEGIN, BEGIN + timedelta(hours=number))]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ledger = _ledger(hours, standings)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ledger.at(BEGIN) is not None
    return after - before


def _loaded(catalog: Catalog, today: datetime, standings: tuple[Standing, ...]) -> Loaded:
    """Everything that has ended until today is finished."""
    ledgers = {}
    for name, process in catalog.processes.items():
        whole = (one for one in process.calendar.between(BEGIN, today) if one.end <= today)
        ledgers[name] = LedgerRecord(name, 0, _ledger(whole, standings).content())
    return Loaded(ledgers=ledgers, entries=(), jobs=(), units=(), requests=(), fired={})


def _ours(begin: datetime, until: datetime, runs: int) -> dict[str, Any]:
    units, seconds = 0, []
    context = _tree(begin, until)
    for _ in range(runs):
        began = time.perf_counter()
        units = Stage(context, at=until + timedelta(days=366)).work()
        seconds.append(time.perf_counter() - began)
    taken = median(seconds)
    return {"units": units, "seconds": round(taken, 3), "per_second": round(units / taken)}


# the peer


def _luigi(python: Path, span: timedelta) -> dict[str, float]:
    script = Path(__file__).with_name("luigi_tree.py")
    done = subprocess.run(
        [python, "-I", script, BEGIN.date().isoformat(), str(span.days)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found
