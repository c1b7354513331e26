"""``init``: a new project with one process and its test."""

import argparse
import re
import shlex
import sys
from datetime import timedelta
from importlib import resources
from pathlib import Path

from synergy.cli.output import Output
from synergy.clock import SystemClock
from synergy.errors import BadInput, Conflict
from synergy.project import Project


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument("dir", metavar="DIR", help="an empty or new folder")


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Write it."""
    folder = Path(args.dir).resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(
            f"{folder} is not an empty folder; nothing was written. Name one that is new or empty"
        )
    try:
        written = _write(folder)
    except OSError as error:
        raise BadInput(f"{error.filename or folder} cannot be written: {error.strerror}") from error
    if output.json:
        output.data({"folder": str(folder), "files": written})
        return 0
    output.line(f"a new project in {folder}:")
    for target in written:
        output.line(f"  {target}")
    output.line("next:")
    output.line(f"  cd {shlex.quote(args.dir)}")
    output.line("  ./launch.py up            # run it; Ctrl-C stops")
    output.line("  ./launch.py jobs          # what it did, from another terminal")
    output.line("  ./launch.py test          # test its workers and its timetable")
    return 0


def _write(folder: Path) -> list[str]:
    """Fill the folder from the template; the names of the files."""
    template = resources.files("synergy.cli") / "template"
    yesterday = (SystemClock().now() - timedelta(days=1)).date().isoformat()
    for source, target in FILES.items():
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (template / source).read_text("utf-8")
        text = text.replace("@PYTHON@", _interpreter()).replace("@START@", yesterday)
        path.write_text(text, "utf-8")
    (folder / "launch.py").chmod(0o755)
    return list(FILES.values())


def _interpreter() -> str:
    """What stands behind ``#!``: this Python, where such a line can name it."""
    fits = len(sys.executable) <= LONGEST_FIRST_LINE and not re.search(r"\s", sys.executable)
    return sys.executable if fits else "/usr/bin/env python3"


#: What all systems accept behind ``#!``.
LONGEST_FIRST_LINE = 120
#: File of the template → file of the project.
FILES = {
    "launch.py.txt": "launch.py",
    "settings.py.txt": "settings.py",
    "context.py.txt": "context.py",
    "workers.py.txt": "workers/__init__.py",
    "hello.py.txt": "workers/hello.py",
    "test.py.txt": "workers/testing.py",
    "test_hello.py.txt": "tests/test_hello.py",
    "README.md.txt": "README.md",
    "gitignore.txt": ".gitignore",
}
