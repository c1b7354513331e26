"""What the workers of the suite need of a unit of work, and how they write its results."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from sqlite3 import Connection
from typing import Any, Protocol

from db.traffic import Traffic, claim

#: The shapes of labels, and the granularity that each tells.
_SHAPES = (
    (re.compile(r"\d{4}"), "yearly"),
    (re.compile(r"\d{4}-Q\d"), "quarterly"),
    (re.compile(r"\d{4}-\d\d"), "monthly"),
    (re.compile(r"\d{4}-W\d\d"), "weekly"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "daily"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d([+-]\d\d:\d\d)?"), "hourly"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d([+-]\d\d:\d\d)?"), "minutely"),
)
#: From which granularity one is rolled up, unless the arguments say otherwise.
_FINER = {
    "hourly": "minutely",
    "daily": "hourly",
    "weekly": "daily",
    "monthly": "daily",
    "quarterly": "monthly",
    "yearly": "monthly",
}


class Interval(Protocol):
    """Half-open `[start, end)`, aware UTC datetimes, with its label."""

    @property
    def start(self) -> datetime: ...
    @property
    def end(self) -> datetime: ...
    @property
    def label(self) -> str: ...


class Unit(Protocol):
    """The part of the engine's unit that the suite uses."""

    @property
    def process(self) -> str: ...
    @property
    def interval(self) -> Interval: ...
    @property
    def provisional(self) -> bool: ...
    @property
    def fence(self) -> str: ...
    @property
    def arguments(self) -> Mapping[str, Any]: ...
    def progress(self, done: float, total: float | None = None, text: str = "") -> object: ...


def granularity(unit: Unit) -> str:
    """The granularity of a unit: its argument `granularity`, else told by the label's shape."""
    named = unit.arguments.get("granularity")
    if named is not None:
        return str(named)
    label = unit.interval.label
    for shape, name in _SHAPES:
        if shape.fullmatch(label):
            return name
    raise ValueError(
        f"the label {label!r} of {unit.process} does not tell its granularity; "
        "give the process the argument `granularity`"
    )


def finer(unit: Unit) -> str:
    """The granularity that a unit rolls up: its argument `from`, else the usual one below."""
    named = unit.arguments.get("from")
    if named is not None:
        return str(named)
    own = granularity(unit)
    if own not in _FINER:
        raise ValueError(f"{unit.process}: nothing is rolled up into {own}; give the argument from")
    return _FINER[own]


@contextmanager
def results(traffic: Traffic, unit: Unit) -> Iterator[Connection]:
    """The one transaction in which a unit writes its results, closed to late attempts."""
    with traffic.writing() as db:
        claim(db, unit.process, unit.interval.label, unit.fence)
        yield db
