"""Writes the generated parts of the documentation: ``python scripts/docs.py [--check]``.

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` in a page under
``docs/``; everything else is written by hand.  ``--check`` writes nothing and names the pages that
are stale.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from synergy import project as settings_module  # noqa: E402
from synergy.cli import EXIT_CODES, VERBS, parser_of  # noqa: E402
from synergy.core import building, context, states  # noqa: E402
from synergy.core.intervals import Calendar, Granularity  # noqa: E402
from synergy.core.states import JOB_MACHINES, UNIT_MACHINE, JobState, UnitState  # noqa: E402
from synergy.explanation import causes as causes_of_links  # noqa: E402
from synergy.mx.roles import Role  # noqa: E402
from synergy.mx.routes import Route  # noqa: E402
from synergy.mx.table import ROUTES  # noqa: E402
from synergy.schemas import schema  # noqa: E402
from synergy.worker import work  # noqa: E402
from synergy.worker.calls import environment_of  # noqa: E402

#: ``{(state, input): state}``, of a job or of a unit.
Machine = Mapping[Any, StrEnum]

_PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(argv: Sequence[str]) -> int:
    """Write them, or only check; the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/docs.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    check = parser.parse_args(argv).check
    stale = [page for page in pages() if renewed(page) != page.read_text("utf-8")]
    for page in stale:
        if not check:
            page.write_text(renewed(page), "utf-8")
        print(f"{page.relative_to(PROJECT)} {'is stale' if check else 'written'}")
    if check and stale:
        print("write them anew with: python scripts/docs.py")
    return 1 if check and stale else 0


def pages() -> list[Path]:
    """All pages of the documentation."""
    return sorted((PROJECT / "docs").rglob("*.md"))


def renewed(page: Path) -> str:
    """The text of a page with its generated parts made anew."""

    def part(found: re.Match[str]) -> str:
        return f"{found[1]}\n{PARTS[found[2]]().strip()}\n\n{found[3]}"

    return _PART.sub(part, page.read_text("utf-8"))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


# the command line


def verbs() -> str:
    """Every verb with its arguments."""
    return "\n\n".join(_verb(name) for name in VERBS)


def _verb(name: str) -> str:
    return f"### {name}\n\n{VERBS[name][1].capitalize()}.\n\n{_usage(name, parser_of(name))}"


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    """How it is called and what its arguments mean; of each verb within it, where it has some."""
    words, rows = [f"./launch.py {name}"], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            parts = []
            for part in action._choices_actions:
                told = _usage(f"{name} {part.dest}", action.choices[part.dest])
                parts.append(f"{str(part.help).capitalize()}:\n\n{told}")
            return "\n\n".join(parts)
        if action.help in (argparse.SUPPRESS, None) and action.option_strings:
            continue
        if action.dest in ("help", "json", "store", "broker"):
            continue
        shown = str(action.metavar or "|".join(map(str, action.choices or [action.dest])))
        if action.option_strings:
            flag = action.option_strings[-1] + ("" if action.nargs == 0 else f" {shown}")
            words.append(f"[{flag}]")
        else:
            flag = shown
            words.append(
                {"?": f"[{shown}]", "*": f"[{shown} …]", "+": f"{shown} …"}.get(
                    str(action.nargs), shown
                )
            )
        rows.append([f"`{flag}`", action.help or ""])
    text = f"```\n{' '.join(words)}\n```"
    return f"{text}\n\n{table(['', 'meaning'], rows)}" if rows else text


def exit_codes() -> str:
    """What each exit code says."""
    return table(["code", "meaning"], [[f"`{code}`", text] for code, text in EXIT_CODES.items()])


# what a context may say

