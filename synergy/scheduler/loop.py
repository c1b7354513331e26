"""The scheduler: a loop that tells the engine what happened and does what it says.

One turn of the loop (`Scheduler.once`) takes everything that is there, lets the engine decide all
of it, writes in batches, and answers each command with `Saved` or `Refused` until there is nothing
more to say.  All these writes may share one wait for the disk; so units are published, the others
rung and the log told when that is over.  Then it sleeps until somebody rings, or the engine wants
to be woken.

What is requested is published where there is a broker, once, and nobody keeps a record of it: a
unit whose message is lost, or was never sent since the scheduler died in between, is found by the
workers, who look into the store now and then (D10).  What others have requested again is published
too: workers to whom a broker brings a lot look seldom.  They are rung instead where no broker is
well, and find by looking what has to wait for its time, which no message tells them.

A store that cannot be written leaves writes behind whose outcome is unknown.  The loop does not
guess: it throws the engine away and builds a new one from what stands in the store (protocol D1),
as it does at every start.  Nothing is lost by that, because nothing is only in memory.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from synergy.core.backfills import forgotten
from synergy.core.catalog import Catalog
from synergy.core.commands import (
    DOCUMENT_KINDS,
    AnswerRequest,
    Command,
    FileRequest,
    MeasureSource,
    MovePlan,
    ReadJobs,
    ReadUnits,
    SaveDocument,
    SaveJob,
    SaveUnit,
    Warn,
)
from synergy.core.engine import Engine
from synergy.core.events import (
    DocumentRefused,
    DocumentSaved,
    DocumentsRead,
    Event,
    JobRefused,
    JobSaved,
    JobsChanged,
    JobsRead,
    PlanMoved,
    RequestFiled,
    SlotsSeen,
    TimePassed,
    UnitChanged,
    UnitRefused,
    UnitSaved,
    UnitsRead,
)
from synergy.core.machines import parked
from synergy.core.model import (
    Applied,
    Job,
    JobWrite,
    Json,
    Lease,
    LedgerRecord,
    Request,
    Unit,
    embryo,
)
from synergy.core.plans import Key
from synergy.core.recovery import REASON_LIMIT
from synergy.core.states import UnitState
from synergy.errors import Unreachable
from synergy.leases import LEADER, LeaseWatch
from synergy.logs import logger
from synergy.ports import STANDBY, Bell, Clock, Listener, Publisher, Store
from synergy.presence import Forgetting, read_workers
from synergy.reading import FIRINGS_KEPT, read_loaded
from synergy.scheduler.promises import PromiseWatch
from synergy.scheduler.retention import Retention
from synergy.scheduler.sources import Sources

#: The leader's lease, and how often it is renewed (DESIGN §8.4: a standby takes over within 4 s).
LEASE = timedelta(seconds=4)
RENEWAL = timedelta(seconds=1)
#: The loop looks into the store at least so often, in case a ring was missed.
POLL = timedelta(milliseconds=250)
#: What is old is forgotten so often.
HOUSEKEEPING = timedelta(seconds=15)
#: Ledgers are stored then if the feed has so many entries more: who starts reads the rest there.
LEDGERS_AFTER = 1000
#: Wait between attempts to reach a store that does not answer, doubling up to the longest.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
#: Documents folded, and changes read, in one go.
BATCH = 2000
#: Entries of the feed that are kept behind the ledgers, for those who read it (retention).
FEED_KEPT = 100_000
#: So many jobs that move alike in one turn share one line of the log.
MANY = 4

_log = logger("scheduler")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a scheduler works with."""

    store: Store
    bell: Bell
    clock: Clock
    catalog: Catalog
    #: Unique to this process; compared by the lease.
    owner: str
    sources: Sources
    #: None without a broker.
    publisher: Publisher | None = None
    #: How long units are remembered after the end of their interval; None: for ever.
    keep_units: timedelta | None = None


