"""``apply``, ``withdraw``, ``plans``: what was planned, carried out or given up."""

import argparse

from synergy.cli import lanes
from synergy.cli.backfill_plan import Planned, counted
from synergy.cli.filing import carried_out, filing_options, new_request
from synergy.cli.naming import reading_of
from synergy.cli.output import Output, ago, clock, command, instant
from synergy.cli.requests import what
from synergy.cli.telling import (
    estimate,
    items,
    plan_as_json,
    show_left_open,
    show_plan,
    show_touched,
    to_apply,
)
from synergy.clock import SystemClock
from synergy.core import plans
from synergy.core.backfills import Backfill, requested
from synergy.core.intervals import BadLabel, Interval
from synergy.core.model import Json, Request
from synergy.core.operations import nothing_left, planned_anew, why_not_applied, why_not_withdrawn
from synergy.errors import Conflict, NotFound
from synergy.project import Project
from synergy.reading import Reading

#: Requests that are listed, where nothing else is said.
LISTED = 20


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verbs."""
    if verb == "plans":
        parser.add_argument("id", nargs="?", metavar="ID", help="show this one; all otherwise")
        parser.add_argument(
            "--open", action="store_true", help="only plans that are neither applied nor withdrawn"
        )
        parser.add_argument(
            "--limit", type=int, default=LISTED, metavar="N", help=f"the latest N ({LISTED})"
        )
        return
    parser.add_argument("id", metavar="ID", help=f"of the plan; {command('plans')} lists them")
    filing_options(parser, "the request to do so")


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """One of the verbs."""
    reading = reading_of(project)
    if args.verb == "plans":
        return _show(reading, args.id, output) if args.id else _list(reading, args, output)
    plan = _plan_named(reading, args.id)
    refusal = _refusal(reading, args.verb, plan)
    if refusal:
        raise Conflict(refusal)
    request = new_request(args.verb, plan.process, (), of=plan.id, reason=args.reason)
    answered = carried_out(project, reading, request, args.wait, output)
    if answered is None:
        return 0
    if output.json:
        output.data({"id": answered.id, "state": answered.state, "of": plan.id, **answered.answer})
        return 0
    touched = items(answered, "touched")
    if args.verb == "apply" and plan.action == "backfill":
        output.line(f"plan {plan.id} is applied; {lanes.where_to_look()}")
        return 0
    if args.verb == "apply":
        show_touched(answered, output)
        output.line(
            f"plan {plan.id} is applied"
            + ("" if touched else ": nothing was left to change")
            + (
                f"; to take back what has not begun: {command(f'withdraw {plan.id}')}"
                if touched and plan.action != "skip"
                else ""
            )
        )
        return 0
    show_touched(answered, output)
    show_left_open(answered, output)
    if plan.state == "planned":
        output.line(f"plan {plan.id} is withdrawn; nothing of it had been done")
    elif plan.action == "backfill":
        output.line(lanes.canceled(lanes.all_of(reading)[plan.id]))
    elif touched:
        output.line(f"{plan.id} is withdrawn as far as nothing had begun")
    else:
        output.line(f"{plan.id} is withdrawn, but there was nothing to take back")
    return 0


def _refusal(reading: Reading, verb: str, plan: Request) -> str:
    """Why it can be neither applied nor withdrawn, for all that is known here; empty otherwise."""
    if verb == "apply":
        return why_not_applied(plan) or _outdated(plan, _made(reading, plan))
    refusal = why_not_withdrawn(plan)
    if not refusal and plan.action == "backfill" and plan.state == "done":
        begun = lanes.all_of(reading).get(plan.id)
        return nothing_left(plan) if begun is None or begun.over else ""
    return refusal


def _outdated(plan: Request, made: plans.Plan) -> str:
    """That more would change by now than was planned, and what; empty where no more would."""
    joined = _joined(plan, made)
    return plans.outdated(plan.id, joined) if joined else ""


def _joined(plan: Request, made: plans.Plan) -> list[plans.Step]:
    return made.joined(plans.Ranges.of_content(plan.options.get("touched")))


def _plan_named(reading: Reading, name: str) -> Request:
    found = reading.store.read_request(name)
    if found is None:
        raise NotFound(f"there is no plan {name!r}; those there are: {command('plans')}")
    return found


def _intervals(reading: Reading, request: Request) -> list[Interval]:
    """The intervals that it names, as far as the context still knows them.

    Raises:
        Conflict: it does not.
    """
    process = reading.catalog.processes.get(request.process)
    if process is None:
        raise Conflict(f"no process {request.process} is registered any more")
    if request.action == "backfill":
        return [interval for _, interval in _backfill(reading, request).targets(reading.catalog)]
    try:
        return [process.calendar.starting_at(start) for start in request.starts]
    except BadLabel as error:
        raise Conflict(f"{request.process} has other intervals by now: {error}") from error


def _backfill(reading: Reading, request: Request) -> Backfill:
    """The backfill that it asks for."""
    found = requested(reading.catalog, request)
    if isinstance(found, str):
        raise Conflict(found)
    return found


def _made(reading: Reading, plan: Request) -> plans.Plan:
    """The plan anew."""
    named = [(plan.process, interval) for interval in _intervals(reading, plan)]
    return planned_anew(reading.timetable, plan, named, SystemClock().now())


def _about(reading: Reading, request: Request) -> str:
    """What it asks for, in words."""
    if request.of:
        return f"{request.action} {request.of}"
    if "change" in request.options:
        return f"{request.action} {request.options['change']} {request.options.get('id')}"
    try:
        if request.action == "backfill":
            fill = _backfill(reading, request)
            about = f"backfill {fill.process} {counted(fill.total)}"
            labels = [label for pair in _stretches(reading, fill) for label in pair]
            return f"{about}, {labels[0]} to {labels[-1]}" if labels[1:] else about
        about = what(request.action, request.process, _intervals(reading, request))
        return about + (" only" if request.options.get("only") else "")
    except Conflict:
        return f"{request.action} {request.process}"


def _state(request: Request) -> str:
    """A plan that is done was applied."""
    return (
        "applied" if request.state == "done" and "applied_by" in request.answer else request.state
    )


def _size(request: Request) -> int:
    """Intervals that it would change, or has changed."""
    if request.action == "backfill":
        return int(str(request.options.get("total", 0)))
    touched = request.answer.get("touched")
    if isinstance(touched, list):
        return len(touched)
    return int(str(request.options.get("changes", 0)))


def _list(reading: Reading, args: argparse.Namespace, output: Output) -> int:
    limit = max(args.limit, 0)
    found = reading.store.last_requests(limit)
    if args.open:
        found = [request for request in found if request.state == "planned"]
    if output.json:
        output.data([_as_json(reading, request) for request in found])
        return 0
    if not found:
        output.line("no plan is open" if args.open else "nothing was ever planned or asked for")
        return 0
    now = SystemClock().now()
    output.table(
        ("id", "state", "what", "changes", "by", "when", "reason"),
        (
            (
                request.id,
                _state(request),
                _about(reading, request),
                _size(request),
                request.actor,
                ago(request.filed_at, now),
                request.reason or str(request.answer.get("why", "")),
            )
            for request in found
        ),
    )
    if len(found) == limit:
        output.note(f"the latest {limit}; more with --limit N")
    return 0


def _show(reading: Reading, name: str, output: Output) -> int:
    """One of them: a plan that is open as it would be carried out now, another as it came out."""
    plan = _plan_named(reading, name)
    if not output.json:
        by = f" by {plan.actor}" if plan.actor else ""
        why = f": {plan.reason}" if plan.reason else ""
        output.line(f"{plan.id} is {_state(plan)}; filed {clock(plan.filed_at)} UTC{by}{why}")
    return (_show_open if plan.state == "planned" else _show_over)(reading, plan, output)


def _show_open(reading: Reading, plan: Request, output: Output) -> int:
    made = _made(reading, plan)
    fill = None
    if plan.action == "backfill":
        fill = Planned.anew(reading, _backfill(reading, plan), SystemClock().now())
    if output.json:
        shown = fill.as_json() if fill else plan_as_json(made, estimate(reading, made))
        joined = [f"{step.process} {step.interval.label}" for step in _joined(plan, made)]
        output.data({**shown, **_as_json(reading, plan), **plan.answer, "joined": joined})
        return 0
    if fill is not None:
        for line in fill.lines():
            output.line(line)
    else:
        show_plan(made, estimate(reading, made), _about(reading, plan), output)
    refusal = _outdated(plan, made)
    for line in [f"! {refusal}"] if refusal else to_apply(plan.id):
        output.line(line)
    return 0


def _show_over(reading: Reading, plan: Request, output: Output) -> int:
    if output.json:
        output.data({**_as_json(reading, plan), **plan.answer})
        return 0
    output.line(_about(reading, plan))
    begun = lanes.all_of(reading).get(plan.id)
    if begun is not None:
        output.line(f"backfill {lanes.in_short(reading, begun)}")
    for word in ("applied_by", "withdrawn_by"):
        other = reading.store.read_request(str(plan.answer.get(word, "")))
        if other is not None:
            output.line(_carried_out(other, word.replace("_", " ")))
            show_touched(other, output)
            show_left_open(other, output)
    show_touched(plan, output)
    show_left_open(plan, output)
    if plan.state == "refused":
        output.line(f"refused: {plan.answer.get('why')}")
    return 0


def _carried_out(other: Request, how: str) -> str:
    who = f" ({other.actor})" if other.actor else ""
    why = f": {other.reason}" if other.reason else ""
    return f"{how} {other.id}{who} {clock(other.filed_at)} UTC{why}"


def _stretches(reading: Reading, fill: Backfill) -> list[tuple[str, str]]:
    """The labels of the first and the last of each stretch of its targets."""
    calendar = reading.catalog.processes[fill.process].calendar
    return [(first.label, last.label) for first, last in fill.stretches(calendar)]


def _labels(reading: Reading, request: Request) -> list[str]:
    """What it names, as it may be typed again."""
    if request.action == "backfill":
        stretches = _stretches(reading, _backfill(reading, request))
        return [first if first == last else f"{first}..{last}" for first, last in stretches]
    return [interval.label for interval in _intervals(reading, request)]


def _as_json(reading: Reading, request: Request) -> dict[str, Json]:
    try:
        labels: list[Json] = [*_labels(reading, request)]
    except Conflict:
        labels = []
    return {
        "id": request.id,
        "state": request.state,
        "action": request.action,
        "of": request.of or None,
        "process": request.process,
        "intervals": labels,
        "changes": _size(request),
        "by": request.actor,
        "filed_at": instant(request.filed_at),
        "answered_at": instant(request.answered_at) if request.answered_at else None,
        "reason": request.reason,
    }
