"""The timetable as it stood at a moment that has passed.

What has happened since is undone, newest first: the feed tells which documents moved after that
moment, and each of them remembers its last transitions.  So it costs what happened since, and
reaches back as far as the feed does.  What no transition tells is not known any more: who listened
then, who led, and by which worker an attempt was made that has ended since.  Where several
backfills have held a job, which of them still did is a guess.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property

from synergy.core import recovery
from synergy.core.backfills import Backfill, backfills_of
from synergy.core.batches import is_shared
from synergy.core.intervals import Interval
from synergy.core.model import (
    FeedEntry,
    Job,
    Request,
    Transition,
    Unit,
    embryo,
    unit_key,
)
from synergy.core.operations import in_words
from synergy.core.states import JobState, UnitState
from synergy.core.timetable import Timetable
from synergy.errors import NotFound
from synergy.presence import WorkerRecord
from synergy.reading import BATCH, Reading
from synergy.words import clock

#: The latest requests among which those are sought that were being carried out then.
REQUESTS = 1000
#: Documents read in one go.
TOGETHER = 1000


class Hindsight(Reading):
    """A reading of a moment that has passed.

    Raises:
        NotFound: the feed does not reach back so far; with the moment from which it does.
    """

    present = False

    def __init__(self, reading: Reading, at: datetime) -> None:
        self.store, self.catalog, self.loaded = reading.store, reading.catalog, reading.loaded
        self.through, self.switches = reading.through, reading.switches
        self._at = at
        undone = _first_of_each(entries_since(reading, at))
        self._out = self._units_at(reading, undone, at)
        self._latest = self.store.last_requests(REQUESTS)
        self.requests = tuple(
            request
            for request in self._latest
            if request.state != "planned" and _was_open(request, at)
        )
        self.timetable = self._timetable_at(reading, undone)

    @cached_property
    def backfills(self) -> dict[str, Backfill]:
        """Those that had begun and were not over; how far they are is of now."""
        return {
            key: each
            for key, each in self._all_backfills.items()
            if each.filed_at <= self._at and (each.ended_at is None or each.ended_at > self._at)
        }

    @property
    def workers(self) -> list[WorkerRecord]:
        """Nobody remembers them."""
        return []

    @property
    def units(self) -> Mapping[str, Unit]:
        """The units that were out."""
        return self._out

    @cached_property
    def firings_at_work(self) -> dict[str, Job]:
        """Those that are at work still; of others nobody knows any more."""
        found = super().firings_at_work
        return {name: job for name, job in found.items() if job.interval.start <= self._at}

    def unit_of(self, job: Job) -> Unit | None:
        """The unit that was out for it."""
        return self._out.get(job.unit) if job.unit and job.state.at_work else None

    def look_at(self, jobs: Iterable[Job]) -> None:
        """They are here."""

    def document(self, process: str, interval: Interval) -> Job | None:
        """The job as it stood then."""
        return self._documents.get((process, interval.start)) or super().document(process, interval)

    def _units_at(
        self, reading: Reading, undone: dict[str, FeedEntry], at: datetime
    ) -> dict[str, Unit]:
        """The units that were out."""
        moved = [key for key, entry in undone.items() if entry.kind == "unit"]
        found = [unit for unit in reading.units.values() if unit.key not in undone]
        for number in range(0, len(moved), TOGETHER):
            for unit in self.store.read_units(moved[number : number + TOGETHER]).values():
                found.append(unit_before(unit, undone[unit.key].transition))
        return {
            unit.key: unit for unit in found if unit.created_at <= at and not unit.state.terminal
        }

    def _timetable_at(self, reading: Reading, undone: dict[str, FeedEntry]) -> Timetable:
        stood: list[tuple[str, Interval, Job | None]] = []
        self._documents: dict[tuple[str, datetime], Job] = {}
        moved = [
            entry
            for entry in undone.values()
            if entry.kind == "job" and entry.process in self.catalog.processes
        ]
        by_age = sorted(self._out.values(), key=lambda unit: unit.created_at)
        out = {(unit.process, unit.interval.start, unit.generation): unit for unit in by_age}
        for number in range(0, len(moved), TOGETHER):
            batch = moved[number : number + TOGETHER]
            documents = self.store.read_jobs([entry.key for entry in batch])
            for entry in batch:
                job = documents.get(entry.key) or embryo(entry.process, entry.interval)
                before = self._job_before(job, entry.transition, out)
                stood.append((entry.process, entry.interval, before))
                if before is not None:
                    self._documents[entry.process, entry.interval.start] = before
        return reading.timetable.amended(stood)

    def _job_before(
        self, job: Job, first: Transition, out: dict[tuple[str, datetime, int], Unit]
    ) -> Job | None:
        """The job before its first transition since; None where nothing had been written."""
        if first.version == 1:
            return None
        was = _transition(job.transitions, first.version - 1)
        state = JobState(first.before)
        reopened = first.before != first.after == JobState.EMBRYO
        generation = was.generation if was is not None else first.generation - reopened
        unit = out.get((job.process, job.interval.start, generation))
        key = unit.key if unit is not None else None
        process = self.catalog.processes[job.process]
        if (
            key is None
            and state.at_work
            and (state is JobState.FINAL_RUN or not process.open_ended)
        ):
            key = unit_key(job.process, job.interval, generation)
        pausing = key is None and process.open_ended and was is not None and not state.terminal
        return replace(
            job,
            state=state,
            version=first.version - 1,
            generation=generation,
            result=was.result if was is not None else first.result,
            attempts=was.attempt if was is not None else 0,
            outdated=was.outdated if was is not None else False,
            reason=was.reason if was is not None else "",
            unit=key,
            runs=unit.run if unit is not None else 0,
            next_run=process.every.next_after(was.at) if pausing and was is not None else None,
            holds=() if was is None else self._holders(job, was),
            transitions=tuple(each for each in job.transitions if each.version < first.version),
        )

    def _holders(self, job: Job, was: Transition) -> tuple[str, ...]:
        """What held it after a transition, by what it remembers: who holds says so with what it is,
        and who releases leaves the reason as it is.  Requests hold briefly, backfills for long."""
        open_holds: list[str] = []
        before = ""
        holders = {words: key for words, key in self._known_holders.items() if self._may(key, job)}
        for made in job.transitions:
            if made.version > was.version:
                break
            key = holders.pop(made.reason, None)
            if key is not None:
                open_holds.append(key)
            elif open_holds and made.before == made.after and made.reason == before:
                brief = [each for each in open_holds if each not in self._all_backfills]
                open_holds.remove(brief[-1] if brief else open_holds[0])
            before = made.reason
        return tuple(open_holds)

    @cached_property
    def _all_backfills(self) -> dict[str, Backfill]:
        return backfills_of(self.loaded.backfills)

    @cached_property
    def _reprocessing(self) -> dict[str, Request]:
        return {each.id: each for each in self._latest if each.action == "reprocess"}

    @cached_property
    def _known_holders(self) -> dict[str, str]:
        """By what they say of themselves, the requests and backfills that may hold."""
        requests = [*self._reprocessing.values()]
        requests += [each.as_request() for each in self._all_backfills.values()]
        return {in_words(request): request.id for request in requests}

    def _may(self, key: str, job: Job) -> bool:
        """Whether it would hold the job, and not only open it: that was not named, or builds on
        what was."""
        backfill = self._all_backfills.get(key)
        if backfill is not None:
            return not (backfill.process == job.process and backfill.has(job.interval.start))
        request = self._reprocessing[key]
        if request.process != job.process or job.interval.start not in request.starts:
            return True
        return any(
            given.process == job.process and given.start <= start < given.end
            for given in self.catalog.inputs(job.process, job.interval)
            for start in request.starts
        )


def entries_since(reading: Reading, at: datetime) -> list[FeedEntry]:
    """The feed's entries of what happened after an instant, newest first.

    Entries stand nearly in the order of their times; where clocks differ a little, they do not.
    So it is read back until a whole page tells of nothing later.

    Raises:
        NotFound: the feed begins later.
    """
    found: list[FeedEntry] = []
    through = reading.through
    while through > 0:
        after = max(through - BATCH, 0)
        page = [entry for entry in reading.store.feed(after, BATCH) if entry.seq <= through]
        later = [entry for entry in page if entry.transition.at > at]
        found += reversed(later)
        if len(page) < through - after and len(later) == len(page):
            begins = f"from {clock(page[0].transition.at)} UTC on" if page else "no moment before"
            raise NotFound(
                f"the feed does not reach back to {clock(at)} UTC: what was then can be told "
                f"{begins}"
            )
        if not later:
            break
        through = after
    return found


def unit_before(unit: Unit, first: Transition) -> Unit:
    """The unit as it stood before a transition of it."""
    was = _transition(unit.transitions, first.version - 1)
    state = UnitState(first.before)
    attempt = was.attempt if was is not None else first.attempt
    same = attempt == unit.attempt and unit.owner is not None
    started = state is UnitState.IN_PROGRESS and was is not None
    return replace(
        unit,
        state=state,
        version=first.version - 1,
        attempt=attempt,
        reason=was.reason if was is not None else "",
        owner=unit.owner if same and state is not UnitState.REQUESTED else None,
        lease_until=None,
        not_before=waited_until(unit, was) if was is not None else None,
        started_at=was.at if started and was is not None else None,
        finished_at=None,
        progress=None,
        transitions=tuple(each for each in unit.transitions if each.version < first.version),
    )


def waited_until(unit: Unit, requested: Transition) -> datetime | None:
    """Until when it waited after it was requested again; None for not at all.

    The document tells it of its last wait.  Of those before, it is what its process says; where
    a worker had asked for another wait, nobody knows any more.
    """
    if requested.after != UnitState.REQUESTED:
        return None
    if requested.attempt == unit.attempt:
        return unit.not_before
    if not requested.reason.startswith(f"attempt {requested.attempt - 1}: "):
        return None
    if requested.reason.startswith(f"attempt {requested.attempt - 1}: its worker "):
        return requested.at  # it was lost
    failures = sum(
        each.after == UnitState.REQUESTED
        and each.reason.startswith(f"attempt {each.attempt - 1}: ")
        and each.version <= requested.version
        and not is_shared(unit.task, each.attempt - 1)  # it counts against none
        for each in unit.transitions
    )
    wait = recovery.wait_after(unit.key, requested.attempt - 1, failures, unit.task.backoff)
    return requested.at + wait


def _first_of_each(entries: Iterable[FeedEntry]) -> dict[str, FeedEntry]:
    """By document the first of the entries, which are given newest first."""
    first: dict[str, FeedEntry] = {}
    for entry in entries:
        known = first.get(entry.key)
        if known is None or entry.transition.version < known.transition.version:
            first[entry.key] = entry
    return first


def _transition(transitions: Sequence[Transition], version: int) -> Transition | None:
    return next((each for each in transitions if each.version == version), None)


def _was_open(request: Request, at: datetime) -> bool:
    answered = request.answered_at
    return request.filed_at <= at and (answered is None or answered > at)