class Scheduler:
    """The engine's shell."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.engine = Engine(setting.catalog)
        self.leading = False
        self._position = 0
        self._stored_position = 0
        self._renew_at: datetime | None = None
        self._tidy_at: datetime | None = None
        self._look_at: datetime | None = None
        self._requests: set[str] = set()
        #: Own writes that the feed has not shown yet: key and version.
        self._own: set[tuple[str, int]] = set()
        #: What is to be told when it is written for certain: units to the workers, jobs and
        #: answered requests to the log, and who is to be rung besides.
        self._requested: list[Unit] = []
        self._moved: list[Job] = []
        self._obeyed: list[Request] = []
        self._to_ring: set[str] = set()
        #: Of units that were requested again and published: key and version.
        self._brought: dict[str, int] = {}
        #: The time that the engine was told last.
        self._seen: datetime | None = None
        #: Made when the timetable was read.
        self._promised: PromiseWatch | None = None
        self._retention: Retention | None = None
        self._watch = LeaseWatch(setting.clock, LEASE + RENEWAL)
        self._forgetting = Forgetting(setting.clock)

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until told to stop; then hand over the lease."""
        wait = FIRST_WAIT
        listener = self.setting.bell.listen("scheduler")
        standby = self.setting.bell.listen(STANDBY)
        try:
            while not stopping():
                try:
                    self.turn(listener, standby)
                    if wait > FIRST_WAIT:
                        _say(logging.INFO, "reachable", "the store answers again")
                    wait = FIRST_WAIT
                except Unreachable as error:
                    _say(logging.ERROR, "unreachable", f"{error}; trying again in {wait:g} s")
                    self.leading = False
                    listener.wait(wait)
                    wait = min(wait * 2, LONGEST_WAIT)
        finally:
            listener.close()
            standby.close()
            self.close()

    def turn(self, listener: Listener, standby: Listener) -> None:
        """Lead if possible, do what there is, sleep until there is more."""
        listener.drain()
        standby.drain()
        if self._lead():
            self.once()
            listener.wait(self._sleep())
        else:
            standby.wait(self._sleep_standing_by())

    def once(self, *, everything: bool = True) -> bool:
        """Take what has happened and do all that follows; False when nothing had."""
        now = self.setting.clock.now()
        events = self._events() + self._filed()
        wake = self.engine.wake_at()
        set_back = self._seen is not None and now < self._seen
        if (set_back and not events) or (wake is not None and wake <= now):
            events.append(TimePassed())
        worked = bool(events)
        while events:
            self._follow_up(events)
            more = everything and not self._renewal_is_due()
            events = self._events() if more else []
        if self._promised is not None:
            self._promised.look(now)
        self._tidy(now)
        return worked

    def load(self) -> None:
        """Build the engine from what stands in the store."""
        setting, store = self.setting, self.setting.store
        self._fold()
        loaded, self._position = read_loaded(store, setting.catalog)
        self._stored_position = self._position
        self._requests = {request.id for request in loaded.requests}
        self._own.clear()
        self._brought.clear()
        self._requested.clear()
        self._moved.clear()
        self._obeyed.clear()
        self._to_ring.clear()
        self.engine = Engine(setting.catalog)
        self._follow_up([*self._slots(), loaded] if loaded.backfills else [loaded])
        self._promised = PromiseWatch(store, self.engine, setting.clock.now())
        if setting.keep_units is not None:
            self._retention = Retention(store, self.engine.timetable, setting.keep_units)

    def wake_at(self) -> datetime | None:
        """When there is something to do, if nothing happens before."""
        wake = self.engine.wake_at()
        look = None if self._promised is None else self._promised.wake_at()
        return look if wake is None else wake if look is None else min(wake, look)

    def close(self) -> None:
        """Store the ledgers and hand over the lease; what cannot be stored is not needed."""
        setting = self.setting
        if self.leading:
            try:
                self._fold()
                self._save_ledgers()
                setting.store.drop_lease(LEADER, setting.owner, setting.clock.now())
                setting.bell.ring(STANDBY)
            except Unreachable as error:
                _say(logging.WARNING, "stopping", str(error))
        self.leading = False

    def _lead(self) -> bool:
        setting = self.setting
        now = setting.clock.now()
        if self.leading and self._renew_at is not None and now < self._renew_at:
            return True
        lease = self._lease(now)
        self._renew_at = now + RENEWAL
        if lease.owner != setting.owner:
            if self.leading or self._look_at is None:
                _say(logging.INFO, "standby", f"{lease.owner} leads; standing by")
            self.leading, self._look_at = False, now
            return False
        if not self.leading:
            self.load()
            self.leading = True
            _say(logging.INFO, "leading", f"leading with epoch {lease.epoch}")
        return True

    def _lease(self, now: datetime) -> Lease:
        """The lease, ours if it can be."""
        store, owner = self.setting.store, self.setting.owner
        if self.leading:
            return store.take_lease(LEADER, owner, now, now + LEASE)
        return self._watch.take(store, LEADER, owner, LEASE)

    def _renewal_is_due(self) -> bool:
        """However much there is to do, the lease is renewed and a stop is heard in between."""
        return self._renew_at is not None and self.setting.clock.now() >= self._renew_at

    def _sleep(self) -> float:
        """Seconds until something is due; never longer than a poll."""
        wake = self.wake_at()
        seconds = POLL.total_seconds()
        if wake is not None:
            seconds = min(seconds, (wake - self.setting.clock.now()).total_seconds())
        return max(seconds, 0.0)

    def _sleep_standing_by(self) -> float:
        """Seconds until the lease ends, or was to be renewed: nobody may ring across boxes."""
        seconds = RENEWAL.total_seconds()
        seen = self._watch.seen
        if seen is not None:
            seconds = min(seconds, (seen.until - self.setting.clock.now()).total_seconds())
        return max(seconds, 0.0)

    # in

    def _events(self) -> list[Event]:
        events = self._changes()
        return events + self.setting.sources.answers()

    def _filed(self) -> list[Event]:
        """The requests that were filed since."""
        events: list[Event] = []
        for request in self.setting.store.open_requests():
            if request.id not in self._requests:
                self._requests.add(request.id)
                plan = self.setting.store.read_request(request.of) if request.of else None
                if "backfill" in (request.action, plan and plan.action):
                    # It may be of one that another scheduler has begun.
                    documents = self.setting.store.read_documents("backfills")
                    events.append(DocumentsRead("backfills", documents))
                events.append(RequestFiled(request, plan))
        return events

    def _changes(self) -> list[Event]:
        """What others have written: the jobs first, as each unit belongs to how its job stands."""
        units: dict[str, Unit] = {}
        jobs: dict[str, None] = {}
        read: dict[str, Job] = {}
        # A job that is read may be newer than the feed was, and rest on what is not known yet: look
        # until nothing was new, so that everything that is before what was read is known, too.
        while self._look(jobs, units):
            read = self.setting.store.read_jobs(jobs)
        events: list[Event] = [JobsChanged(tuple(read.values()))] if read else []
        self._bring(units.values())
        return events + [UnitChanged(unit) for unit in units.values()]

    def _look(self, jobs: dict[str, None], units: dict[str, Unit]) -> bool:
        """Take what is new in the feed; whether others have written jobs."""
        others = False
        while True:
            news = self.setting.store.follow(self._position, BATCH, self._own)
            for self._position, kind, key, version in news.changes:
                if (key, version) in self._own:
                    self._own.discard((key, version))
                    self._brought.pop(key, None)
                elif kind == "job":
                    jobs[key] = None
                    others = True
            units |= news.units
            if not news.more:
                return others

    def _fold(self) -> None:
        """Bring to the feed what was written."""
        while self.setting.store.fold(BATCH):
            pass

    def _follow_up(self, events: list[Event]) -> None:
        """Decide and write until nothing follows any more; then tell the others."""
        try:
            with self.setting.store.together():
                while events:
                    events = self._decide(events)
        except _Undecidable as failure:
            self._park(failure)
            self.load()
        else:
            self._tell()

    def _decide(self, events: Iterable[Event]) -> list[Event]:
        """Let the engine decide all of it, then execute in batches; the answers."""
        now = self._seen = self.setting.clock.now()
        try:
            commands = self.engine.handle(events, now)
        except Exception as error:
            raise _Undecidable(self.engine.deciding) from error
        return self._execute(commands)

    def _park(self, failure: "_Undecidable") -> None:
        """Give up the job on which deciding fails, or refuse the request, so that it stands in
        nobody else's way (D12).

        Where there is none, or it cannot be given up, the failure is one of the whole program.
        """
        error = failure.__cause__
        assert error is not None
        why = f"{type(error).__name__}: {error}"
        if isinstance(failure.about, Request):
            told = self._refuse(failure.about, why)
        else:
            told = "" if failure.about is None else self._give_up(failure.about, why)
        if not told:
            raise error
        _log.error("%s", told, exc_info=error, extra={"action": "parked"})

    def _refuse(self, request: Request, why: str) -> str:
        """Answer a request that cannot be decided about; what is to be told of it."""
        answer: dict[str, Json] = {"why": f"it cannot be decided about: {why}"[:REASON_LIMIT]}
        now = self.setting.clock.now()
        refused = replace(request, state="refused", answered_at=now, answer=answer)
        if not self.setting.store.move_request(refused, "filed"):
            return ""
        self.setting.bell.ring("operator")
        return f"request {request.id} is refused: {answer['why']}"

    def _give_up(self, key: Key, why: str) -> str:
        """Let a job fail; what is to be told of it, nothing where that cannot be."""
        job = self._stored(key)
        if job is None or job.state.terminal:
            return ""
        process = self.setting.catalog.processes.get(job.process)
        machine = process.machine if process is not None else "freerun"
        given_up = parked(machine, job, self.setting.clock.now(), why)
        (answer,) = self.setting.store.save_jobs([JobWrite(given_up, job.version)])
        return f"{job.key} {given_up.reason}" if isinstance(answer, Applied) else ""

    def _stored(self, key: Key) -> Job | None:
        """The job as it stands, or its embryo."""
        name, start = key
        active = self.engine.timetable.active.get(key)
        process = self.setting.catalog.processes.get(name)
        if process is not None:
            derived = embryo(name, process.calendar.starting_at(start))
        elif active is not None:
            derived = embryo(name, active.interval)
        else:
            return None
        return self.setting.store.read_jobs([derived.key]).get(derived.key, derived)

    # out

    def _execute(self, commands: list[Command]) -> list[Event]:
        store = self.setting.store
        events: list[Event] = []
        refused = False
        jobs = [command.write for command in commands if isinstance(command, SaveJob)]
        for write, answer in zip(jobs, store.save_jobs(jobs) if jobs else (), strict=True):
            if isinstance(answer, Applied):
                events.append(JobSaved(write))
                self._own.add((write.job.key, write.job.version))
                self._moved.append(write.job)
            else:
                events.append(JobRefused(write, answer.current))
                refused = True
        if refused:
            # Somebody else decides too: nothing is decided again before all that they did is known,
            # or a parent might start on what they have just reopened (I3).
            events = self._changes() + events
        units = [command.write for command in commands if isinstance(command, SaveUnit)]
        for asked, said in zip(units, store.save_units(units) if units else (), strict=True):
            if isinstance(said, Applied):
                events.append(UnitSaved(asked))
                if _has_moved(asked.unit):
                    self._own.add((asked.unit.key, asked.unit.version))
                if asked.unit.state is UnitState.REQUESTED:
                    self._requested.append(asked.unit)
            else:
                events.append(UnitRefused(asked, said.current))
        for command in commands:
            match command:
                case ReadJobs(request_id, keys):
                    events.append(JobsRead(request_id, store.read_jobs(keys)))
                    events += self._changes()  # nothing is known later than what follows from it
                case MovePlan(request_id, plan, expected):
                    moved = store.move_request(plan, expected)
                    standing = plan if moved else store.read_request(plan.id)
                    events.append(PlanMoved(request_id, standing))
                case AnswerRequest(request):
                    store.move_request(request, "filed")
                    self._obeyed.append(request)
                    self._to_ring.add("operator")
                case MeasureSource():
                    self.setting.sources.ask(command)
                case SaveDocument():
                    events.append(self._save_document(command))
                case ReadUnits(keys):
                    events.append(UnitsRead(store.read_units(keys, history=False)))
                case FileRequest(request):
                    store.file_request(request)
                case Warn(text):
                    _say(logging.WARNING, "source", text)
                case _:
                    pass
        return events

    def _save_document(self, command: SaveDocument) -> Event:
        kind, key = command.kind, command.key
        store = self.setting.store
        if store.save_document(kind, key, command.content, command.expected):
            return DocumentSaved(kind, key, command.expected + 1)
        return DocumentRefused(kind, key, store.read_documents(kind).get(key))

    def _tell(self) -> None:
        """What was written for certain."""
        if self._requested and not self._publish(self._requested):
            self._to_ring.add("worker")
        for role in sorted(self._to_ring, reverse=True):  # the workers first
            self.setting.bell.ring(role)
        _say_moved(self._moved)
        for request in self._obeyed:
            _say(logging.INFO, request.action, f"request {request.id} {request.state}")
        self._requested.clear()
        self._moved.clear()
        self._obeyed.clear()
        self._to_ring.clear()

    def _bring(self, units: Iterable[Unit]) -> None:
        """What others have requested again is to be brought to the workers, if its time has come:
        handed back, or taken from a worker that was lost."""
        if self.setting.publisher is not None:
            now = self.setting.clock.now()
            self._requested += [
                unit
                for unit in units
                if unit.version != self._brought.pop(unit.key, None)
                and unit.state is UnitState.REQUESTED
                and (unit.not_before is None or unit.not_before <= now)
            ]

    def _publish(self, units: Sequence[Unit]) -> bool:
        """Have these brought to the workers; whether all of them will be, for all we know."""
        publisher = self.setting.publisher
        if publisher is None:
            return False
        publisher.publish(units)
        self._brought.update({unit.key: unit.version for unit in units if unit.version > 1})
        return not publisher.trouble

    def _tidy(self, now: datetime) -> None:
        if self._tidy_at is None or self._tidy_at > now + HOUSEKEEPING:  # the clock was set back
            self._tidy_at = now + HOUSEKEEPING
        if now < self._tidy_at:
            return
        self._tidy_at = now + HOUSEKEEPING
        store = self.setting.store
        # The feed does not tell of documents that another scheduler has written.
        documents = {kind: store.read_documents(kind) for kind in DOCUMENT_KINDS}
        news: list[Event] = [
            DocumentsRead(kind, found)
            for kind, found in documents.items()
            if not self.engine.knows(kind, found)
        ]
        if news or self.engine.lanes.lanes:
            self._follow_up([*news, *self._slots()])
        for old in forgotten(documents["backfills"]):
            store.save_document("backfills", old.id, None, old.version)
        if self._position >= self._stored_position + LEDGERS_AFTER:
            self._save_ledgers()
        for name in self.setting.catalog.freeruns:
            kept = store.last_jobs(name, FIRINGS_KEPT)
            if len(kept) == FIRINGS_KEPT:
                store.prune_jobs(name, kept[-1].interval.start)
        if self._stored_position > FEED_KEPT:
            store.prune_feed(self._stored_position - FEED_KEPT)
        self._forgetting.look(store)
        if self._promised is not None:
            self._promised.tidy(now)
        if self._retention is not None:
            self._retention.tidy(now)
        store.checkpoint()

    def _slots(self) -> list[Event]:
        """How many slots of workers that are heard of take each process."""
        now = self.setting.clock.now()
        workers = [
            worker for worker in read_workers(self.setting.store) if not worker.is_silent(now)
        ]
        slots = {
            name: sum(worker.slots for worker in workers if worker.takes(name))
            for name in self.setting.catalog.processes
        }
        return [SlotsSeen(slots)]

    def _save_ledgers(self) -> None:
        if self._position == self._stored_position:
            return
        self.setting.store.save_ledgers(
            [
                LedgerRecord(name, self._position, ledger.content())
                for name, ledger in self.engine.timetable.ledgers.items()
            ]
        )
        self._stored_position = self._position


