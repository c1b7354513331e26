"""Operators' requests: executed one at a time, in phases, each begun when the store has taken the
one before.

While an operation is under way the engine decides nothing else about the jobs that it touches.
What it did half before a crash is executed again, and changes nothing the second time (I11).

A plan is taken before it is applied or withdrawn: its document is moved, on the condition that
nobody else has moved it.  So it is applied once, whoever asks for it and however often.  Jobs know
it by its own id, by which it may be withdrawn later.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from synergy.core import backfills, late, machines, plans
from synergy.core.catalog import Catalog
from synergy.core.commands import AnswerRequest, Command, MovePlan, ReadJobs
from synergy.core.events import JobsRead, PlanMoved
from synergy.core.intervals import BadLabel, Interval
from synergy.core.model import Job, Json, Request, Unit, embryo
from synergy.core.plans import Key, Place
from synergy.core.states import JobState
from synergy.core.timetable import Timetable


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

    def trigger(self, request: Request, targets: Iterable[Place], now: datetime) -> str:
        """Run at once what waits for its time, and answer; the reason where nothing does."""

    def switch_over(self, request: Request, now: datetime) -> str:
        """Switch off or on, and answer; the reason where that cannot be."""

    def backfill(self, request: Request, plan: Request, now: datetime) -> str:
        """Begin or change a backfill, and answer; the reason where that cannot be.  `plan` is what
        the request applies or withdraws, else the request itself."""

    def goes_on(self, backfill: str) -> bool:
        """Whether there is such a backfill, and it is not over."""


@dataclass(slots=True)
class _Phase:
    """A part of an operation, with the jobs that it is about."""

    name: str
    places: list[Place]


@dataclass(slots=True)
class _Operation:
    """A request being executed: in phases, each begun when the store has taken the one before."""

    #: What is carried out, by whose id jobs know it: the request itself, or the plan.
    request: Request
    #: The request that asks for it, and is to be answered.
    asking: Request
    order: list[Place]
    targets: frozenset[Key]
    #: Phases that are left, the present one first.
    phases: deque[_Phase]
    #: The plan as it is being taken; None where it need not be, or is.
    taking: Request | None = None
    #: Jobs that the present phase still has to see written.
    waiting: dict[Key, Place] = field(default_factory=dict)
    #: Units that it still has to see canceled.
    canceling: set[str] = field(default_factory=set)
    #: Terminal jobs as read from the store.
    read: dict[str, Job] = field(default_factory=dict)
    #: Whether they have been read; before that, nothing of it is done.
    begun: bool = False
    #: Jobs as they were to be written last.
    asked: dict[Key, Job] = field(default_factory=dict)
    #: What it did, for the answer.
    touched: dict[Key, Json] = field(default_factory=dict)
    #: What it leaves as it is, and why.
    left: dict[Key, str] = field(default_factory=dict)
    #: Of a part of something larger: what to do at its end; nobody waits for an answer.
    then: Callable[[datetime], None] | None = None
    #: Whether a target is to be reopened, by how it stands.
    wanted: Callable[[Job], bool] = lambda job: True


class _Refusal(Exception):
    """Why a request cannot be executed, in a sentence."""


class Operations:
    """The requests that were filed, and the one that is being executed."""

    def __init__(self, desk: Desk) -> None:
        #: Jobs that the present operation touches.
        self.frozen: set[Key] = set()
        self._desk = desk
        #: Each with the plan that it applies or withdraws, as far as is known.
        self._filed: deque[tuple[Request, Request | None]] = deque()
        self._known: set[str] = set()
        #: Parts of backfills, which come after what was filed.
        self._parts: deque[_Operation] = deque()
        self._present: _Operation | None = None

    @property
    def busy(self) -> bool:
        """Whether one is being executed."""
        return self._present is not None

    @property
    def carrying_out(self) -> Request | None:
        """The request that is being executed."""
        return None if self._present is None else self._present.asking

    def file(self, request: Request, plan: Request | None, now: datetime) -> None:
        """Execute it as soon as those before it are done."""
        if request.id not in self._known:
            self._known.add(request.id)
            self._filed.append((request, plan))
        self._next_operation(now)

    def carry(
        self,
        request: Request,
        places: list[Place],
        targets: Iterable[Key],
        wanted: Callable[[Job], bool],
        then: Callable[[datetime], None],
        now: datetime,
    ) -> None:
        """Carry out a part of something larger: hold all but the targets, and of these reopen what
        is wanted."""
        phases = deque(_Phase(name, places) for name in ("hold", "reopen"))
        part = _Operation(request, request, places, frozenset(targets), phases)
        part.then, part.wanted = then, wanted
        self._parts.append(part)
        self._next_operation(now)

    def taken(self, event: PlanMoved, now: datetime) -> None:
        """How a plan stands that was to be taken: go on, or look at the request anew."""
        operation = self._present
        if operation is None or operation.asking.id != event.request_id:
            return
        if event.plan == operation.taking:
            operation.taking = None
            self._tell_others(event.plan)
            self._read(operation)
            return
        self._present, self.frozen = None, set()
        self._filed.appendleft((operation.asking, event.plan))
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

    def release(self, job: Job, request: str, now: datetime) -> None:
        """Take off what the first half of a request left that cannot be executed any more."""
        if not self._desk.is_written((job.process, job.interval.start)):
            released = machines.released(job, request, now)
            if released is not None:
                self._desk.save(released, job)

    def _next_operation(self, now: datetime) -> None:
        while self._present is None and self._filed:
            request, plan = self._filed.popleft()
            try:
                self._begin_operation(request, plan, now)
            except _Refusal as refusal:
                if not self._desk.goes_on(request.of or request.id):  # that lets go by itself
                    for job in list(self._desk.timetable.active.values()):
                        self.release(job, request.of or request.id, now)
                self._answer(request, "refused", {"why": str(refusal)}, now)
        if self._present is None and self._parts:
            self._present = self._parts.popleft()
            self.frozen = {(name, interval.start) for name, interval in self._present.order}
            self._read(self._present)

    def _begin_operation(self, request: Request, plan: Request | None, now: datetime) -> None:
        """Start executing a request; what is no operation is done at once."""
        match request.action:
            case "trigger":
                refusal = self._desk.trigger(request, self._named(request), now)
            case "backfill":
                refusal = self._desk.backfill(request, request, now)
            case "switch":
                refusal = self._desk.switch_over(request, now)
            case _:
                self._enter(self._operation(request, plan, now), plan)
                return
        if refusal:
            raise _Refusal(refusal)

    def _operation(self, request: Request, plan: Request | None, now: datetime) -> _Operation:
        match request.action:
            case "apply":
                return self._applying(request, _planned(request, plan), now)
            case "withdraw":
                return self._withdrawing(request, _planned(request, plan), now)
            case action if action in (*plans.ACTIONS, "mark"):
                return self._carrying_out(request, request, now)
            case action:
                known = ", ".join(plans.ACTIONS)
                also = "mark, switch, backfill, trigger, apply, withdraw"
                raise _Refusal(f"action {action!r} is none of {known}, {also}")

    def _enter(self, operation: _Operation, plan: Request | None) -> None:
        """It is the present one from now on; a plan is taken first."""
        self._present = operation
        self.frozen = {(name, interval.start) for name, interval in operation.order}
        if operation.taking is None:
            self._read(operation)
        else:
            assert plan is not None
            self._desk.ask(MovePlan(operation.asking.id, operation.taking, plan.state))

    def _carrying_out(self, request: Request, asking: Request, now: datetime) -> _Operation:
        """Reprocess, skip, unskip or mark: what it touches; a backfill goes on by itself."""
        if request.action == "backfill":
            return self._handing_on(request, asking)
        found = self._scope(request, now)
        if request.action == "mark":
            # What ends while this goes on finds its inputs marked, or is found ended by its wave.
            waves = plans.waves(self._desk.catalog, found.order)
            phases = deque(_Phase("mark", places) for places in waves)
        else:
            names = ("skip",) if request.action == "skip" else ("hold", "reopen", "release")
            phases = deque(_Phase(name, found.order) for name in names)
        return _Operation(request, asking, found.order, found.targets, phases)

    def _applying(self, request: Request, plan: Request, now: datetime) -> _Operation:
        again = plan.state == "done" and plan.answer.get("applied_by") == request.id
        if not again:
            if refusal := why_not_applied(plan):
                raise _Refusal(refusal)
            self._refuse_grown(plan, now)
        operation = self._carrying_out(plan, request, now)
        if not again:
            answer: dict[str, Json] = {"applied_by": request.id}
            operation.taking = replace(plan, state="done", answered_at=now, answer=answer)
        return operation

    def _handing_on(self, request: Request, asking: Request) -> _Operation:
        """The operation of which nothing is done here, but that a backfill is begun or ended."""

        def done(now: datetime) -> None:
            refusal = self._desk.backfill(asking, request, now)
            if refusal:
                self._answer(asking, "refused", {"why": refusal}, now)

        return _Operation(request, asking, [], frozenset(), deque(), then=done)

    def _refuse_grown(self, plan: Request, now: datetime) -> None:
        """Refuse a plan by which more would change than was planned."""
        made = planned_anew(self._desk.timetable, plan, self._named(plan), now)
        joined = made.joined(plans.Ranges.of_content(plan.options.get("touched")))
        if joined:
            raise _Refusal(plans.outdated(plan.id, joined))

    def _withdrawing(self, request: Request, plan: Request, now: datetime) -> _Operation:
        """Give up a plan; of one that was carried out, take back what has not started."""
        again = plan.state == "withdrawn" and plan.answer.get("withdrawn_by") == request.id
        if not again and (refusal := why_not_withdrawn(plan)):
            raise _Refusal(refusal)
        operation = _Operation(plan, request, [], frozenset(), deque())
        carried_out = plan.state == "done" or (again and _was_carried_out(plan))
        if carried_out and plan.action == "backfill":
            if not again and not self._desk.goes_on(plan.id):
                raise _Refusal(nothing_left(plan))
            operation = self._handing_on(plan, request)
        elif carried_out:
            found = self._scope(plan, now)
            operation.order = found.order
            operation.phases = deque(
                _Phase("take back", places)
                for places in plans.waves(self._desk.catalog, found.order)
            )
        if not again:
            answer = {**plan.answer, "withdrawn_by": request.id}
            operation.taking = replace(plan, state="withdrawn", answered_at=now, answer=answer)
        return operation

    def _scope(self, request: Request, now: datetime) -> plans.Scope:
        view = self._desk.timetable
        return plans.scope(view, request.action, self._named(request), now, request.id)

    def _named(self, request: Request) -> list[Place]:
        """The intervals that it names."""
        catalog = self._desk.catalog
        if request.action == "backfill":
            made = backfills.requested(catalog, request)
            if isinstance(made, str):
                raise _Refusal(made)
            return [*made.targets(catalog)]
        if request.process in catalog.freeruns:
            if request.action != "trigger":
                raise _Refusal(
                    f"{request.process} is a freerun: it can be triggered, switched off and on"
                )
            return []
        process = catalog.processes.get(request.process)
        if process is None:
            raise _Refusal(f"no process {request.process} is registered")
        named = []
        for start in request.starts:
            try:
                interval = process.calendar.starting_at(start)
            except BadLabel as error:
                raise _Refusal(str(error)) from error
            if not catalog.exists(process.name, interval):
                raise _Refusal(f"{interval.label} lies outside the span of tree {process.tree}")
            named.append((process.name, interval))
        if "late" in request.options:
            return [place for place in named if self._as_noticed(request, place)]
        return named

    def _read(self, operation: _Operation) -> None:
        """Have the terminal jobs read that it touches."""
        unknown = tuple(
            f"{name}@{interval.label}"
            for name, interval in operation.order
            if self._desk.timetable.job(name, interval) is None
        )
        self._desk.ask(ReadJobs(operation.asking.id, unknown))

    def _as_noticed(self, request: Request, place: plans.Place) -> bool:
        """Whether late data has yet to reach it: it stands in the generation in which that was
        noticed, or was reopened since and has not begun."""
        name, interval = place
        generation = late.as_noticed(request.options).get(interval.label)
        job = self._desk.timetable.active.get((name, interval.start))
        if job is not None:
            return job.generation == generation or job.state is JobState.EMBRYO
        standing = self._desk.timetable.ledgers[name].at(interval.start)
        return standing is not None and standing.generation == generation

    def begin(self, event: JobsRead, now: datetime) -> None:
        """What it touches was read: do it."""
        operation = self._present
        if operation is not None and operation.asking.id == event.request_id:
            operation.read.update(event.jobs)
            operation.begun = True
            self._begin_phase(operation, now)
            self._next_phase(now)

    def _begin_phase(self, operation: _Operation, now: datetime) -> None:
        if operation.phases:
            phase = operation.phases[0]
            if phase.name == "release":
                phase.places = phase.places + self._held_besides(operation)
            for place in phase.places:
                self._step(operation, place, now)

    def _held_besides(self, operation: _Operation) -> list[Place]:
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
        while not (operation.waiting or operation.canceling):
            if len(operation.phases) <= 1:
                self._end_operation(operation, now)
                return
            operation.phases.popleft()
            self._begin_phase(operation, now)

    def _end_operation(self, operation: _Operation, now: datetime) -> None:
        self._present, self.frozen = None, set()
        if operation.then is None:
            self._answer(operation.asking, "done", _told(operation), now)
        else:
            operation.then(now)
        for name, interval in operation.order:
            self._desk.consider(name, interval, now)
        self._next_operation(now)

    def _step(self, operation: _Operation, place: Place, now: datetime) -> None:
        """Do to one job what the present phase wants, unless it is done already."""
        name, interval = place
        key = (name, interval.start)
        if self._desk.is_written(key):
            operation.waiting[key] = place
            return
        job = self._document(operation, name, interval)
        asked = operation.asked.pop(key, None)
        if asked is not None and asked.transitions[-1] not in job.transitions:
            operation.touched.pop(key, None)  # the store refused it
        changed = self._changed(operation, job, key, now)
        if changed is None:
            return
        if _standing(changed) != _standing(job):
            operation.touched[key] = {
                "process": name,
                "interval": interval.label,
                "was": job.state.value,
                "is": changed.state.value,
                "generation": changed.generation,
                **({"outdated": True} if changed.outdated else {}),
            }
        operation.waiting[key] = place
        operation.asked[key] = changed
        self._desk.save(changed, job)

    def _changed(self, operation: _Operation, job: Job, key: Key, now: datetime) -> Job | None:
        request, process = operation.request, self._desk.catalog.processes[job.process]
        target = key in operation.targets
        why = in_words(request)
        match operation.phases[0].name:
            case "hold" if _only(request) and not target and job.state.terminal:
                # What has no result to mark is fenced all the same: others may be opening it.
                marked = machines.marked(job, now, why, request=request.id)
                return marked or machines.noted(job, request.id, now)
            case "hold" if not self._only_target(operation, key):
                return machines.reopened(
                    process.machine, job, request.id, now, target=target, hold=True, reason=why
                )
            case "reopen" if target and operation.then is not None and not job.state.terminal:
                return machines.noted(job, request.id, now)  # it runs anyway, and once is enough
            case "reopen" if target and operation.wanted(job) and self._is_fenced(operation, key):
                return machines.reopened(
                    process.machine, job, request.id, now, target=True, hold=False, reason=why
                )
            case "release":
                return machines.released(job, request.id, now)
            case "skip" if not job.state.finished and request.id not in job.requests:
                return machines.skipped(process.machine, job, now, why, request.id)
            case "mark" if target or self._desk.timetable.built_on_marked(
                job.process, job.interval
            ):
                return machines.marked(job, now, why, own=target, request=request.id)
            case "take back":
                return self._taken_back(operation, job, key, now)
        return None

    def _taken_back(self, operation: _Operation, job: Job, key: Key, now: datetime) -> Job | None:
        """The job closed as it stood, where it has not started and its inputs stand as they did."""
        why = self._why_left(operation, job)
        if why is None:
            operation.left.pop(key, None)
        elif why:
            operation.left[key] = why
        if why is not None:
            return None
        generations, results = self._desk.timetable.inputs_generations(job.process, job.interval)
        closed = machines.taken_back(
            self._desk.catalog.processes[job.process].machine,
            job,
            operation.asking.id,
            generations,
            results,
            now,
            _back_in_words(operation.asking, job),
        )
        if closed is None:
            operation.left[key] = "its inputs have changed"
        return closed

    def _why_left(self, operation: _Operation, job: Job) -> str | None:
        """Why it is not closed again; empty where there is nothing to tell, None where it is."""
        of = operation.request.id
        if of not in job.requests:
            return ""
        if job.state.terminal and job.outdated and _only(operation.request):
            return "it stays marked stale"
        if job.state.terminal:
            return "" if _stands_as_before(job) else "it has run"
        if job.state.at_work:
            return "it has begun" if job.generation > 1 else ""
        if job.holds or job.reopened_from is None or job.requests[-1] != of:
            return "another request wants it, or it was at work before" * (job.generation > 1)
        catalog, timetable = self._desk.catalog, self._desk.timetable
        for given in catalog.inputs(job.process, job.interval):
            for one in catalog.intervals_of(given):
                if (given.process, one.start) not in self.frozen:
                    continue
                other = self._document(operation, given.process, one)
                if of in other.requests and not _stands_as_before(other):
                    how = "has run" if other.state.terminal else "runs again"
                    return f"its input {other.process} {other.interval.label} {how}"
        unfinished = any(
            not state.finished
            for given in catalog.inputs(job.process, job.interval)
            for _, _, state in timetable.runs(given)
        )
        builds = job.reopened_from.state in (JobState.PROCESSED, JobState.NOOP)
        return "its inputs are not finished" if builds and unfinished else None

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

    def _is_fenced(self, operation: _Operation, key: Key) -> bool:
        """Whether all that is built on a target is held for it.

        Where a part of a backfill is carried out again, some of it may have been released already,
        as another scheduler had found nothing left below it: then its target stays as it is.
        """
        if operation.then is None:
            return True
        interval = self._desk.catalog.processes[key[0]].calendar.starting_at(key[1])
        return all(
            operation.request.id in self._document(operation, *place).holds
            for place in self._desk.catalog.consumers(key[0], interval)
        )

    def _document(self, operation: _Operation, name: str, interval: Interval) -> Job:
        active = self._desk.timetable.active.get((name, interval.start))
        if active is not None:
            return active
        derived = embryo(name, interval)
        return operation.read.get(derived.key, derived)

    def _answer(
        self, request: Request, state: str, answer: Mapping[str, Json], now: datetime
    ) -> None:
        """Answer it, and let those who wait and are about it know."""
        command = answered(request, state, answer, now)
        self._desk.ask(command)
        self._tell_others(command.request)

    def _tell_others(self, moved: Request | None) -> None:
        self._filed = deque(
            (request, moved if moved is not None and request.of == moved.id else plan)
            for request, plan in self._filed
        )


def _standing(job: Job) -> tuple[int, str, bool]:
    """What an answer tells of a job."""
    return job.generation, job.state, job.outdated


def _only(request: Request) -> bool:
    """Whether what is built on the named is marked stale, and not run again."""
    return bool(request.options.get("only"))


def answered(
    request: Request, state: str, answer: Mapping[str, Json], now: datetime
) -> AnswerRequest:
    """The command that answers it."""
    return AnswerRequest(replace(request, state=state, answered_at=now, answer=answer))


def in_words(request: Request) -> str:
    """What was asked for, by whom and why."""
    by = f" by {request.actor}" if request.actor else ""
    why = f": {request.reason}" if request.reason else ""
    return f"{request.action} {request.id}{by}{why}"


def planned_anew(
    view: plans.View, plan: Request, named: Sequence[Place], now: datetime
) -> plans.Plan:
    """What a stored plan would do, as the timetable stands; `named` are its intervals.

    A backfill is planned as the reprocess of its targets: it touches the same.
    """
    action = "reprocess" if plan.action == "backfill" else plan.action
    return plans.plan(view, action, named, now, only=_only(plan))


def why_not_applied(plan: Request) -> str:
    """Why a plan cannot be applied, in a sentence; empty where it can."""
    return "" if plan.state == "planned" and _is_plan(plan) else _no_plan(plan)


def why_not_withdrawn(plan: Request) -> str:
    """Why a plan, or a request that was carried out, cannot be withdrawn; empty where it can."""
    if plan.state == "done" and plan.action == "skip":
        return (
            f"{plan.id} has skipped already, which cannot be taken back; "
            "unskip opens again what is skipped"
        )
    return "" if plan.state in ("planned", "done") and _is_plan(plan) else _no_plan(plan)


def nothing_left(plan: Request) -> str:
    """Why a backfill that was begun cannot be withdrawn: it is over."""
    return f"backfill {plan.id} is over: nothing of it is left to be taken back"


def _is_plan(request: Request) -> bool:
    """Whether there may be plans of what it asks for."""
    new_backfill = request.action == "backfill" and "change" not in request.options
    return new_backfill or request.action in plans.ACTIONS


def _planned(request: Request, plan: Request | None) -> Request:
    if plan is None:
        raise _Refusal(f"there is no plan {request.of}")
    return plan


def _no_plan(plan: Request) -> str:
    if not _is_plan(plan):
        return f"{plan.id} is no plan: it is a request to {plan.action}"
    kind = "request" if "touched" in plan.answer else "plan"
    match plan.state:
        case "done":
            return f"{kind} {plan.id} has been {'applied' if kind == 'plan' else 'done'} already"
        case "withdrawn":
            return f"{kind} {plan.id} has been withdrawn already"
        case "refused":
            return f"{plan.id} was refused: {plan.answer.get('why')}"
    return f"{plan.id} is not carried out yet"


def _was_carried_out(plan: Request) -> bool:
    return "applied_by" in plan.answer or "touched" in plan.answer


def _back_in_words(asking: Request, job: Job) -> str:
    """Why the job is closed again, and with what it stood before, where that is remembered."""
    state = None if job.reopened_from is None else job.reopened_from.state
    reasons = [made.reason for made in job.transitions if made.after == state]
    return in_words(asking) + (f"; before: {reasons[-1]}" if reasons and reasons[-1] else "")


def _stands_as_before(job: Job) -> bool:
    """Whether a job that was reopened has ended, and with the result that it had, or was only
    marked."""
    if job.state.finished and (job.outdated or job.result < job.generation):
        return True
    return job.state.terminal and job.result < job.generation and not job.attempts


def _told(operation: _Operation) -> dict[str, Json]:
    answer: dict[str, Json] = {"touched": [*operation.touched.values()]}
    if operation.asking.action == "withdraw":
        answer["left"] = [
            {
                "process": name,
                "interval": interval.label,
                "why": operation.left[name, interval.start],
            }
            for name, interval in reversed(operation.order)
            if (name, interval.start) in operation.left
        ]
    return answer
