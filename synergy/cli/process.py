"""``process``: how processes and freeruns are switched; off, and on again."""

import argparse
import sys
from collections.abc import Mapping
from datetime import datetime

from synergy.cli.filing import filed, filing_options, new_request, refusal, tell_filed
from synergy.cli.naming import process_named, reading_of
from synergy.cli.output import Output, Styled, clock, instant
from synergy.cli.parts import add_part
from synergy.clock import SystemClock
from synergy.core.admission import ProcessOff, closed_by
from synergy.core.building import CATCH_UPS
from synergy.core.catalog import Catalog
from synergy.core.catch_up import missed
from synergy.core.intervals import Interval
from synergy.core.model import Json
from synergy.core.switches import Switch
from synergy.errors import BadInput, Conflict
from synergy.project import Project
from synergy.reading import Reading

#: What becomes of the open intervals, in words.
_CAUGHT_UP = {
    "all": "all of them are worked",
    "latest": "the latest is worked, the others are recorded as skipped",
    "none": "all of them are recorded as skipped",
}


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """What it can do."""
    parts = parser.add_subparsers(dest="what", metavar="list|off|on")
    add_part(parts, "list", "how each is switched, by whom and why (also without a word)")
    off = add_part(parts, "off", "dispatch nothing of these any more; what is at work ends")
    on = add_part(parts, "on", "dispatch these again")
    on.add_argument(
        "--catch-up",
        choices=CATCH_UPS,
        help="what becomes of the intervals that are open: all are worked, the latest one, or "
        "none; the others are recorded as skipped. Without it, it asks where there are several",
    )
    for part in (off, on):
        part.add_argument("names", nargs="+", metavar="NAME", help="a process or freerun")
        filing_options(part, "the switch")


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Do it."""
    reading = reading_of(project)
    if args.what in (None, "list"):
        return _list(reading, output)
    names = [process_named(reading.catalog, name, freeruns=True) for name in args.names]
    options: dict[str, dict[str, Json]] = {name: {"on": False} for name in names}
    if args.what == "on":
        options = _options_on(reading, names, args.catch_up)
    told: list[dict[str, object]] = []
    refused = []
    for name in names:
        request = new_request("switch", name, reason=args.reason, options=options[name])
        answered = filed(project, reading, request, args.wait)
        if isinstance(answered, str):
            told.append({"process": name, "id": request.id, "state": "filed"})
            if not output.json:
                tell_filed(request, answered, output)
        elif answered.state == "refused":
            refused.append(refusal(answered))
        else:
            changed = bool(answered.answer.get("changed"))
            told.append({"process": name, "id": request.id, "state": "done", "changed": changed})
            if not output.json:
                output.line(_done(reading, name, options[name], changed))
    if output.json:
        output.data(told)
    if refused:
        raise Conflict("\n".join(refused))
    return 0


def off_notes(catalog: Catalog, switches: Mapping[str, Switch]) -> dict[str, str]:
    """What is switched off or just being recorded, each with the sentence that says so."""
    found = {}
    for name in (*catalog.processes, *catalog.freeruns):
        closed = closed_by(name, switches.get(name))
        if closed is not None:
            found[name] = str(closed)
    return found


def _options_on(
    reading: Reading, names: list[str], catch_up: str | None
) -> dict[str, dict[str, Json]]:
    """The options of each request; asks what is to be caught up where nobody has said it."""
    fired = [name for name in names if name in reading.catalog.freeruns]
    if catch_up is not None and fired:
        raise BadInput(
            f"{', '.join(fired)}: a freerun has no intervals; what becomes of the firings that it "
            "missed is said by its misfire policy. Leave --catch-up out for it"
        )
    options: dict[str, dict[str, Json]] = {name: {"on": True} for name in names}
    if catch_up is not None:
        return {name: {"on": True, "catch_up": catch_up} for name in names}
    several = {
        name: found
        for name in names
        if name not in fired and _is_off(reading, name) and len(found := _open(reading, name)) > 1
    }
    if several and not sys.stdin.isatty():
        told = "; ".join(_told(name, found) for name, found in several.items())
        raise BadInput(f"{told}; say what becomes of them: --catch-up {'|'.join(CATCH_UPS)}")
    for name, found in several.items():
        options[name]["catch_up"] = _asked(reading, name, found)
    return options


def _asked(reading: Reading, name: str, found: list[Interval]) -> str:
    own = reading.catalog.processes[name].catch_up
    question = f"{_told(name, found)}; work all, the latest, or none? [{own}] "
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip().lower() or own
    if answer not in CATCH_UPS:
        raise Conflict(f"{answer!r} is none of {', '.join(CATCH_UPS)}; nothing was done")
    return answer


def _is_off(reading: Reading, name: str) -> bool:
    return isinstance(closed_by(name, reading.switches.get(name)), ProcessOff)


def _open(reading: Reading, name: str) -> list[Interval]:
    now = SystemClock().now()
    return list(missed(reading.timetable, reading.catalog.processes[name], now))


def _told(name: str, found: list[Interval]) -> str:
    return f"{name} has {len(found)} open intervals, {found[0].label} to {found[-1].label}"


def _done(reading: Reading, name: str, options: dict[str, Json], changed: bool) -> str:
    state = "on" if options["on"] else "off"
    if not changed:
        return f"{name} is {state} already"
    if not options["on"]:
        at_work = sum(
            unit.process == name and unit.owner is not None for unit in reading.units.values()
        )
        ending = f"{at_work} units of it are at work, and end"
        if at_work == 1:
            ending = "a unit of it is at work, and ends"
        return f"{name} is off" + (f"; {ending}" if at_work else "")
    process = reading.catalog.processes.get(name)
    number = len(_open(reading, name)) if process is not None else 0
    if process is None or not number:
        return f"{name} is on"
    policy = str(options.get("catch_up", process.catch_up))
    intervals = "1 interval is" if number == 1 else f"{number} intervals are"
    what = _CAUGHT_UP[policy]
    if number == 1:
        what = "it is recorded as skipped" if policy == "none" else "it is worked"
    return f"{name} is on; {intervals} open: {what}"


def _list(reading: Reading, output: Output) -> int:
    names = (*reading.catalog.processes, *reading.catalog.freeruns)
    if output.json:
        output.data([_as_json(reading, name) for name in names])
        return 0
    output.table(
        ("process", "", "since (UTC)", "by", "catch-up", "pool", "reason"),
        (_row(reading, name) for name in names),
    )
    return 0


def _row(reading: Reading, name: str) -> tuple[object, ...]:
    switch = reading.switches.get(name)
    process = reading.catalog.processes.get(name)
    state = Styled("on", "green")
    if switch is not None and not switch.on:
        state = Styled("off", "red")
    elif switch is not None and switch.recording is not None:
        state = Styled("on (recording what it missed)", "yellow")
    return (
        name,
        state,
        _people(switch.since if switch is not None else None),
        (switch.actor if switch is not None else "") or "–",
        process.catch_up if process is not None else "–",
        reading.catalog.pool_of(name) or "–",
        switch.reason if switch is not None else "",
    )


def _people(when: datetime | None) -> str:
    return clock(when) if when is not None else "–"


def _as_json(reading: Reading, name: str) -> dict[str, object]:
    switch = reading.switches.get(name)
    process = reading.catalog.processes.get(name)
    return {
        "process": name,
        "kind": "process" if process is not None else "freerun",
        "on": switch is None or switch.on,
        "since": instant(switch.since) if switch is not None else None,
        "actor": switch.actor if switch is not None else "",
        "reason": switch.reason if switch is not None else "",
        "recording": switch.recording.policy
        if switch is not None and switch.recording is not None
        else None,
        "catch_up": process.catch_up if process is not None else None,
        "pool": reading.catalog.pool_of(name),
    }
