"""Loads a user's project: the folder with ``settings.py`` and ``context.py``.

Settings are plain names in ``settings.py``, each overridden by an environment variable of the same
name with ``SYNERGY_`` before it.  Nothing here knows any user's module by name but these two.
"""

import importlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from synergy.core import context as declared
from synergy.core.boxes import BOX_ID
from synergy.core.building import CatalogError, build
from synergy.core.catalog import Catalog
from synergy.core.changes import Change, refused
from synergy.core.context import Context
from synergy.errors import BadInput, Conflict

#: The names that ``settings.py`` may set, with their defaults.
DEFAULTS: Mapping[str, str] = {
    #: URL of the store; relative paths count from the project's folder.
    "STORE": "sqlite:///.synergy/synergy.db",
    #: URL of the broker that brings units to the workers; `none`: they look into the store.
    "BROKER": "none",
    #: Folder of the programs' logs, and below it of the attempts' logs.
    "LOG_DIR": ".synergy/logs",
    #: Folder of the pid files.
    "RUN_DIR": ".synergy/run",
    #: Seconds that a worker's units get to finish when it is told to stop.
    "GRACE": "20",
    #: Days for which the units of an interval, the record of its attempts, are kept in the store:
    #: from its end until now, or until the newest interval of its process that was worked,
    #: whichever is earlier; empty: for ever. How each interval stands is kept in any case.
    "KEEP_UNITS_DAYS": "",
    #: Id of this box; empty: the name of the host.
    "BOX": "",
    #: Where the web console listens, such as 127.0.0.1:8080 (port 0: any that is free); with it
    #: `up` and the supervisor keep one running. Empty: none, and `start console` takes
    #: 127.0.0.1:8080.
    "CONSOLE": "",
    #: Host names by which browsers call the console, besides the address: separated by commas.
    "CONSOLE_HOSTS": "",
    #: PEM file with the console's certificate chain: it does TLS itself.
    "CONSOLE_CERTIFICATE": "",
    #: PEM file with the key of that certificate, where it is not in the same file.
    "CONSOLE_KEY": "",
    #: Address of the proxy that does TLS before the console, such as 127.0.0.1.
    "CONSOLE_PROXY": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A user's project, its settings read, its context not yet."""

    folder: Path
    #: Absolute URL.
    store: str
    #: URL, or "none".
    broker: str = "none"
    log_dir: Path
    run_dir: Path
    grace: timedelta
    #: How long units are remembered after the end of their interval; None: for ever.
    keep_units: timedelta | None = None
    #: Id of this box.
    box: str = field(default_factory=socket.gethostname)
    #: The settings of the web console, by their names without ``CONSOLE_``; "" is the address.
    console: Mapping[str, str] = field(default_factory=dict)
    #: Verbs that the project adds to the command line: ``name -> "module:function"``.
    commands: Mapping[str, str] = field(default_factory=dict)


def open_project(folder: Path, store: str | None = None, broker: str | None = None) -> Project:
    """Read the settings of the project in `folder`; `store` and `broker` override its own.

    Raises:
        BadInput: naming every setting that cannot be used.
    """
    folder = folder.resolve()
    if sys.path[:1] != [str(folder)]:  # before any other project's modules of the same names
        sys.path.insert(0, str(folder))
    module = _module(folder, "settings", optional=True)
    values = {name: _setting(module, name, default) for name, default in DEFAULTS.items()}
    problems = []
    try:
        grace = float(values["GRACE"])
    except ValueError:
        problems.append(f"GRACE {values['GRACE']!r} is not a number of seconds")
        grace = 0.0
    keep_units = None
    if values["KEEP_UNITS_DAYS"]:
        try:
            keep_units = timedelta(days=float(values["KEEP_UNITS_DAYS"]))
        except (ValueError, OverflowError):
            keep_units = timedelta(0)
        if not timedelta(days=1) <= keep_units <= timedelta(days=36_500):
            problems.append(
                f"KEEP_UNITS_DAYS {values['KEEP_UNITS_DAYS']!r} is not a number of days from 1 to "
                "36500"
            )
    box = values["BOX"] or socket.gethostname()
    if not BOX_ID.fullmatch(box):
        problems.append(
            f"BOX {box!r} is no id of a box: it is made of letters, digits, '_', '.' and '-', "
            "and without it the name of the host is taken"
        )
    commands = getattr(module, "COMMANDS", {})
    if problems:
        raise BadInput(f"{folder / 'settings.py'} cannot be used:", problems)
    return Project(
        folder=folder,
        store=absolute_url(store or values["STORE"], folder),
        broker=broker or values["BROKER"],
        log_dir=folder / values["LOG_DIR"],
        run_dir=folder / values["RUN_DIR"],
        grace=timedelta(seconds=grace),
        keep_units=keep_units,
        box=box,
        console={
            name.removeprefix("CONSOLE").removeprefix("_"): value
            for name, value in values.items()
            if name.startswith("CONSOLE")
        },
        commands=dict(commands),
    )


def absolute_url(url: str, folder: Path) -> str:
    """A SQLite URL with the path made absolute; any other as it is."""
    scheme = "sqlite:///"
    if not url.startswith(scheme):
        return url
    return scheme + str(folder / url.removeprefix(scheme))


def load_context(project: Project) -> Context:
    """Import ``context.py`` and return its `context`.

    Raises:
        BadInput: when it is missing, cannot be imported or has no `context`.
    """
    module = _module(project.folder, "context", optional=False)
    context = getattr(module, "context", None)
    if not isinstance(context, Context):
        raise BadInput(
            f"{project.folder / 'context.py'} has no `context`; "
            "it ends with: context = Context(tree(…), freerun(…))"
        )
    return context


def check(project: Project, context: Context, now: datetime) -> Catalog:
    """The catalog of a context, its workers' imports tried.

    Raises:
        BadInput: naming every problem of the context and every worker that does not import.
    """
    problems: list[str] = []
    catalog = None
    try:
        catalog = build(context, now)
    except CatalogError as error:
        problems += error.problems
    problems += _imports(project, context)
    if problems or catalog is None:
        raise BadInput(f"{project.folder / 'context.py'} cannot be used:", problems)
    return catalog


def adopt(context: Context, stored: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    """The context as the document to leave in the store, every tree with its start."""
    return declared.with_starts(declared.to_document(context), stored, now)


def refuse(changes: Iterable[Change]) -> None:
    """Raise what may not be.

    Raises:
        Conflict: naming every change that is refused, with what would accept it.
    """
    lines: list[str] = []
    for change in refused(changes):
        lines.append(f"  - {change}")
        if change.accept:
            lines.append(f'    if that is meant: Context(…, accept=["{change.accept}"])')
    if lines:
        raise Conflict("\n".join(["the context contradicts what is in the store:", *lines]))


def catalog_of(document: Mapping[str, Any]) -> Catalog:
    """The catalog of a stored document."""
    return build(declared.from_document(document), datetime.max)


def _imports(project: Project, context: Context) -> list[str]:
    """Which entries cannot be imported; tried in a process of its own, so that none stays here."""
    wanted: dict[str, list[str]] = {}
    for owner, entry in _entries(context):
        wanted.setdefault(entry, []).append(owner)
    tried = subprocess.run(
        [sys.executable, "-m", "synergy.worker.entries", str(project.folder), *wanted],
        capture_output=True,
        text=True,
        check=False,
        cwd=project.folder,
    )
    try:
        failed = json.loads(tried.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return [f"the workers could not be imported: {tried.stderr.strip() or tried.returncode}"]
    return [
        f"{owner}: run {entry!r} {why}" for entry, why in failed.items() for owner in wanted[entry]
    ]


def _entries(context: Context) -> list[tuple[str, str]]:
    found: list[tuple[str, object]] = []
    for item in context.declared:
        if isinstance(item, declared.FreerunDeclaration):
            found.append((f'{item.place} freerun "{item.name}"', item.run))
        elif isinstance(item, declared.TreeDeclaration) and isinstance(
            item.processes, list | tuple
        ):
            found += [
                (f'{level.place} process "{level.name}"', level.run)
                for level in item.processes
                if isinstance(level, declared.ProcessDeclaration)
            ]
    found += [(f'source "{name}"', entry) for name, entry in context.sources.items()]
    # What is no such text at all is the catalog's to tell.
    return [(owner, run) for owner, run in found if isinstance(run, str) and ":" in run]


def _module(folder: Path, name: str, *, optional: bool) -> ModuleType | None:
    path = folder / f"{name}.py"
    if not path.exists():
        if optional:
            return None
        raise BadInput(f"{path} does not exist; `launch.py init DIR` makes a new project")
    try:
        return importlib.import_module(name)
    except BaseException as error:  # the user's module may raise anything
        line = _line_of(error, path)
        raise BadInput(f"{path}{line} cannot be imported: {error!r}") from error


def _line_of(error: BaseException, path: Path) -> str:
    trace, line = error.__traceback__, ""
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line


def _setting(module: ModuleType | None, name: str, default: str) -> str:
    return str(os.environ.get(f"SYNERGY_{name}", getattr(module, name, default)))
