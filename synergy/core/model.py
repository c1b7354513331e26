"""The nouns of the engine as frozen values: jobs, units of work, requests, and what is written.

Natural keys (DESIGN §3.2): a job is ``process@label``, a unit ``process@label#generation``
(with ``.n`` behind it for the nth provisional run), each attempt of it numbered from 1.
All instants are aware UTC datetimes.
"""

from collections.abc import Mapping
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from synergy.core.intervals import Interval
from synergy.core.states import JobState, UnitState
from synergy.core.values import dataclass, remembered

#: How many of its last transitions a document carries until the feed has taken them.
TRANSITIONS_KEPT = 16

#: How many of the last requests that touched it a job remembers, so that a request executed
#: twice or half changes nothing the second time (invariant I11).
REQUESTS_REMEMBERED = 16

#: Stored documents of a kind: version and content by key.
Documents = Mapping[str, tuple[int, Mapping[str, "Json"]]]

#: JSON as it is handed to workers and stored: scalars, lists and objects.
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Standing(NamedTuple):
    """What the ledger knows of a terminal job: shared between all intervals that stand alike."""

    state: JobState
    #: The nth opening of the interval.
    generation: int
    #: The generation at which the result last changed; lower than `generation` when it was kept
    #: or came back with the same fingerprint.
    result: int
    #: Attempts of the deciding unit; 0 where no unit was made.
    attempts: int
    #: Whether it is marked stale, see `Job.outdated`.
    outdated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One applied change of a document, embedded in it until the feed has taken it."""

    version: int
    at: datetime
    before: str
    after: str
    generation: int
    #: Attempts used by a job, attempt number of a unit.
    attempt: int
    #: Generation of the standing result (jobs; 0 for units).
    result: int = 0
    reason: str = ""
    #: Whether a finished job is marked stale after it.
    outdated: bool = False


# Jobs and units have no slots: the next version is a copy of one dictionary.


@dataclass(frozen=True, kw_only=True)
class Job:
    """One process for one interval.  `version` 0 is the derived embryo that was never written."""

    process: str
    interval: Interval
    state: JobState = JobState.EMBRYO
    version: int = 0
    generation: int = 1
    #: Generation whose result stands; 0 before there is one.
    result: int = 0
    #: PROCESSED, NOOP or SKIPPED: how that result came out.
    result_state: JobState | None = None
    #: What the worker declared of the standing result; equal text means an unchanged result.
    fingerprint: str | None = None
    #: Generations of the inputs that the standing result was made from: only those above 1 are
    #: listed, by job key; None before there was a result.
    consumed: Mapping[str, int] | None = None
    #: The same for the unit that is at work now.
    consuming: Mapping[str, int] | None = None
    #: Attempts of the deciding unit of this generation.
    attempts: int = 0
    #: Key of the unit at work, or of the last one.
    unit: str | None = None
    #: Provisional runs made in this generation.
    runs: int = 0
    #: Not before this instant does the next provisional run start.
    next_run: datetime | None = None
    #: Reopened by name: runs even when all inputs are unchanged.
    forced: bool = False
    #: Marked stale: finished, its result stands, but what that was made from has changed since.
    outdated: bool = False
    #: Requests that hold it until all they touch is reopened.
    holds: tuple[str, ...] = ()
    #: How it stood before the present generation was opened, while one request alone wants that;
    #: None for the first generation, where others have joined, and where it was not terminal.
    reopened_from: Standing | None = None
    #: Requests that it has already obeyed; the last is the one that wants it as it is.
    requests: tuple[str, ...] = ()
    #: Why it is in this state, in words; empty where the state says all.
    reason: str = ""
    transitions: tuple[Transition, ...] = ()

    @remembered
    def key(self) -> str:
        """``process@label``."""
        return job_key(self.process, self.interval)

    @property
    def stale(self) -> bool:
        """Whether a result stands that is out of date: marked, or waiting to be made anew."""
        return self.outdated or (self.result > 0 and not self.state.finished)

    @property
    def standing(self) -> Standing:
        """What the ledger keeps of it once it is terminal."""
        return Standing(self.state, self.generation, self.result, self.attempts, self.outdated)

    def moved(self, state: JobState, at: datetime, reason: str = "", **changes: Any) -> "Job":
        """The next version of the document, in `state`, its transition embedded."""
        following = _next(self, state, reason, changes)
        made = Transition(
            version=following.version,
            at=at,
            before=self.state._value_,
            after=state._value_,
            generation=following.generation,
            attempt=following.attempts,
            result=following.result,
            reason=reason,
            outdated=following.outdated,
        )
        following.__dict__["transitions"] = (*self.transitions, made)[-TRANSITIONS_KEPT:]
        return following


def embryo(process: str, interval: Interval) -> Job:
    """The job of an interval of which nothing was ever written."""
    derived = object.__new__(Job)
    derived.__dict__ = fields = _EMBRYO.copy()
    fields["process"], fields["interval"] = process, interval
    return derived


_ALL_TIME = Interval(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), "")
#: What all embryos have in common: each interval begins as one, and a copy is made much quicker.
_EMBRYO = Job(process="", interval=_ALL_TIME).__dict__


def job_key(process: str, interval: Interval) -> str:
    """``process@label``."""
    return f"{process}@{interval.label}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a unit's worker has to run and within which limits; immutable, carried by the unit."""

    #: ``package.module:function`` or ``package.module:Class``; None for a command.
    entry: str | None = None
    #: Command line, never a shell string; empty for an entry.
    command: tuple[str, ...] = ()
    #: Exit codes of a command that mean "nothing to do"; 0 is processed, all others failed.
    noop_codes: tuple[int, ...] = ()
    arguments: Mapping[str, Json] = field(default_factory=dict)
    source: str | None = None
    sink: str | None = None
    #: A run longer than this is killed, whole tree; None for no limit.
    time_limit: timedelta | None = None
    #: Failed or lost attempts after which the unit is given up.
    max_attempts: int = 3
    #: Wait after the first failed attempt; doubles with each further one, to at most an hour.
    backoff: timedelta = timedelta(seconds=10)
    #: Higher goes first.
    priority: int = 0
    #: Up to so many adjacent intervals are one call of the entry: see `synergy.core.batches`.
    batch: int = 1

    @property
    def alone(self) -> bool:
        """Whether a slot that is at it takes nothing behind it."""
        return bool(self.command) or self.batch > 1


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One request to a worker.  All but the state, its owner and its results never changes."""

    process: str
    interval: Interval
    generation: int
    task: Task
    created_at: datetime
    #: 0 for the deciding run, n for the nth provisional one.
    run: int = 0
    attempt: int = 1
    #: Attempts that failed or were lost; hand-backs are not counted.
    failures: int = 0
    state: UnitState = UnitState.REQUESTED
    version: int = 1
    #: Token of the claim; names worker, slot and a random part.
    owner: str | None = None
    lease_until: datetime | None = None
    not_before: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    #: First and last key in the source, of a recomputing process; None where not measured.
    low: Json = None
    high: Json = None
    #: What the worker declared: number of things processed, fingerprint of the result.
    count: int | None = None
    fingerprint: str | None = None
    #: Last error, or why there was nothing to do, or why it was canceled.
    reason: str = ""
    #: Progress of the running attempt: done, total (None = unknown), text.
    progress: tuple[float, float | None, str] | None = None
    transitions: tuple[Transition, ...] = ()

    @remembered
    def key(self) -> str:
        """``process@label#generation``, with ``.n`` for the nth provisional run."""
        return unit_key(self.process, self.interval, self.generation, self.run)

    @property
    def provisional(self) -> bool:
        """Whether its interval was still open when it was requested."""
        return self.run > 0

    @property
    def turn(self) -> tuple[int, datetime, str]:
        """Units are taken in this order: priority (high first), then interval start, then key."""
        return (-self.task.priority, self.interval.start, self.key)

    @property
    def fence(self) -> "Fence":
        """What a conditional write on it must find unchanged."""
        return Fence(self.state, self.attempt, self.owner)

    @property
    def fence_with_lease(self) -> "Fence":
        """The same together with the lease: a renewed one must not be taken for a lost one (D6)."""
        return Fence(self.state, self.attempt, self.owner, self.lease_until)

    def moved(self, state: UnitState, at: datetime, reason: str = "", **changes: Any) -> "Unit":
        """The next version of the document, in `state`, its transition embedded."""
        following = _next(self, state, reason, changes)
        made = Transition(
            version=following.version,
            at=at,
            before=self.state._value_,
            after=state._value_,
            generation=following.generation,
            attempt=following.attempt,
            reason=reason,
        )
        following.__dict__["transitions"] = (*self.transitions, made)[-TRANSITIONS_KEPT:]
        return following


