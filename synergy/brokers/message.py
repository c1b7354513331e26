"""Messages: a unit of work as it goes through a broker, and what is wrong with a foreign one.

A message carries all of a unit that never changes, as one JSON object of at most `LARGEST` bytes,
and the number of its attempt.  What kind of message it is, and in which version of this form, is
written on the envelope, so that a message of a later version is put aside unread.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from synergy.core.intervals import Interval
from synergy.core.model import Unit
from synergy.records import (
    Plain,
    from_micros,
    task_from_document,
    task_to_document,
    to_micros,
    to_text,
)
from synergy.schemas import fits, misshapes

#: The version of the form; it grows when an older reader would misunderstand.
VERSION: Final = 1
#: What is written on the envelope.
TYPE: Final = f"synergy.unit/{VERSION}"
#: Bytes of the largest body that is sent or read.
LARGEST: Final = 65_536
#: How many units a publisher keeps while its broker is away.
KEPT: Final = 10_000

#: Where messages go that are no proper ones.
DEAD: Final = "dead"
#: Where messages go that somebody else may understand.
PARKED: Final = "parked"

_TYPE = re.compile(r"synergy\.unit/([1-9]\d{0,5})")


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a message cannot be handed out, and where it is put aside: `DEAD` or `PARKED`."""

    place: str
    reason: str


def encode(unit: Unit) -> bytes | None:
    """The body of its message; None when that would be too large."""
    interval = unit.interval
    document: Plain = {
        "process": unit.process,
        "label": interval.label,
        "start": to_micros(interval.start),
        "end": to_micros(interval.end),
        "generation": unit.generation,
        "created_at": to_micros(unit.created_at),
        "task": task_to_document(unit.task),
    }
    if unit.run:
        document["run"] = unit.run
    if unit.attempt != 1:
        document["attempt"] = unit.attempt
    if unit.low is not None:
        document["low"] = unit.low
    if unit.high is not None:
        document["high"] = unit.high
    body = to_text(document).encode("ascii")
    return body if len(body) <= LARGEST else None


def decode(body: bytes, kind: str | bytes | None, process: str) -> Unit | Misfit:
    """The unit in a message that came in the queue of this process, or why there is none."""
    if not isinstance(kind, str) or (found := _TYPE.fullmatch(kind)) is None:
        return Misfit(DEAD, f"its type is {_shortly(kind)}, not {TYPE}")
    if int(found[1]) > VERSION:
        return Misfit(PARKED, f"its type is {kind}, newer than {TYPE}")
    if len(body) > LARGEST:
        return Misfit(DEAD, f"it has {len(body)} bytes, more than {LARGEST}")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        return Misfit(DEAD, f"it is not JSON: {_shortly(str(error))}")
    if not fits("message")(document):
        told = [f"{fault.place or 'it'}: {fault.what}" for fault in misshapes("message", document)]
        return Misfit(DEAD, _short("; ".join(told) or "a whole number is written as 1.0", 300))
    if document["process"] != process:
        return Misfit(PARKED, f"it is of the process {_shortly(document['process'])}")
    return _unit(document)


def _unit(document: dict[str, Any]) -> Unit | Misfit:
    get = document.get
    start, end = from_micros(document["start"]), from_micros(document["end"])
    try:
        interval = Interval(start, end, document["label"])
    except ValueError as error:
        return Misfit(DEAD, str(error))
    return Unit(
        process=document["process"],
        interval=interval,
        generation=document["generation"],
        task=task_from_document(document["task"]),
        created_at=from_micros(document["created_at"]),
        run=get("run", 0),
        attempt=get("attempt", 1),
        low=get("low"),
        high=get("high"),
    )


def _shortly(text: str | bytes | None) -> str:
    return "missing" if text is None else _short(repr(text), 80)


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