#: What each option means; every one of a declaration must stand here, and no other.
OPTIONS: Mapping[str, str] = {
    "name": "unique among all processes and freeruns (trees, programs: among their like); "
    "letters, digits, `_`, `.`, `-`",
    "processes": "of a tree: its levels, in any order; of a program: which processes it works on "
    "(none named: all)",
    "zone": "name of the tz database; its local clock cuts the intervals",
    "start": "local date or time, or an aware datetime; without it the moment when the scheduler "
    "first sees the tree, which is then kept",
    "until": "as `start`; intervals that begin there or later do not exist",
    "granularity": "by the function: `minutely`, `hourly`, `daily`, `weekly`, `monthly`, "
    "`quarterly`, `yearly`",
    "run": '`"package.module:name"` of a function or class',
    "command": "instead of `run`: a list of words, never a shell string",
    "noop_codes": "exit codes of a command that mean “nothing to do”; 0 is processed, all others "
    "are failures",
    "machine": "`discrete`: one run after the interval closed; `continuous`: also provisional runs "
    "over the open interval; `recomputing`: as continuous, its `source` measured before each run",
    "blocking": "what a run waits for, see [states and blocking](../explanation/states.md)",
    "after": "dependencies: names, `previous(…)`, `last(n, …)`, `offset(-n, …)`, or a list of them",
    "on_failure": "what a job that was given up becomes: `hold` (failed, holds what is built on "
    "it) or `skip` (skipped)",
    "grouping": "so many in one interval: minutes dividing 60, hours dividing 24, months "
    "dividing 12",
    "arguments": "JSON values handed to the worker; to a class as keywords",
    "source": "where to read, handed to the worker; of a recomputing process a name of "
    "`Context(sources=…)`",
    "sink": "where to write, handed to the worker",
    "every": "trigger of the provisional runs of continuous and recomputing processes",
    "lag": "seconds (or a timedelta) from an interval's end until it is due",
    "time_limit": "seconds (or a timedelta) after which an attempt is killed with all that it "
    "started",
    "max_attempts": "failed or lost attempts after which the unit is given up",
    "backoff": "seconds (or a timedelta) before the second attempt; doubled before each further "
    "one, at most an hour",
    "parallel": "units of it at once; without it no limit of its own",
    "batch": "so many adjacent intervals at most are one call of its function or class, which is "
    "then handed a sequence, see [several intervals in one "
    "call](../how-to/write-a-worker.md#several-intervals-in-one-call); 1 to 256, default 1",
    "pool": "name of a pool of `Context(pools={…})`, whose places it shares with the other members",
    "catch_up": "what becomes of the intervals that it missed while it was switched off, or that "
    "were due before it was registered: `all` are worked, only the `latest` closed one, or `none`; "
    "the others are recorded as skipped",
    "priority": "higher goes first; among the members of a pool, and at the workers",
    "complete_by": "what it promises: the first such time of the local clock after the interval's "
    'end (`"06:00"`), or seconds (or a timedelta) after it; watched, warned of and raised, see '
    "[promises](../how-to/look-back-and-ahead.md#is-it-complete-in-time)",
    "at": "trigger of a freerun, by the clock of its zone",
    "misfire": "firings that nobody served: `once` (the latest one), `skip`, `all`",
    "late": "what becomes of a finished interval of a recomputing process whose source has grown: "
    "`ignore`, `mark` it stale, with all that is built on it, or `reprocess` it",
    "late_for": "seconds (or a timedelta) after its end for which an interval is looked at for "
    "late data; 7 days",
    "late_every": "seconds or a trigger: when it is looked at for late data; every hour",
    "slots": "units at once",
    "boxes": 'the boxes that may work it, or where the program runs: a name, a pattern (`"db-*"`), '
    "or a list of them; without it every box",
    "on": "`all`: the program works on all of its boxes; `any`: on one of them at a time, the "
    "others stand by",
}
#: Options that are the same for all levels, by another name in `CHOICES`.
_CHOICES = {
    "machine": building.MACHINES,
    "blocking": building.BLOCKINGS,
    "on_failure": building.ON_FAILURE,
    "catch_up": building.CATCH_UPS,
    "late": building.LATES,
    "misfire": building.MISFIRES,
    "on": building.ON,
}
_HIDDEN = {"place", "unknown"}


def tree_options() -> str:
    """Options of `tree`."""
    return _options(context.TreeDeclaration)


def process_options() -> str:
    """Options of `hourly` and its sisters."""
    return _options(context.ProcessDeclaration, leave_out={"granularity"})


def freerun_options() -> str:
    """Options of `freerun`."""
    return _options(context.FreerunDeclaration)


def program_options() -> str:
    """Options of `program`."""
    return _options(context.ProgramDeclaration)


def option_names() -> set[str]:
    """Every option of every declaration."""
    kinds: tuple[type, ...] = (
        context.TreeDeclaration,
        context.ProcessDeclaration,
        context.FreerunDeclaration,
        context.ProgramDeclaration,
    )
    return {item.name for kind in kinds for item in fields(kind)} - _HIDDEN


def _options(kind: type, leave_out: Iterable[str] = ()) -> str:
    rows = []
    for item in fields(kind):
        if item.name in {*_HIDDEN, *leave_out}:
            continue
        if item.default is not MISSING:
            default = "" if item.default in (None, ()) else f"`{item.default!r}`"
        else:
            default = "" if item.default_factory is not MISSING else "**needed**"
        choices = _CHOICES.get(item.name)
        accepted = f" One of {', '.join(f'`{c}`' for c in choices)}." if choices else ""
        rows.append([f"`{item.name}`", default, OPTIONS[item.name] + "." + accepted])
    return table(["option", "default", "meaning"], rows)


