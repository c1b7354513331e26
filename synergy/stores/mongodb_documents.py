"""Jobs, units and feed entries as documents of the MongoDB store, and the updates that change them.

A document has the values of `synergy.stores.rows` as fields, under the same names; what is None is
left out.  So instants are integer microseconds (BSON's own dates end at the millisecond), and what
may be any text or structure is JSON.  Beside these it carries:

``_id``          its key
``mark``         a random number drawn for the call that wrote it last: whoever has lost the answer
                 to a write finds out by it whether the write was done (protocol D1)
``transitions``  lists, in the order of `TRANSITION_COLUMNS` without the first, and without the last
                 where that is None, then the mark of the call that made it; all that the feed has
                 not, else the last ones
``pending``      the version of the first of its transitions that the feed does not have; missing
                 where it has all
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from synergy.core.model import (
    TRANSITIONS_KEPT,
    Claim,
    FeedEntry,
    Fence,
    Job,
    JobWrite,
    Transition,
    Unit,
    UnitWrite,
)
from synergy.core.states import UnitInput
from synergy.records import UNIT_STATES, from_micros, to_micros
from synergy.stores.rows import (
    HEAD_COLUMNS,
    JOB_CHANGES,
    JOB_COLUMNS,
    TRANSITION_COLUMNS,
    UNIT_CHANGES,
    UNIT_COLUMNS,
    UNIT_GIVEN,
    UNIT_TAKEN,
    entry_from_row,
    head_of,
    job_changes,
    job_from_row,
    take_row,
    transition_from_values,
    transition_to_row,
    unit_changes,
    unit_from_row,
    unit_given,
)
from synergy.stores.rules import may_replace, news

Document = dict[str, Any]

# "end" is quoted among the columns, as SQL has a word like that; the key is ``_id`` here.
_HEAD = tuple(column.strip('"') for column in HEAD_COLUMNS[1:])
_JOB = ("_id", *_HEAD, *JOB_CHANGES)
_UNIT = ("_id", *_HEAD, *UNIT_GIVEN, *UNIT_CHANGES)
assert len(_JOB) + 1 == len(JOB_COLUMNS)
assert len(_UNIT) + 1 == len(UNIT_COLUMNS)
_TAKEN_VALUES: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(
    *map(UNIT_COLUMNS.index, UNIT_TAKEN)
)
_ALIKE: Callable[[Sequence[Any]], tuple[Any, ...]] = itemgetter(
    *map(UNIT_COLUMNS.index, ("version", "generation", "attempt", "started_at"))
)

#: Where a document's key stands in a feed entry, its transition's version and its reason.
ENTRY_KIND, ENTRY_KEY, ENTRY_VERSION = 0, 1, 1 + len(HEAD_COLUMNS)
ENTRY_REASON = ENTRY_VERSION + TRANSITION_COLUMNS.index("reason") - 1

#: Without what may be long and only the history needs.
WITHOUT_HISTORY = {"transitions": 0}


def new_mark() -> int:
    """A number that no other call draws."""
    return secrets.randbits(63)


# jobs


def job_to_insert(job: Job, key: str, mark: int) -> Document:
    """The job as it is stored first."""
    return _first(_JOB, (*head_of(job, key), *job_changes(job)), job.transitions, mark)


def job_to_change(write: JobWrite, key: str, mark: int) -> tuple[Document, Document]:
    """Which document is changed, and how."""
    fresh = news(write.job.transitions, write.expected)
    changes = _change(JOB_CHANGES, job_changes(write.job), fresh, mark)
    return {"_id": key, "version": write.expected}, changes


def job_from_fields(document: Mapping[str, Any]) -> Job:
    """The stored job."""
    return job_from_row((*map(document.get, _JOB), 0), _history(document))


def job_passes(write: JobWrite, standing: Mapping[str, Any] | None) -> bool:
    """Whether the write may be done on what stands."""
    return (0 if standing is None else standing["version"]) == write.expected


# units


def unit_to_insert(unit: Unit, key: str, mark: int) -> Document:
    """The unit as it is stored first."""
    values = (*head_of(unit, key), *unit_given(unit), *unit_changes(unit))
    return _first(_UNIT, values, unit.transitions, mark)


def unit_to_change(
    write: UnitWrite, key: str, mark: int, version: int
) -> tuple[Document, Document]:
    """Which document is changed, if it has this version, and how."""
    unit, fence = write.unit, write.expected
    assert fence is not None
    found = {
        "_id": key,
        "version": version,
        "state": fence.state.value,
        "attempt": fence.attempt,
        "owner": fence.owner,
    }
    if fence.lease_until is not None:
        found["lease_until"] = to_micros(fence.lease_until)
    fresh = news(unit.transitions, version)
    return found, _change(UNIT_CHANGES, unit_changes(unit), fresh, mark)


def version_before(write: UnitWrite) -> int:
    """Which version the writer of a unit has most likely seen: its fence does not tell."""
    unit, fence = write.unit, write.expected
    if fence is None:
        return 0
    for transition in reversed(unit.transitions):
        if transition.before == fence.state and transition.attempt == fence.attempt:
            return transition.version - 1
    return unit.version - 1


def unit_from_fields(document: Mapping[str, Any], *, history: bool = True) -> Unit:
    """The stored unit; without `history` its transitions are left out."""
    made = _history(document) if history else ()
    return unit_from_row((*map(document.get, _UNIT), 0), made)


def unit_passes(write: UnitWrite, standing: Mapping[str, Any] | None) -> bool:
    """Whether the write may be done on what stands."""
    if standing is None:
        return may_replace(None, 0, write)
    until = standing.get("lease_until")
    fence = Fence(
        UNIT_STATES[standing["state"]],
        standing["attempt"],
        standing.get("owner"),
        None if until is None else from_micros(until),
    )
    return may_replace(fence, standing["version"], write)


class Taking:
    """Units that one claim takes: what it makes of them, and the updates that do it."""

    def __init__(self, claim: Claim, mark: int) -> None:
        self.claim = claim
        self.mark = mark
        #: By key, in the order of `take`.
        self.taken: dict[str, Unit] = {}
        self._alike: dict[tuple[Any, ...], tuple[list[str], Document]] = {}

    def take(self, document: Mapping[str, Any], applied: UnitInput) -> None:
        """Start the unit or claim it ahead of its start."""
        row: list[Any] = [*map(document.get, _UNIT), 0]
        kind = (applied, *_ALIKE(row))
        made = take_row(row, self.claim, applied)
        key: str = row[0]
        history = (*_history(document), made)[-TRANSITIONS_KEPT:]
        self.taken[key] = unit_from_row(row, history)
        if kind in self._alike:
            self._alike[kind][0].append(key)
        else:
            changes = _change(UNIT_TAKEN, _TAKEN_VALUES(row), [made], self.mark)
            self._alike[kind] = ([key], changes)

    def change_of(self, unit: Unit, applied: UnitInput) -> Document:
        """What is changed where a unit stands in the version, generation and attempt of this one:
        the same, whatever else the document holds."""
        row = [*head_of(unit, unit.key), *unit_given(unit), *unit_changes(unit), 0]
        made = take_row(row, self.claim, applied)
        return _change(UNIT_TAKEN, _TAKEN_VALUES(row), [made], self.mark)

    def updates(self) -> list[tuple[Document, Document]]:
        """Which documents are changed, and how: units that stand alike are taken alike."""
        return [
            (
                {"_id": {"$in": keys}, "state": "requested", "version": version,
                 "generation": generation, "attempt": attempt},
                changes,
            )
            for (_, version, generation, attempt, _), (keys, changes) in self._alike.items()
        ]  # fmt: skip


# both


def is_own(document: Mapping[str, Any] | None, version: int, mark: int) -> bool:
    """Whether the call of that mark brought the document to that version, be it since overtaken."""
    if document is None:
        return False
    if document["version"] == version and document["mark"] == mark:
        return True
    return any(each[0] == version and each[-1] == mark for each in _transitions(document))


def entries_of(kind: str, document: Mapping[str, Any]) -> list[list[Any]]:
    """The feed entries, still without numbers, of the transitions that are not in the feed yet."""
    pending, head = document["pending"], [kind, *map(document.get, ("_id", *_HEAD))]
    return [[*head, *each[:-1]] for each in _transitions(document) if each[0] >= pending]


def entry_from_list(seq: int, entry: Sequence[Any]) -> FeedEntry:
    """The stored entry of that number."""
    kind, *head = entry[:ENTRY_VERSION]
    return entry_from_row((seq, kind, *head, 0, *entry[ENTRY_VERSION:]))


def _first(
    names: Sequence[str], values: Iterable[Any], made: Sequence[Transition], mark: int
) -> Document:
    document = {
        name: value for name, value in zip(names, values, strict=True) if _is_kept(name, value)
    }
    document["mark"] = mark
    if made:
        document["pending"] = made[0].version
        document["transitions"] = [_to_list(each, mark) for each in made]
    return document


def _change(
    names: Sequence[str], values: Iterable[Any], fresh: Sequence[Transition], mark: int
) -> Document:
    kept: Document = {"mark": mark}
    gone: Document = {}
    for name, value in zip(names, values, strict=True):
        if _is_kept(name, value):
            kept[name] = value
        else:
            gone[name] = ""
    changes: Document = {"$set": kept}
    if gone:
        changes["$unset"] = gone
    if fresh:
        changes["$push"] = {"transitions": {"$each": [_to_list(each, mark) for each in fresh]}}
        changes["$min"] = {"pending": fresh[0].version}
    return changes


def _is_kept(name: str, value: Any) -> bool:
    # What is not active has no such field, so that the index of the active ones stays small.
    return value is not None and (value != 0 or name != "active")


def _to_list(transition: Transition, mark: int) -> list[Any]:
    _, *values, outdated = transition_to_row(transition, 0)
    return [*values, mark] if outdated is None else [*values, outdated, mark]


def _transitions(document: Mapping[str, Any]) -> Sequence[list[Any]]:
    found: Sequence[list[Any]] = document.get("transitions", ())
    return found


def _history(document: Mapping[str, Any]) -> tuple[Transition, ...]:
    kept = _transitions(document)[-TRANSITIONS_KEPT:]
    return tuple([transition_from_values(*each[:-1]) for each in kept])
