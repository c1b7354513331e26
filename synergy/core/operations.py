"""Operators' requests: executed one at a time, in phases, each begun when the store has taken the
one before.

While an operation is under way the engine decides nothing else about the jobs that it touches.
What it did half before a crash is executed again, and changes nothing the second time (I11).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from synergy.core import machines, plans
from synergy.core.catalog import Catalog
from synergy.core.commands import AnswerRequest, Command, ReadJobs
from synergy.core.events import JobsRead
from synergy.core.intervals import BadLabel, Interval
from synergy.core.model import Job, Json, Request, Unit, embryo
from synergy.core.timetable import Timetable

#: A job by process and start.
Key = tuple[str, datetime]


class Desk(Protocol):
    """What operations need of the engine."""

    catalog: Catalog
    timetable: Timetable

    def is_written(self, key: Key) -> bool:
        """Whether a write of the job waits for its answer."""

    def save(self, job: Job, before: Job) -> None:
        """Have the job written in place of `before`."""

    def ask(self, command: Command) -> None:
        """Have the command carried out."""

    def consider(self, name: str, interval: Interval, now: datetime) -> None:
        """Look whether the job can go a step further."""

    def trigger(self, request: Request, targets: Iterable[plans.Place], now: datetime) -> str:
        """Run at once what waits for its time, and answer; the reason where nothing does."""

    def switch_over(self, request: Request, now: datetime) -> str:
        """Switch off or on, and answer; the reason where that cannot be."""


@dataclass(slots=True)
class _Operation:
    """A request being executed: in phases, each begun when the store has taken the one before."""

    request: Request
    order: list[plans.Place]
    targets: frozenset[Key]
    #: Phases that are left, the present one first.
    phases: deque[str]
    #: Jobs that the present phase still has to see written.
    waiting: dict[Key, plans.Place] = field(default_factory=dict)
    #: Units that it still has to see canceled.
    canceling: set[str] = field(default_factory=set)
    #: Terminal jobs as read from the store.
    read: dict[str, Job] = field(default_factory=dict)
    #: Whether they have been read; before that, nothing of it is done.
    begun: bool = False
    #: What it did, for the answer.
    touched: list[Json] = field(default_factory=list)


class Operations:
    """The requests that were filed, and the one that is being executed."""

    def __init__(self, desk: Desk) -> None:
        #: Jobs that the present operation touches.
        self.frozen: set[Key] = set()
        self._desk = desk
        self._filed: deque[Request] = deque()
        self._known: set[str] = set()
        self._present: _Operation | None = None

    @property
    def busy(self) -> bool:
        """Whether one is being executed."""
        return self._present is not None

    def file(self, request: Request, now: datetime) -> None:
        """Execute it as soon as those before it are done."""
        if request.id not in self._known:
            self._known.add(request.id)
            self._filed.append(request)
        self._next_operation(now)

    def take_over(self, job: Job) -> None:
        """The job stands so in the store now."""
        if self._present is not None:
            self._present.read[job.key] = job

    def go_on(self, key: Key, now: datetime) -> None:
        """The job is no longer being written."""
        operation = self._present
        if operation is not None and key in operation.waiting:
            place = operation.waiting.pop(key)
            self._step(operation, place, now)
            self._next_phase(now)

    def await_end(self, unit: Unit) -> None:
        """The unit is being withdrawn: where it belongs to what is touched, wait for that."""
        if self._present is not None and (unit.process, unit.interval.start) in self.frozen:
            self._present.canceling.add(unit.key)

    def ended(self, unit_key: str, now: datetime) -> None:
        """The unit is not out any more."""
        if self._present is not None and unit_key in self._present.canceling:
            self._present.canceling.discard(unit_key)
            self._next_phase(now)

    def _next_operation(self, now: datetime) -> None:
        while self._present is None and self._filed:
            request = self._filed.popleft()
            refusal = self._begin_operation(request, now)
            if refusal:
                for job in list(self._desk.timetable.active.values()):
                    self.release(job, request.id, now)
                self._desk.ask(answered(request, "refused", {"why": refusal}, now))

    def release(self, job: Job, request: str, now: datetime) -> None:
        """Take off what the first half of a request left that cannot be executed any more."""
        if not self._desk.is_written((job.process, job.interval.start)):
            released = machines.released(job, request, now)
            if released is not None:
                self._desk.save(released, job)

    def _begin_operation(self, request: Request, now: datetime) -> str:
        """Start executing a request; the reason where it cannot be."""
        if request.action == "switch":
            return self._desk.switch_over(request, now)
        if request.process in self._desk.catalog.freeruns:
            if request.action != "trigger":
                return f"{request.process} is a freerun: it can be triggered, switched off and on"
            return self._desk.trigger(request, (), now)
        process = self._desk.catalog.processes.get(request.process)
        if process is None:
            return f"no process {request.process} is registered"
        targets = []
        for start in request.starts:
            try:
                interval = process.calendar.starting_at(start)
            except BadLabel as error:
                return str(error)
            if not self._desk.catalog.exists(process.name, interval):
                return f"{interval.label} lies outside the span of tree {process.tree}"
            targets.append((process.name, interval))
        match request.action:
            case "reprocess":
                order = plans.to_reopen(
                    self._desk.catalog,
                    targets,
                    lambda place: self._desk.timetable.begun(*place, now),
                )
                phases = deque(["hold", "reopen", "release"])
            case "skip":
                order = plans.to_skip(self._desk.catalog, targets)
                phases = deque(["skip"])
            case "mark":
                order = plans.to_reopen(
                    self._desk.catalog,
                    targets,
                    lambda place: self._desk.timetable.begun(*place, now),
                )
                # Again, for what was at work and has ended before the first mark was known.
                phases = deque(["mark", "mark"])
            case "trigger":
                return self._desk.trigger(request, targets, now)
            case _:
                known = "reprocess, skip, mark, switch, trigger"
                return f"action {request.action!r} is none of {known}"
        self._present = _Operation(
            request, order, frozenset((name, interval.start) for name, interval in targets), phases
        )
        self.frozen = {(name, interval.start) for name, interval in order}
        unknown = tuple(
            f"{name}@{interval.label}"
            for name, interval in order
            if self._desk.timetable.job(name, interval) is None
        )
        self._desk.ask(ReadJobs(request.id, unknown))
        return ""

    def begin(self, event: JobsRead, now: datetime) -> None:
        """What it touches was read: do it."""
        operation = self._present
        if operation is not None and operation.request.id == event.request_id:
            operation.read.update(event.jobs)
            operation.begun = True
            self._begin_phase(operation, now)

    def _begin_phase(self, operation: _Operation, now: datetime) -> None:
        if operation.phases[0] == "release":
            operation.order += self._held_besides(operation)
        for place in operation.order:
            self._step(operation, place, now)
        self._next_phase(now)

    def _held_besides(self, operation: _Operation) -> list[plans.Place]:
        """What else it holds: who began to execute it may have planned by another clock."""
        return [
            (name, job.interval)
            for (name, start), job in self._desk.timetable.active.items()
            if operation.request.id in job.holds and (name, start) not in self.frozen
        ]

    def _next_phase(self, now: datetime) -> None:
        operation = self._present
        if operation is None or not operation.begun:
            return
        if operation.waiting or operation.canceling:
            return
        operation.phases.popleft()
        if operation.phases:
            self._begin_phase(operation, now)
            return
        self._present, self.frozen = None, set()
        self._desk.ask(answered(operation.request, "done", {"touched": operation.touched}, now))
        for name, interval in operation.order:
            self._desk.consider(name, interval, now)
        self._next_operation(now)

    def _step(self, operation: _Operation, place: plans.Place, now: datetime) -> None:
        """Do to one job what the present phase wants, unless it is done already."""
        name, interval = place
        key = (name, interval.start)
        if self._desk.is_written(key):
            operation.waiting[key] = place
            return
        job = self._document(operation, name, interval)
        changed = self._changed(operation, job, key, now)
        if changed is None:
            return
        if _standing(changed) != _standing(job):
            operation.touched.append(
                {
                    "process": name,
                    "interval": interval.label,
                    "was": job.state.value,
                    "is": changed.state.value,
                    "generation": changed.generation,
                    **({"outdated": True} if changed.outdated else {}),
                }
            )
        operation.waiting[key] = place
        self._desk.save(changed, job)

    def _changed(self, operation: _Operation, job: Job, key: Key, now: datetime) -> Job | None:
        request, process = operation.request, self._desk.catalog.processes[job.process]
        target = key in operation.targets
        why = in_words(request)
        match operation.phases[0]:
            case "hold" if not self._only_target(operation, key):
                return machines.reopened(
                    process.machine, job, request.id, now, target=target, hold=True, reason=why
                )
            case "reopen" if target:
                return machines.reopened(
                    process.machine, job, request.id, now, target=True, hold=False, reason=why
                )
            case "release":
                return machines.released(job, request.id, now)
            case "skip" if not job.state.finished and request.id not in job.requests:
                return machines.skipped(process.machine, job, now, why, request.id)
            case "mark":
                return machines.marked(job, now, why, own=target, request=request.id)
        return None

    def _only_target(self, operation: _Operation, key: Key) -> bool:
        """Whether the job was named and does not build on another that was named.

        A named job that does is fenced and held like every other consumer.
        """
        if key not in operation.targets:
            return False
        process = self._desk.catalog.processes[key[0]]
        interval = process.calendar.starting_at(key[1])
        return not any(
            (given.process, one.start) in self.frozen
            for given in self._desk.catalog.inputs(process.name, interval)
            for one in self._desk.catalog.intervals_of(given)
        )

    def _document(self, operation: _Operation, name: str, interval: Interval) -> Job:
        active = self._desk.timetable.active.get((name, interval.start))
        if active is not None:
            return active
        derived = embryo(name, interval)
        return operation.read.get(derived.key, derived)


def _standing(job: Job) -> tuple[int, str, bool]:
    """What an answer tells of a job."""
    return job.generation, job.state, job.outdated


def answered(request: Request, state: str, answer: dict[str, Json], now: datetime) -> AnswerRequest:
    """The command that answers it."""
    return AnswerRequest(replace(request, state=state, answered_at=now, answer=answer))


def in_words(request: Request) -> str:
    """What was asked for, by whom and why."""
    by = f" by {request.actor}" if request.actor else ""
    why = f": {request.reason}" if request.reason else ""
    return f"{request.action} {request.id}{by}{why}"