def granularities() -> str:
    """The functions, their intervals' labels, and what may be grouped."""
    rows = []
    for granularity in Granularity:
        groups = []
        for n in range(2, 61):
            try:
                groups.append(str(Calendar(granularity, n).grouping))
            except ValueError:
                continue
        example = Calendar(granularity).containing(_EXAMPLE).label
        grouped = Calendar(granularity, int(groups[0])).containing(_EXAMPLE).label if groups else ""
        rows.append(
            [
                f"`{granularity.value}`",
                f"`{example}`",
                ", ".join(groups),
                f"`{grouped}`" if grouped else "",
            ]
        )
    return table(["function", "label", "grouping", "label of a group"], rows)


# scenarios


def scenario_parts() -> str:
    """All that a scenario may say, object by object."""
    whole = schema("scenario")
    parts = [_object("A scenario", whole)]
    for name, part in whole["properties"].items():
        described = part.get("items", part)
        if "properties" in described:
            title = f"Each of `{name}`" if "items" in part else f"`{name}`"
            parts.append(_object(title, described))
    return "\n\n".join(parts)


def _object(title: str, described: Mapping[str, Any]) -> str:
    rows = []
    for name, part in described["properties"].items():
        # What is not described is an option of processes as in a context.
        meaning = [part.get("description") or OPTIONS[name]]
        if name in described.get("required", ()):
            meaning.insert(0, "**needed**")
        if "enum" in part:
            meaning.append("one of " + ", ".join(f"`{value}`" for value in part["enum"]))
        rows.append([f"`{name}`", "; ".join(meaning)])
    return f"## {title}\n\n{table(['', 'meaning'], rows)}"


# settings


def settings() -> str:
    """Every setting of ``settings.py``."""
    told = documented(settings_module)
    rows = [
        [f"`{name}`", f"`SYNERGY_{name}`", f"`{default}`", told[name]]
        for name, default in settings_module.DEFAULTS.items()
    ]
    return table(["setting", "overridden by", "default", "meaning"], rows)


# the console


def console_pages() -> str:
    """Every page of the console and who may see it."""
    return _routes(route for route in ROUTES if route.kind != "api" and not route.changes)


def api_routes() -> str:
    """Every route of the API."""
    return _routes(route for route in ROUTES if route.kind == "api")


def _routes(routes: Iterable[Route]) -> str:
    rows = [
        [
            f"`{route.methods[0]} {route.address}`",
            "everybody" if route.role is Role.NOBODY else route.role.word,
            route.summary or _markdown(_first_line(route.answer)),
            ", ".join(f"`{name}`" for name in route.query),
        ]
        for route in routes
    ]
    return table(["address", "from role", "what", "parameters"], rows)


def _first_line(answer: Callable[..., Any]) -> str:
    return inspect.cleandoc(answer.__doc__ or "").partition("\n\n")[0].rstrip(".")


# states


def job_states() -> str:
    """The states of a job."""
    return _members(JobState)


def unit_states() -> str:
    """The states of a unit of work."""
    return _members(UnitState)


def _members(kind: type[StrEnum]) -> str:
    told = documented(states)
    final = {states.JobState: states.TERMINAL, states.UnitState: states.UNIT_TERMINAL}[kind]
    finished = states.FINISHED if kind is JobState else frozenset[JobState]()
    rows = [
        [
            f"`{member.value}`",
            told[f"{kind.__name__}.{member.name}"],
            "finished" if member in finished else "terminal" if member in final else "active",
        ]
        for member in kind
    ]
    return table(["state", "meaning", ""], rows)


def inputs() -> str:
    """What is applied to a job and to a unit."""
    told = documented(states)
    rows = [
        [of, f"`{member.value}`", told[f"{kind.__name__}.{member.name}"]]
        for of, kind in (("job", states.JobInput), ("unit", states.UnitInput))
        for member in kind
    ]
    return table(["of a", "input", "meaning"], rows)


def machine_tables() -> str:
    """All machines as tables."""
    machines: dict[str, Machine] = {}
    for name, machine in JOB_MACHINES.items():
        same = next((other for other in machines if machines[other] == machine), None)
        if same is None:
            machines[name] = {**machine}
        else:
            machines[f"{same}, {name}"] = machines.pop(same)
    machines["unit of work"] = dict(UNIT_MACHINE)
    parts = []
    for name, table_of in machines.items():
        rows = [
            [f"`{before.value}`", f"`{applied.value}`", f"`{after.value}`"]
            for (before, applied), after in table_of.items()
        ]
        parts.append(f"**{name}**\n\n{table(['state', 'input', 'next state'], rows)}")
    return "\n\n".join(parts)


def diagram_discrete() -> str:
    """The discrete machine, drawn."""
    return _diagram(JOB_MACHINES["discrete"])


