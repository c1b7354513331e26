"""Imports point one way only, and each third-party package has exactly one home.

The rules are the tables below; `problems` applies them to a map of module → what it imports, so the
checker itself is tested on bad examples. A new module or package is entered in a table, on purpose.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent

#: The rooms of synergy, lowest rung first. A room imports from its own rung or from lower ones.
RUNGS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "clock", "logs", "garbage", "capture", "urls", "signals", "words"})
    | frozenset({"programs", "owners", "containment"}),
    frozenset({"core"}),
    frozenset({"ports", "records", "project", "reading", "history", "leases", "schemas", "bells"})
    | frozenset({"presence", "promises", "explanation", "hindsight", "story"}),
    frozenset({"stores", "brokers", "scheduler", "worker", "supervisor", "mx"}),
    frozenset({"testing", "app", "forecast", "__init__"}),
    frozenset({"bench", "services"}),
    frozenset({"cli", "__main__"}),
)

#: Shells know the ports, never each other.
SHELLS = frozenset({"stores", "brokers", "scheduler", "worker", "supervisor", "mx"})

#: The ladder inside core, lowest rung first; its `__init__` holds names only and stands on top.
CORE_RUNGS: tuple[frozenset[str], ...] = (
    frozenset({"values"}),
    frozenset({"intervals", "triggers", "states", "boxes"}),
    frozenset({"model", "context", "catalog", "building", "batches"}),
    frozenset({"commands"}),
    frozenset({"events"}),
    frozenset({"readiness", "machines", "recovery", "plans", "switches", "backfills"}),
    frozenset({"admission"}),
    frozenset({"timetable", "freeruns"}),
    frozenset({"late", "changes", "promises"}),
    frozenset({"operations", "catch_up"}),
    frozenset({"switchboard", "lanes"}),
    frozenset({"engine"}),
    frozenset({"__init__"}),
)

#: What else of synergy the core may import: it raises the domain's errors.
CORE_MAY_ALSO = frozenset({"errors"})

#: The core has no clock, IO, logging or randomness, so it has no use for these. (`random` is not
#: among them: a generator that is given its seed is a function like any other.)
IMPURE = {
    "_thread",
    "asyncio",
    "concurrent",
    "fcntl",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "sched",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
    "uuid",
}

#: Each package (also sqlite3 of the standard library) and the one module or folder that imports it.
HOMES: Mapping[str, str] = {
    "cronsim": "synergy.core.triggers",
    "greenlet": "synergy.testing",
    "hypothesis": "synergy.testing",
    "jinja2": "synergy.mx",
    "jsonschema": "synergy.schemas",
    "celery": "synergy.bench",
    "dramatiq": "synergy.bench",
    "huey": "synergy.bench",
    "kombu": "synergy.bench",
    "luigi": "synergy.bench",
    "markupsafe": "synergy.mx",
    "pika": "synergy.brokers.rabbitmq",
    "prometheus_client": "synergy.mx",
    "psutil": "synergy.programs",
    "bson": "synergy.stores",
    "pymongo": "synergy.stores",
    "pytest": "synergy.testing",
    "rich": "synergy.cli",
    "sqlite3": "synergy.stores",
    "waitress": "synergy.mx",
    "werkzeug": "synergy.mx",
}

#: A user's project and its tests: loaded by name, never imported.
OF_THE_USER = frozenset({"context", "settings", "launch", "workers", "db", "tests", "scripts"})


# ---- the checker


def problems(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """Every import that breaks a rule, as sentences; `imports` maps module → imported modules."""
    found = [
        f"{module} imports {target}: {fault}"
        for module in sorted(imports)
        for target in sorted(set(imports[module]))
        for fault in faults(module, target)
    ]
    homeless = sorted(module for module in imports if not stands_on_a_rung(module))
    found += [f"{module} stands on no rung: enter it in the tables" for module in homeless]
    return found + [f"imports go in a circle: {' → '.join(circle)}" for circle in circles(imports)]


def faults(module: str, target: str) -> Iterator[str]:
    """What is wrong with this one import."""
    package = target.partition(".")[0]
    if package == "synergy":
        yield from faults_within(module, target)
        return
    if package in OF_THE_USER:
        yield "a user's project is loaded by name"
    elif package in HOMES:
        if not is_in(module, HOMES[package]):
            yield f"the only home of {package} is {HOMES[package]}"
    elif package not in sys.stdlib_module_names:
        yield f"{package} has no home: enter it in test_architecture.py"
    if room(module) == "core" and package in IMPURE:
        yield "core has no clock, IO, logging or randomness"


def faults_within(module: str, target: str) -> Iterator[str]:
    mine, other = room(module), room(target)
    if mine == "core" and other != "core":
        if other not in CORE_MAY_ALSO:
            yield "core imports only the standard library and the domain's errors"
    elif rung(RUNGS, other) > rung(RUNGS, mine):
        yield f"{other} stands above {mine}"
    elif mine != other and {mine, other} <= SHELLS:
        yield "shells do not import each other"
    if mine == other == "core":
        if rung(CORE_RUNGS, core_part(target)) > rung(CORE_RUNGS, core_part(module)):
            yield f"{core_part(target)} stands above {core_part(module)} in core"


def stands_on_a_rung(module: str) -> bool:
    if rung(RUNGS, room(module)) == len(RUNGS):
        return False
    return room(module) != "core" or rung(CORE_RUNGS, core_part(module)) < len(CORE_RUNGS)


def rung(ladder: tuple[frozenset[str], ...], name: str) -> int:
    """The rung a name stands on; one above the top for a name that is not on the ladder."""
    return next((height for height, names in enumerate(ladder) if name in names), len(ladder))


def room(module: str) -> str:
    """`synergy.stores.sqlite` → `stores`; `synergy` itself → `__init__`."""
    return [*module.split("."), "__init__"][1]


def core_part(module: str) -> str:
    """`synergy.core.engine` → `engine`; `synergy.core` itself → `__init__`."""
    return [*module.split("."), "__init__"][2]


def is_in(module: str, home: str) -> bool:
    return module == home or module.startswith(home + ".")


def circles(imports: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The circles of imports, one for each place where the walk comes back to itself."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(set(imports.get(module, ()))):
                # A package's own parts: `from synergy.stores import sqlite` in synergy/stores.
                if target in imports and target != module:
                    walk(target, [*path, module])
            done.add(module)

    for module in sorted(imports):
        walk(module, [])
    return found


# ---- reading the source


def imports_of(root: Path, package: str) -> dict[str, set[str]]:
    """What each module of a package imports, wherever in the file the import stands."""
    files = {name_of(path, root): path for path in sorted((root / package).rglob("*.py"))}
    known = set(files)
    return {
        name: imported(path.read_text("utf-8"), name, path.name == "__init__.py", known)
        for name, path in files.items()
    }


def name_of(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, is_package: bool, known: set[str]) -> set[str]:
    """The modules that this source imports; `from a import b` is `a.b` where that is a module."""
    targets: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module, is_package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                targets.add(full if full in known else base)
    return targets


def absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """The full name of what `from … import` names, relative ones included."""
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + (1 if is_package else 0)]
    return ".".join([*base, node.module] if node.module else base)


# ---- the facts


def test_imports_point_one_way() -> None:
    found = problems(imports_of(PROJECT, "synergy"))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("module", "target", "expected"),
    [
        ("synergy.errors", "synergy.core.model", "core stands above errors"),
        ("synergy.ports", "synergy.stores.memory", "stores stands above ports"),
        ("synergy.stores.sqlite", "synergy.app", "app stands above stores"),
        ("synergy.app", "synergy.cli", "cli stands above app"),
        ("synergy.worker.shell", "synergy", "__init__ stands above worker"),
        ("synergy.worker.shell", "synergy.stores.sqlite", "shells do not import each other"),
        ("synergy.scheduler.loop", "synergy.brokers", "shells do not import each other"),
        ("synergy.core.engine", "synergy.clock", "core imports only the standard library"),
        ("synergy.core.engine", "synergy.ports", "core imports only the standard library"),
        ("synergy.core.engine", "synergy.programs", "core imports only the standard library"),
        ("synergy.core.engine", "logging", "no clock, IO, logging or randomness"),
        ("synergy.core.intervals", "synergy.core.model", "model stands above intervals in core"),
        ("synergy.core.catalog", "synergy.core.events", "events stands above catalog in core"),
        ("synergy.core.commands", "synergy.core.readiness", "readiness stands above commands"),
        ("synergy.core.recovery", "synergy.core.timetable", "timetable stands above recovery"),
        ("synergy.core.freeruns", "synergy.core.engine", "engine stands above freeruns in core"),
        ("synergy.core.engine", "synergy.core", "__init__ stands above engine in core"),
        ("synergy.core.engine", "cronsim", "only home of cronsim is synergy.core.triggers"),
        ("synergy.worker.shell", "psutil", "only home of psutil is synergy.programs"),
        ("synergy.programs_of_mine", "psutil", "only home of psutil is synergy.programs"),
        ("synergy.scheduler.loop", "sqlite3", "only home of sqlite3 is synergy.stores"),
        ("synergy.app", "rich.table", "only home of rich is synergy.cli"),
        ("synergy.worker.shell", "pika", "only home of pika is synergy.brokers.rabbitmq"),
        ("synergy.mx.server", "flask", "flask has no home"),
        ("synergy.project", "context", "loaded by name"),
        ("synergy.cli.test", "tests.builders", "loaded by name"),
        ("synergy.cli.start", "launch", "loaded by name"),
    ],
)
def test_a_forbidden_import_is_found(module: str, target: str, expected: str) -> None:
    found = problems({module: {target}})
    assert any(f"{module} imports {target}: " in line and expected in line for line in found), found


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("synergy.core.engine", "synergy.core.timetable"),
        ("synergy.core.engine", "synergy.errors"),
        ("synergy.core.catalog", "synergy.core.model"),
        ("synergy.core.triggers", "cronsim"),
        ("synergy.core.intervals", "zoneinfo"),
        ("synergy.stores.sqlite", "sqlite3"),
        ("synergy.stores.sqlite", "synergy.stores.memory"),
        ("synergy.stores.sqlite", "synergy.clock"),
        ("synergy.worker.shell", "synergy.programs"),
        ("synergy.worker.shell", "synergy.core.model"),
        ("synergy.programs", "psutil"),
        ("synergy.cli.jobs", "rich.table"),
        ("synergy.cli.jobs", "synergy.app"),
        ("synergy", "synergy.core.model"),
        ("synergy.testing.world", "synergy.stores.memory"),
    ],
)
def test_a_proper_import_is_allowed(module: str, target: str) -> None:
    assert problems({module: {target}}) == []


def test_a_module_that_is_in_no_table_is_found() -> None:
    assert "synergy.utils stands on no rung" in problems({"synergy.utils": ()})[0]
    assert "synergy.core.helpers stands on no rung" in problems({"synergy.core.helpers": ()})[0]


def test_a_circle_is_found() -> None:
    imports = {
        "synergy.core.model": {"synergy.core.catalog"},
        "synergy.core.catalog": {"synergy.core.model"},
    }
    assert problems(imports) == [
        "imports go in a circle: synergy.core.catalog → synergy.core.model → synergy.core.catalog"
    ]


def test_every_way_to_write_an_import_is_read() -> None:
    source = """
import os, synergy.clock
from . import model as m
from .states import JobState
from .. import errors
from synergy.core import intervals
def late():
    import psutil
    from synergy import Context
"""
    known = {"synergy.errors", "synergy.core.model", "synergy.core.intervals"}
    assert imported(source, "synergy.core.engine", False, known) == {
        "os",
        "synergy.clock",
        "synergy.core.model",
        "synergy.core.states",
        "synergy.errors",
        "synergy.core.intervals",
        "psutil",
        "synergy",
    }


def test_a_packages_relative_imports_start_at_itself() -> None:
    known = {"synergy.stores.memory"}
    assert imported("from . import memory", "synergy.stores", True, known) == known
    assert imported("from .memory import x", "synergy.stores", True, known) == known
