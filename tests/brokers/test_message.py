"""A message says what its unit is, and nothing else is taken for one."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.brokers.message import DEAD, LARGEST, PARKED, TYPE, Misfit, decode, encode
from synergy.core.intervals import Interval
from synergy.core.model import Task, Unit
from synergy.records import from_micros
from synergy.schemas import fits, misshapes
from synergy.testing.broker_contract import body_of, published
from synergy.testing.contracts import a_unit

texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
instants = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999).map(from_micros)
counts = st.integers(1, 2**31 - 1)
durations = st.integers(0, 10**15).map(lambda micros: timedelta(microseconds=micros))
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}", fullmatch=True)
tasks = st.builds(
    Task,
    entry=st.none() | texts,
    command=st.lists(texts, max_size=3).map(tuple),
    noop_codes=st.lists(st.integers(0, 255), max_size=3).map(tuple),
    arguments=st.dictionaries(texts, values, max_size=3),
    source=st.none() | texts,
    sink=st.none() | texts,
    time_limit=st.none() | durations,
    max_attempts=counts,
    backoff=durations,
    priority=st.integers(-(2**31), 2**31 - 1),
    batch=st.integers(1, 256),
)
intervals = st.lists(instants, min_size=2, max_size=2, unique=True).flatmap(
    lambda ends: st.builds(
        Interval,
        start=st.just(min(ends)),
        end=st.just(max(ends)),
        label=st.text(min_size=1, max_size=30),
    )
)
units = st.builds(
    Unit,
    process=names,
    interval=intervals,
    generation=counts,
    task=tasks,
    created_at=instants,
    run=st.integers(0, 2**31 - 1),
    attempt=counts,
    low=values,
    high=values,
)


@given(units)
def test_every_unit_comes_out_as_it_went_in(unit: Unit) -> None:
    body = encode(unit)
    assert body is not None
    assert decode(body, TYPE, unit.process) == published(unit)


@given(st.binary(max_size=200))
def test_no_body_is_an_error(body: bytes) -> None:
    found = decode(body, TYPE, "site_hourly")
    assert isinstance(found, Misfit)
    assert found.place == DEAD


@given(st.data())
def test_no_changed_body_is_an_error(data: st.DataObject) -> None:
    body = bytearray(body_of(a_unit(3, run=2, low={"id": 4})))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    found = decode(bytes(body), TYPE, "site_hourly")
    if isinstance(found, Unit):
        assert published(found) == found
        assert found.process == "site_hourly"
    else:
        assert found.reason


@given(values)
def test_no_value_of_json_is_an_error(value: Any) -> None:
    assert isinstance(decode(json.dumps(value).encode(), TYPE, "site_hourly"), Misfit)


@given(st.sampled_from(sorted(json.loads(body_of(a_unit())))), values)
def test_no_value_in_a_unit_is_an_error(part: str, value: Any) -> None:
    document = json.loads(body_of(a_unit()))
    document[part] = value
    found = decode(json.dumps(document).encode(), TYPE, "site_hourly")
    assert isinstance(found, Unit | Misfit)


def test_a_whole_number_is_written_as_one() -> None:
    body = body_of(a_unit()).replace(b'"generation":1', b'"generation":1.0')
    found = decode(body, TYPE, "site_hourly")
    assert isinstance(found, Misfit)
    assert found.reason == "a whole number is written as 1.0"


def has_fraction_of_zero(value: Any) -> bool:
    """Whether there is a float like 1.0 in it, which is a whole number to JSON Schema."""
    if isinstance(value, dict):
        return any(map(has_fraction_of_zero, value.values()))
    if isinstance(value, list):
        return any(map(has_fraction_of_zero, value))
    return isinstance(value, float) and value.is_integer()


@given(st.data())
def test_the_quick_check_of_the_shape_says_what_the_thorough_one_says(data: st.DataObject) -> None:
    document = json.loads(body_of(data.draw(units)))
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.sampled_from([document, document["task"]]))
        if isinstance(place, dict):
            place[data.draw(st.sampled_from([*place, *document, "entry", "command"]))] = data.draw(
                values | st.sampled_from([0, -1, 2**31, 2**63, "", "x" * 201, [], [1], ["a"], {}])
            )
    if not has_fraction_of_zero(document):
        assert fits("message")(document) == (not misshapes("message", document))


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (None, DEAD),
        ("", DEAD),
        ("synergy.unit", DEAD),
        ("synergy.unit/01", DEAD),
        ("synergy.unit/-1", DEAD),
        ("synergy.unit/1 ", DEAD),
        ("synergy.unit/9999999", DEAD),
        ("synergy.unit/2", PARKED),
    ],
)
def test_the_envelope_tells_who_may_read_it(kind: str | None, place: str) -> None:
    found = decode(b"whatever it is", kind, "site_hourly")
    assert isinstance(found, Misfit)
    assert found.place == place


def with_text(text: str) -> Unit:
    return replace(a_unit(), task=Task(entry="w:f", arguments={"text": text}))


def test_the_largest_message_is_sent_and_read() -> None:
    spare = LARGEST - len(body_of(with_text("")))
    unit = with_text("x" * spare)
    assert len(body_of(unit)) == LARGEST
    assert isinstance(decode(body_of(unit), TYPE, "site_hourly"), Unit)
    assert encode(with_text("x" * (spare + 1))) is None


def test_all_that_is_missing_is_said_once() -> None:
    found = decode(b'{"process":"a","label":"b"}', TYPE, "a")
    assert isinstance(found, Misfit)
    assert found.reason == (
        'it: "created_at" is missing; it: "end" is missing; it: "generation" is missing; '
        'it: "start" is missing; it: "task" is missing'
    )
