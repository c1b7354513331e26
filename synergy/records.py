"""Tasks, requests, leases and the rest as plain JSON documents: as they are sent and stored.

Jobs, units and their transitions are kept by their columns, see `synergy.stores.rows`.

The form is part of the stored format, so its defaults are pinned here and not taken from the
model: a field that has its pinned value is left out, and a missing one is read as that value.
Instants are integer microseconds since 1970-01-01T00:00Z, durations integer microseconds: exact,
and in the order of time.

Hand-written, since these run for every write: a generic walk over dataclass fields took five
times as long.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, Final

from synergy.core.model import (
    BoxRecord,
    Json,
    Lease,
    LedgerRecord,
    ProgramRecord,
    Request,
    Task,
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
    if task.batch != 1:
        document["batch"] = task.batch
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
        batch=get("batch", 1),
    )


# ledgers, requests, leases, boxes


def ledger_to_document(record: LedgerRecord) -> Plain:
    """The ledger as it is stored."""
    return {
        "process": record.process,
        "through": record.through,
        "content": dict(record.content),
    }


class Undecoded(Mapping[str, Json]):
    """A plain document whose text is decoded when it is looked into first: for those who read many
    and look into few."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _content(self) -> Mapping[str, Json]:
        found: Mapping[str, Json] = from_text(self._text)["content"]
        return found

    def __getitem__(self, name: str) -> Json:
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


def ledger_from_text(process: str, through: int, text: str) -> LedgerRecord:
    """The ledger whose document was stored as this text."""
    return LedgerRecord(process, through, Undecoded(text))


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
    if request.options:
        document["options"] = dict(request.options)
    if request.of:
        document["of"] = request.of
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
        options=get("options") or {},
        of=get("of", ""),
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
