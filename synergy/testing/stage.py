"""A timetable on a virtual clock: the real engine, loop and store, with workers that you play.

::

    stage = Stage(context, at="2026-11-20T00:00Z")
    stage.work()                                  # every requested unit is processed
    assert stage.state("site_daily", "2026-11-19") == "processed"
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from synergy.core import plans, recovery
from synergy.core.building import build
from synergy.core.context import Context
from synergy.core.intervals import Interval
from synergy.core.model import Applied, Claim, Job, Json, Request, Unit, UnitWrite, embryo
from synergy.core.states import JobState, UnitInput, UnitState, next_unit_state
from synergy.core.timetable import Timetable
from synergy.ports import Bell, Publisher, Store
from synergy.scheduler.loop import Scheduler, Setting
from synergy.scheduler.sources import Measure, SourcesAtOnce
from synergy.stores import open_store
from synergy.stores.bell import MemoryBell
from synergy.testing.clock import VirtualClock

#: What a played worker does: given the unit, the unit as it leaves it.
Worker = Callable[[Unit, datetime], Unit]


def processes(unit: Unit, now: datetime) -> Unit:
    """The worker that always succeeds."""
    return unit.moved(
        next_unit_state(unit.state, UnitInput.PROCESS), now, finished_at=now, owner=None
    )


def processes_with(fingerprint: str) -> Worker:
    """The worker whose result has this fingerprint."""

    def worker(unit: Unit, now: datetime) -> Unit:
        return unit.moved(
            next_unit_state(unit.state, UnitInput.PROCESS),
            now,
            finished_at=now,
            owner=None,
            fingerprint=fingerprint,
        )

    return worker


def finds_nothing(unit: Unit, now: datetime) -> Unit:
    """The worker for which there is nothing to do."""
    return unit.moved(
        next_unit_state(unit.state, UnitInput.FIND_NOTHING), now, "nothing", finished_at=now
    )


def fails(unit: Unit, now: datetime) -> Unit:
    """The worker that raises."""
    return recovery.after_failure(unit, now, "it failed")


class Stage:
    """A scheduler over a store, and the workers' side of it in your hands."""

    def __init__(
        self,
        context: Context,
        at: str | datetime,
        store: Store | None = None,
        bell: Bell | None = None,
        measure: Measure | None = None,
        publisher: Publisher | None = None,
        keep_units: timedelta | None = None,
    ) -> None:
        instant = datetime.fromisoformat(at) if isinstance(at, str) else at
        self.clock = VirtualClock(instant.astimezone(UTC))
        self.catalog = build(context, self.clock.now())
        self.store = store or open_store("memory://")
        self.bell = bell or MemoryBell()
        self.measure: Measure = measure or (lambda source, interval: None)
        self.publisher = publisher
        self.keep_units = keep_units
        self.started: list[str] = []
        self._requests = 0
        self.restart()

    def restart(self) -> None:
        """Forget the scheduler, as a kill would, and start another."""
        self.scheduler = Scheduler(
            Setting(
                store=self.store,
                bell=self.bell,
                clock=self.clock,
                catalog=self.catalog,
                owner="stage",
                sources=SourcesAtOnce(self.measure),
                publisher=self.publisher,
                keep_units=self.keep_units,
            )
        )
        self.scheduler.load()
        self.settle()

    def settle(self) -> None:
        """Let the scheduler do all that it can do now."""
        while self.scheduler.once():
            pass

    def advance(self, **by: float) -> None:
        """Let time pass (arguments of timedelta), the scheduler waking whenever it wants to."""
        self.until(self.clock.now() + timedelta(**by))

    def until(self, instant: str | datetime) -> None:
        """Let time pass until an instant."""
        end = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
        while (wake := self.scheduler.wake_at()) is not None and wake <= end:
            self.clock.set(max(wake, self.clock.now()))
            self.settle()
        self.clock.set(end)
        self.settle()

    def claim(
        self, limit: int = 1000, only: str | None = None, keys: Iterable[str] | None = None
    ) -> list[Unit]:
        """Start requested units as a worker would: of one process, or those that it was brought."""
        now = self.clock.now()
        claim = Claim(
            owner="worker",
            now=now,
            lease_until=now + recovery.LEASE,
            limit=limit,
            processes=frozenset({only}) if only else None,
            keys=None if keys is None else tuple(keys),
        )
        units = self.store.claim(claim)
        self.started += [f"{unit.key}!{unit.attempt}" for unit in units]
        self.settle()
        return units

    def report(self, unit: Unit, worker: Worker = processes) -> bool:
        """End a started unit; False where the store refused it."""
        ended = worker(unit, self.clock.now())
        answer = self.store.save_units([UnitWrite(ended, unit.fence)])[0]
        self.settle()
        return isinstance(answer, Applied)

    def work(self, worker: Worker = processes, only: str | None = None) -> int:
        """Work all units that can be had now, those that follow from them too; how many."""
        done = 0
        while units := self.claim(only=only):
            now = self.clock.now()
            self.store.save_units([UnitWrite(worker(unit, now), unit.fence) for unit in units])
            self.settle()
            done += len(units)
        return done

    def request(
        self, action: str, process: str, *labels: str, reason: str = "", **options: Json
    ) -> Request:
        """File a request, let it be executed; the request as answered."""
        return self.file(self._request(action, process, *labels, reason=reason, **options))

    def plan(self, action: str, process: str, *labels: str, only: bool = False) -> Request:
        """Store the plan of a request; nothing comes of it until it is applied."""
        named = [(process, self.interval(process, label)) for label in labels]
        made = plans.plan(self.timetable, action, named, self.clock.now(), only=only)
        asked = self._request(action, process, *labels)
        return self.file(replace(asked, state="planned", options=made.options()))

    def apply(self, plan: Request) -> Request:
        """Apply a plan; the request to do so as answered."""
        return self.file(replace(self._request("apply", plan.process), of=plan.id))

    def withdraw(self, plan: Request) -> Request:
        """Withdraw a plan or another request; the request to do so as answered."""
        return self.file(replace(self._request("withdraw", plan.process), of=plan.id))

    def file(self, request: Request) -> Request:
        """File it, let it be executed; the request as it stands then."""
        self.store.file_request(request)
        self.settle()
        answered = self.store.read_request(request.id)
        assert answered is not None
        return answered

    def _request(
        self, action: str, process: str, *labels: str, reason: str = "", **options: Json
    ) -> Request:
        self._requests += 1
        starts: tuple[datetime, ...] = ()
        if process in self.catalog.processes:
            starts = tuple(self.interval(process, label).start for label in labels)
        return Request(
            id=f"r{self._requests}",
            action=action,
            process=process,
            starts=starts,
            filed_at=self.clock.now(),
            reason=reason,
            options=options,
        )

    def interval(self, process: str, label: str) -> Interval:
        """The interval that a label names."""
        return self.catalog.processes[process].calendar.parse(label)

    def job(self, process: str, label: str) -> Job:
        """The job as stored, or the derived embryo."""
        interval = self.interval(process, label)
        derived = embryo(process, interval)
        return self.store.read_jobs([derived.key]).get(derived.key, derived)

    def state(self, process: str, label: str) -> JobState:
        """Where a job is."""
        return self.job(process, label).state

    def unit(self, key: str) -> Unit | None:
        """A unit as stored."""
        return self.store.read_units([key]).get(key)

    @property
    def timetable(self) -> Timetable:
        """What the engine believes."""
        return self.scheduler.engine.timetable

    @property
    def requested(self) -> list[Unit]:
        """Units that wait for a worker."""
        return [u for u in self.store.active_units() if u.state is UnitState.REQUESTED]
