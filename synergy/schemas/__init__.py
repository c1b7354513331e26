"""JSON Schemas of what comes from outside, and what is wrong with a document by one of them.

The shape only: which parts there are, and of what kind.  What the parts mean is checked by whoever
makes something of them, so that no rule stands twice.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

#: The names of the schemas here.
NAMES = ("message", "scenario")

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
