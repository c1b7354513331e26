"""What the engine asks for.  Commands are intents: each is answered by an event (DESIGN §3.11)."""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from synergy.core.intervals import Interval
from synergy.core.model import JobWrite, Json, Request, UnitWrite
from synergy.core.values import dataclass


@dataclass(frozen=True, slots=True)
class SaveJob:
    """Answered by `JobSaved` or `JobRefused`."""

    write: JobWrite


@dataclass(frozen=True, slots=True)
class SaveUnit:
    """Answered by `UnitSaved` or `UnitRefused`."""

    write: UnitWrite


@dataclass(frozen=True, slots=True)
class ReadJobs:
    """Answered by `JobsRead`."""

    request_id: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MovePlan:
    """Answered by `PlanMoved`: whoever applies or withdraws a plan takes it first."""

    #: The request that applies or withdraws it.
    request_id: str
    #: As it shall stand, where it stands in the state `expected`.
    plan: Request
    expected: str


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """Not answered: the request is read again where this got lost, and executed once."""

    request: Request


@dataclass(frozen=True, slots=True)
class MeasureSource:
    """Answered by `SourceMeasured`, later."""

    process: str
    interval: Interval
    source: str


#: Kinds of documents that the engine writes.
DocumentKind = Literal["switches", "backfills"]
DOCUMENT_KINDS: Final[tuple[DocumentKind, ...]] = get_args(DocumentKind)


@dataclass(frozen=True, slots=True)
class SaveDocument:
    """Put it in the place of that version (0: none is stored).

    Answered by `DocumentSaved` or `DocumentRefused`.
    """

    kind: DocumentKind
    key: str
    content: Mapping[str, Json]
    expected: int


@dataclass(frozen=True, slots=True)
class ReadUnits:
    """Answered by `UnitsRead`."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileRequest:
    """Not answered: it is read with those that others have filed."""

    request: Request


@dataclass(frozen=True, slots=True)
class Warn:
    """Not answered: tells the operators what does not stand in the store."""

    text: str


Command = (
    SaveJob
    | SaveUnit
    | ReadJobs
    | MovePlan
    | AnswerRequest
    | MeasureSource
    | SaveDocument
    | ReadUnits
    | FileRequest
    | Warn
)
