"""Which units one call of a worker may take together: adjacent intervals of a process that says so.

The timetable knows nothing of it: a unit stays a unit, with a fence and a lease of its own.  A
*call* is opened by one unit and goes on with the one whose interval begins where the last one ends.
Only first attempts go together: after a failure each unit is attempted alone, so that the one that
does not work is found.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from synergy.core.model import Task, Unit

#: A call is never larger: no more units of a process are out at once (`admission.DISPATCH_AHEAD`).
LARGEST = 256


def is_shared(task: Task, attempt: int) -> bool:
    """Whether an attempt of this number may be one call together with others."""
    return task.batch > 1 and attempt == 1


def may_be_shared(unit: Unit) -> bool:
    """Whether its attempt may be one call together with others."""
    return is_shared(unit.task, unit.attempt)


def goes_on(call: Sequence[Unit], unit: Unit) -> bool:
    """Whether a unit may be the next one of a call."""
    last = call[-1]
    return (
        len(call) < last.task.batch
        and unit.process == last.process
        and unit.interval.start == last.interval.end
        and may_be_shared(last)
        and may_be_shared(unit)
        and _alike(unit.task, last.task)
    )


def _alike(one: Task, other: Task) -> bool:
    """Whether one call can do both; that one of them comes first does not matter then."""
    return one is other or (
        (one.entry, one.batch, one.source, one.sink, one.time_limit)
        == (other.entry, other.batch, other.source, other.sink, other.time_limit)
        and one.arguments == other.arguments
    )


def calls_of(units: Iterable[Unit]) -> list[list[Unit]]:
    """The calls that these units make, which stand in the order of their intervals at least where
    they are adjacent."""
    calls: list[list[Unit]] = []
    open_at: dict[tuple[str, datetime], list[Unit]] = {}
    for unit in units:
        call = open_at.pop((unit.process, unit.interval.start), None)
        if call is not None and goes_on(call, unit):
            call.append(unit)
        else:
            call = [unit]
            calls.append(call)
        if may_be_shared(unit):
            open_at[unit.process, unit.interval.end] = call
    return calls


def followers(begun: Sequence[Unit], waiting: Callable[[Unit], Iterable[Unit]]) -> list[Unit]:
    """What a claim takes besides the units that it begins: those that make their calls full.

    `waiting` tells of a process, by the last unit of a call, the units that wait and start no
    earlier than that one ends, by their starts.
    """
    shared = [unit for unit in begun if may_be_shared(unit)]
    taken, found = {unit.key for unit in shared}, list[Unit]()
    for call in calls_of(shared):
        if len(call) == call[-1].task.batch:
            continue
        for unit in waiting(call[-1]):
            if unit.key not in taken and goes_on(call, unit):
                call.append(unit)
                taken.add(unit.key)
                found.append(unit)
            elif unit.interval.start > call[-1].interval.end:
                break
    return found
