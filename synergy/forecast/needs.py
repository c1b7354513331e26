"""What an interval rests on, and what of that will not end by itself."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import pairwise

from synergy.core.backfills import backfills_of
from synergy.core.catalog import Catalog, Input
from synergy.core.intervals import Interval
from synergy.core.states import JobState
from synergy.core.timetable import Ledger, Timetable
from synergy.forecast.scene import Scene

_TICK = timedelta(microseconds=1)


def rests_on(
    catalog: Catalog, timetable: Timetable, process: str, interval: Interval
) -> dict[str, tuple[datetime, datetime]]:
    """The unfinished that must be finished before an interval is, itself among it: for each
    process the range in which it lies.  Costs what is unfinished, not what is behind."""
    found = {process: (interval.start, interval.end)}
    todo = [(process, interval.start, interval.end)]
    while todo:
        name, start, end = todo.pop()
        for given in _inputs(catalog, name, start, end):
            begin = _unfinished_from(timetable.ledgers[given.process], given.start, given.end)
            if begin is None:
                continue
            known = found.get(given.process, (begin, given.end))
            reach = min(known[0], begin), max(known[1], given.end)
            if given.process not in found or reach != known:
                found[given.process] = reach
                todo.append((given.process, *reach))
    return found


def _inputs(catalog: Catalog, name: str, start: datetime, end: datetime) -> Iterator[Input]:
    """What all intervals of a range wait for, as far as the first and the last of it reach."""
    calendar = catalog.processes[name].calendar
    hull: dict[tuple[str, str], Input] = {}
    for one in (calendar.containing(start), calendar.containing(end - _TICK)):
        for given in catalog.inputs(name, one):
            key = given.kind, given.process
            known = hull.get(key, given)
            low, high = min(known.start, given.start), max(known.end, given.end)
            hull[key] = Input(given.kind, given.process, low, high)
    yield from hull.values()


def _unfinished_from(ledger: Ledger, start: datetime, end: datetime) -> datetime | None:
    """The first instant of a range whose interval is not finished."""
    for at, standing in ledger.runs(start, end):
        if standing is None or not standing.state.finished:
            return at
    return None


def obstacles(scene: Scene, reach: Mapping[str, tuple[datetime, datetime]]) -> Iterator[str]:
    """What of it will not end by itself, each with what to do."""
    yield from _held_up(scene, reach)
    yield from _switched_off(scene, reach)
    yield from _paused(scene, reach)
    yield from _unserved(scene, reach)


def _held_up(scene: Scene, reach: Mapping[str, tuple[datetime, datetime]]) -> Iterator[str]:
    """What has failed, and holds what is built on it until somebody does something."""
    for name, (start, end) in reach.items():
        calendar = scene.catalog.processes[name].calendar
        runs = [*scene.timetable.ledgers[name].runs(start, end), (end, None)]
        for (begin, standing), (stop, _) in pairwise(runs):
            if standing is not None and standing.state is JobState.FAILED:
                first = calendar.starting_at(begin)
                last = calendar.containing(stop - _TICK)
                more = f" … {last.label}" if last != first else ""
                yield f"{name} {first.label}{more} has failed: reprocess or skip it"


def _switched_off(scene: Scene, reach: Mapping[str, tuple[datetime, datetime]]) -> Iterator[str]:
    """What nobody begins; what is at work of it ends all the same."""
    for name in scene.off & reach.keys():
        start, end = reach[name]
        calendar = scene.catalog.processes[name].calendar
        out = {unit.interval.start for unit in scene.units if unit.process == name}
        for begin, standing in scene.timetable.ledgers[name].runs(start, end):
            first = calendar.starting_at(begin)
            while standing is None and first.start in out and first.end < end:
                first = calendar.next(first)
            if standing is None and first.start not in out:
                yield f"{name} is switched off: switch it on with process on {name}"
                break


def _paused(scene: Scene, reach: Mapping[str, tuple[datetime, datetime]]) -> Iterator[str]:
    """Backfills that hold what is built on them, and do not go on."""
    stored = {key: (1, content) for kind, key, content in scene.documents if kind == "backfills"}
    if not stored:
        return
    # What it has not opened yet is finished still: so it is looked for beneath what is not.
    ranges = [Input("dependency", name, *reached) for name, reached in reach.items()]
    for name, (start, end) in reach.items():
        ranges += _inputs(scene.catalog, name, start, end)
    for one in backfills_of(stored).values():
        waited_for = (given for given in ranges if given.process == one.process)
        if one.paused and not one.over:
            if any(one.left_within(each.start, each.end, one.front) for each in waited_for):
                yield f"backfill {one.id} of {one.process} is paused: resume it, or cancel it"


def _unserved(scene: Scene, reach: Iterable[str]) -> Iterator[str]:
    for name in reach:
        if not any(crew.processes is None or name in crew.processes for crew in scene.crews):
            yield f"no worker takes units of {name}: start one that does"
