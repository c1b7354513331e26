"""What an interval rests on, and what of that will not end by itself."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from synergy.core.backfills import backfills_of
from synergy.core.catalog import Catalog, Input
from synergy.core.intervals import Interval
from synergy.core.states import JobState
from synergy.core.timetable import Ledger, Timetable
from synergy.forecast.scene import Scene

_TICK = timedelta(microseconds=1)
#: From the start of an interval to the end of another.
Range = tuple[datetime, datetime]
#: Of each process, the ranges in which something lies, ascending and apart.
Reach = Mapping[str, Sequence[Range]]


def rests_on(catalog: Catalog, timetable: Timetable, process: str, interval: Interval) -> Reach:
    """The unfinished that must be finished before an interval is, itself among it.  Costs what is
    unfinished, not what is behind."""
    found = {process: [(interval.start, interval.end)]}
    todo = [(process, interval.start, interval.end)]
    while todo:
        for given in _inputs(catalog, *todo.pop()):
            start = _unfinished_from(timetable.ledgers[given.process], given.start, given.end)
            known = found.get(given.process, [])
            if start is not None and not any(s <= start and given.end <= e for s, e in known):
                found[given.process] = _joined([*known, (start, given.end)])
                todo.append((given.process, start, given.end))
    return found


def _inputs(catalog: Catalog, name: str, start: datetime, end: datetime) -> Iterator[Input]:
    calendar = catalog.processes[name].calendar
    return catalog.inputs_of_all(name, calendar.containing(start), calendar.containing(end - _TICK))


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """These in order, those that touch made one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def _unfinished_from(ledger: Ledger, start: datetime, end: datetime) -> datetime | None:
    """The first instant of a range whose interval is not finished."""
    for at, _, standing in ledger.runs(start, end):
        if standing is None or not standing.state.finished:
            return at
    return None


def obstacles(scene: Scene, reach: Reach) -> Iterator[str]:
    """What of it will not end by itself, each with what to do."""
    yield from _held_up(scene, reach)
    yield from _switched_off(scene, reach)
    yield from _lanes(scene, reach)
    yield from _unserved(scene, reach)


def _held_up(scene: Scene, reach: Reach) -> Iterator[str]:
    """What has failed, and holds what is built on it until somebody does something."""
    for name, start, end in _each(reach):
        calendar = scene.catalog.processes[name].calendar
        for begin, stop, standing in scene.timetable.ledgers[name].runs(start, end):
            if standing is not None and standing.state is JobState.FAILED:
                first = calendar.starting_at(begin)
                last = calendar.containing(stop - _TICK)
                more = f" … {last.label}" if last != first else ""
                yield f"{name} {first.label}{more} has failed: reprocess or skip it"


def _switched_off(scene: Scene, reach: Reach) -> Iterator[str]:
    """What nobody begins; what is at work of it ends all the same."""
    for name, ranges in reach.items():
        if name in scene.off and any(_waits_for_unit(scene, name, *each) for each in ranges):
            yield f"{name} is switched off: switch it on with process on {name}"


def _waits_for_unit(scene: Scene, name: str, start: datetime, end: datetime) -> bool:
    """Whether the deciding unit of anything there is not out."""
    calendar = scene.catalog.processes[name].calendar
    out = {
        unit.interval.start
        for unit in scene.units
        if unit.process == name and not unit.provisional and not unit.state.terminal
    }
    runs = scene.timetable.ledgers[name].runs(start, end)
    return any(
        standing is None and any(one.start not in out for one in calendar.between(begin, stop))
        for begin, stop, standing in runs
    )


def _lanes(scene: Scene, reach: Reach) -> Iterator[str]:
    """Backfills that hold what is built on them, and do not go on."""
    stored = {key: (1, content) for kind, key, content in scene.documents if kind == "backfills"}
    if not stored:
        return
    # What it has not opened yet is finished still: so it is looked for beneath what is not.
    ranges = [Input("dependency", *each) for each in _each(reach)]
    for each in _each(reach):
        ranges += _inputs(scene.catalog, *each)
    for one in backfills_of(stored).values():
        if one.over or not any(
            one.process == each.process and one.left_within(each.start, each.end, one.front)
            for each in ranges
        ):
            continue
        if one.paused:
            yield f"backfill {one.id} of {one.process} is paused: resume it, or cancel it"
        elif one.process in scene.off:
            yield (
                f"{one.process} is switched off, and its backfill {one.id} with it: "
                f"switch it on with process on {one.process}"
            )


def _unserved(scene: Scene, reach: Iterable[str]) -> Iterator[str]:
    """What no worker takes."""
    for name in reach:
        if not any(crew.processes is None or name in crew.processes for crew in scene.crews):
            yield f"no worker takes units of {name}: start one that does"


def _each(reach: Reach) -> Iterator[tuple[str, datetime, datetime]]:
    for name, ranges in reach.items():
        for start, end in ranges:
            yield name, start, end
