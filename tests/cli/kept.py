"""A timetable that was played into a real store, and the command line over it, in this process."""

import contextlib
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synergy.app import save_context
from synergy.cli import main
from synergy.core.context import Context, to_document, with_starts
from synergy.stores import open_store
from synergy.testing.stage import Stage


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def rows(self) -> list[str]:
        assert self.code == 0, self
        return self.out.splitlines()


@dataclass(frozen=True)
class Kept:
    """A store in a file, and a project's folder that has nothing but it."""

    folder: Path
    stage: Stage

    def __call__(self, *words: str) -> Answer:
        out, err = io.StringIO(newline=""), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*words, "--store", url(self.folder)], self.folder)
        return Answer(code, out.getvalue(), err.getvalue())


def keep(folder: Path, context: Context, at: datetime) -> Kept:
    """A stage over a SQLite store, and the catalog in it as a scheduler leaves it."""
    store = open_store(url(folder), create=True)
    document = with_starts(to_document(context), None, at)
    assert save_context(store, document, 0)
    return Kept(folder, Stage(context, at, store=store))


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'kept.db'}"


def this_hour() -> datetime:
    """The latest full hour by the real clock: what the command line calls now is little later."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
