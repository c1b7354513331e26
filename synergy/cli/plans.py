"""``apply``, ``withdraw``, ``plans``: what was planned, carried out or given up."""

import argparse

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
from synergy.core.intervals import BadLabel, Interval
from synergy.core.model import Json, Request
from synergy.core.operations import why_not_applied, why_not_withdrawn
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
    refusal = why_not_applied(plan) if args.verb == "apply" else why_not_withdrawn(plan)
    if not refusal and args.verb == "apply":
        joined = _made(reading, plan).joined(plans.Ranges.of_content(plan.options.get("touched")))
        refusal = plans.outdated(plan.id, joined) if joined else ""
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
    elif touched:
        output.line(f"{plan.id} is withdrawn as far as nothing had begun")
    else:
        output.line(f"{plan.id} is withdrawn, but there was nothing to take back")
    return 0


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
    try:
        return [process.calendar.starting_at(start) for start in request.starts]
    except BadLabel as error:
        raise Conflict(f"{request.process} has other intervals by now: {error}") from error


def _made(reading: Reading, plan: Request) -> plans.Plan:
    """The plan anew."""
    named = [(plan.process, interval) for interval in _intervals(reading, plan)]
    only = bool(plan.options.get("only"))
    return plans.plan(reading.timetable, plan.action, named, SystemClock().now(), only=only)


def _about(reading: Reading, request: Request) -> str:
    """What it asks for, in words."""
    if request.of:
        return f"{request.action} {request.of}"
    try:
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
    made = _made(reading, plan) if plan.state == "planned" else None
    joined = made.joined(plans.Ranges.of_content(plan.options.get("touched"))) if made else []
    if output.json:
        found = _as_json(reading, plan)
        found |= dict(plan.answer)
        if made is not None:
            found |= plan_as_json(made, estimate(reading, made))
            found["joined"] = [f"{step.process} {step.interval.label}" for step in joined]
        output.data(found)
        return 0
    by = f" by {plan.actor}" if plan.actor else ""
    why = f": {plan.reason}" if plan.reason else ""
    output.line(f"{plan.id} is {_state(plan)}; filed {clock(plan.filed_at)} UTC{by}{why}")
    if made is not None:
        show_plan(made, estimate(reading, made), _about(reading, plan), output)
        if joined:
            output.line(f"! {plans.outdated(plan.id, joined)}")
        else:
            for line in to_apply(plan.id):
                output.line(line)
        return 0
    output.line(_about(reading, plan))
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


def _as_json(reading: Reading, request: Request) -> dict[str, Json]:
    try:
        labels: list[Json] = [interval.label for interval in _intervals(reading, request)]
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
