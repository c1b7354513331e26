"""The command line: one module a verb, one option style, documented exit codes (DESIGN §8.8).

Data goes to stdout, the rest to stderr.  ``--json`` prints the same as JSON.  A verb's module has
`arguments(parser, verb)` and `run(args, project, output)`; it is imported when it is asked for.
"""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from synergy import __version__
from synergy.cli.output import Output, command, command_name
from synergy.errors import BadInput, SynergyError
from synergy.project import Project, open_project

#: Verb → its module here, and what it does.
VERBS: Mapping[str, tuple[str, str]] = {
    "up": ("up", "keep the programs of this box running, in the foreground"),
    "super": ("supervise", "the supervisor, which keeps the programs of this box running"),
    "start": ("programs", "start a program (scheduler, worker, …) in the background"),
    "stop": ("programs", "stop a program; its units finish or are handed back"),
    "query": ("programs", "which programs run here"),
    "list": ("listing", "what context.py registers: trees, processes, freeruns, programs"),
    "check": ("check", "whether context.py can be used, and what it changes for past intervals"),
    "status": ("status", "who leads, how far each process is, what is at work"),
    "jobs": ("jobs", "list the jobs: one for every interval that has begun"),
    "history": ("history", "how long the intervals of a process waited and ran"),
    "forecast": ("forecast", "when an interval will be complete; what starts in the next 24 hours"),
    "promises": ("promises", "what is to be complete by when, what is at risk, what was too late"),
    "why": ("why", "what an interval or freerun waits for, the root first, and what happens next"),
    "reprocess": ("requests", "run intervals again, and all that is built on them"),
    "skip": ("requests", "give intervals up, with their children and dependents"),
    "unskip": ("requests", "run what was skipped after all, and all that is built on it"),
    "apply": ("plans", "carry a stored plan out"),
    "withdraw": ("plans", "give a plan up, or take back what of a request has not begun"),
    "plans": ("plans", "list what was planned and asked for, or show one of them"),
    "backfill": ("backfill", "run past intervals again, little by little beside the live work"),
    "process": ("process", "which processes and freeruns are switched off; switch them off and on"),
    "trigger": ("requests", "fire a freerun now, or end a back-off or pause"),
    "console": ("console", "the web console: where it is, its users, tokens and audit"),
    "log": ("log", "print the output of an attempt, the latest one by default"),
    "simulate": ("simulate", "play a scenario, or this project's timetable, on a virtual clock"),
    "db": ("db", "care of the store: db migrate [--dry-run], db roles [--create]"),
    "services": ("services", "bring up real servers for development and tests, take them down"),
    "bench": ("bench", "measure what synergy costs on this machine"),
    "init": ("init", "make a new project with one process and its test"),
}

#: What each exit code says, of every verb.
EXIT_CODES: Mapping[int, str] = {
    0: "done",
    1: "failed",
    2: "usage or bad input",
    3: "not found",
    4: "conflict (already running, refused, newer schema)",
    5: "unreachable",
    6: "timed out",
    7: "ended with failed intervals",
    130: "interrupted",
}


def main(argv: Sequence[str] | None = None, project: str | os.PathLike[str] = ".") -> int:
    """Run one command; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    output = Output(json="--json" in arguments)
    try:
        code = _run(_verb_first(arguments), Path(project), output)
        sys.stdout.flush()
        return code
    except SynergyError as error:
        output.error(str(error))
        return error.exit_code
    except SystemExit as ended:  # argparse has said why, or has helped
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep the interpreter from complaining at exit.
        _discard_stdout()
        return 0
    except OSError as error:
        _discard_stdout()
        what = f"{error.filename}: " if error.filename else "the output cannot be written: "
        output.error(f"{what}{error.strerror or error}")
        return SynergyError.exit_code


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb, with the options that all have."""
    module_name, summary = VERBS[verb]
    parser = _Parser(prog=f"{command_name()} {verb}", description=summary)
    parser.set_defaults(verb=verb)
    importlib.import_module(f"synergy.cli.{module_name}").arguments(parser, verb)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--store", metavar="URL", help="another store than settings.py says")
    parser.add_argument("--broker", metavar="URL", help="another broker than settings.py says")
    return parser


