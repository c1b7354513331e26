"""What an action would do, before it is asked for: the same plan that the scheduler holds it to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from synergy.core.plans import Plan, Run
from synergy.mx.looks import Look, look_of
from synergy.mx.words import number

#: Steps that are listed; more are counted.
LISTED = 300
#: Above so many intervals the number is typed (DESIGN §8.8).
ASKS_ABOVE = 100

_RUNS = {
    Run.CERTAIN: "runs",
    Run.UNLESS_KEPT: "runs, unless all it is made of comes back unchanged",
    Run.NONE: "",
}


@dataclass(frozen=True, slots=True)
class StepView:
    """An interval that would change."""

    process: str
    label: str
    was: Look
    becomes: Look
    generation: int
    because: str
    #: What runs, and what is canceled.
    work: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """The page."""

    action: str
    process: str
    label: str
    steps: Sequence[StepView]
    more: int
    count: int
    #: ``38 intervals: 24 site_hourly, 1 site_daily``.
    total: str
    left: Sequence[str]
    #: What it may touch, as the form carries it.
    planned: str
    #: Whether the number of intervals is to be typed.
    asks: bool
    reason: str
    #: Why it was not asked for; empty at first.
    refused: str


def plan_view(
    action: str,
    process: str,
    label: str,
    plan: Plan,
    planned: str,
    reason: str = "",
    refused: str = "",
) -> PlanView:
    """The page."""
    count = len(plan.steps)
    by_process = Counter(step.process for step in plan.steps)
    parts = ", ".join(f"{many} {name}" for name, many in by_process.items())
    cancels = sum(step.cancels for step in plan.steps)
    canceled = f"; {number(cancels, 'attempt')} canceled" if cancels else ""
    return PlanView(
        action=action,
        process=process,
        label=label,
        steps=[
            StepView(
                step.process,
                step.interval.label,
                look_of(step.was),
                look_of(step.becomes),
                step.generation,
                step.because,
                "; ".join(filter(None, (_RUNS[step.run], "cancels" if step.cancels else ""))),
            )
            for step in plan.steps[:LISTED]
        ],
        more=max(0, count - LISTED),
        count=count,
        total=f"{number(count, 'interval')}: {parts}{canceled}" if count else "",
        left=plan.left,
        planned=planned,
        asks=count > ASKS_ABOVE,
        reason=reason,
        refused=refused,
    )
