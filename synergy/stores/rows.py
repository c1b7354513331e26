"""Jobs, units and their transitions as rows of plain values: those of the SQLite store.

The MongoDB store names the same values as fields of its documents, see `mongodb_documents`.

What is searched for, compared or read by eye has a column of its own; instants and durations are
integer microseconds, as in `synergy.records`.  Columns that take any text or structure hold JSON,
so that a lone surrogate in a reason is stored too; NULL is their usual value.  The order of the
columns here is not that of the tables, which grow at their end (`synergy.stores.migrations`).

Both documents begin with the same `Head`.  Their transitions are not in them but in the feed, where
each is stored once: a document's column ``told`` numbers its last entry, and every entry names the
one before it of the same document, 0 where there is none.

Values that many rows share are made once: the thousands of units of a batch have a handful of
tasks and transitions among them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from synergy.core.intervals import Interval
from synergy.core.model import Claim, FeedEntry, Job, Standing, Task, Transition, Unit
from synergy.core.states import UnitInput, next_unit_state
from synergy.records import (
    JOB_STATES,
    UNIT_STATES,
    from_micros,
    from_text,
    task_from_document,
    task_to_document,
    to_micros,
    to_text,
)
from synergy.stores.rules import job_is_active

#: key, process, label, start, end
Head = tuple[str, str, str, int, int]
Row = tuple[Any, ...]

HEAD_COLUMNS = ("key", "process", "label", "start", '"end"')
#: What a job's writes change: all but its head.
JOB_CHANGES = (
    *("state", "version", "active", "generation", "result", "result_state", "fingerprint"),
    *("consumed", "consuming", "attempts", "unit", "runs", "next_run", "forced", "outdated"),
    *("holds", "reopened_from", "requests", "reason"),
)
JOB_COLUMNS = (*HEAD_COLUMNS, *JOB_CHANGES, "told")
#: What a unit is given when it is requested, for good, and what its writes change.
UNIT_GIVEN = ("generation", "run", "priority", "created_at", "task")
UNIT_CHANGES = (
    *("state", "version", "active", "attempt", "failures", "owner", "lease_until", "not_before"),
    *("started_at", "finished_at", "low", "high", "count", "fingerprint", "progress", "reason"),
)
UNIT_COLUMNS = (*HEAD_COLUMNS, *UNIT_GIVEN, *UNIT_CHANGES, "told")
#: Without the number of the entry itself, its kind and the document's head.
TRANSITION_COLUMNS = (
    *("previous", "version", "at", "before", "after", "generation", "attempt", "result", "reason"),
    "outdated",
)
ENTRY_COLUMNS = ("seq", "kind", *HEAD_COLUMNS, *TRANSITION_COLUMNS)

#: What a claim changes of a unit.
UNIT_TAKEN = ("state", "version", "owner", "lease_until", "started_at", "reason")

#: How many columns the head has, and where ``told`` stands, in the rows of both documents.
HEAD, TOLD = 5, -1
_GENERATION, _ATTEMPT = map(UNIT_COLUMNS.index, ("generation", "attempt"))
_STATE, _VERSION, _OWNER, _LEASE, _STARTED, _REASON = map(UNIT_COLUMNS.index, UNIT_TAKEN)

_TASK = UNIT_COLUMNS.index("task")

#: Of a unit's row, what `UNIT_TAKEN` names, then ``told`` and the key.
taken_changes: Callable[[Sequence[Any]], Row] = itemgetter(
    *map(UNIT_COLUMNS.index, (*UNIT_TAKEN, "told", "key"))
)

_TASKS_KNOWN = 256
_TASK_TEXTS: dict[int, tuple[Task, str]] = {}


def head_of(document: Job | Unit, key: str) -> Head:
    """What all rows about the document begin with."""
    interval = document.interval
    start, end = to_micros(interval.start), to_micros(interval.end)
    return key, document.process, interval.label, start, end


def job_changes(job: Job) -> Row:
    """In the order of `JOB_CHANGES`."""
    return (
        job.state.value,
        job.version,
        int(job_is_active(job)),
        job.generation,
        job.result,
        None if job.result_state is None else job.result_state.value,
        _json(job.fingerprint),
        _generations(job.consumed),
        _generations(job.consuming),
        job.attempts,
        job.unit,
        job.runs,
        _micros(job.next_run),
        int(job.forced),
        1 if job.outdated else None,
        _json(job.holds or None),
        None if job.reopened_from is None else _json(list(job.reopened_from)),
        _json(job.requests or None),
        _json(job.reason or None),
    )


def job_from_row(row: Row, transitions: tuple[Transition, ...]) -> Job:
    """The job whose row is in the order of `JOB_COLUMNS`."""
    (_, process, label, start, end, state, version, _, generation, result, result_state,
     fingerprint, consumed, consuming, attempts, unit, runs, next_run, forced, outdated, holds,
     reopened_from, requests, reason, _) = row  # fmt: skip
    return Job(
        process=process,
        interval=_interval(label, start, end),
        state=JOB_STATES[state],
        version=version,
        generation=generation,
        result=result,
        result_state=None if result_state is None else JOB_STATES[result_state],
        fingerprint=_value(fingerprint),
        consumed=_value(consumed),
        consuming=_value(consuming),
        attempts=attempts,
        unit=unit,
        runs=runs,
        next_run=_instant(next_run),
        forced=bool(forced),
        outdated=bool(outdated),
        holds=() if holds is None else tuple(from_text(holds)),
        reopened_from=None if reopened_from is None else _standing(*from_text(reopened_from)),
        requests=() if requests is None else tuple(from_text(requests)),
        reason="" if reason is None else from_text(reason),
        transitions=transitions,
    )


def unit_given(unit: Unit) -> Row:
    """In the order of `UNIT_GIVEN`."""
    return (
        unit.generation,
        unit.run,
        unit.task.priority,
        to_micros(unit.created_at),
        _text_of(unit.task),
    )


def unit_changes(unit: Unit) -> Row:
    """In the order of `UNIT_CHANGES`."""
    return (
        unit.state.value,
        unit.version,
        int(not unit.state.terminal),
        unit.attempt,
        unit.failures,
        unit.owner,
        _micros(unit.lease_until),
        _micros(unit.not_before),
        _micros(unit.started_at),
        _micros(unit.finished_at),
        _json(unit.low),
        _json(unit.high),
        unit.count,
        _json(unit.fingerprint),
        _json(unit.progress),
        _json(unit.reason or None),
    )


def unit_from_row(row: Sequence[Any], transitions: tuple[Transition, ...]) -> Unit:
    """The unit whose row is in the order of `UNIT_COLUMNS`."""
    (_, process, label, start, end, generation, run, _, created_at, task, state, version, _,
     attempt, failures, owner, lease_until, not_before, started_at, finished_at, low, high, count,
     fingerprint, progress, reason, _) = row  # fmt: skip
    return Unit(
        process=process,
        interval=_interval(label, start, end),
        generation=generation,
        task=_task(task),
        created_at=from_micros(created_at),
        run=run,
        attempt=attempt,
        failures=failures,
        state=UNIT_STATES[state],
        version=version,
        owner=owner,
        lease_until=_instant(lease_until),
        not_before=_instant(not_before),
        started_at=_instant(started_at),
        finished_at=_instant(finished_at),
        low=_value(low),
        high=_value(high),
        count=count,
        fingerprint=_value(fingerprint),
        reason="" if reason is None else from_text(reason),
        progress=None if progress is None else tuple(from_text(progress)),
        transitions=transitions,
    )


def task_of(row: Sequence[Any]) -> Task:
    """What the unit whose row is in the order of `UNIT_COLUMNS` has to run."""
    return _task(row[_TASK])


def take_row(row: list[Any], claim: Claim, applied: UnitInput) -> Transition:
    """Change a unit's row as `rules.taken` changes the unit; the transition that this makes.

    Claims are what workers ask of the store most, and this way costs a third.
    """
    before = row[_STATE]
    after = next_unit_state(UNIT_STATES[before], applied).value
    version, now = row[_VERSION] + 1, to_micros(claim.now)
    row[_STATE], row[_VERSION], row[_REASON] = after, version, None
    row[_OWNER], row[_LEASE] = claim.owner, to_micros(claim.lease_until)
    if applied is UnitInput.START:
        row[_STARTED] = now
    return transition_from_values(
        version, now, before, after, row[_GENERATION], row[_ATTEMPT], 0, None
    )


def transition_to_row(transition: Transition, previous: int) -> Row:
    """In the order of `TRANSITION_COLUMNS`."""
    return (
        previous,
        transition.version,
        to_micros(transition.at),
        transition.before,
        transition.after,
        transition.generation,
        transition.attempt,
        transition.result,
        _json(transition.reason or None),
        1 if transition.outdated else None,
    )


def entry_from_row(row: Row) -> FeedEntry:
    """In the order of `ENTRY_COLUMNS`."""
    seq, kind, key, process, label, start, end, _, *transition = row
    return FeedEntry(
        seq=seq,
        kind=kind,
        key=key,
        process=process,
        interval=_interval(label, start, end),
        transition=transition_from_values(*transition),
    )


def histories(entries: Iterable[Row]) -> dict[int, tuple[Transition, ...]]:
    """The transitions of documents up to and with each entry, by its number.

    Of the entries' rows come their number and `TRANSITION_COLUMNS`, each after the one that it
    names as previous; where that is not among them, it is forgotten.
    """
    known: dict[int, tuple[Transition, ...]] = {}
    for seq, previous, *transition in entries:
        known[seq] = (*known.get(previous, ()), transition_from_values(*transition))
    return known


def _json(value: Any) -> str | None:
    return None if value is None else to_text(value)


def _generations(inputs: Mapping[str, int] | None) -> str | None:
    if not inputs:  # as with all but reprocessed ones
        return None if inputs is None else "{}"
    return to_text(dict(inputs))


def _value(text: str | None) -> Any:
    return None if text is None else from_text(text)


def _standing(state: str, *rest: Any) -> Standing:
    return Standing(JOB_STATES[state], *rest)


def _micros(instant: datetime | None) -> int | None:
    return None if instant is None else to_micros(instant)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)


@lru_cache(4096)
def _interval(label: str, start: int, end: int) -> Interval:
    return Interval(from_micros(start), from_micros(end), label)


@lru_cache(1024)
def transition_from_values(
    version: int,
    at: int,
    before: str,
    after: str,
    generation: int,
    attempt: int,
    result: int,
    reason: str | None,
    outdated: int | None = None,
) -> Transition:
    """In the order of `TRANSITION_COLUMNS`, without the first."""
    return Transition(
        version=version,
        at=from_micros(at),
        before=before,
        after=after,
        generation=generation,
        attempt=attempt,
        result=result,
        reason="" if reason is None else from_text(reason),
        outdated=bool(outdated),
    )


def _text_of(task: Task) -> str:
    """The task as JSON; known ones are kept, and keep their identity by that."""
    known = _TASK_TEXTS.get(id(task))
    if known is None:
        if len(_TASK_TEXTS) >= _TASKS_KNOWN:
            _TASK_TEXTS.clear()
        known = _TASK_TEXTS[id(task)] = (task, to_text(task_to_document(task)))
    return known[1]


@lru_cache(_TASKS_KNOWN)
def _task(text: str) -> Task:
    return task_from_document(from_text(text))
