"""What passes through the pipes between a worker and its slots: a JSON object per line.

The worker sends units, which are run in the order of their sending, and leave to go on::

    → {"at": 12.5, "tasks": [{"entry": …}], "units": [[7, 0, "hits", "2026-11-20", …], …]}
    → {"at": 12.6, "keep": null}                                 7: forget what came after 7
    ← {"ready": true}                                            once, at the start
    ← {"number": 7, "verdict": "processed", "began": 12.5, "ended": 12.5, …}
    ← {"held": true}

Units of one message whose task says a batch are one call; its answer has the number of the first,
a list as its progress, and ``others``, the answers for those behind the first, unless all came out
alike.

Several units are under way at once, so that the pipe costs no round trip for each of them; yet the
worker must know whose output it reads from the slot's other pipe, and must be able to take back
what has not been started.  So the slot *holds*, and waits for leave, after every unit that has
printed something, and after every unit that took longer than `HOLD_AFTER` since it last looked at
the clock, which it does after each answer; it says so with the answer, or behind it.  The worker
in turn reads output only of a slot that holds, or when no answer has come for `SLOW_AFTER` since
the last: then the slot looks at the clock after the answer that is missing, and will hold; so the
worker may give it leave in advance, and take back all that comes behind.  Each leave belongs to
one hold.  Both read one monotonic clock, and the times in the messages tie them together: what the
worker sent ``at`` a time counts from then, however late the slot reads it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from synergy.core.intervals import Interval
from synergy.core.model import Task, Unit
from synergy.records import (
    Plain,
    from_micros,
    task_from_document,
    task_to_document,
    to_micros,
)

#: Seconds after which a slot holds.
HOLD_AFTER: Final = 0.01
#: Seconds after which the worker knows that a slot that has not answered will hold.
SLOW_AFTER: Final = 0.02


class Errand(NamedTuple):
    """A unit as far as its slot has to know it."""

    #: Names the attempt in what is answered.
    number: int
    process: str
    interval: Interval
    generation: int
    run: int
    attempt: int
    task: Task
    low: Any
    high: Any


def units_to_message(numbered: Sequence[tuple[int, Unit]], at: float) -> Plain:
    """Have these units run."""
    tasks: dict[int, int] = {}
    documents: list[Plain] = []
    units = []
    for number, unit in numbered:
        task = tasks.get(id(unit.task))
        if task is None:
            document = task_to_document(unit.task)
            if document not in documents:
                documents.append(document)
            task = tasks[id(unit.task)] = documents.index(document)
        interval = unit.interval
        units.append(
            [
                number,
                task,
                unit.process,
                interval.label,
                to_micros(interval.start),
                to_micros(interval.end),
                unit.generation,
                unit.run,
                unit.attempt,
                unit.low,
                unit.high,
            ]
        )
    return {"at": at, "tasks": documents, "units": units}


def calls_in(message: Mapping[str, Any]) -> list[tuple[Errand, ...]]:
    """What `units_to_message` was given, as far as it is one call in a tuple."""
    errands = [*_errands_of(message)]
    if errands[0].task.batch > 1:
        return [tuple(errands)]
    return [(errand,) for errand in errands]


def _errands_of(message: Mapping[str, Any]) -> Iterator[Errand]:
    tasks = [task_from_document(each) for each in message["tasks"]]
    for number, task, process, label, start, end, generation, run, attempt, low, high in message[
        "units"
    ]:
        interval = Interval(from_micros(start), from_micros(end), label)
        yield Errand(number, process, interval, generation, run, attempt, tasks[task], low, high)


def leave_to_message(keep: int | None, at: float) -> Plain:
    """Let a slot that holds, or will, go on: with all that it has, or with nothing after `keep`."""
    return {"at": at, "keep": keep}
