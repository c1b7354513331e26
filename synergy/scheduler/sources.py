"""Measures the sources of recomputing processes: first and last key over an interval.

A source is the user's code.  It may be slow or raise anything; the loop asks, goes on, and takes
the answers when they are there.
"""

import json
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from synergy.core.commands import MeasureSource
from synergy.core.events import SourceMeasured
from synergy.core.intervals import Interval
from synergy.core.model import Json

#: Measures a source over an interval: first and last key, None where it has nothing.
Measure = Callable[[str, Interval], tuple[Json, Json] | None]


class Sources(Protocol):
    """What the loop needs of them."""

    def ask(self, command: MeasureSource) -> None:
        """Begin to measure."""
        ...

    def answers(self) -> list[SourceMeasured]:
        """What has been measured since the last call, in the order of asking."""
        ...


class SourcesAside:
    """Measures in a thread of its own: a slow source must not hold up the loop, nor its end."""

    def __init__(self, measure: Measure, ring: Callable[[], None]) -> None:
        self._measure = measure
        #: Called after each answer.
        self._ring = ring
        self._asked: queue.SimpleQueue[MeasureSource] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[SourceMeasured] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def ask(self, command: MeasureSource) -> None:
        """Begin to measure."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._asked.put(command)

    def answers(self) -> list[SourceMeasured]:
        """What has been measured since the last call."""
        found = []
        while not self._answers.empty():
            found.append(self._answers.get())
        return found

    def _run(self) -> None:
        while True:
            self._answers.put(measured(self._measure, self._asked.get()))
            self._ring()


class SourcesAtOnce:
    """Measures when the answer is wanted: for those who play the time, which outruns no thread."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._asked: deque[MeasureSource] = deque()

    @property
    def pending(self) -> bool:
        """Whether there is an answer to take."""
        return bool(self._asked)

    def ask(self, command: MeasureSource) -> None:
        """Begin to measure."""
        self._asked.append(command)

    def answers(self) -> list[SourceMeasured]:
        """Measure all that was asked for since the last call."""
        asked, self._asked = self._asked, deque()
        return [measured(self._measure, command) for command in asked]


def measured(measure: Measure, command: MeasureSource) -> SourceMeasured:
    """What a source says of an interval; whatever goes wrong with it is its error, not ours."""
    try:
        keys = measure(command.source, command.interval)
        low, high = keys if keys is not None else (None, None)
        low, high = json.loads(json.dumps((low, high), allow_nan=False))
    except BaseException as error:  # the user's code may raise anything, SystemExit too
        why = f"{error!r}; it returns None, or its first and last key as JSON values"
        return SourceMeasured(process=command.process, interval=command.interval, error=why)
    return SourceMeasured(process=command.process, interval=command.interval, low=low, high=high)
