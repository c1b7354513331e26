"""How plans and what became of them are told: short where many intervals change alike."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from synergy.cli.output import Output, command, duration
from synergy.core.catalog import Catalog
from synergy.core.model import Json, Request
from synergy.core.plans import Plan, Run, Step
from synergy.history import recent_units, typical_duration
from synergy.reading import Reading

#: Intervals of one process that are told one by one; more are summed up.
TOLD = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long the work of a plan takes."""

    #: Of the units that are made for certain, and of all that may be.
    certain: timedelta
    at_most: timedelta
    #: Processes of which no unit is remembered: they are not in it.
    unknown: tuple[str, ...]


def estimate(reading: Reading, plan: Plan) -> Estimate:
    """From how long each process took lately, one process after another on the known slots."""
    certain = at_most = timedelta(0)
    unknown = []
    for process, steps in _by_process(plan.steps).items():
        runs = [step.run for step in steps]
        units = len(runs) - runs.count(Run.NONE)
        if not units:
            continue
        typical = typical_duration(recent_units(reading.store, process))
        if typical is None:
            unknown.append(process)
            continue
        slots = _slots(reading.catalog, process)
        certain += typical * -(-runs.count(Run.CERTAIN) // slots)
        at_most += typical * -(-units // slots)
    return Estimate(certain=certain, at_most=at_most, unknown=tuple(unknown))


def show_plan(plan: Plan, estimated: Estimate, what: str, output: Output) -> None:
    """For people: what changes, inputs first, and what it will cost."""
    if not plan.steps:
        output.line(f"{what}: nothing changes")
    else:
        number = len(plan.steps)
        output.line(f"{what}: {_counted(number, 'interval changes', 'intervals change')}")
        output.table(("process", "interval", "is", "then", "because"), _rows(plan.steps))
        output.line(_cost(plan, estimated))
    show_left(plan.left, output)


def show_left(left: Sequence[str], output: Output) -> None:
    """What was named and stays as it is."""
    for text in left[:TOLD]:
        output.line(f"left: {text}")
    if len(left) > TOLD:
        output.line(f"left: {len(left) - TOLD} more")


def plan_as_json(plan: Plan, estimated: Estimate) -> dict[str, Json]:
    """All of it, for programs; durations in seconds."""
    options = plan.options()
    return {
        "changes": options["changes"],
        "units": {"certain": options["certain"], "unless_kept": options["unless_kept"]},
        "canceled": options["cancels"],
        "seconds": {
            "certain": round(estimated.certain.total_seconds(), 3),
            "at_most": round(estimated.at_most.total_seconds(), 3),
            "without_history": [*estimated.unknown],
        },
        "steps": [
            {
                "process": step.process,
                "interval": step.interval.label,
                "is": step.was.value,
                "then": step.becomes.value,
                "generation": step.generation,
                "because": step.because,
                "cancels": step.cancels,
                "unit": step.run.value,
                "marks": step.marks,
            }
            for step in plan.steps
        ],
        "left": [*plan.left],
    }


def show_touched(answered: Request, output: Output) -> None:
    """What a request that was carried out has changed."""
    groups: dict[str, list[Mapping[str, object]]] = {}
    for item in items(answered, "touched"):
        groups.setdefault(str(item["process"]), []).append(item)
    for process, changed in groups.items():
        for line in _told(process, changed, _change):
            output.line(line)


def show_left_open(answered: Request, output: Output) -> None:
    """What a withdrawal has left as it was."""
    groups: dict[str, list[Mapping[str, object]]] = {}
    for item in items(answered, "left"):
        groups.setdefault(str(item["process"]), []).append(item)
    for process, left in groups.items():
        for line in _told(process, left, lambda item: f"  {item['why']}"):
            output.line(f"left: {line}")


def items(answered: Request, name: str) -> list[Mapping[str, object]]:
    """One of the lists of an answer."""
    found = answered.answer.get(name, [])
    assert isinstance(found, list)
    return [item for item in found if isinstance(item, dict)]


def in_short(labels: Sequence[str]) -> str:
    """``2026-11-20T07``, or how many from which to which."""
    if len(labels) == 1:
        return labels[0]
    return f"{len(labels)} intervals, {labels[0]} to {labels[-1]}"


def to_apply(plan: str) -> list[str]:
    """The commands that go on with a plan."""
    return [
        f"apply it:    {command(f'apply {plan}')}",
        f"withdraw it: {command(f'withdraw {plan}')}",
    ]


def _rows(steps: Sequence[Step]) -> list[tuple[str, str, str, str, str]]:
    """A line for each; one for many of a process that change alike, where the first stands."""
    many = {process for process, found in _by_process(steps).items() if len(found) > TOLD}
    alike: dict[object, list[Step]] = {}
    for step in steps:
        same = (step.was, _then(step), step.because.split(" ")[0])
        key = (step.process, same if step.process in many else step.interval.start)
        alike.setdefault(key, []).append(step)
    return [
        (
            first.process,
            in_short([step.interval.label for step in found]),
            first.was.value,
            _then(first),
            first.because + (", …" if len(found) > 1 and first.because != "named" else ""),
        )
        for found in alike.values()
        for first in [found[0]]
    ]


def _then(step: Step) -> str:
    if step.marks:
        return "is marked stale"
    canceled = ", its attempt is canceled" if step.cancels else ""
    match step.run:
        case Run.CERTAIN:
            return f"runs again{canceled}"
        case Run.UNLESS_KEPT:
            return f"runs again, or is kept{canceled}"
        case Run.NONE:
            return f"{step.becomes.value}{canceled}"


def _cost(plan: Plan, estimated: Estimate) -> str:
    options = plan.options()
    certain, canceled = int(str(options["certain"])), int(str(options["cancels"]))
    most = certain + int(str(options["unless_kept"]))
    parts = [", ".join(f"{len(found)} {name}" for name, found in _by_process(plan.steps).items())]
    if most:
        up_to = f", up to {most}" if most > certain else ""
        parts.append(f"{_counted(certain, 'unit', 'units')} for certain{up_to}")
        parts.append(_time(estimated))
    marked = sum(step.marks for step in plan.steps)
    if marked:
        parts.append(f"{marked} marked stale")
    if canceled:
        parts.append(f"{_counted(canceled, 'attempt is', 'attempts are')} canceled")
    return "; ".join(parts)


def _time(estimated: Estimate) -> str:
    low, high = estimated.certain.total_seconds(), estimated.at_most.total_seconds()
    unknown = f"no unit of {', '.join(estimated.unknown)} is remembered"
    if estimated.unknown and not high:
        return unknown
    least, most = _rounded(low), _rounded(high)
    told = least if least == most else f"{least} to {most}"
    return f"{told} ({unknown})" if estimated.unknown else told


def _rounded(seconds: float) -> str:
    return f"about {duration(seconds)}" if seconds >= 0.1 else "less than 0.1 s"


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _by_process(steps: Iterable[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    for step in steps:
        found.setdefault(step.process, []).append(step)
    return found


def _slots(catalog: Catalog, process: str) -> int:
    """Units of it that may be at work at once, as far as the context says."""
    slots = sum(program.slots for program in catalog.programs.values() if program.works_on(process))
    limit = catalog.processes[process].parallel
    return max(1, slots if limit is None else min(slots, limit))


def _told(
    process: str,
    changed: Sequence[Mapping[str, object]],
    words: Callable[[Mapping[str, object]], str],
) -> list[str]:
    """A line for each interval that changed; one for many that changed alike."""
    if len(changed) <= TOLD:
        return [f"{process} {item['interval']}{words(item)}" for item in changed]
    alike: dict[str, list[str]] = {}
    for item in changed:
        alike.setdefault(words(item), []).append(str(item["interval"]))
    return [f"{process} {in_short(sorted(labels))}{change}" for change, labels in alike.items()]


def _change(item: Mapping[str, object]) -> str:
    if item.get("outdated") and item.get("was") == item.get("is"):
        return "  marked stale"
    change = f"  {item['was']} → {item['is']}" if "was" in item else ""
    return change + (f"  generation {item['generation']}" if "generation" in item else "")
