"""Random histories: whatever is done to a small timetable, the invariants of the promise hold.

Each seed makes a context of two or three trees and lives through a while of it: units are worked,
fail, are lost, reported twice or late; operators reprocess, skip and trigger; time passes; the
scheduler is killed between any two writes, and workers act between any two writes.  The store
checks every applied write, every claim is checked against what stands in it at that instant, and
in the end everything is finished.  RELIABILITY §3 has the invariants by these ids.

``SYNERGY_HISTORIES=5000 pytest tests/scheduler/test_histories.py`` lives through more of them.
"""

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from synergy.core import recovery
from synergy.core.building import CatalogError
from synergy.core.context import (
    After,
    Context,
    ProcessDeclaration,
    TreeDeclaration,
    daily,
    freerun,
    hourly,
    monthly,
    tree,
)
from synergy.core.model import Applied, Claim, Job, JobWrite, Refused, Request, Unit, UnitWrite
from synergy.core.states import JobState, UnitState
from synergy.errors import Unreachable
from synergy.reading import Reading
from synergy.scheduler.loop import Scheduler, Setting
from synergy.scheduler.sources import SourcesAtOnce
from synergy.stores.memory import MemoryStore
from synergy.testing.stage import Stage, fails, finds_nothing, processes, processes_with

SEEDS = int(os.environ.get("SYNERGY_HISTORIES", "304"))
BLOCKS = 8
START = datetime(2026, 11, 18, tzinfo=UTC)
STEPS = 40


class WatchedStore(MemoryStore):
    """Checks what is applied, and lets others act between any two writes."""

    def __init__(self) -> None:
        super().__init__()
        #: Called between two writes of the scheduler; may raise `Unreachable`.
        self.between: Callable[[], None] = lambda: None
        self.completions: Counter[tuple[str, int]] = Counter()

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        answers: list[Applied | Refused[Job]] = []
        for write in writes:
            self.between()
            before = self._jobs.get(write.job.key)
            (answer,) = super().save_jobs([write])
            if isinstance(answer, Applied):
                self._check_job(before, write.job)
            answers.append(answer)
        self.between()
        return answers

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        answers: list[Applied | Refused[Unit]] = []
        for write in writes:
            self.between()
            before = self._units.get(write.unit.key)
            (answer,) = super().save_units([write])
            if isinstance(answer, Applied):
                _check_unit(before, write.unit)
            answers.append(answer)
        self.between()
        return answers

    def answer_request(self, request: Request) -> None:
        self.between()
        super().answer_request(request)
        self.between()

    def _check_job(self, before: Job | None, job: Job) -> None:
        known = before or Job(process=job.process, interval=job.interval)
        assert job.version == known.version + 1
        assert known.generation <= job.generation <= known.generation + 1, "I5"
        if known.state.terminal and job.generation == known.generation:
            assert (known.state, job.state) == (JobState.FAILED, JobState.SKIPPED), "I2"
        if job.state.terminal:
            self.completions[job.key, job.generation] += not known.state.terminal
            assert self.completions[job.key, job.generation] <= 1, "I6"
        if job.state in (JobState.PROCESSED, JobState.NOOP) and known.state.at_work:
            assert known.unit is not None
            unit = self._units[known.unit]
            assert unit.run == 0, "a provisional result finishes nothing"
            assert unit.generation == job.generation, "I6"
            assert unit.state.value == job.state.value, "I7"
            assert (unit.attempt, unit.fingerprint) == (job.attempts, job.fingerprint)


def _check_unit(before: Unit | None, unit: Unit) -> None:
    if before is not None:
        assert not before.state.terminal, "I7: nothing leaves a terminal state"
        assert unit.attempt >= before.attempt, "I5"
        assert unit.failures >= before.failures
    assert unit.failures <= unit.task.max_attempts, "I10"


