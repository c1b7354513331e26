"""JSON Schemas of what comes from outside, and what is wrong with a document by one of them.

The shape only: which parts there are, and of what kind.  What the parts mean is checked by whoever
makes something of them, so that no rule stands twice.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from math import inf
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

#: The names of the schemas here.
NAMES = ("message", "request", "scenario")

#: What the types of JSON are called in a sentence.
_TYPES: Mapping[str, str] = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a text",
}

#: Keywords of a schema that say nothing of the documents.
_COMMENTS = frozenset({"$schema", "$defs", "title", "description"})


@dataclass(frozen=True, slots=True)
class Misshape:
    """One thing that is wrong with the shape of a document."""

    #: Where, as one would write it: ``processes[2].name``; empty for the whole document.
    place: str
    what: str


def schema(name: str) -> dict[str, Any]:
    """The schema of that name."""
    text = resources.files("synergy.schemas").joinpath(f"{name}.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def misshapes(name: str, document: object) -> list[Misshape]:
    """Everything that is wrong with the shape of the document, in the order of its parts."""
    # A set, because each part that is missing is an error that names all of them.
    found = {
        (tuple(map(_ordinal, error.absolute_path)), place_of(error.absolute_path), what)
        for error in Draft202012Validator(schema(name)).iter_errors(document)
        for what in _sentences(error)
    }
    return [Misshape(place, what) for _, place, what in sorted(found)]


Check = Callable[[object], bool]


@cache
def fits(name: str) -> Check:
    """Whether a document has the shape, for what comes by the thousands: no reasons are given.

    Made of the same schema, of which it knows the keywords that are used here.  It is stricter in
    one thing: 1.0 is no whole number.
    """
    whole = schema(name)
    return _check(whole, whole.get("$defs", {}))


def _check(wanted: Mapping[str, Any], definitions: Mapping[str, Any]) -> Check:
    """What the schema says, as a function."""
    rest = {key: value for key, value in wanted.items() if key not in _COMMENTS}
    if reference := rest.pop("$ref", None):
        assert not rest, f"beside $ref there is {rest}"
        return _check(definitions[reference.removeprefix("#/$defs/")], definitions)
    found: Check
    match rest.pop("type", None):
        case None:
            found = _anything
        case "object":
            found = _object(
                {
                    key: _check(value, definitions)
                    for key, value in rest.pop("properties", {}).items()
                },
                frozenset(rest.pop("required", ())),
                rest.pop("additionalProperties", True),
            )
        case "array":
            found = _array(_check(rest.pop("items", {}), definitions))
        case "string":
            found = _string(rest.pop("minLength", 0), rest.pop("maxLength", inf))
        case "integer":
            found = _integer(rest.pop("minimum", -inf), rest.pop("maximum", inf))
        case other:
            raise ValueError(f"there is no check of the type {other!r} yet")
    assert not rest, f"there is no check of {', '.join(rest)} yet"
    return found


def _anything(_: object) -> bool:
    return True


def _object(parts: Mapping[str, Check], required: frozenset[str], others: bool) -> Check:
    def check(value: object) -> bool:
        if type(value) is not dict or not required <= value.keys():
            return False
        for key, part in value.items():
            expected = parts.get(key)
            if expected is None:
                if not others:
                    return False
            elif not expected(part):
                return False
        return True

    return check


def _array(item: Check) -> Check:
    return lambda value: type(value) is list and all(map(item, value))


def _string(least: float, most: float) -> Check:
    return lambda value: type(value) is str and least <= len(value) <= most


def _integer(least: float, most: float) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def place_of(path: Iterator[str | int] | Any) -> str:
    """``("processes", 2, "name")`` as ``processes[2].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _ordinal(part: str | int) -> tuple[int, str]:
    """Orders list positions as numbers and names as texts."""
    return (part, "") if isinstance(part, int) else (-1, part)


def _sentences(error: ValidationError) -> Iterator[str]:
    """What the failed keyword says of the value, and what would be accepted."""
    keyword, wanted, value = error.validator, error.validator_value, error.instance
    match keyword:
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else wanted
            yield f"{_shortly(value)} is not {' or '.join(_TYPES[kind] for kind in kinds)}"
        case "required":
            yield from (f'"{key}" is missing' for key in wanted if key not in value)
        case "additionalProperties":
            known = error.schema["properties"]
            yield from (
                f'there is no "{key}" here; there are {", ".join(known)}'
                for key in value
                if key not in known
            )
        case "enum":
            yield f"{_shortly(value)} is none of {', '.join(map(str, wanted))}"
        case "minimum":
            yield f"{_shortly(value)} is less than {wanted}"
        case "maximum":
            yield f"{_shortly(value)} is more than {wanted}"
        case "minItems":
            yield f"it has {len(value)} parts; at least {wanted} wanted"
        case _:
            yield error.message


def _shortly(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
