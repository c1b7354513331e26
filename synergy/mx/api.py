"""The same as the pages, for programs: ``/api/v1``, JSON, described by its own OpenAPI document."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from werkzeug.exceptions import Gone
from werkzeug.wrappers import Response

from synergy.core.catalog import Process
from synergy.core.intervals import Interval
from synergy.core.model import BoxRecord, Job, Request, Unit, embryo
from synergy.core.states import JobState
from synergy.errors import BadInput, NotFound, SynergyError
from synergy.explanation import explain, explain_freerun
from synergy.mx.actions import ask_for, interval_named, wish_of
from synergy.mx.console import Console
from synergy.mx.openapi import document
from synergy.mx.picture import Picture
from synergy.mx.routes import Call
from synergy.mx.views.interval import unit_keys
from synergy.mx.views.matrix import state_of
from synergy.mx.views.shell import heartbeat
from synergy.mx.words import instant
from synergy.presence import is_silent

#: Things on one page of an answer, at first and at most.
PAGE, MOST = 100, 1000
#: Intervals that are looked at for one page, where few of them are as asked for.
LOOKED_AT = 50_000


def status(console: Console, call: Call) -> Response:
    """Who leads, how far each process is, what is open."""
    with console.living.picture() as picture:
        lease = picture.lease
        alive = heartbeat(lease, call.now).state == "alive"
        value = {
            "scheduler": {
                "alive": alive,
                "leader": lease.owner if lease else None,
                "since": instant(lease.since) if lease else None,
                "epoch": lease.epoch if lease else None,
                "until": instant(lease.until) if lease else None,
            },
            "store": {
                "away_since": instant(console.living.away_since),
                "read_at": instant(picture.read_at),
                "trouble": console.living.trouble,
            },
            "seq": picture.seq,
            "processes": [_process(picture, name) for name in picture.catalog.processes],
            "freeruns": [*picture.catalog.freeruns],
            "held_units": len(picture.held),
            "requests": len(picture.requests),
        }
    return console.data(value)


def processes(console: Console, call: Call) -> Response:
    """How far each process is."""
    with console.living.picture() as picture:
        items = [_process(picture, name) for name in picture.catalog.processes]
    return console.data({"items": items})


def _process(picture: Picture, name: str) -> dict[str, Any]:
    process, summary = picture.catalog.processes[name], picture.summary(name)
    active = picture.active_of(name)
    return {
        "process": name,
        "tree": process.tree,
        "granularity": process.calendar.granularity.value,
        "grouping": process.calendar.grouping,
        "zone": process.calendar.zone,
        "finished_until": instant(summary.finished_until),
        "active": len(active),
        "failed": summary.failed,
        "skipped": summary.skipped,
        "stale": sum(job.stale for job in active) + summary.outdated,
    }


def intervals(console: Console, call: Call) -> Response:
    """The intervals of a process, ascending; a page at a time."""
    limit = _limit(call)
    wanted = set(call.request.args.getlist("state"))
    unknown = wanted - {*JobState, "not_due"}
    if unknown:
        raise BadInput(f"there is no state {min(unknown)!r}; there are {', '.join(JobState)}")
    with console.living.picture() as picture:
        process = picture.process_named(call.query("process"))
        begin, end = _span(picture, process, call)
        items: list[dict[str, Any]] = []
        following = None
        for looked, interval in enumerate(_from(process, begin, end)):
            if len(items) == limit or looked == LOOKED_AT:
                following = interval.label
                break
            state = state_of(picture, process, interval, call.now)
            if not wanted or state in wanted:
                items.append(_interval(picture, process, interval, state))
        value = {"items": items, "next": following, "seq": picture.seq}
        etag = f"{picture.catalog_version}-{picture.seq}"
    return console.data(value, etag=etag if following else "")


def _span(picture: Picture, process: Process, call: Call) -> tuple[datetime, datetime]:
    first, last = picture.catalog.spans[process.name]
    begin, end = first, last or call.now
    for name in ("from", "after"):  # `after` is where the page before has ended
        if label := call.query(name):
            begin = max(begin, interval_named(picture, process.name, label).start)
    if label := call.query("to"):
        end = interval_named(picture, process.name, label).end
    return begin, end


def _from(process: Process, begin: datetime, end: datetime) -> Iterator[Interval]:
    if begin < end:
        yield from process.calendar.between(begin, end)


def _interval(picture: Picture, process: Process, interval: Interval, state: str) -> dict[str, Any]:
    job = picture.job(process.name, interval)
    return {
        "process": process.name,
        "interval": interval.label,
        "start": instant(interval.start),
        "end": instant(interval.end),
        "state": state,
        "generation": job.generation,
        "attempts": job.attempts,
        "stale": job.stale,
    }


def one_interval(console: Console, call: Call) -> Response:
    """An interval, what it waits for, who waits for it, and its units."""
    living = console.living
    with living.picture() as picture:
        process = picture.process_named(call.path["process"])
        interval = interval_named(picture, process.name, call.path["label"])
        key = picture.job(process.name, interval).key
    job = living.ask(lambda store: store.read_jobs([key])).get(key)
    job = job or embryo(process.name, interval)
    keys = unit_keys(process.name, interval, job)
    units = living.ask(lambda store: store.read_units(keys))
    with living.picture() as picture:
        value = {
            **_interval(picture, process, interval, _state(job, process, call.now)),
            "due": instant(process.due(interval)),
            "generation": job.generation,
            "attempts": job.attempts,
            "version": job.version,
            "reason": job.reason,
            "waits_for": [
                {
                    "kind": given.kind,
                    "process": given.process,
                    "start": instant(given.start),
                    "end": instant(given.end),
                }
                for given in picture.catalog.inputs(process.name, interval)
            ],
            "units": [_unit(units[key]) for key in keys if key in units],
            "transitions": [
                {
                    "at": instant(move.at),
                    "before": move.before,
                    "after": move.after,
                    "generation": move.generation,
                    "attempt": move.attempt,
                    "reason": move.reason,
                }
                for move in job.transitions
            ],
        }
    return console.data(value, etag=f"{job.version}-{sum(unit.version for unit in units.values())}")


def _state(job: Job, process: Process, now: datetime) -> str:
    waits = job.state is JobState.EMBRYO and process.due(job.interval) > now
    return "not_due" if waits else job.state.value


def _unit(unit: Unit) -> dict[str, Any]:
    return {
        "unit": unit.key,
        "state": unit.state.value,
        "generation": unit.generation,
        "run": unit.run,
        "attempt": unit.attempt,
        "max_attempts": unit.task.max_attempts,
        "owner": unit.owner,
        "created_at": instant(unit.created_at),
        "started_at": instant(unit.started_at),
        "finished_at": instant(unit.finished_at),
        "count": unit.count,
        "reason": unit.reason,
    }


def why(console: Console, call: Call) -> Response:
    """What an interval waits for, the root of it first, and what happens next."""
    with console.living.picture() as picture:
        process = picture.process_named(call.path["process"])
        interval = interval_named(picture, process.name, call.path["label"])
    found = console.living.consult(lambda known: explain(known, process.name, interval, call.now))
    return console.data({"at": instant(call.now), **found.content()})


def why_freerun(console: Console, call: Call) -> Response:
    """Why a freerun runs, waits, or did not run, and when it fires next."""
    name = call.path["freerun"]
    with console.living.picture() as picture:
        picture.freerun_named(name)
    found = console.living.consult(lambda known: explain_freerun(known, name, call.now))
    return console.data({"at": instant(call.now), **found.content()})


def jobs(console: Console, call: Call) -> Response:
    """The jobs that are under way, and those that failed lately, by process and start."""
    limit, after = _limit(call), call.query("after")
    with console.living.picture() as picture:
        found = sorted(
            {
                (job.process, job.interval.start, job.interval)
                for job in picture.timetable.active.values()
            }
            | {
                (name, interval.start, interval)
                for name in picture.catalog.processes
                for interval in picture.summary(name).newest_failed
            }
        )
        items: list[dict[str, Any]] = []
        following = None
        for name, _, interval in found:
            key = f"{name}@{interval.label}"
            process = picture.catalog.processes[name]
            if after and (name, interval.start) <= _place(picture, after):
                continue
            if len(items) == limit:
                following = f"{items[-1]['process']}@{items[-1]['interval']}"
                break
            items.append(
                {
                    "job": key,
                    **_interval(
                        picture, process, interval, state_of(picture, process, interval, call.now)
                    ),
                }
            )
        value = {"items": items, "next": following, "seq": picture.seq}
    return console.data(value)


def _place(picture: Picture, key: str) -> tuple[str, datetime]:
    process, _, label = key.partition("@")
    return process, interval_named(picture, process, label).start


def requests(console: Console, call: Call) -> Response:
    """The latest requests, newest first."""
    limit = _limit(call)
    found = console.living.ask(lambda store: store.last_requests(limit))
    return console.data({"items": [_request(request) for request in found]})


def one_request(console: Console, call: Call) -> Response:
    """A request, and what it did."""
    number = call.path["id"]
    found = console.living.ask(lambda store: store.read_request(number))
    if found is None:
        raise NotFound(f"there is no request {number}")
    return console.data(_request(found), etag=found.state)


def file_request(console: Console, call: Call) -> Response:
    """File one; the scheduler carries it out, once.  With the header Idempotency-Key, asking twice
    is asking once."""
    key = call.request.headers.get("Idempotency-Key", "").strip()
    if len(key) > 200:
        raise BadInput("an Idempotency-Key has at most 200 characters")
    with console.living.picture() as picture:
        wish = wish_of(
            picture,
            call.now,
            call.body["action"],
            call.body["process"],
            call.body.get("intervals", []),
            call.body.get("reason", ""),
            key,
        )
    request = ask_for(console, call, wish)
    if key and (
        (request.action, request.process) != (wish.action, wish.process)
        or request.starts != tuple(interval.start for interval in wish.intervals)
    ):
        raise BadInput("this Idempotency-Key was used for another request")
    answer = console.data(_request(request), status=202)
    answer.headers["Location"] = f"/api/v1/requests/{request.id}"
    return answer


def _request(request: Request) -> dict[str, Any]:
    return {
        "id": request.id,
        "action": request.action,
        "process": request.process,
        "starts": [instant(start) for start in request.starts],
        "state": request.state,
        "actor": request.actor,
        "reason": request.reason,
        "filed_at": instant(request.filed_at),
        "answered_at": instant(request.answered_at),
        "answer": dict(request.answer),
    }


def boxes(console: Console, call: Call) -> Response:
    """Every box that was ever seen, and what it runs."""
    with console.living.picture() as picture:
        found = picture.boxes
    return console.data({"items": [_box(record, call.now) for record in found]})


def _box(record: BoxRecord, now: datetime) -> dict[str, Any]:
    return {
        "box": record.box,
        "supervised": record.supervisor is not None,
        "silent": is_silent(record, now),
        "since": instant(record.since),
        "seen_at": instant(record.seen_at),
        "trouble": record.trouble,
        "programs": [
            {
                "program": each.name,
                "wanted": each.wanted,
                "state": each.state,
                "pid": each.pid,
                "since": instant(each.since),
                "restarts": each.restarts,
                "cpu_seconds": each.cpu_seconds,
                "memory_bytes": each.memory_bytes,
                "reason": each.reason,
            }
            for each in record.programs
        ],
    }


def changes(console: Console, call: Call) -> Response:
    """What has moved since a number of the feed; 304 when nothing has, 410 when that is not told
    any more: then read anew."""
    text = call.query("after")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadInput(f"after {text!r} is not the number of a change")
    after, limit = int(text), _limit(call)
    with console.living.picture() as picture:
        seq = picture.seq
    if after > seq:
        raise Gone("the store has not got so far; read anew")
    entries = [] if after == seq else console.living.ask(lambda store: store.feed(after, limit))
    if entries and entries[0].seq != after + 1:
        raise Gone("what came after that is not told any more; read anew")
    items = [
        {
            "seq": entry.seq,
            "kind": entry.kind,
            "process": entry.process,
            "interval": entry.interval.label,
            "at": instant(entry.transition.at),
            "before": entry.transition.before,
            "after": entry.transition.after,
            "generation": entry.transition.generation,
            "attempt": entry.transition.attempt,
        }
        for entry in entries
    ]
    last = entries[-1].seq if entries else after
    value = {"seq": last, "changes": items, "more": last < seq}
    return console.data(value, etag=str(last))


def openapi(console: Console, call: Call) -> Response:
    """This API, described."""
    return console.data(document(console.routes, console.setting.version))


def _limit(call: Call) -> int:
    text = call.query("limit")
    if not text:
        return PAGE
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST):
        raise BadInput(f"limit {text!r} is not a number from 1 to {MOST}")
    return int(text[:9])


# what may be asked for without an account


def livez(console: Console, call: Call) -> Response:
    """Whether the console answers at all."""
    return console.data({"alive": True})


def readyz(console: Console, call: Call) -> Response:
    """Whether it has something to show: the store has answered, and answers."""
    try:
        with console.living.picture():
            ready = console.living.away_since is None
    except SynergyError:
        ready = False
    return console.data({"ready": ready}, status=200 if ready else 503)