def diagram_continuous() -> str:
    """The continuous machine, drawn."""
    return _diagram(JOB_MACHINES["continuous"])


def diagram_unit() -> str:
    """The machine of a unit, drawn."""
    return _diagram(UNIT_MACHINE)


def _diagram(machine: Machine) -> str:
    arrows: dict[tuple[str, str], list[str]] = {}
    for (before, applied), after in machine.items():
        arrows.setdefault((before.value, after.value), []).append(applied.value)
    begun = next(before.value for before, _ in machine)
    left = {before for before, _ in machine}
    ends = sorted({after.value for after in machine.values() if after not in left})
    lines = [f"    [*] --> {begun}"]
    lines += [f"    {a} --> {b}: {', '.join(names)}" for (a, b), names in arrows.items()]
    lines += [f"    {state} --> [*]" for state in ends]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


# workers


def work_fields() -> str:
    """What a worker is handed."""
    told = documented(work)
    rows: list[list[str]] = []
    for item in fields(work.Work):
        if not item.name.startswith("_"):
            text = told[f"Work.{item.name}"] or rows[-1][1]
            rows.append([f"`{item.name}`", text])
    rows += [
        [f"`{name}`", _first_paragraph(value)]
        for name, value in vars(work.Work).items()
        if isinstance(value, property)
    ]
    progress = inspect.signature(work.Work.progress)
    rows.append(
        [
            f"`progress({', '.join(str(p) for p in [*progress.parameters.values()][1:])})`",
            inspect.cleandoc(work.Work.progress.__doc__ or ""),
        ]
    )
    return table(["of the work", "meaning"], rows)


def worker_answers() -> str:
    """What a worker returns and raises."""
    made: tuple[Callable[..., object], ...] = (work.processed, work.noop)
    rows = [
        [
            f"`return {one.__name__}({', '.join(inspect.signature(one).parameters)})`",
            inspect.cleandoc(one.__doc__ or ""),
        ]
        for one in made
    ]
    raised: tuple[type[Exception], ...] = (work.Retry, work.GiveUp)
    for error in raised:
        names = [*inspect.signature(error.__init__).parameters][1:]
        rows.append(
            [
                f"`raise {error.__name__}({', '.join(names)})`",
                inspect.cleandoc(error.__doc__ or "").replace("\n", " "),
            ]
        )
    return table(["answer", "meaning"], rows)


def environment() -> str:
    """What an attempt finds in its environment."""
    example = work.Work(
        process="site_hourly", interval=Calendar(Granularity.HOURLY).containing(_EXAMPLE)
    )
    found = environment_of(example.key, example)
    return table(["variable", "for example"], [[f"`{k}`", f"`{v}`"] for k, v in found.items()])


# from the sources


def documented(module: ModuleType) -> dict[str, str]:
    """The ``#:`` comments of a module: by name, in a class by ``Class.name``.

    A name without one shares that of the name above it (then its text is empty).
    """
    found: dict[str, str] = {}
    scope, comment = "", list[str]()
    for line in inspect.getsource(module).splitlines():
        text = line.strip()
        if declared := re.match(r"class (\w+)", line):
            scope = declared[1]
        elif line and not line[0].isspace():
            scope = "" if not text.startswith("#:") else scope
        if text.startswith("#:"):
            comment.append(text[2:].strip())
            continue
        if named := re.match(r'"?([A-Za-z_]\w*)"?\s*[:=]', text):
            key = f"{scope}.{named[1]}" if scope and line[0].isspace() else named[1]
            found.setdefault(key, _markdown(" ".join(comment)))
        comment = []
    return found


def causes() -> str:
    """What `why` says of an interval, in one word."""
    known = documented(causes_of_links)
    rows = [[f"`{cause.value}`", known[f"Cause.{cause.name}"]] for cause in causes_of_links.Cause]
    return table(["cause", "meaning"], rows)


def _first_paragraph(value: property) -> str:
    return _markdown(inspect.cleandoc(value.fget.__doc__ or "").partition("\n\n")[0])


def _markdown(text: str) -> str:
    return text.replace("``", "`").replace("\n", " ")


def _parts() -> Iterator[tuple[str, Callable[[], str]]]:
    for made in (
        verbs, exit_codes, tree_options, process_options, freerun_options, program_options,
        granularities, scenario_parts, settings, job_states, unit_states, inputs, machine_tables,
        diagram_discrete, diagram_continuous, diagram_unit, work_fields, worker_answers,
        environment, causes, console_pages, api_routes,
    ):  # fmt: skip
        yield made.__name__.replace("_", "-"), made


#: An instant whose labels look like those of the texts.
_EXAMPLE = datetime.fromisoformat("2026-11-20T17:30:00+00:00")
#: Name → what makes it.
PARTS = dict(_parts())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
