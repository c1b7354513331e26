"""Recorded catch-up ranges: which intervals of a span are still to be worked at a moment."""

import re
from typing import Any

from synergy.core import recovery
from synergy.core.building import CatalogError
from synergy.core.context import Context, daily, hourly, minutely, monthly, tree
from synergy.core.model import Unit, UnitWrite
from synergy.testing.stage import Stage, processes
from tests.vectors.recorded import Case, each

SISTERS = {"Monthly": monthly, "Daily": daily, "Hourly": hourly, "ByMinutes": minutely}


def staged(case: Case) -> Stage:
    """The recorded range as a tree, at the recorded moment."""
    given = case["given"]
    (sister,) = [made for name, made in SISTERS.items() if name in case["range"]]
    options: dict[str, Any] = {"grouping": given.get("minutes_interval", 1)}
    process = sister("p", run="w:f", parallel=given["task_limit"], **options)
    span = {"start": given["start"], "until": given["stop"], "lag": 0}
    return Stage(Context(tree("t", [process], **span)), at=f"{given['now_utc']}+00:00")


def wanted(task: str) -> str:
    """The label of a recorded task: what its last parameter but constants says."""
    (label,) = re.findall(r"=(\d{4}-\d\d(?:-\d\d)?(?:T\d+)?)", task)
    return re.sub(r"T(\d\d)(\d\d)$", r"T\1:\2", label)


@each("luigi_ranges")
def test_a_range_asks_for_the_recorded_intervals(case: Case) -> None:
    if case["refused"]:
        try:
            staged(case)
        except CatalogError as error:
            refused = "grouping" in str(error)
        else:
            refused = False
        case.compare(refused, True)
        return
    stage = staged(case)
    recorded = [wanted(task) for task in case["expected"]]
    if case["given"]["stop"] is not None:
        complete_all_but(stage, recorded)
    stage.restart()
    requested = sorted(stage.requested, key=lambda unit: unit.interval.start)
    case.compare([unit.interval.label for unit in requested], recorded)


def complete_all_but(stage: Stage, open_ones: list[str]) -> None:
    """What else lies in the range was complete in the recording."""
    kept: list[Unit] = []
    while units := stage.claim():
        kept += [unit for unit in units if unit.interval.label in open_ones]
        done = [unit for unit in units if unit.interval.label not in open_ones]
        now = stage.clock.now()
        stage.store.save_units([UnitWrite(processes(unit, now), unit.fence) for unit in done])
        stage.settle()
    for unit in kept:
        stage.report(unit, lambda unit, now: recovery.handed_back(unit, now, "not complete"))