def unit_key(process: str, interval: Interval, generation: int, run: int = 0) -> str:
    """``process@label#generation``, with ``.n`` for the nth provisional run."""
    return f"{process}@{interval.label}#{generation}" + (f".{run}" if run else "")


def requested(
    process: str, interval: Interval, generation: int, run: int, task: Task, at: datetime
) -> Unit:
    """A unit as it is made first."""
    made = object.__new__(Unit)
    made.__dict__ = fields = _REQUESTED.copy()
    fields["process"], fields["interval"], fields["generation"] = process, interval, generation
    fields["run"], fields["task"], fields["created_at"] = run, task, at
    return made


#: What all units have in common at first; see `_EMBRYO`.
_REQUESTED = Unit(
    process="", interval=_ALL_TIME, generation=1, task=Task(), created_at=_ALL_TIME.start
).__dict__


@dataclass(frozen=True, slots=True)
class Fence:
    """What a write on a unit is conditional on (protocol D1): a superseded holder cannot pass."""

    state: UnitState
    attempt: int
    owner: str | None
    #: Also compared when given: a renewed lease must not be taken for a lost one (D6).
    lease_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class JobWrite:
    """Put `job` where the stored version is `expected`; 0 means that none is stored."""

    job: Job
    expected: int


@dataclass(frozen=True, slots=True)
class UnitWrite:
    """Put `unit` where the stored one passes `expected`; None means that none is stored."""

    unit: Unit
    expected: Fence | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's wish: up to `limit` requested units, oldest interval first, priority before age.

    Each is one conditional write ``requested -> in_progress`` with this owner and lease.  With a
    unit that may share its call come those that make the call full, beyond `limit` and `keys`
    (`synergy.core.batches`): so `limit` is a number of calls.

    Behind them, a worker of quick units takes some ahead of their start, ``requested -> claimed``,
    so that it need not ask the store between one and the next.
    """

    owner: str
    now: datetime
    lease_until: datetime
    limit: int
    #: Only these processes; None for all.
    processes: frozenset[str] | None = None
    #: Only the units of these keys, which a broker has offered; None for all.
    keys: tuple[str, ...] | None = None
    #: These units as they were offered.  What a message says is not trusted: at most a store tries
    #: whether they stand so still, before it looks.
    offered: tuple[Unit, ...] = ()
    #: How many units may be claimed beyond `limit`, in the same order.
    ahead: int = 0
    #: Only units of these processes are claimed ahead, and only in their first attempt: one whose
    #: worker was lost is alone when it runs again, so that no other unit is blamed with it.
    quick: frozenset[str] = frozenset()


def may_be_ahead(unit: Unit, quick: frozenset[str]) -> bool:
    """Whether a unit may be claimed ahead of its start by who takes these processes for quick."""
    return unit.process in quick and unit.attempt == 1


@dataclass(frozen=True, slots=True)
class Renewal:
    """A worker's heartbeat for one unit (D4); refused when attempt or owner have changed."""

    key: str
    attempt: int
    owner: str
    lease_until: datetime
    progress: tuple[float, float | None, str] | None = None


