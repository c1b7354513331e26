"""The programs of a project as processes of this box: how they begin, where they leave a pid."""

import contextlib
import os
import sys
from pathlib import Path

from synergy.programs import Identity, PidFile, start_detached
from synergy.project import Project

#: Lines of what a program said last.
LAST_WORDS = 30


def pid_file(project: Project, name: str) -> PidFile:
    """Where a program of the project leaves its pid."""
    return PidFile(project.run_dir / f"{name}.pid")


def log_file(project: Project, name: str) -> Path:
    """Where a program of the project logs to."""
    return project.log_dir / f"{name}.log"


def printed_file(project: Project, name: str) -> Path:
    """Where stands what a program prints, most of all before it can log."""
    return project.log_dir / f"{name}.out"


def holder_of(project: Project, name: str) -> Identity | None:
    """The living process that is this program.

    Raises:
        PermissionError: it is somebody else's, so nothing can be told.
    """
    file = pid_file(project, name)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        file.path.open("rb").close()
    return file.holder()


def spawn(project: Project, *words: str, printed: Path) -> int:
    """Begin a command of the project's that outlives us, its log in the file; its process id."""
    # As the settings are now: they may change between this moment and the program's start.  Not
    # among the arguments, which everybody on the box can read: addresses may carry passwords.
    settings = {
        "SYNERGY_STORE": project.store,
        "SYNERGY_BROKER": project.broker,
        "SYNERGY_LOG_DIR": str(project.log_dir),
        "SYNERGY_RUN_DIR": str(project.run_dir),
        "SYNERGY_BOX": project.box,
        **{
            f"SYNERGY_CONSOLE_{name}".removesuffix("_"): value
            for name, value in project.console.items()
        },
    }
    return start_detached(
        [sys.executable, "-m", "synergy.cli", *words, "--logged"],
        printed,
        cwd=project.folder,
        env={**os.environ, **settings},
    )


def spawn_program(project: Project, name: str) -> int:
    """Begin a program in the background; its process id.  It is it once `holder_of` says so."""
    return spawn(project, "start", name, "--console", printed=printed_file(project, name))


class ProjectPrograms:
    """The programs of a project, for its supervisor."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._printed: dict[str, int] = {}

    def start(self, name: str) -> int:
        """Begin it."""
        self._printed[name] = size_of(printed_file(self._project, name))
        return spawn_program(self._project, name)

    def find(self, name: str) -> Identity | None:
        """The living process that has its pid file."""
        return holder_of(self._project, name)

    def last_words(self, name: str) -> str:
        """The last line that it printed since it was started here."""
        if name not in self._printed:
            return ""
        return "".join(said_since(printed_file(self._project, name), self._printed[name])[-1:])


def said_since(path: Path, before: int) -> list[str]:
    """The last lines of what was printed to a file beyond its former size."""
    try:
        text = path.read_bytes()[before:].decode("utf-8", "replace")
    except OSError:
        return []
    return text.strip().splitlines()[-LAST_WORDS:]


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
