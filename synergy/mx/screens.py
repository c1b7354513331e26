"""The handlers of the pages: each asks the picture and the store, and shows a view."""

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import quote

from werkzeug.wrappers import Response

from synergy.core.intervals import Interval
from synergy.core.model import BoxRecord, Job, Request, Unit, embryo, job_key, unit_key
from synergy.core.plans import ACTIONS, Plan
from synergy.errors import NotFound, SynergyError, Unreachable
from synergy.explanation import Link, explain
from synergy.history import recent_units, typical_duration
from synergy.mx.actions import ask_for, interval_named, planned, refusal, wish_of
from synergy.mx.console import Console
from synergy.mx.logs import LogScreen, asked_window, log_view, tail
from synergy.mx.looks import look_of
from synergy.mx.routes import Call
from synergy.mx.views.freeruns import address_of
from synergy.mx.views.interval import interval_view, unit_keys
from synergy.mx.views.matrix import matrix_view, state_of, window_of
from synergy.mx.views.plan import ASKS_ABOVE, plan_view
from synergy.mx.views.problems import failed_places, now_view, progress_of
from synergy.mx.words import ago, clock, took
from synergy.ports import Store
from synergy.presence import is_silent

#: Processes whose units are looked at for how long they take, on one page.
TIMED = 8
#: Requests and records of the audit that are listed.
LISTED = 200
#: Intervals of a process that are listed on one page.
PAGE = 100


def now_page(console: Console, call: Call) -> Response:
    """What is wrong, what runs, what comes next."""
    living = console.living
    with living.picture() as picture:
        places, _ = failed_places(picture)
        running = {unit.process for unit in picture.held.values()}
    jobs: dict[str, Job] = {}
    typical: dict[str, timedelta | None] = {}
    try:
        jobs = living.ask(lambda store: store.read_jobs([job_key(*place) for place in places]))
        for name in sorted(running)[:TIMED]:
            typical[name] = living.ask(partial(_typical, name))
    except Unreachable:
        pass  # the page says so; what is known stands on it
    with living.picture() as picture:
        view = now_view(picture, call.now, jobs, typical)
    return console.page(call, "now.html", view, title="Now")


def _typical(process: str, store: Store) -> timedelta | None:
    return typical_duration(recent_units(store, process))


def timetable_page(console: Console, call: Call) -> Response:
    """Processes down, time across."""
    with console.living.picture() as picture:
        window = window_of(
            picture, call.now, call.query("level"), call.query("from"), call.query("to")
        )
        view = matrix_view(picture, window, call.now, call.query("tree"))
    return console.page(call, "timetable.html", view, title="Timetable")


def interval_page(console: Console, call: Call) -> Response:
    """One interval."""
    living, setting = console.living, console.setting
    with living.picture() as picture:
        interval = interval_named(picture, call.path["process"], call.path["label"])
        process = picture.catalog.processes[call.path["process"]]
        known = picture.job(process.name, interval)
    job, trouble = known, ""
    units: list[Unit] = []
    chain: Sequence[Link] = ()
    try:
        found = living.ask(lambda store: store.read_jobs([known.key]))
        job = found.get(known.key, known if known.version else embryo(process.name, interval))
        keys = unit_keys(process.name, interval, job)
        read = living.ask(lambda store: store.read_units(keys))
        units = [read[key] for key in keys if key in read]
        why = living.consult(lambda known: explain(known, process.name, interval, call.now))
        chain = why.chain
    except SynergyError as error:
        trouble = str(error)
    with living.picture() as picture:
        view = interval_view(picture, process, interval, job, units, chain, call.now)
    output = next((text for unit in units if (text := tail(setting.log_dir, unit))), "")
    shown = IntervalScreen(view, output, trouble)
    return console.page(call, "interval.html", shown, title=f"{process.name} {interval.label}")


@dataclass(frozen=True, slots=True)
class IntervalScreen:
    """The page with the end of the log."""

    interval: object
    output: str
    trouble: str


def plan_page(console: Console, call: Call) -> Response:
    """What an action would do; nothing is changed by looking at it."""
    action, process = call.path["action"], call.path["process"]
    with console.living.picture() as picture:
        interval = interval_named(picture, process, call.path["label"])
        plan = planned(picture, call.now, action, process, [interval])
    view = plan_view(action, process, interval.label, plan, _carried(plan))
    return console.page(call, "plan.html", view, title=f"{action} {process} {interval.label}")