Document = TypeVar("Document", Job, Unit)


def _next(
    document: Document, state: JobState | UnitState, reason: str, changes: dict[str, Any]
) -> Document:
    """The next version of a document, its transition still missing."""
    following = object.__new__(type(document))
    following.__dict__ = fields = document.__dict__ | changes
    assert len(fields) == len(document.__dict__), f"one of {[*changes]} is no field"
    fields["state"], fields["version"], fields["reason"] = state, document.version + 1, reason
    return following


@dataclass(frozen=True, slots=True)
class Applied:
    """The store took the write."""


@dataclass(frozen=True, slots=True)
class Refused(Generic[Document]):
    """The store did not take the write: this is what stands there (None: nothing)."""

    current: Document | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEntry:
    """One applied transition of a job or unit, numbered without gaps in the order of folding."""

    seq: int
    #: "job" or "unit".
    kind: str
    #: Key of the document.
    key: str
    process: str
    interval: Interval
    transition: Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an operator files: a document, executed once however often it is read (D7)."""

    id: str
    #: "reprocess", "skip", "trigger", …; see `synergy.core.operations`.
    action: str
    process: str
    #: Starts of the intervals meant; empty for a freerun.
    starts: tuple[datetime, ...]
    filed_at: datetime
    actor: str = ""
    reason: str = ""
    #: What the action takes besides.
    options: Mapping[str, Json] = field(default_factory=dict)
    #: The id of the plan that it applies or withdraws; empty for any other.
    of: str = ""
    #: "planned" (stored, to be applied or withdrawn by another), "filed", "done", "refused" or
    #: "withdrawn".
    state: str = "filed"
    answered_at: datetime | None = None
    #: What it did, or why it was refused.
    answer: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who leads.  An optimisation only: every invariant holds without it (D9)."""

    owner: str
    #: Grows whenever the owner changes.
    epoch: int
    until: datetime
    #: When this owner took it over.
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRecord:
    """One program of a box as its supervisor saw it last."""

    name: str
    #: Whether it shall run there.
    wanted: bool
    #: "running", "stopping", "waiting" (for its next start), "crash_loop" or "stopped".
    state: str
    pid: int | None = None
    #: Since when it runs.
    since: datetime | None = None
    #: How often it was started again since its supervisor began.
    restarts: int = 0
    #: Processor time of the program and all below it since it began, and what they hold in memory.
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    #: Why it does not run, or ended last; empty where the state says all.
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxRecord:
    """A box and the programs that its supervisor keeps there."""

    box: str
    #: Identity of the supervisor at work; None: it has stopped, or the box never had one.
    supervisor: str | None
    #: When the supervisor began.
    since: datetime | None
    #: When anybody there wrote this.
    seen_at: datetime
    programs: tuple[ProgramRecord, ...] = ()
    #: What keeps the supervisor from its work; empty where nothing does.
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """The ledger of one process as stored: all feed entries up to `through` are in it."""

    process: str
    through: int
    #: ``[[start second, standing index], …]`` runs and the standings; see `timetable.Ledger`.
    content: Mapping[str, Json]
