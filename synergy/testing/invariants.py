"""A store that checks the promise on every write that it applies.

Whoever plays with time (`world`, `play`) writes through it; what it finds is a defect of the
engine, the loop or the worker protocol, never of the play.  The ids are those of the list of
invariants in ``docs/explanation/protocol.md``.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from synergy.core.catalog import Catalog
from synergy.core.intervals import Interval
from synergy.core.machines import PARKED
from synergy.core.model import (
    Applied,
    Claim,
    Job,
    JobWrite,
    Refused,
    Unit,
    UnitWrite,
    embryo,
    job_key,
)
from synergy.core.states import JobState, UnitState
from synergy.stores.memory import MemoryStore
from synergy.stores.rules import HELD

_RESULTS = frozenset({JobState.PROCESSED, JobState.NOOP})


@dataclass(frozen=True, slots=True)
class Violation:
    """One breach of an invariant."""

    #: Id of the invariant: "I2", "L1", …
    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


class Broken(AssertionError):
    """Raised at the write that broke the promise, so that the story ends there."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation


def _result(job: Job) -> tuple[object, ...]:
    """What a finished job keeps, whatever else is written of it."""
    return (job.result, job.result_state, job.fingerprint, job.consumed, job.attempts, job.unit)


class CheckedStore(MemoryStore):
    """The memory store, with every applied write checked against I1–I7, I10 and I11.

    `violations` collects what is found; with `strict` the first one is raised as `Broken`.
    """

    def __init__(self, catalog: Catalog, *, strict: bool = False, alone: bool = False) -> None:
        super().__init__()
        self.catalog = catalog
        self.strict = strict
        #: Whether one scheduler at a time writes: then pools are never fuller than they may be.
        self.alone = alone
        self.violations: list[Violation] = []
        #: The worker that writes now, where a worker does: only the holder may report (I6).
        self.author: str | None = None
        #: Applied results by job and generation.
        self.results: Counter[tuple[str, int]] = Counter()
        #: The units that jobs have asked for.
        self._asked_for: set[str] = set()
        #: The requests that opened a generation of a job.
        self._reopened_by: dict[str, set[str]] = {}
        self._inputs: dict[str, tuple[tuple[str, str], ...]] = {}

    # writes

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        """One at a time, each checked when it was applied."""
        answers: list[Applied | Refused[Job]] = []
        for write in writes:
            before = self._jobs.get(write.job.key)
            (answer,) = super().save_jobs((write,))
            if isinstance(answer, Applied):
                self._check_job(before, write.job)
            answers.append(answer)
        return answers

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        """One at a time, each checked when it was applied."""
        answers: list[Applied | Refused[Unit]] = []
        for write in writes:
            before = self._units.get(write.unit.key)
            (answer,) = super().save_units((write,))
            if isinstance(answer, Applied):
                self._check_unit(before, write.unit)
            answers.append(answer)
        return answers

    def claim(self, claim: Claim) -> list[Unit]:
        """Each claimed unit is checked against what stands at this instant (I3)."""
        units = super().claim(claim)
        for unit in units:
            self._check_claimed(unit, claim)
        return units

    # what must hold

    def _check_job(self, before: Job | None, job: Job) -> None:
        known = before or embryo(job.process, job.interval)
        process = self.catalog.processes.get(job.process)
        if process is not None and process.calendar.starting_at(job.interval.start) != job.interval:
            self._found("I1", f"{job.key} is no interval of its process")
        if job.reason.startswith(PARKED):
            self._found("D12", f"{job.key} was {job.reason}")
        if job.unit is not None:
            self._asked_for.add(job.unit)
        if job.version <= known.version:
            self._found("I5", f"{job.key} went from version {known.version} to {job.version}")
        if not known.generation <= job.generation <= known.generation + 1:
            self._found("I5", f"{job.key} went from generation {known.generation}")
        if not job.state.finished and not job.holds and (known.state.finished or known.holds):
            self._check_open(job)
        if job.generation > known.generation:
            self._check_reopened(known, job)
        elif known.state.terminal and job.state is not known.state:
            if (known.state, job.state) != (JobState.FAILED, JobState.SKIPPED):
                self._found("I2", f"{job.key} left {known.state} for {job.state}")
        elif known.state.terminal:
            self._check_at_rest(known, job)
        elif job.outdated and job.state not in _RESULTS:
            self._found("I2", f"{job.key} is marked stale and {job.state}: it has no result")
        if job.state in _RESULTS and known.state is not job.state:
            self._check_result(known, job)
        if self.alone and job.unit is not None and job.unit != known.unit:
            self._check_admitted(job)

    def _check_at_rest(self, known: Job, job: Job) -> None:
        """What has ended may be let go and marked stale: its result stays, and so does the mark."""
        if _result(job) != _result(known):
            self._found("I2", f"{job.key} has ended, and its result became another")
        if job.outdated != known.outdated and job.state not in _RESULTS:
            self._found("I2", f"{job.key} is {job.state}: it has no result to mark stale")
        if known.outdated and not job.outdated:
            self._found("I2", f"{job.key} lost its mark, and was not reopened")

    def _check_admitted(self, job: Job) -> None:
        switch = self._documents.get(("switches", job.process))
        if switch is not None and not switch.content["on"]:
            self._found("P2", f"{job.key} is dispatched, and its process is off")
        pool = self.catalog.pool_of(job.process)
        if pool is not None:
            members, limit = self.catalog.members[pool], self.catalog.pools[pool]
            active = [self._jobs[key] for key in self._active_jobs]
            out = [
                each.key
                for each in active
                if each.process in members and each.unit is not None and each.state.at_work
            ]
            if len(out) > limit:
                self._found("P1", f"pool {pool} has {limit} places, and out are {sorted(out)}")

    def _check_reopened(self, known: Job, job: Job) -> None:
        opened = self._reopened_by.setdefault(job.key, set())
        fresh = {*job.requests} - {*known.requests}
        if len(fresh) != 1 or fresh & opened:
            self._found("I11", f"{job.key} was reopened by {sorted(fresh) or 'nobody'} again")
        opened |= fresh

    def _check_open(self, job: Job) -> None:
        """It may run again: so nothing that builds on it may stand finished, or be finishing."""
        for name, interval in self._consumers(job):
            consumer = self._jobs.get(job_key(name, interval))
            if consumer is None or consumer.holds:
                continue
            unit = self._units.get(consumer.unit or "") if consumer.state.at_work else None
            final = unit is not None and unit.run == 0 and not unit.state.terminal
            if (consumer.state in _RESULTS and not consumer.outdated) or final:
                self._found("I3", f"{job.key} is open again under {consumer.key}: {consumer.state}")

    def _check_result(self, known: Job, job: Job) -> None:
        self.results[job.key, job.generation] += 1
        if self.results[job.key, job.generation] > 1:
            self._found("I6", f"{job.key} has two results in generation {job.generation}")
        for kind, key in self.inputs(job.process, job.interval):
            # What is held is being reopened by a request that is about to reopen this one as well.
            other = self._jobs.get(key)
            if other is None or not (other.state.finished or other.holds):
                state = None if other is None else other.state
                self._found("I3", f"{job.key} ends while its {kind} {key} is {state}")
        if not known.state.at_work:
            return  # kept: the result of an earlier generation stands
        unit = self._units.get(known.unit or "")
        if unit is None or (unit.state.value, unit.generation, unit.run, unit.attempt) != (
            job.state.value,
            job.generation,
            0,
            job.attempts,
        ):
            self._found("I6", f"{job.key} ended as {job.state} without such a unit: {unit}")
        elif unit.fingerprint != job.fingerprint:
            self._found("I6", f"{job.key} has a result that is not its unit's")

    def _check_unit(self, before: Unit | None, unit: Unit) -> None:
        if unit.failures > unit.task.max_attempts:
            self._found("I10", f"{unit.key} failed {unit.failures} times")
        if before is None:
            if unit.key not in self._asked_for:
                self._found("I9", f"{unit.key} is requested, and no job has asked for it")
            return
        if before.state.terminal:
            cancel = before.state is UnitState.CANCELED
            self._found("I7" if cancel else "I6", f"{unit.key} left {before.state}")
        if unit.attempt < before.attempt or unit.failures < before.failures:
            self._found("I5", f"{unit.key} went from attempt {before.attempt} to {unit.attempt}")
        result = unit.state in (UnitState.PROCESSED, UnitState.NOOP)
        if result and (before.state not in HELD or unit.attempt != before.attempt):
            self._found("I6", f"{unit.key}: attempt {unit.attempt} reports on {before.state}")
        if self.author is not None and not (before.owner or "").startswith(f"{self.author}/"):
            self._found("I6", f"{self.author} reports {unit.key}, held by {before.owner}")

    def _check_claimed(self, unit: Unit, claim: Claim) -> None:
        process = self.catalog.processes.get(unit.process)
        if unit.owner != claim.owner or unit.state not in HELD:
            self._found("I5", f"{unit.key} was claimed by {claim.owner} and is {unit.owner}'s")
        if process is None or unit.provisional:
            return
        job = self._jobs[job_key(unit.process, unit.interval)]
        if job.unit != unit.key:
            return  # superseded and about to be withdrawn: what it does is never applied (I6)
        for kind, key in self.inputs(unit.process, unit.interval):
            other = self._jobs.get(key)
            state = None if other is None else other.state
            if other is not None and other.holds:
                continue  # reopened by a request that is about to withdraw this unit as well
            if state is None or not state.finished:
                self._found("I3", f"{unit.key} starts while its {kind} {key} is {state}")
            elif state is JobState.SKIPPED and kind == "dependency":
                if process.blocking == "dependencies":
                    self._found("I3", f"{unit.key} starts although {key} was skipped")

    # what the catalog says

    def inputs(self, process: str, interval: Interval) -> tuple[tuple[str, str], ...]:
        """What a job builds on: "child" or "dependency", and the key of the job."""
        key = job_key(process, interval)
        found = self._inputs.get(key)
        if found is None:
            found = self._inputs[key] = tuple(self._listed(process, interval))
        return found

    def _listed(self, process: str, interval: Interval) -> Iterator[tuple[str, str]]:
        if process in self.catalog.processes:
            for given in self.catalog.inputs(process, interval):
                for one in self.catalog.intervals_of(given):
                    yield given.kind, job_key(given.process, one)

    def _consumers(self, job: Job) -> Iterable[tuple[str, Interval]]:
        if job.process not in self.catalog.processes:
            return ()
        return self.catalog.consumers(job.process, job.interval)

    def _found(self, invariant: str, text: str) -> None:
        violation = Violation(invariant, text)
        self.violations.append(violation)
        if self.strict:
            raise Broken(violation)