def act(console: Console, call: Call) -> Response:
    """File what was looked at, if it is still what would happen."""
    form, action = call.request.form, call.path["action"]
    with console.living.picture() as picture:
        wish = wish_of(
            picture,
            call.now,
            action,
            call.path["process"],
            [call.path["label"]],
            form.get("reason", ""),
        )
    if action in ACTIONS:
        count = len(wish.plan.steps)
        refused = refusal(wish, form.get("planned", ""))
        if not refused and count > ASKS_ABOVE and form.get("count", "").strip() != str(count):
            refused = f"{count} intervals would change; type that number to say that it is meant"
        if refused:
            view = plan_view(
                action,
                wish.process,
                wish.intervals[0].label,
                wish.plan,
                _carried(wish.plan),
                wish.reason,
                refused,
            )
            return console.page(call, "plan.html", view, status=409, title=f"{action} again?")
    request = ask_for(console, call, wish)
    return console.redirect(f"/requests/{request.id}")


def _carried(plan: Plan) -> str:
    return json.dumps(plan.reach.content(), separators=(",", ":"))


def log_page(console: Console, call: Call) -> Response:
    """What an attempt printed."""
    interval, unit = _unit_meant(console, call)
    setting, above = console.setting, f"/t/{unit.process}/{interval.label}"
    view = log_view(setting.log_dir, setting.box, unit, *asked_window(call, unit))
    screen = LogScreen(view, f"{above}/log", above)
    return console.page(call, "log.html", screen, title=f"Log of {unit.process} {interval.label}")


def _unit_meant(console: Console, call: Call) -> tuple[Interval, Unit]:
    process = call.path["process"]
    with console.living.picture() as picture:
        interval = interval_named(picture, process, call.path["label"])
        job = picture.job(process, interval)
    stored = console.living.ask(lambda store: store.read_jobs([job.key])).get(job.key, job)
    generation = call.number("generation", 0)
    keys = (
        [unit_key(process, interval, generation, call.number("run", 0))]
        if generation
        else unit_keys(process, interval, stored)
    )
    units = console.living.ask(lambda store: store.read_units(keys, history=False))
    for key in keys:
        if key in units:
            return interval, units[key]
    raise NotFound(f"{process} {interval.label} has had no such unit of work yet")


def processes_page(console: Console, call: Call) -> Response:
    """How far each process is."""
    with console.living.picture() as picture:
        rows = [
            progress_of(picture, name)
            for tree in picture.catalog.trees.values()
            for name in tree.processes
        ]
    return console.page(call, "processes.html", ProcessesView(rows), title="Processes")


@dataclass(frozen=True, slots=True)
class ProcessesView:
    """All processes."""

    processes: Sequence[object]


@dataclass(frozen=True, slots=True)
class Listed:
    """An interval in a list."""

    label: str
    look: object
    generation: int
    attempts: int
    stale: bool


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process and some of its intervals, the newest first."""

    name: str
    facts: Sequence[tuple[str, str]]
    progress: object
    rows: Sequence[Listed]
    first: str
    last: str
    more: str


def process_page(console: Console, call: Call) -> Response:
    """One process."""
    name = call.path["process"]
    with console.living.picture() as picture:
        process = picture.process_named(name)
        window = (
            window_of(picture, call.now, "day", call.query("from"), call.query("to"))
            if call.query("from")
            else None
        )
        begin, until = picture.catalog.spans[name]
        end = min(window.end if window else call.now, until or call.now)
        begin = max(begin, window.start) if window else begin
        rows: list[Listed] = []
        more = ""
        interval = process.calendar.containing(max(begin, end - timedelta(microseconds=1)))
        while interval.start >= begin:
            if len(rows) == PAGE:
                more = clock(interval.start, process.calendar.zone)[:10]
                break
            job = picture.job(name, interval)
            look = look_of(state_of(picture, process, interval, call.now))
            rows.append(Listed(interval.label, look, job.generation, job.attempts, job.stale))
            interval = process.calendar.previous(interval)
        progress = progress_of(picture, name)
    try:
        typical = console.living.ask(partial(_typical, name))
    except Unreachable:
        typical = None
    facts = [
        ("tree", process.tree),
        ("calendar", str(process.calendar)),
        ("machine", process.machine),
        ("blocking", process.blocking),
        ("on failure", process.on_failure),
        ("runs", process.task.entry or " ".join(process.task.command)),
        ("attempts", str(process.task.max_attempts)),
        ("due", f"{took(process.lag)} after the interval's end"),
        ("waits for", ", ".join(dependency.process for dependency in process.after) or "–"),
        ("boxes", ", ".join(process.boxes) or "all"),
        ("takes", took(typical) if typical is not None else "–"),
    ]
    view = ProcessView(name, facts, progress, rows, call.query("from"), call.query("to"), more)
    return console.page(call, "process.html", view, title=name)


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request of an operator."""

    id: str
    action: str
    process: str
    intervals: str
    state: str
    actor: str
    reason: str
    filed: str
    answered: str
    why: str
    #: What it changed: process and label, its address, and how.
    touched: Sequence[tuple[str, str, str]]