class History:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.store = WatchedStore()
        self.claimed: list[Unit] = []
        self.filed = 0
        self.busy = False
        self.deadly = 0.0
        context = self._context()
        self.stage = Stage(
            context,
            at=START + timedelta(hours=self.chance.choice([0, 0, 5, 30, 60])),
            store=self.store,
            measure=self._measure,
        )
        self.catalog = self.stage.catalog
        #: A second scheduler that believes to lead too (I13), in some of the histories.
        self.other = self._another() if self.chance.random() < 0.25 else None
        self.store.between = self._meanwhile

    # what is registered

    def _context(self) -> Context:
        trees: list[TreeDeclaration] = []
        names: list[str] = []
        for number in range(self.chance.randint(2, 3)):
            levels = self.chance.choice(["d", "dh", "h", "mdh", "md"])
            declared = [self._process(f"{level}{number}", level, names) for level in levels]
            names += [level.name for level in declared]
            days = self.chance.randint(1, 2)
            trees.append(
                tree(
                    f"t{number}",
                    declared,
                    start=(START + timedelta(hours=self.chance.choice([0, 0, 7]))).isoformat(),
                    until=(START + timedelta(days=days)).isoformat(),
                    lag=self.chance.choice([0, 300]),
                )
            )
        entry = freerun("f", at="every 14400", run="w:f", misfire=self.chance.choice(
            ["once", "skip", "all"]
        ))  # fmt: skip
        return Context(*trees, entry, sources={"s": "w:k"})

    def _process(self, name: str, level: str, others: list[str]) -> ProcessDeclaration:
        chance = self.chance
        after = [
            After(
                chance.choice(others), chance.choice([0, 0, 0, -1]), chance.choice([None, None, 2])
            )
            for _ in range(chance.choice([0, 1, 1, 2]) if others else 0)
        ]
        if chance.random() < 0.2:
            after.append(After(name, -1))
        machine = chance.choice(["discrete", "discrete", "continuous", "recomputing"])
        options: dict[str, Any] = {
            "run": "w:f",
            "after": after,
            "machine": machine,
            "source": "s",
            "every": "every 7200",
            "blocking": chance.choice(["normal", "children", "dependencies"]),
            "on_failure": chance.choice(["hold", "hold", "skip"]),
            "max_attempts": chance.choice([1, 2, 3]),
            "backoff": chance.choice([0, 60]),
            "parallel": chance.choice([None, None, 1, 2]),
        }
        if level == "h":
            return hourly(name, grouping=chance.choice([6, 8, 12]), **options)
        return {"d": daily, "m": monthly}[level](name, **options)

    def _measure(self, source: str, interval: object) -> tuple[int, int]:
        return (1, 2)

    def _another(self) -> Scheduler:
        scheduler = Scheduler(
            Setting(
                store=self.store,
                bell=self.stage.bell,
                clock=self.stage.clock,
                catalog=self.catalog,
                owner="another",
                sources=SourcesAtOnce(self._measure),
            )
        )
        scheduler.load()
        return scheduler

    # what happens

    def live(self) -> None:
        self.deadly = self.chance.choice([0.0, 0.0, 0.01, 0.05])
        acts = [self.claim, self.report, self.report, self.stale, self.request, self.pass_time,
                self.restart, self.race]  # fmt: skip
        if self.other is not None:
            acts += [self.turn_of_the_other] * 3
        for _ in range(STEPS):
            self.guarded(self.chance.choice(acts))
            if self.other is None:
                self.check()
        self.deadly = 0.0
        self.store.between = lambda: None
        if self.other is not None:
            self.stage.restart()
        self.finish()

    def guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except Unreachable:
            deadly, self.deadly = self.deadly, 0.0
            self.stage.restart()
            self.deadly = deadly

    def _meanwhile(self) -> None:
        """Between two writes of the scheduler anybody may act, and it may die."""
        if self.busy:
            return
        if self.chance.random() < self.deadly:
            raise Unreachable("killed")
        if self.chance.random() < 0.15:
            self.busy = True
            if self.other is not None:
                self.other.once(everything=self.chance.random() < 0.5)
            self._claim()
            if self.claimed and self.chance.random() < 0.7:
                self._report(self.chance.choice(self.claimed))
            self.busy = False

    def turn_of_the_other(self) -> None:
        assert self.other is not None
        try:
            self.other.once(everything=self.chance.random() < 0.5)
        except Unreachable:
            deadly, self.deadly = self.deadly, 0.0
            self.other = self._another()
            self.deadly = deadly

    def claim(self) -> None:
        self._claim()
        self.stage.settle()

    def _claim(self) -> None:
        now = self.stage.clock.now()
        units = self.store.claim(
            Claim("w", now, now + recovery.LEASE, self.chance.choice([1, 2, 5, 20]))
        )
        for unit in units:
            self._check_claimed(unit)
        self.claimed += units

    def report(self) -> None:
        running = [u for u in self.store.active_units() if u.state is UnitState.IN_PROGRESS]
        if running:
            self._report(self.chance.choice(running))
        self.stage.settle()

    def stale(self) -> None:
        """Somebody reports again, or late."""
        if self.claimed:
            self._report(self.chance.choice(self.claimed))
        self.stage.settle()

    def _report(self, unit: Unit) -> None:
        worker = self.chance.choice(
            [processes, processes_with("a"), processes_with("a"), processes_with("b"),
             finds_nothing, fails]
        )  # fmt: skip
        stands = self.store.read_units([unit.key])[unit.key]
        ended = worker(unit, self.stage.clock.now())
        busy, self.busy = self.busy, True
        (answer,) = self.store.save_units([UnitWrite(ended, unit.fence)])
        self.busy = busy
        latest = stands.state is UnitState.IN_PROGRESS and stands.attempt == unit.attempt
        assert isinstance(answer, Applied) == latest, "only the attempt at work may report"

    def request(self) -> None:
        self._file()
        before = self._generations()
        self.guarded(self.stage.settle)
        for key, generation in self._generations().items():
            assert generation <= before.get(key, 1) + 1, "I11"

    def _file(self) -> None:
        process = self.chance.choice([*self.catalog.processes, "f"])
        starts: tuple[datetime, ...] = ()
        action = self.chance.choice(["reprocess", "reprocess", "reprocess", "skip", "trigger"])
        if process == "f":
            action = "trigger"
        else:
            intervals = self._intervals(process)
            starts = tuple(
                sorted(
                    interval.start
                    for interval in self.chance.sample(
                        intervals, min(len(intervals), self.chance.randint(1, 4))
                    )
                )
            )
        self.filed += 1
        self.store.file_request(
            Request(
                id=f"r{self.filed}",
                action=action,
                process=process,
                starts=starts,
                filed_at=self.stage.clock.now(),
            )
        )

    def pass_time(self) -> None:
        self.stage.advance(minutes=self.chance.choice([0.1, 1, 20, 61, 300]))

    def restart(self) -> None:
        self.stage.restart()

    def race(self) -> None:
        """Several things at once, before the scheduler looks."""
        for _ in range(self.chance.randint(2, 5)):
            self.chance.choice([self._claim, self._file, self._report_any])()
        before = self._generations()
        open_now = len(self.store.open_requests())
        self.guarded(self.stage.settle)
        for key, generation in self._generations().items():
            assert generation <= before.get(key, 1) + open_now, "I11"

    def _report_any(self) -> None:
        if self.claimed:
            self._report(self.chance.choice(self.claimed))

    # what must hold

    def _intervals(self, process: str) -> list[Any]:
        start, end = self.catalog.spans[process]
        assert end is not None
        return [*self.catalog.processes[process].calendar.between(start, end)]

    def _generations(self) -> dict[str, int]:
        return {key: job.generation for key, job in self.store._jobs.items()}

    def _stored(self, process: str, interval: Any) -> Job:
        derived = Job(process=process, interval=interval)
        return self.store._jobs.get(derived.key, derived)

    def _inputs(self, process: str, interval: Any) -> list[tuple[str, Job]]:
        return [
            (given.kind, self._stored(given.process, one))
            for given in self.catalog.inputs(process, interval)
            for one in self.catalog.intervals_of(given)
        ]

    def _check_claimed(self, unit: Unit) -> None:
        """I3, and what the blocking table says of final runs."""
        process = self.catalog.processes.get(unit.process)
        if process is None:
            return
        if process.measured:
            assert (unit.low, unit.high) == (1, 2)
        job = self._stored(unit.process, unit.interval)
        if unit.provisional:
            return
        assert process.due(unit.interval) <= self.stage.clock.now()
        if job.unit != unit.key or job.holds:
            return  # reopened a write ago, about to be withdrawn: what it does is not applied
        for kind, other in self._inputs(unit.process, unit.interval):
            assert other.state.finished, f"I3: {unit.key} starts while {other.key} is {other.state}"
            if kind == "dependency" and process.blocking == "dependencies":
                assert other.state is not JobState.SKIPPED

    def check(self) -> None:
        """What holds whenever the scheduler rests."""
        engine = self.stage.scheduler.engine
        assert not engine._writing
        assert not engine.operations.busy
        assert not engine.operations.frozen
        assert self.store.open_requests() == []
        assert all(not job.holds for job in self.store.active_jobs()), "no holds left"
        reading = Reading(self.store, self.catalog).timetable
        for name in self.catalog.processes:
            for interval in self._intervals(name):
                key = (name, interval.start)
                stored = self._stored(name, interval)
                for timetable in (engine.timetable, reading):
                    if stored.state.terminal:
                        assert timetable.ledgers[name].at(interval.start) == stored.standing, "I20"
                        assert key not in timetable.active
                    else:
                        assert timetable.ledgers[name].at(interval.start) is None, "I20"
                        assert timetable.active.get(key, stored) == stored, "I20"
        for unit in self.store.active_units():
            job = self.store._jobs[f"{unit.process}@{unit.interval.label}"]
            assert job.unit == unit.key, f"{unit.key} is out for nobody"
            assert job.state.at_work
        for job in self.store.active_jobs():
            if job.state.at_work and job.unit:
                unit = self.store._units[job.unit]
                assert not unit.state.terminal, f"{job.key} waits for {unit.key}, which has ended"

    def finish(self) -> None:
        """Faults stop; who failed holds, and is then resolved; everything ends (I1, I4, L1-3)."""
        self.stage.until(datetime(2026, 12, 2, tzinfo=UTC))
        self._work_off()
        waiting = self._unfinished()
        for job in waiting:
            if job.state is not JobState.FAILED:
                unfinished = {each.key for each in waiting}
                inputs = {other.key for _, other in self._inputs(job.process, job.interval)}
                assert inputs & unfinished, f"{job.key} waits for nothing"
        for _ in range(100):
            failed = [job for job in self._unfinished() if job.state is JobState.FAILED]
            if not failed:
                break
            self.stage.request("reprocess", failed[0].process, failed[0].interval.label)
            self._work_off()
        assert self._unfinished() == [], "I1"
        self.check()
        assert [job for job in self.store.active_jobs() if job.process != "f"] == []
        for name in self.catalog.processes:
            for interval in self._intervals(name):
                job = self._stored(name, interval)
                if job.state in (JobState.PROCESSED, JobState.NOOP):
                    assert job.consumed == {
                        other.key: other.generation
                        for _, other in self._inputs(name, interval)
                        if other.generation > 1
                    }, f"I4: {job.key}"

    def _work_off(self) -> None:
        for _ in range(60):
            self.stage.advance(seconds=70)
            if not self.stage.work(processes_with("z")) and not self.store.active_units():
                return
        raise AssertionError(f"no end: {self.store.active_units()[:3]}")

    def _unfinished(self) -> list[Job]:
        return [
            job
            for name in self.catalog.processes
            for interval in self._intervals(name)
            if not (job := self._stored(name, interval)).state.finished
        ]


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_histories_keep_the_invariants(block: int) -> None:
    for seed in range(block, SEEDS, BLOCKS):
        try:
            history = History(seed)
        except CatalogError:
            continue
        try:
            history.live()
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
