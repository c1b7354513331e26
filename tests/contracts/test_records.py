"""Documents and rows of the stored form say exactly what the model said."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy import records
from synergy.core.intervals import Interval
from synergy.core.model import (
    BoxRecord,
    Claim,
    FeedEntry,
    Job,
    Lease,
    LedgerRecord,
    ProgramRecord,
    Request,
    Standing,
    Task,
    Transition,
    Unit,
)
from synergy.core.states import JobState, UnitInput, UnitState
from synergy.stores import rows
from synergy.stores.mongodb_documents import (
    ENTRY_REASON,
    entries_of,
    entry_from_list,
    job_from_fields,
    job_to_insert,
    unit_from_fields,
    unit_to_insert,
)
from synergy.stores.rules import taken

texts = st.text(max_size=12)
maybe_texts = st.none() | texts
counts = st.integers(0, 2**53)
instants = st.datetimes(timezones=st.just(UTC))
durations = st.timedeltas(timedelta(0), timedelta(days=400_000))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | texts
    | st.floats(allow_nan=False).filter(lambda number: abs(number) < float("inf")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, plain, max_size=3)
generations = st.none() | st.dictionaries(texts, counts, max_size=3)
progresses = st.none() | st.tuples(st.floats(0, 1e12), st.none() | st.floats(0, 1e12), texts)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    """Any two instants and any label."""
    start, end = sorted(draw(st.tuples(instants, instants).filter(lambda two: two[0] != two[1])))
    return Interval(start, end, draw(texts))


transitions = st.builds(
    Transition,
    version=counts,
    at=instants,
    before=texts,
    after=texts,
    generation=counts,
    attempt=counts,
    result=counts,
    reason=texts,
    outdated=st.booleans(),
)
histories = st.lists(transitions, max_size=3).map(tuple)
names = st.lists(texts, max_size=3).map(tuple)
jobs = st.builds(
    Job,
    process=texts,
    interval=intervals(),
    state=st.sampled_from(JobState),
    version=counts,
    generation=counts,
    result=counts,
    result_state=st.none() | st.sampled_from(JobState),
    fingerprint=maybe_texts,
    consumed=generations,
    consuming=generations,
    attempts=counts,
    unit=maybe_texts,
    runs=counts,
    next_run=st.none() | instants,
    forced=st.booleans(),
    outdated=st.booleans(),
    holds=names,
    reopened_from=st.none()
    | st.builds(Standing, st.sampled_from(JobState), counts, counts, counts, st.booleans()),
    requests=names,
    reason=texts,
    transitions=histories,
)
tasks = st.builds(
    Task,
    entry=maybe_texts,
    command=names,
    noop_codes=st.lists(st.integers(0, 255), max_size=3).map(tuple),
    arguments=objects,
    source=maybe_texts,
    sink=maybe_texts,
    time_limit=st.none() | durations,
    max_attempts=st.integers(1, 9),
    backoff=durations,
    priority=st.integers(-9, 9),
    batch=st.integers(1, 9),
)
units = st.builds(
    Unit,
    process=texts,
    interval=intervals(),
    generation=counts,
    task=tasks,
    created_at=instants,
    run=counts,
    attempt=counts,
    failures=counts,
    state=st.sampled_from(UnitState),
    version=counts,
    owner=maybe_texts,
    lease_until=st.none() | instants,
    not_before=st.none() | instants,
    started_at=st.none() | instants,
    finished_at=st.none() | instants,
    low=plain,
    high=plain,
    count=st.none() | counts,
    fingerprint=maybe_texts,
    reason=texts,
    progress=progresses,
    transitions=histories,
)
entries = st.builds(
    FeedEntry,
    seq=counts,
    kind=st.sampled_from(["job", "unit"]),
    key=texts,
    process=texts,
    interval=intervals(),
    transition=transitions,
)
requests = st.builds(
    Request,
    id=texts,
    action=texts,
    process=texts,
    starts=st.lists(instants, max_size=3).map(tuple),
    filed_at=instants,
    actor=texts,
    reason=texts,
    state=st.sampled_from(["filed", "done", "refused"]),
    answered_at=st.none() | instants,
    answer=objects,
)
leases = st.builds(Lease, owner=texts, epoch=counts, until=instants, since=instants)
programs = st.builds(
    ProgramRecord,
    name=texts,
    wanted=st.booleans(),
    state=texts,
    pid=st.none() | counts,
    since=st.none() | instants,
    restarts=counts,
    cpu_seconds=st.floats(0, 1e9),
    memory_bytes=counts,
    reason=texts,
)
boxes = st.builds(
    BoxRecord,
    box=texts,
    supervisor=maybe_texts,
    since=st.none() | instants,
    seen_at=instants,
    programs=st.lists(programs, max_size=3).map(tuple),
    trouble=texts,
)
ledgers = st.builds(LedgerRecord, process=texts, through=counts, content=objects)

HOUR = Interval(
    datetime(2024, 5, 12, tzinfo=UTC), datetime(2024, 5, 12, 1, tzinfo=UTC), "2024-05-12T00"
)

FORMS: list[tuple[st.SearchStrategy[Any], Callable[[Any], Any], Callable[[Any], Any]]] = [
    (tasks, records.task_to_document, records.task_from_document),
    (requests, records.request_to_document, records.request_from_document),
    (leases, records.lease_to_document, records.lease_from_document),
    (boxes, records.box_to_document, records.box_from_document),
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[1].__name__)
def test_what_was_stored_is_read_back(form: tuple[Any, Any, Any]) -> None:
    strategy, write, read = form

    @given(strategy)
    def there_and_back(value: object) -> None:
        text = records.to_text(write(value))
        assert text.isascii()
        assert read(records.from_text(text)) == value

    there_and_back()


@given(ledgers)
def test_a_ledger_is_read_back_from_its_text(record: LedgerRecord) -> None:
    text = records.to_text(records.ledger_to_document(record))
    read = records.ledger_from_text(record.process, record.through, text)
    assert (read.process, read.through) == (record.process, record.through)
    assert read.content == record.content


@given(instants)
def test_instants_are_exact(instant: datetime) -> None:
    assert records.from_micros(records.to_micros(instant)) == instant
    assert records.from_micros(records.to_micros(instant)).tzinfo is UTC


@given(instants, instants)
def test_instants_sort_as_numbers(one: datetime, other: datetime) -> None:
    assert (one < other) == (records.to_micros(one) < records.to_micros(other))


def test_a_document_holds_only_what_is_not_usual() -> None:
    assert records.task_to_document(Task(entry="m:f")) == {"entry": "m:f"}


def test_missing_fields_have_the_pinned_values_of_the_model_today() -> None:
    """A default of the model that changes must not change what stored documents mean."""
    assert records.task_from_document({}) == Task()


def test_fields_of_a_later_form_are_passed_over() -> None:
    assert records.task_from_document({"entry": "m:f", "new": 1}) == Task(entry="m:f")


@given(jobs)
def test_a_job_is_read_back_from_its_fields(job: Job) -> None:
    assert job_from_fields(job_to_insert(job, job.key, 1)) == job


@given(transitions)
def test_an_entry_of_mongodb_has_no_place_for_a_mark_that_is_not_there(made: Transition) -> None:
    job = Job(process="p", interval=HOUR, transitions=(made,))
    [entry] = entries_of("job", job_to_insert(job, job.key, 1))
    assert len(entry) == ENTRY_REASON + 1 + made.outdated
    assert entry_from_list(3, entry).transition == made
    assert entry[ENTRY_REASON] == (records.to_text(made.reason) if made.reason else None)  # type: ignore[arg-type]


@given(units)
def test_a_unit_is_read_back_from_its_fields(unit: Unit) -> None:
    assert unit_from_fields(unit_to_insert(unit, unit.key, 1)) == unit


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_has_no_number_for_is_refused(number: float) -> None:
    with pytest.raises(ValueError):
        records.to_text({"low": number})


def test_a_document_is_one_line_of_json() -> None:
    text = records.to_text({"reason": "a\nb \udcff é", "n": [1, 2.5, None]})
    assert "\n" not in text
    assert json.loads(text) == {"reason": "a\nb \udcff é", "n": [1, 2.5, None]}


# rows


def row_of(unit: Unit) -> tuple[Any, ...]:
    return (*rows.head_of(unit, unit.key), *rows.unit_given(unit), *rows.unit_changes(unit), 7)


@given(jobs)
def test_a_job_is_read_back_from_its_row(job: Job) -> None:
    row = (*rows.head_of(job, job.key), *rows.job_changes(job), 7)
    assert len(row) == len(rows.JOB_COLUMNS)
    assert row[rows.TOLD] == 7
    assert rows.job_from_row(row, job.transitions) == job


def test_inputs_may_be_any_mapping() -> None:
    job = Job(process="p", interval=HOUR, consumed=MappingProxyType({"q@2024": 2}), consuming={})
    row = (*rows.head_of(job, job.key), *rows.job_changes(job), 0)
    assert rows.job_from_row(row, ()) == replace(job, consumed={"q@2024": 2})


@given(units)
def test_a_unit_is_read_back_from_its_row(unit: Unit) -> None:
    row = row_of(unit)
    assert len(row) == len(rows.UNIT_COLUMNS)
    assert row[rows.TOLD] == 7
    assert rows.unit_from_row(row, unit.transitions) == unit


@given(entries, counts)
def test_an_entry_is_read_back_from_its_row(entry: FeedEntry, previous: int) -> None:
    interval = entry.interval
    start, end = records.to_micros(interval.start), records.to_micros(interval.end)
    head = (entry.key, entry.process, interval.label, start, end)
    row = (entry.seq, entry.kind, *head, *rows.transition_to_row(entry.transition, previous))
    assert len(row) == len(rows.ENTRY_COLUMNS)
    assert rows.entry_from_row(row) == entry


@given(units, instants, instants, texts, st.sampled_from([UnitInput.START, UnitInput.CLAIM]))
def test_a_claim_on_the_row_is_the_claim_on_the_unit(
    unit: Unit, now: datetime, until: datetime, owner: str, applied: UnitInput
) -> None:
    claim = Claim(owner=owner, now=now, lease_until=until, limit=1)
    requested = replace(unit, state=UnitState.REQUESTED)
    before = row_of(requested)
    row = list(before)
    made = rows.take_row(row, claim, applied)
    after = taken(requested, claim, applied)
    assert made == after.transitions[-1]
    assert rows.unit_from_row(row, after.transitions) == after
    changes = dict(zip((*rows.UNIT_TAKEN, "told", "key"), rows.taken_changes(row), strict=True))
    stored = dict(zip(rows.UNIT_COLUMNS, before, strict=True)) | changes
    assert list(stored.values()) == row


def test_units_share_the_task_that_they_were_given() -> None:
    tasks = [Task(entry=f"workers.site:count_{number}") for number in range(1000)]
    for turn in range(2):
        for task in tasks:
            unit = Unit(process="p", interval=HOUR, generation=1, task=task, created_at=HOUR.end)
            read = rows.unit_from_row(row_of(unit), ())
            assert read == unit, f"turn {turn}"
    assert rows.unit_from_row(row_of(unit), ()).task is read.task


def test_transitions_are_put_in_order_after_those_before_them() -> None:
    def entry(seq: int, previous: int, version: int) -> tuple[Any, ...]:
        return (seq, previous, version, 0, "", "requested", 1, 1, 0, None)

    found = rows.histories([entry(3, 0, 1), entry(5, 2, 4), entry(8, 3, 2), entry(9, 8, 3)])
    versions = {seq: [each.version for each in told] for seq, told in found.items()}
    assert versions == {3: [1], 5: [4], 8: [1, 2], 9: [1, 2, 3]}
