"""``list``: what the context registers."""

import argparse
import contextlib
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from synergy.app import programs_of, store_of
from synergy.cli.check import changes_of
from synergy.cli.output import Output, Styled, command
from synergy.cli.process import off_notes
from synergy.clock import SystemClock
from synergy.core.catalog import Catalog, Dependency, Process, Program
from synergy.core.switches import Switch, switches_of
from synergy.errors import SynergyError
from synergy.project import Project, check, load_context


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """The verb has no options of its own."""


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Print it."""
    catalog = check(project, load_context(project), SystemClock().now())
    with contextlib.suppress(SynergyError):  # what is registered is told without a store, too
        if changes_of(project):
            told = command("check")
            output.note(f"not taken over yet; what that changes for existing intervals: {told}")
    off = off_notes(catalog, _switches(project))
    if output.json:
        output.data({**_as_json(catalog), "off": off})
        return 0
    if catalog.processes:
        output.table(
            ("tree", "process", "intervals", "machine", "blocking", "waits for", "run"),
            (
                (
                    process.tree,
                    process.name,
                    _cut(process),
                    process.machine,
                    process.blocking,
                    ", ".join(map(_wait, process.after)) or "–",
                    (process.task.entry or " ".join(process.task.command)) + _where(process.boxes),
                )
                for process in _in_order(catalog)
            ),
        )
        output.line()
    if catalog.freeruns:
        output.table(
            ("freerun", "fires", "run"),
            (
                (
                    freerun.name,
                    str(freerun.trigger),
                    (freerun.task.entry or " ".join(freerun.task.command)) + _where(freerun.boxes),
                )
                for freerun in catalog.freeruns.values()
            ),
        )
        output.line()
    output.table(
        ("program", "slots", "works on"),
        (
            (
                name,
                program.slots if program else "",
                _works_on(program)
                + _where(catalog.schedulers if program is None else program.boxes),
            )
            for name, program in programs_of(catalog).items()
        ),
    )
    if catalog.pools:
        output.line()
        output.table(
            ("pool", "units", "members"),
            (
                (pool, limit, ", ".join(catalog.members[pool]) or "–")
                for pool, limit in catalog.pools.items()
            ),
        )
    for text in off.values():
        output.line("! ", Styled(text, "yellow"))
    return 0


def _switches(project: Project) -> dict[str, Switch]:
    """How operators have switched what; nothing where no store is there or answers."""
    try:
        with closing(store_of(project)) as store:
            return switches_of(store.read_documents("switches"))
    except SynergyError:
        return {}


def _as_json(catalog: Catalog) -> dict[str, Any]:
    return {
        "processes": [
            {
                "process": process.name,
                "tree": process.tree,
                "granularity": process.calendar.granularity.value,
                "grouping": process.calendar.grouping,
                "zone": process.calendar.zone,
                "machine": process.machine,
                "blocking": process.blocking,
                "run": process.task.entry or list(process.task.command),
                "priority": process.task.priority,
                "pool": process.pool,
                "catch_up": process.catch_up,
                "boxes": list(process.boxes),
                "after": [
                    {"process": item.process, "offset": item.offset, "window": item.window}
                    for item in process.after
                ],
            }
            for process in _in_order(catalog)
        ],
        "freeruns": [
            {
                "freerun": freerun.name,
                "at": str(freerun.trigger),
                "run": freerun.task.entry or list(freerun.task.command),
                "priority": freerun.task.priority,
                "pool": freerun.pool,
                "boxes": list(freerun.boxes),
            }
            for freerun in catalog.freeruns.values()
        ],
        "pools": [
            {"pool": pool, "units": limit, "members": list(catalog.members[pool])}
            for pool, limit in catalog.pools.items()
        ],
        "programs": [
            {
                "program": name,
                "slots": program.slots if program is not None else None,
                "boxes": list(catalog.schedulers if program is None else program.boxes),
                "on": "any" if program is not None and program.alone else "all",
            }
            for name, program in programs_of(catalog).items()
        ],
    }


def _in_order(catalog: Catalog) -> list[Process]:
    return [catalog.processes[name] for tree in catalog.trees.values() for name in tree.processes]


def _cut(process: Process) -> str:
    calendar = process.calendar
    by = f" by {calendar.grouping}" if calendar.grouping > 1 else ""
    zone = f" {calendar.zone}" if calendar.zone != "UTC" else ""
    return f"{calendar.granularity.value}{by}{zone}"


def _wait(dependency: Dependency) -> str:
    """As it is written in ``context.py``."""
    if dependency.window is not None:
        return f"last({dependency.window}, {dependency.process})"
    if dependency.offset:
        return f"offset({dependency.offset}, {dependency.process})"
    return dependency.process


def _works_on(program: Program | None) -> str:
    if program is None:
        return "the timetable"
    alone = ", on one box at a time" if program.alone else ""
    named = "everything" if program.processes is None else ", ".join(sorted(program.processes))
    return named + alone


def _where(boxes: Sequence[str]) -> str:
    return f" (boxes {', '.join(boxes)})" if boxes else ""
