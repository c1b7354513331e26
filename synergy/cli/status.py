"""``status``: who leads, how far each process is, what is open."""

import argparse
from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from synergy.app import broker_trouble
from synergy.cli.boxes import all_bound_in_vain, standing_by
from synergy.cli.lanes import going_on
from synergy.cli.naming import reading_of
from synergy.cli.output import Output, Styled, ago, clock, command, instant, who
from synergy.cli.process import off_notes
from synergy.cli.promises import open_promises, record_json
from synergy.clock import SystemClock
from synergy.core.model import BoxRecord
from synergy.core.states import JobState
from synergy.errors import SynergyError
from synergy.explanation import scheduler_absent
from synergy.owners import owner_of
from synergy.presence import WorkerRecord, is_silent
from synergy.project import Project
from synergy.reading import Reading
from synergy.urls import masked


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """The verb has no options of its own."""


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Print it."""
    reading = reading_of(project)
    now = SystemClock().now()
    broker = _broker(project)
    lease = reading.leader
    absent = scheduler_absent(reading, now)
    boxes, workers = reading.boxes, reading.workers
    others = standing_by(boxes, lease, now)
    leader = owner_of(lease.owner) if lease is not None else None
    in_vain = all_bound_in_vain(reading.catalog, boxes, now)
    looping = [
        f"{program.name} of {record.box} is in a crash loop: {program.reason}"
        for record in boxes
        for program in record.programs
        if program.state == "crash_loop"
    ]
    processes = [_process(reading, name) for name in reading.catalog.processes]
    freeruns = [_freerun(reading, name) for name in reading.catalog.freeruns]
    off = off_notes(reading.catalog, reading.switches)
    promises = open_promises(reading)
    broken = sum(record.broken_at is not None for record in promises)
    units = Counter(unit.state.value for unit in reading.units.values() if not unit.state.terminal)
    if output.json:
        output.data(
            {
                "store": masked(project.store),
                "broker": broker,
                "scheduler": {
                    "alive": not absent,
                    "leader": lease.owner if lease else None,
                    "box": leader.box if leader else None,
                    "pid": leader.process.pid if leader else None,
                    "since": instant(lease.since) if lease else None,
                    "epoch": lease.epoch if lease else None,
                    "until": instant(lease.until) if lease else None,
                    "standby": [{"box": box, "pid": pid} for box, pid in others.items()],
                },
                "boxes": [
                    {
                        "box": record.box,
                        "supervised": record.supervisor is not None,
                        "silent": is_silent(record, now),
                    }
                    for record in boxes
                ],
                "workers": [_worker_json(worker, now) for worker in workers],
                "problems": [
                    *looping,
                    *(f"{name} is {text}" for name, text in in_vain.items()),
                ],
                "processes": processes,
                "freeruns": freeruns,
                "off": off,
                "units": dict(units),
                "promises": [record_json(reading, record) for record in promises],
                "requests": len(reading.loaded.requests),
            }
        )
        return 0
    output.line(f"store      {masked(project.store)}")
    if broker is not None:
        trouble = broker["trouble"]
        state = Styled(trouble, "red") if trouble else f"{broker['url']} answers"
        output.line("broker     ", state)
    leads = ""
    if lease is not None:
        since = f" since {clock(lease.since)} UTC" if lease.since <= now else ""
        leads = f"{who(lease.owner)} leads{since}"
    by = ", ".join(f"{box} (process {pid})" for box, pid in others.items())
    output.line(
        "scheduler  ",
        Styled(f"{absent}; start one: {command('up')}", "red") if absent else leads,
        f"; standing by: {by}" if by else "",
    )
    if any(record.supervisor is not None for record in boxes):
        told = (_box(record, now) for record in boxes)
        output.line("boxes      ", *(part for pair in told for part in (pair, "  ")))
    if workers:
        told = (_worker(worker, now) for worker in workers)
        output.line("workers    ", *(part for pair in told for part in (pair, "  ")))
    for problem in looping:
        output.line("! ", Styled(problem, "red"))
    for name, text in in_vain.items():
        output.line("! ", Styled(f"{name} is {text}", "red"))
    for text in off.values():
        output.line("! ", Styled(text, "yellow"))
    at_work = ", ".join(f"{number} {state}" for state, number in sorted(units.items()))
    output.line(f"units      {at_work or 'none is out'}")
    if promises:
        counted = {"broken": broken, "at risk": len(promises) - broken}
        words = ", ".join(f"{number} {what}" for what, number in counted.items() if number)
        output.line(
            "promises   ",
            Styled(words, "red" if broken else "yellow"),
            f": {command('promises')}",
        )
    for text in going_on(reading):
        output.line(f"backfill   {text}")
    if reading.loaded.requests:
        output.line(f"requests   {len(reading.loaded.requests)} filed, not carried out yet")
    output.line()
    output.table(
        ("process", "finished until (UTC)", "open", "failed", "skipped", "stale"),
        (
            (
                entry["process"],
                _people(entry["finished_until"]),
                entry["active"],
                Styled(str(entry["failed"]), "red") if entry["failed"] else 0,
                entry["skipped"],
                _stale(entry),
            )
            for entry in processes
        ),
    )
    if freeruns:
        output.line()
        output.table(
            ("freerun", "last fired (UTC)", "", "state"),
            (
                (
                    entry["freerun"],
                    _people(entry["last"]),
                    ago(datetime.fromisoformat(str(entry["last"])), now) if entry["last"] else "",
                    output.state(str(entry["state"])) if entry["last"] else "",
                )
                for entry in freeruns
            ),
        )
    if any(entry["failed"] for entry in processes):
        output.line()
        output.line(f"what failed, and holds what is built on it: {command('jobs --state failed')}")
    return 0


def _broker(project: Project) -> dict[str, str] | None:
    """Which one brings units, and why it does not, if so; None without one."""
    if project.broker == "none":
        return None
    try:
        trouble = broker_trouble(project)
    except SynergyError as error:
        trouble = str(error)
    return {"url": masked(project.broker), "trouble": trouble}


def _box(record: BoxRecord, now: datetime) -> Styled:
    """A box in one word."""
    if record.supervisor is None:
        return Styled(f"· {record.box}", "dim")
    if is_silent(record, now):
        return Styled(f"✕ {record.box} (silent, heard {ago(record.seen_at, now)})", "red")
    return Styled(f"▶ {record.box}", "cyan")


def _worker(worker: WorkerRecord, now: datetime) -> Styled:
    """A worker in a few words."""
    named = f"{worker.program} on {worker.box}"
    if worker.is_silent(now):
        return Styled(f"✕ {named} (silent, seen {ago(worker.seen_at, now)})", "red")
    return Styled(f"▶ {named} ({worker.busy} of {worker.slots} at work)", "cyan")


def _worker_json(worker: WorkerRecord, now: datetime) -> dict[str, object]:
    return {
        "program": worker.program,
        "box": worker.box,
        "owner": worker.owner,
        "slots": worker.slots,
        "busy": worker.busy,
        "processes": None if worker.processes is None else sorted(worker.processes),
        "seen": instant(worker.seen_at),
        "silent": worker.is_silent(now),
    }


def _people(when: object) -> str:
    """An instant of the JSON form as people read it."""
    return clock(datetime.fromisoformat(str(when))) if when else "–"


def _process(reading: Reading, name: str) -> dict[str, object]:
    """How far a process is; costs what its exceptions are, not its history."""
    calendar = reading.catalog.processes[name].calendar
    ledger = reading.timetable.ledgers[name]
    start, _ = reading.catalog.spans[name]
    finished_until, skipped, failed, marked = start, 0, 0, 0
    found = [*ledger.runs(start, _END)]
    for _, stop, standing in found:
        if standing is None or not standing.state.finished:
            break
        finished_until = stop
    for begin, stop, standing in found:
        if standing is None or (standing.state in _AS_HOPED and not standing.outdated):
            continue
        number = sum(1 for _ in calendar.between(begin, stop))
        failed += number if standing.state is JobState.FAILED else 0
        skipped += number if standing.state is JobState.SKIPPED else 0
        marked += number if standing.outdated else 0
    active = [job for key, job in reading.timetable.active.items() if key[0] == name]
    anew = sum(job.stale for job in active)
    return {
        "process": name,
        "finished_until": instant(finished_until) if finished_until > start else None,
        "active": len(active),
        "skipped": skipped,
        "failed": failed,
        "stale": anew + marked,
        "anew": anew,
        "marked": marked,
    }


def _stale(entry: Mapping[str, object]) -> str:
    told = [f"{entry[kind]} {what}" for kind, what in _STALE.items() if entry[kind]]
    return ", ".join(told) or "0"


#: The two ways to be out of date.
_STALE = {"anew": "being made anew", "marked": "marked"}
_AS_HOPED = frozenset({JobState.PROCESSED, JobState.NOOP})


_END = datetime.fromisoformat("9000-01-01T00:00Z")


def _freerun(reading: Reading, name: str) -> dict[str, object]:
    firings = reading.firings(name, 1)
    return {
        "freerun": name,
        "last": instant(firings[0].interval.start) if firings else None,
        "state": firings[0].state.value if firings else None,
    }
