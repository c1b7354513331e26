"""What attempts printed, a window at a time: the path is made of numbers and checked names only."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synergy.capture import attempt_log_path, read_log
from synergy.core.model import Unit
from synergy.core.states import UnitState
from synergy.errors import NotFound
from synergy.mx.routes import Call
from synergy.mx.words import printed

#: Bytes of one window of the log viewer, and of the end that the interval's page shows.
WINDOW, TAIL = 64 * 1024, 6 * 1024
#: Bytes that are ever read of a log: more are not kept.
WHOLE = 64 * 1024 * 1024
_NOT_STARTED = (UnitState.REQUESTED, UnitState.CLAIMED)


@dataclass(frozen=True, slots=True)
class LogView:
    """A part of what an attempt printed."""

    process: str
    label: str
    unit: str
    generation: int
    run: int
    attempt: int
    attempts: Sequence[int]
    #: Bytes of all of it, and which of them are shown.
    size: int
    start: int
    end: int
    text: str
    #: First byte of the window before and after; -1 where there is none.
    before: int
    after: int
    #: Why nothing is shown; empty where something is.
    missing: str


@dataclass(frozen=True, slots=True)
class LogScreen:
    """The page of a log."""

    log: LogView
    #: Its own address, without what is asked of it, and that of what it is the log of.
    address: str
    above: str


def asked_window(call: Call, unit: Unit) -> tuple[int, int | None]:
    """Which attempt is asked for (0: the latest), and from which byte on (None: the end).

    Raises:
        BadInput: one of them is no number.
        NotFound: there have not been so many attempts.
    """
    attempt = call.number("attempt", 0)
    if attempt > made_attempts(unit):
        raise NotFound(f"{unit.key} has had {made_attempts(unit)} attempts yet")
    start = call.number("from", -1)
    return attempt, None if start < 0 else start


def made_attempts(unit: Unit) -> int:
    """How many attempts of a unit have begun."""
    return unit.attempt - (unit.state in _NOT_STARTED)


def log_view(log_dir: Path, box: str, unit: Unit, attempt: int, start: int | None) -> LogView:
    """A window of an attempt's log from a byte on; None: its end.  Attempt 0: the latest."""
    made = made_attempts(unit)
    attempt = attempt or made
    path = attempt_log_path(
        log_dir, unit.process, unit.interval.label, unit.generation, unit.run, attempt
    )
    content, missing = b"", ""
    try:
        if not _is_within(path, log_dir):
            raise FileNotFoundError
        content = read_log(path, 0, WHOLE)
    except OSError:
        missing = (
            f"attempt {attempt} left no log on box {box}; another box may have it"
            if 0 < attempt <= made
            else "no attempt has begun yet"
        )
    size = len(content)
    begin = max(0, size - WINDOW) if start is None else min(max(0, start), size)
    end = min(size, begin + WINDOW)
    return LogView(
        process=unit.process,
        label=unit.interval.label,
        unit=unit.key,
        generation=unit.generation,
        run=unit.run,
        attempt=attempt,
        attempts=range(1, made + 1),
        size=size,
        start=begin,
        end=end,
        text=printed(content[begin:end]),
        before=max(0, begin - WINDOW) if begin else -1,
        after=end if end < size else -1,
        missing=missing or ("" if size else "it has printed nothing"),
    )


def tail(log_dir: Path, unit: Unit) -> str:
    """The end of what its latest attempt printed, from a line's beginning on; empty without."""
    made = made_attempts(unit)
    path = attempt_log_path(
        log_dir, unit.process, unit.interval.label, unit.generation, unit.run, made
    )
    if not made or not _is_within(path, log_dir):
        return ""
    try:
        content = read_log(path, -TAIL, TAIL)
    except OSError:
        return ""
    if len(content) == TAIL:
        content = content.partition(b"\n")[2] or content
    return printed(content)


def _is_within(path: Path, folder: Path) -> bool:
    """Whether it leads into the folder, and is no link that a job has planted."""
    real = os.path.realpath(folder)
    return os.path.realpath(path).startswith(real + os.sep) and not path.is_symlink()