def help_text(own: Mapping[str, str]) -> str:
    """All verbs and what they do; `own` are those of the project."""
    verbs = [*((name, summary) for name, (_, summary) in VERBS.items())]
    verbs += [(name, f"this project's own ({entry})") for name, entry in own.items()]
    wide = max(len(name) for name, _ in verbs)
    codes = " · ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    return "\n".join(
        [
            f"usage: {command_name()} VERB …          ({command_name()} VERB --help says more)",
            "",
            "synergy, an interval-first workflow engine",
            "",
            *(f"  {name:{wide}}  {summary}" for name, summary in verbs),
            "",
            "Every verb takes --json, --store URL, --broker URL; those of the project as they say.",
            f"Exit codes: {codes}",
        ]
    )


def _run(arguments: list[str], folder: Path, output: Output) -> int:
    verb = arguments[0] if arguments else None
    if verb in (None, "-h", "--help", "help"):
        output.line(help_text(_own_verbs(folder)))
        return 0 if verb else BadInput.exit_code
    if verb == "--version":
        output.line(f"synergy {__version__}")
        return 0
    if verb in VERBS:
        args = parser_of(verb).parse_args(arguments[1:])
        module = importlib.import_module(f"synergy.cli.{VERBS[verb][0]}")
        code: int = module.run(args, _project(folder, args), output)
        return code
    own = open_project(folder).commands
    if verb in own:
        return _own_verb(verb, own[verb], arguments[1:])
    raise BadInput(_unknown(verb or "", [*VERBS, *own]))


def _verb_first(arguments: list[str]) -> list[str]:
    """``--json jobs`` as ``jobs --json``: the options that all verbs have may stand before it."""
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if word == "--json" or word.startswith(("--store=", "--broker=")):
            place += 1
        elif word in ("--store", "--broker"):
            place += 2
        else:
            break
    return arguments[place : place + 1] + arguments[:place] + arguments[place + 1 :]


def _project(folder: Path, args: argparse.Namespace) -> Project:
    """The project here, or in the folder `dir` of a verb that names one.

    Some verbs need none, and a store that is named needs none to be read.
    """
    named = args.store or os.environ.get("SYNERGY_STORE")
    here = any((folder / name).exists() for name in ("context.py", "settings.py"))
    if not (here or named or args.verb in ("init", "simulate")):
        raise BadInput(
            f"{folder.resolve()} is not a project: it has no context.py. "
            f"Go to a folder that has one, or make one: {command('init DIR')}"
        )
    named_folder: str | None = getattr(args, "dir", None)
    place = folder if named_folder is None else Path(named_folder)
    return open_project(place, args.store, args.broker)


def _own_verbs(folder: Path) -> Mapping[str, str]:
    """The project's own verbs; none where its settings cannot be read: help must always come."""
    try:
        return open_project(folder).commands
    except SynergyError:
        return {}


def _own_verb(verb: str, entry: str, arguments: list[str]) -> int:
    """Run a verb that the project's settings add."""
    module, _, name = str(entry).partition(":")
    try:
        main_function = getattr(importlib.import_module(module), name)
    except Exception as error:  # the user's module may raise anything
        raise BadInput(
            f"settings.py: COMMANDS {verb!r}: {entry!r} cannot be used: {error!r}; "
            'the form is "package.module:function"'
        ) from error
    code: int | None = main_function(arguments)
    return code or 0


def _unknown(verb: str, known: list[str]) -> str:
    close = difflib.get_close_matches(verb, known, 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
    return f"there is no verb {verb!r}; {hint} ({command('--help')})"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong first, and then where to look."""

    def error(self, message: str) -> NoReturn:
        self.exit(
            BadInput.exit_code,
            f"{self.prog}: {message}\n{self.format_usage()}more: {self.prog} --help\n",
        )


def _prepare_streams() -> None:
    """A stream that was closed swallows; one that cannot print our signs prints '?' instead."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _discard_stdout() -> None:
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())
