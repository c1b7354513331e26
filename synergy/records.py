"""Jobs, units and the rest as plain JSON documents: as they are sent, and kept by most stores.

The embedded store keeps jobs and units as rows instead, see `synergy.stores.rows`.

The form is part of the stored format, so its defaults are pinned here and not taken from the
model: a field that has its pinned value is left out, and a missing one is read as that value.
Instants are integer microseconds since 1970-01-01T00:00Z, durations integer microseconds: exact,
and in the order of time.  A transition is a list, because a document carries several of them.

Hand-written, since these run for every write: a generic walk over dataclass fields took five
times as long.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from synergy.core.intervals import Interval
from synergy.core.model import (
    BoxRecord,
    FeedEntry,
    Job,
    Lease,
    LedgerRecord,
    ProgramRecord,
    Request,
    Task,
    Transition,
    Unit,
)
from synergy.core.states import JobState, UnitState

#: A document as ``json`` writes and reads it.
Plain = dict[str, Any]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BACKOFF = 10_000_000
_MAX_ATTEMPTS = 3

#: States by their names.
JOB_STATES: Final = {state.value: state for state in JobState}
UNIT_STATES: Final = {state.value: state for state in UnitState}

# ASCII only, because reasons come from programs: a lone surrogate of an undecodable file name
# must not make a report unstorable.  NaN and infinity are refused: no other reader takes them.
_encode = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=True, allow_nan=False, check_circular=False
).encode
_decode = json.JSONDecoder().decode


def to_text(document: Mapping[str, Any] | list[Any]) -> str:
    """One line of JSON; `ValueError` for NaN and infinity, `TypeError` for what is not JSON."""
    return _encode(document)


def from_text(text: str) -> Any:
    """What `to_text` wrote."""
    return _decode(text)


def to_micros(instant: datetime) -> int:
    """Microseconds since the epoch."""
    since = instant - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@lru_cache(4096)  # the units of a batch share most of theirs
def from_micros(micros: int) -> datetime:
    """The aware UTC instant; years 1 to 9999."""
    return EPOCH + timedelta(0, 0, micros)


def _maybe(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


# transitions


def transition_to_list(transition: Transition) -> list[Any]:
    """``[version, at, before, after, generation, attempt, result, reason]``, a short tail cut."""
    item = [
        transition.version,
        to_micros(transition.at),
        transition.before,
        transition.after,
        transition.generation,
        transition.attempt,
    ]
    if transition.reason:
        item += (transition.result, transition.reason)
    elif transition.result:
        item.append(transition.result)
    return item


def transition_from_list(item: list[Any]) -> Transition:
    """What `transition_to_list` gave."""
    return Transition(
        version=item[0],
        at=from_micros(item[1]),
        before=item[2],
        after=item[3],
        generation=item[4],
        attempt=item[5],
        result=item[6] if len(item) > 6 else 0,
        reason=item[7] if len(item) > 7 else "",
    )


# jobs


def job_to_document(job: Job) -> Plain:
    """The job as it is stored."""
    interval = job.interval
    document: Plain = {
        "process": job.process,
        "label": interval.label,
        "start": to_micros(interval.start),
        "end": to_micros(interval.end),
        "state": job.state.value,
        "version": job.version,
    }
    if job.generation != 1:
        document["generation"] = job.generation
    if job.result:
        document["result"] = job.result
    if job.result_state is not None:
        document["result_state"] = job.result_state.value
    if job.fingerprint is not None:
        document["fingerprint"] = job.fingerprint
    if job.consumed is not None:
        document["consumed"] = dict(job.consumed)
    if job.consuming is not None:
        document["consuming"] = dict(job.consuming)
    if job.attempts:
        document["attempts"] = job.attempts
    if job.unit is not None:
        document["unit"] = job.unit
    if job.runs:
        document["runs"] = job.runs
    if job.next_run is not None:
        document["next_run"] = to_micros(job.next_run)
    if job.forced:
        document["forced"] = True
    if job.holds:
        document["holds"] = list(job.holds)
    if job.requests:
        document["requests"] = list(job.requests)
    if job.reason:
        document["reason"] = job.reason
    if job.transitions:
        document["transitions"] = [transition_to_list(each) for each in job.transitions]
    return document


def job_from_document(document: Mapping[str, Any]) -> Job:
    """What `job_to_document` gave; fields of a later version of the format are passed over."""
    get = document.get
    result_state = get("result_state")
    return Job(
        process=document["process"],
        interval=_interval(document),
        state=JOB_STATES[document["state"]],
        version=document["version"],
        generation=get("generation", 1),
        result=get("result", 0),
        result_state=None if result_state is None else JOB_STATES[result_state],
        fingerprint=get("fingerprint"),
        consumed=get("consumed"),
        consuming=get("consuming"),
        attempts=get("attempts", 0),
        unit=get("unit"),
        runs=get("runs", 0),
        next_run=_maybe(get("next_run")),
        forced=get("forced", False),
        holds=tuple(get("holds", ())),
        requests=tuple(get("requests", ())),
        reason=get("reason", ""),
        transitions=tuple([transition_from_list(each) for each in get("transitions", ())]),
    )


# units of work


def unit_to_document(unit: Unit) -> Plain:
    """The unit as it is stored."""
    interval = unit.interval
    document: Plain = {
        "process": unit.process,
        "label": interval.label,
        "start": to_micros(interval.start),
        "end": to_micros(interval.end),
        "generation": unit.generation,
        "state": unit.state.value,
        "version": unit.version,
        "task": task_to_document(unit.task),
        "created_at": to_micros(unit.created_at),
    }
    if unit.run:
        document["run"] = unit.run
    if unit.attempt != 1:
        document["attempt"] = unit.attempt
    if unit.failures:
        document["failures"] = unit.failures
    if unit.owner is not None:
        document["owner"] = unit.owner
    if unit.lease_until is not None:
        document["lease_until"] = to_micros(unit.lease_until)
    if unit.not_before is not None:
        document["not_before"] = to_micros(unit.not_before)
    if unit.started_at is not None:
        document["started_at"] = to_micros(unit.started_at)
    if unit.finished_at is not None:
        document["finished_at"] = to_micros(unit.finished_at)
    if unit.low is not None:
        document["low"] = unit.low
    if unit.high is not None:
        document["high"] = unit.high
    if unit.count is not None:
        document["count"] = unit.count
    if unit.fingerprint is not None:
        document["fingerprint"] = unit.fingerprint
    if unit.reason:
        document["reason"] = unit.reason
    if unit.progress is not None:
        document["progress"] = list(unit.progress)
    if unit.transitions:
        document["transitions"] = [transition_to_list(each) for each in unit.transitions]
    return document


def unit_from_document(document: Mapping[str, Any]) -> Unit:
    """What `unit_to_document` gave; fields of a later version of the format are passed over."""
    get = document.get
    progress = get("progress")
    return Unit(
        process=document["process"],
        interval=_interval(document),
        generation=document["generation"],
        task=task_from_document(document["task"]),
        created_at=from_micros(document["created_at"]),
        run=get("run", 0),
        attempt=get("attempt", 1),
        failures=get("failures", 0),
        state=UNIT_STATES[document["state"]],
        version=document["version"],
        owner=get("owner"),
        lease_until=_maybe(get("lease_until")),
        not_before=_maybe(get("not_before")),
        started_at=_maybe(get("started_at")),
        finished_at=_maybe(get("finished_at")),
        low=get("low"),
        high=get("high"),
        count=get("count"),
        fingerprint=get("fingerprint"),
        reason=get("reason", ""),
        progress=None if progress is None else (progress[0], progress[1], progress[2]),
        transitions=tuple([transition_from_list(each) for each in get("transitions", ())]),
    )


def task_to_document(task: Task) -> Plain:
    """The task as its unit carries it."""
    document: Plain = {}
    if task.entry is not None:
        document["entry"] = task.entry
    if task.command:
        document["command"] = list(task.command)
    if task.noop_codes:
        document["noop_codes"] = list(task.noop_codes)
    if task.arguments:
        document["arguments"] = dict(task.arguments)
    if task.source is not None:
        document["source"] = task.source
    if task.sink is not None:
        document["sink"] = task.sink
    if task.time_limit is not None:
        document["time_limit"] = task.time_limit // _MICROSECOND
    if task.max_attempts != _MAX_ATTEMPTS:
        document["max_attempts"] = task.max_attempts
    backoff = task.backoff // _MICROSECOND
    if backoff != _BACKOFF:
        document["backoff"] = backoff
    if task.priority:
        document["priority"] = task.priority
    return document


def task_from_document(document: Mapping[str, Any]) -> Task:
    """What `task_to_document` gave."""
    get = document.get
    time_limit = get("time_limit")
    return Task(
        entry=get("entry"),
        command=tuple(get("command", ())),
        noop_codes=tuple(get("noop_codes", ())),
        arguments=get("arguments") or {},
        source=get("source"),
        sink=get("sink"),
        time_limit=None if time_limit is None else timedelta(0, 0, time_limit),
        max_attempts=get("max_attempts", _MAX_ATTEMPTS),
        backoff=timedelta(0, 0, get("backoff", _BACKOFF)),
        priority=get("priority", 0),
    )


# the feed, ledgers, requests, leases


def entry_to_document(entry: FeedEntry) -> Plain:
    """The feed entry as it is stored and sent."""
    interval = entry.interval
    return {
        "seq": entry.seq,
        "kind": entry.kind,
        "key": entry.key,
        "process": entry.process,
        "label": interval.label,
        "start": to_micros(interval.start),
        "end": to_micros(interval.end),
        "transition": transition_to_list(entry.transition),
    }


def entry_from_document(document: Mapping[str, Any]) -> FeedEntry:
    """What `entry_to_document` gave."""
    return FeedEntry(
        seq=document["seq"],
        kind=document["kind"],
        key=document["key"],
        process=document["process"],
        interval=_interval(document),
        transition=transition_from_list(document["transition"]),
    )


def ledger_to_document(record: LedgerRecord) -> Plain:
    """The ledger as it is stored."""
    return {
        "process": record.process,
        "through": record.through,
        "content": dict(record.content),
    }


def ledger_from_document(document: Mapping[str, Any]) -> LedgerRecord:
    """What `ledger_to_document` gave."""
    return LedgerRecord(document["process"], document["through"], document["content"])


def request_to_document(request: Request) -> Plain:
    """The request as it is stored."""
    document: Plain = {
        "id": request.id,
        "action": request.action,
        "process": request.process,
        "starts": [to_micros(start) for start in request.starts],
        "filed_at": to_micros(request.filed_at),
        "state": request.state,
    }
    if request.actor:
        document["actor"] = request.actor
    if request.reason:
        document["reason"] = request.reason
    if request.answered_at is not None:
        document["answered_at"] = to_micros(request.answered_at)
    if request.answer:
        document["answer"] = dict(request.answer)
    return document


def request_from_document(document: Mapping[str, Any]) -> Request:
    """What `request_to_document` gave."""
    get = document.get
    return Request(
        id=document["id"],
        action=document["action"],
        process=document["process"],
        starts=tuple([from_micros(start) for start in document["starts"]]),
        filed_at=from_micros(document["filed_at"]),
        actor=get("actor", ""),
        reason=get("reason", ""),
        state=document["state"],
        answered_at=_maybe(get("answered_at")),
        answer=get("answer") or {},
    )


def lease_to_document(lease: Lease) -> Plain:
    """The lease as it is stored."""
    return {
        "owner": lease.owner,
        "epoch": lease.epoch,
        "until": to_micros(lease.until),
        "since": to_micros(lease.since),
    }


def lease_from_document(document: Mapping[str, Any]) -> Lease:
    """What `lease_to_document` gave."""
    return Lease(
        owner=document["owner"],
        epoch=document["epoch"],
        until=from_micros(document["until"]),
        since=from_micros(document["since"]),
    )


def box_to_document(record: BoxRecord) -> Plain:
    """The box as it is stored; instants in microseconds."""
    return {
        "box": record.box,
        "supervisor": record.supervisor,
        "since": None if record.since is None else to_micros(record.since),
        "seen_at": to_micros(record.seen_at),
        "trouble": record.trouble,
        "programs": [
            {
                "name": program.name,
                "wanted": program.wanted,
                "state": program.state,
                "pid": program.pid,
                "since": None if program.since is None else to_micros(program.since),
                "restarts": program.restarts,
                "cpu_seconds": program.cpu_seconds,
                "memory_bytes": program.memory_bytes,
                "reason": program.reason,
            }
            for program in record.programs
        ],
    }


def box_from_document(document: Mapping[str, Any]) -> BoxRecord:
    """What `box_to_document` gave."""
    return BoxRecord(
        box=document["box"],
        supervisor=document["supervisor"],
        since=_maybe(document["since"]),
        seen_at=from_micros(document["seen_at"]),
        trouble=document["trouble"],
        programs=tuple(
            ProgramRecord(**{**program, "since": _maybe(program["since"])})
            for program in document["programs"]
        ),
    )


def _interval(document: Mapping[str, Any]) -> Interval:
    return Interval(from_micros(document["start"]), from_micros(document["end"]), document["label"])