class _Undecidable(Exception):
    """The engine failed while it decided: about this job or request, if about any."""

    def __init__(self, about: Key | Request | None) -> None:
        super().__init__(about)
        self.about = about


def _has_moved(unit: Unit) -> bool:
    """Whether its last version came with a transition, which the feed will tell of."""
    return bool(unit.transitions) and unit.transitions[-1].version == unit.version


def _say_moved(jobs: Iterable[Job]) -> None:
    """A line for each job that has moved; one for all of a process that have moved alike."""
    alike: dict[tuple[str, str, str, str], list[Job]] = {}
    for job in jobs:
        made = job.transitions[-1]
        if made.before != made.after:
            move = (job.process, made.before, made.after, made.reason)
            alike.setdefault(move, []).append(job)
        elif made.outdated:
            move = (job.process, made.after, "marked stale", made.reason)
            alike.setdefault(move, []).append(job)
    for (process, before, after, reason), moved in alike.items():
        what = f"{before} → {after}" + (f": {reason}" if reason else "")
        if len(moved) < MANY:
            for job in moved:
                _say(logging.INFO, "job", f"{job.key} {what}")
        else:
            moved.sort(key=lambda job: job.interval.start)
            first, last = moved[0].interval.label, moved[-1].interval.label
            _say(logging.INFO, "jobs", f"{process} {first} … {last}, {len(moved)} jobs: {what}")


def _say(level: int, action: str, text: str) -> None:
    _log.log(level, text, extra={"action": action})