def _request_view(request: Request, freeruns: Container[str] = ()) -> RequestView:
    answer = request.answer
    touched = answer.get("touched")
    changes = []
    for item in touched if isinstance(touched, list) else []:
        if isinstance(item, dict):
            change = f"{item['was']} → {item['is']}" if "was" in item else ""
            if "generation" in item:
                change += f" generation {item['generation']}"
            name, label = str(item.get("process")), str(item.get("interval"))
            place = address_of(name, label) if name in freeruns else f"/t/{name}/{quote(label)}"
            changes.append((f"{name} {label}", place, change.strip()))
    return RequestView(
        id=request.id,
        action=request.action,
        process=request.process,
        intervals=_about(request),
        state=request.state,
        actor=request.actor,
        reason=request.reason,
        filed=clock(request.filed_at),
        answered=clock(request.answered_at) if request.answered_at else "",
        why=str(answer.get("why", "")),
        touched=changes,
    )


def _about(request: Request) -> str:
    """Where the intervals begin that it names, or what else it is about."""
    options, targets = request.options, request.options.get("targets")
    if request.of:
        return request.of
    if "change" in options:
        return f"{options['change']} {options.get('id')}"
    if request.action == "backfill" and isinstance(targets, list) and targets:
        first, last = (datetime.fromtimestamp(int(str(targets[at])), UTC) for at in (0, -1))
        return f"{options.get('total')} from {clock(first)} to {clock(last)}"
    starts = [clock(start) for start in request.starts]
    return ", ".join(starts[:3]) + (f" and {len(starts) - 3} more" if starts[3:] else "")


def requests_page(console: Console, call: Call) -> Response:
    """What operators asked for."""
    found = console.living.ask(lambda store: store.last_requests(LISTED))
    view = [_request_view(request) for request in found]
    return console.page(call, "requests.html", view, title="Requests")


def request_page(console: Console, call: Call) -> Response:
    """One of them, and what it did."""
    number = call.path["id"]
    found = console.living.ask(lambda store: store.read_request(number))
    if found is None:
        raise NotFound(f"there is no request {number}")
    with console.living.picture() as picture:
        view = _request_view(found, picture.catalog.freeruns)
    return console.page(call, "request.html", view, title=f"Request {number}")


@dataclass(frozen=True, slots=True)
class BoxView:
    """A box and its programs."""

    box: str
    #: "supervised", "silent" or "unsupervised".
    state: str
    seen: str
    trouble: str
    programs: Sequence[tuple[str, str, str, str, str, str, str, str]]


def _box_view(record: BoxRecord, call: Call) -> BoxView:
    state = "supervised" if record.supervisor is not None else "unsupervised"
    return BoxView(
        box=record.box,
        state="silent" if is_silent(record, call.now) else state,
        seen=ago(record.seen_at, call.now),
        trouble=record.trouble,
        programs=[
            (
                each.name,
                "on" if each.wanted else "off",
                each.state,
                str(each.pid or ""),
                ago(each.since, call.now) if each.since else "",
                str(each.restarts),
                f"{each.memory_bytes / 1e6:.0f} MB" if each.pid else "",
                each.reason,
            )
            for each in record.programs
        ],
    )


def boxes_page(console: Console, call: Call) -> Response:
    """All boxes and what they run."""
    with console.living.picture() as picture:
        boxes = picture.boxes
    view = [_box_view(record, call) for record in boxes]
    return console.page(call, "boxes.html", view, title="Boxes")


def audit_page(console: Console, call: Call) -> Response:
    """Who did what."""
    view = [
        (
            str(line.get("at", ""))[:19].replace("T", " "),
            str(line.get("who", "")),
            str(line.get("from", "")),
            str(line.get("action", "")),
            str(line.get("result", "")),
            ", ".join(
                f"{key} {value}"
                for key, value in line.items()
                if key not in ("n", "at", "who", "from", "action", "result", "mac") and value
            ),
        )
        for line in console.audit.newest(LISTED)
    ]
    return console.page(call, "audit.html", view, title="Audit")


def search(console: Console, call: Call) -> Response:
    """Go to what was typed: a process, ``process label``, ``process@label``, a request."""
    text = call.query("q")
    words = text.replace("@", " ").partition("#")[0].split()
    with console.living.picture() as picture:
        freeruns = picture.catalog.freeruns
        if words and words[0] in freeruns:
            return console.redirect(f"/freeruns/{words[0]}")
        names = [*picture.catalog.processes]
        if words and words[0] in names:
            if len(words) == 1:
                return console.redirect(f"/processes/{words[0]}")
            interval = interval_named(picture, words[0], words[1])
            return console.redirect(f"/t/{words[0]}/{interval.label}")
    found = [
        (name, f"/{kind}/{name}")
        for kind, known in (("processes", names), ("freeruns", freeruns))
        for name in known
        if text and text.lower() in name.lower()
    ]
    if len(found) == 1:
        return console.redirect(found[0][1])
    return console.page(call, "search.html", (text, found), title="Search")
