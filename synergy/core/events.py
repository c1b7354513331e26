"""What the engine is told."""

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime

from synergy.core.commands import DocumentKind
from synergy.core.intervals import Interval
from synergy.core.model import (
    Documents,
    FeedEntry,
    Job,
    JobWrite,
    Json,
    LedgerRecord,
    Request,
    Unit,
    UnitWrite,
)
from synergy.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The store was read: everything that is not terminal, and the ledgers."""

    ledgers: Mapping[str, LedgerRecord]
    #: Feed entries that are in no ledger yet.
    entries: tuple[FeedEntry, ...]
    jobs: tuple[Job, ...]
    #: Units that are not terminal, and the units of the jobs above.
    units: tuple[Unit, ...]
    requests: tuple[Request, ...]
    #: What these apply or withdraw, by id.
    plans: Mapping[str, Request] = field(default_factory=dict)
    #: The latest firings of each freerun, in any order.
    fired: Mapping[str, tuple[datetime, ...]]
    #: Documents of the kind "switches": version and content by key.
    switches: Documents = field(default_factory=dict)
    #: The same of the kind "backfills".
    backfills: Documents = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing else happened, but the clock moved on."""


@dataclass(frozen=True, slots=True)
class UnitChanged:
    """A worker moved a unit: this is how it stands."""

    unit: Unit


@dataclass(frozen=True, slots=True)
class JobsChanged:
    """Another scheduler moved some jobs: this is how they stand."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class RequestFiled:
    """An operator wants something."""

    request: Request
    #: The plan, or other request, that it applies or withdraws; None where there is no such.
    plan: Request | None = None


@dataclass(frozen=True, slots=True)
class JobSaved:
    """The store took the write."""

    write: JobWrite


@dataclass(frozen=True, slots=True)
class JobRefused:
    """The store did not take it; `current` stands there (None: nothing)."""

    write: JobWrite
    current: Job | None


@dataclass(frozen=True, slots=True)
class UnitSaved:
    """The store took the write."""

    write: UnitWrite


@dataclass(frozen=True, slots=True)
class UnitRefused:
    """The store did not take it; `current` stands there (None: nothing)."""

    write: UnitWrite
    current: Unit | None


@dataclass(frozen=True, slots=True)
class JobsRead:
    """The answer to `ReadJobs`: those that were ever written."""

    request_id: str
    jobs: Mapping[str, Job]


@dataclass(frozen=True, slots=True)
class PlanMoved:
    """The answer to `MovePlan`: the plan as it stands now."""

    request_id: str
    plan: Request | None


@dataclass(frozen=True, slots=True)
class DocumentSaved:
    """The store took the write; the document has this version now."""

    kind: DocumentKind
    key: str
    version: int


@dataclass(frozen=True, slots=True)
class DocumentRefused:
    """The store did not take it; `current` stands there: version and content (None: nothing)."""

    kind: DocumentKind
    key: str
    current: tuple[int, Mapping[str, Json]] | None


@dataclass(frozen=True, slots=True)
class DocumentsRead:
    """All documents of a kind as they stand: another scheduler may have written some."""

    kind: DocumentKind
    documents: Documents


@dataclass(frozen=True, slots=True)
class UnitsRead:
    """The answer to `ReadUnits`: those that are stored."""

    units: Mapping[str, Unit]


@dataclass(frozen=True, slots=True)
class SlotsSeen:
    """How many slots of the workers that are heard of take each process."""

    slots: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMeasured:
    """The answer to `MeasureSource`: first and last key, or why it could not be measured."""

    process: str
    interval: Interval
    low: Json = None
    high: Json = None
    error: str | None = None


Event = (
    Loaded
    | TimePassed
    | UnitChanged
    | JobsChanged
    | RequestFiled
    | JobSaved
    | JobRefused
    | UnitSaved
    | UnitRefused
    | JobsRead
    | PlanMoved
    | SourceMeasured
    | DocumentSaved
    | DocumentRefused
    | DocumentsRead
    | SlotsSeen
    | UnitsRead
)
