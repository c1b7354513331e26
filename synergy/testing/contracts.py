"""The contract of the `Store` port as tests: every implementation passes them, ours and yours.

    class TestMyStore(StoreContract):
        opener = "my_store:open_store"

        @pytest.fixture
        def open_another(self, tmp_path):
            handles = []
            def open_another():
                handles.append(open_store(f"mine://{tmp_path}/store"))
                return handles[-1]
            yield open_another
            for handle in handles:
                handle.close()

Each call of `open_another` gives a handle on the same store, empty at first.  What a store cannot
do by its nature is said by an attribute of the class, and those cases are left out for it.
"""

import contextlib
import importlib
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

import synergy
from synergy.core.intervals import Interval
from synergy.core.model import (
    TRANSITIONS_KEPT,
    Applied,
    BoxRecord,
    Claim,
    FeedEntry,
    Fence,
    Job,
    JobWrite,
    Lease,
    LedgerRecord,
    ProgramRecord,
    Refused,
    Renewal,
    Request,
    Standing,
    Task,
    Transition,
    Unit,
    UnitWrite,
)
from synergy.core.recovery import after_failure, canceled, handed_back
from synergy.core.states import JobState, UnitInput, UnitState
from synergy.ports import KINDS, Store, Versioned
from synergy.records import EPOCH
from synergy.stores.rules import taken

NOW = datetime(2026, 11, 20, 17, 5, 0, 123456, tzinfo=UTC)
LEASE_END = NOW + timedelta(seconds=15)
MICROSECOND = timedelta(microseconds=1)
APPLIED = Applied()
#: More entries than a case writes.
EVERYTHING = 1_000_000
TERMINAL_JOBS = [state for state in JobState if state.terminal]
TERMINAL_UNITS = [state for state in UnitState if state.terminal]

OpenAnother = Callable[[], Store]


# builders


def an_hour(number: int = 0) -> Interval:
    """The nth hour of May 2024."""
    start = datetime(2024, 5, 1, tzinfo=UTC) + timedelta(hours=number)
    return Interval(start, start + timedelta(hours=1), f"{start:%Y-%m-%dT%H}")


def a_job(number: int = 0, process: str = "site_hourly", **fields: Any) -> Job:
    """An embryo that was never written."""
    return Job(process=process, interval=an_hour(number), **fields)


def a_unit(number: int = 0, process: str = "site_hourly", **fields: Any) -> Unit:
    """A requested unit, its request embedded as transition 1."""
    task = Task(entry="workers.site:count", priority=fields.pop("priority", 0))
    asked = Transition(
        version=1, at=NOW, before="", after="requested", generation=1, attempt=1, reason=""
    )
    given = {"generation": 1, "task": task, "created_at": NOW, "transitions": (asked,), **fields}
    return Unit(process=process, interval=an_hour(number), **given)


def in_a_batch(number: int, batch: int = 8, process: str = "site_hourly", **fields: Any) -> Unit:
    """A requested unit that may share its call."""
    said = {name: fields.pop(name) for name in ("arguments", "priority") if name in fields}
    task = Task(entry="workers.site:count", batch=batch, **said)
    return a_unit(number, process, task=task, **fields)


def a_claim(limit: int = 1, owner: str = "worker-1", **fields: Any) -> Claim:
    """A claim at `NOW` with a lease of 15 seconds."""
    return Claim(**{"now": NOW, "lease_until": LEASE_END, "owner": owner, "limit": limit, **fields})


def a_request(number: int = 0, **fields: Any) -> Request:
    """A filed reprocess of one hour."""
    given = {
        "id": f"request-{number:03}",
        "action": "reprocess",
        "process": "site_hourly",
        "starts": (an_hour(number).start,),
        "filed_at": NOW + number * MICROSECOND,
        **fields,
    }
    return Request(**given)


def put_job(store: Store, job: Job, expected: int | None = None) -> Job:
    """Save it over the version before it, and expect that to be taken."""
    write = JobWrite(job, job.version - 1 if expected is None else expected)
    assert store.save_jobs([write]) == [APPLIED]
    return job


def put_unit(store: Store, unit: Unit, expected: Fence | None = None) -> Unit:
    """Save it, and expect that to be taken."""
    assert store.save_units([UnitWrite(unit, expected)]) == [APPLIED]
    return unit


def an_offered_claim(unit: Unit, **fields: Any) -> Claim:
    """A claim of one unit that was offered like this."""
    return a_claim(1, keys=(unit.key,), offered=(unit,), **fields)


def a_stored_job(
    store: Store, state: JobState = JobState.IN_PROGRESS, number: int = 0, **fields: Any
) -> Job:
    """A job moved once, into `state`, and stored."""
    return put_job(store, a_job(number, **fields).moved(state, NOW))


#: The last entry that `fold_all` gave of a store.
_SHOWN: "WeakKeyDictionary[Store, int]" = WeakKeyDictionary()


def fold_all(store: Store, limit: int = 1000) -> list[FeedEntry]:
    """Fold until nothing is pending; the entries since this was last called for the store."""
    while store.fold(limit):
        pass
    entries = store.feed(_SHOWN.get(store, 0), EVERYTHING)
    if entries:
        _SHOWN[store] = entries[-1].seq
    return entries


def labels(documents: Iterable[Job | Unit]) -> list[str]:
    """Their labels, in order."""
    return [document.interval.label for document in documents]


#: A program as a supervisor records it.
A_PROGRAM = ProgramRecord(name="worker", wanted=True, state="running", pid=7, since=NOW)


def a_box(box: str = "db-1", **fields: Any) -> BoxRecord:
    """A box with a supervisor at work since `NOW`."""
    return BoxRecord(
        **{"box": box, "supervisor": f"supervisor@{box}", "since": NOW, "seen_at": NOW, **fields}
    )


class StoreContract:
    """What every store promises.  A subclass provides the fixture `open_another`."""

    #: Whether other processes can open the store by its `url`.
    shareable = True
    #: The function ``module:name`` by which they do, given the URL; they start in our folder.
    opener = "synergy.stores:open_store"
    #: Whether entries of different documents are numbered in the exact order of their commits.
    exact_commit_order = True
    #: Whether entries are in the feed only when they have been folded; else at once.
    folds = True

    @pytest.fixture
    def open_another(self) -> OpenAnother:
        """Overridden: each call gives one more handle on the same store."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, open_another: OpenAnother) -> Store:
        """The first handle."""
        return open_another()

    def need_shareable(self) -> None:
        """Leave the case out where no second process can open the store."""
        if not self.shareable:
            pytest.skip("lives in one process")

    def need_folds(self) -> None:
        """Leave the case out where nothing waits for a fold."""
        if not self.folds:
            pytest.skip("has everything in the feed at once")

    # jobs

    def test_an_empty_store_knows_nothing(self, store: Store) -> None:
        assert store.read_jobs(["site_hourly@2024-05-01T00"]) == {}
        assert store.read_units(["site_hourly@2024-05-01T00#1"]) == {}
        assert store.active_jobs() == []
        assert store.active_units() == []
        assert store.next_claimable() is None
        assert store.claim(a_claim()) == []
        assert store.fold(10) == 0
        assert store.feed(0, 10) == []
        assert store.read_ledgers() == {}
        assert store.open_requests() == []
        assert store.read_request("none") is None
        assert all(store.read_documents(kind) == {} for kind in KINDS)
        assert store.read_lease("scheduler") is None
        assert store.held_units() == []
        assert store.read_boxes() == []
        assert store.switched_off("db-1") == frozenset()

    def test_empty_batches_are_harmless(self, store: Store) -> None:
        assert store.save_jobs([]) == []
        assert store.save_units([]) == []
        assert store.renew([]) == []
        assert store.read_jobs([]) == {}
        store.save_ledgers([])

    def test_a_saved_job_is_read_back_as_it_was(self, store: Store) -> None:
        job = put_job(
            store,
            a_job(
                generation=3,
                result=2,
                result_state=JobState.NOOP,
                fingerprint="sha256:…",
                consumed={"site_hourly@2024-05-01T00": 2},
                consuming={},
                attempts=2,
                unit="site_hourly@2024-05-01T00#3.1",
                runs=1,
                next_run=NOW + MICROSECOND,
                forced=True,
                holds=("request-1", "request-2"),
                reopened_from=Standing(JobState.NOOP, 2, 2, 1, outdated=True),
                requests=("request-0",),
            ).moved(JobState.FINAL_RUN, NOW, "because"),
        )
        assert store.read_jobs([job.key]) == {job.key: job}

    def test_a_finished_job_that_is_marked_stale_says_so_as_does_its_entry(
        self, store: Store
    ) -> None:
        done = put_job(store, a_job(result=1).moved(JobState.PROCESSED, NOW))
        marked = put_job(store, done.moved(done.state, NOW, "late", outdated=True), done.version)
        assert store.read_jobs([done.key]) == {done.key: marked}
        assert [entry.transition.outdated for entry in fold_all(store)] == [False, True]
        assert store.active_jobs() == []
        reopened = marked.moved(JobState.EMBRYO, NOW, generation=2, outdated=False)
        put_job(store, reopened, marked.version)
        assert store.read_jobs([done.key]) == {done.key: reopened}
        assert [entry.transition for entry in fold_all(store)] == [reopened.transitions[-1]]

    def test_another_handle_reads_it_too(self, store: Store, open_another: OpenAnother) -> None:
        job = a_stored_job(store)
        assert open_another().read_jobs([job.key]) == {job.key: job}

    def test_a_job_is_inserted_once(self, store: Store, open_another: OpenAnother) -> None:
        job = a_stored_job(store)
        rival = a_job().moved(JobState.SKIPPED, NOW)
        assert open_another().save_jobs([JobWrite(rival, 0)]) == [Refused(job)]
        assert store.read_jobs([job.key]) == {job.key: job}

    def test_a_job_is_replaced_at_the_expected_version(self, store: Store) -> None:
        job = a_stored_job(store)
        later = put_job(store, job.moved(JobState.PROCESSED, NOW, result=1))
        assert store.read_jobs([job.key]) == {job.key: later}

    @pytest.mark.parametrize("expected", [0, 1, 3, 4])
    def test_a_job_of_another_version_refuses_and_shows_itself(
        self, store: Store, expected: int
    ) -> None:
        job = put_job(store, a_stored_job(store).moved(JobState.PROCESSED, NOW))
        write = JobWrite(replace(job, version=expected + 1, reason="no"), expected)
        assert store.save_jobs([write]) == [Refused(job)]
        assert store.read_jobs([job.key]) == {job.key: job}

    def test_replacing_a_job_that_is_not_there_is_refused_with_nothing(self, store: Store) -> None:
        job = replace(a_job(), version=1).moved(JobState.PROCESSED, NOW)
        assert store.save_jobs([JobWrite(job, 1)]) == [Refused(None)]
        assert store.read_jobs([job.key]) == {}

    def test_a_batch_of_jobs_is_answered_one_by_one_in_order(self, store: Store) -> None:
        taken = a_stored_job(store, number=1)
        fresh = [a_job(number).moved(JobState.IN_PROGRESS, NOW) for number in range(4)]
        answers = store.save_jobs([JobWrite(job, 0) for job in fresh])
        assert answers == [APPLIED, Refused(taken), APPLIED, APPLIED]
        assert len(store.active_jobs()) == 4

    def test_a_second_write_on_a_job_in_one_batch_sees_the_first(self, store: Store) -> None:
        first = a_job().moved(JobState.IN_PROGRESS, NOW)
        second = first.moved(JobState.PROCESSED, NOW)
        answers = store.save_jobs([JobWrite(first, 0), JobWrite(first, 0), JobWrite(second, 1)])
        assert answers == [APPLIED, Refused(first), APPLIED]
        assert store.read_jobs([first.key]) == {first.key: second}
        assert [entry.transition.version for entry in fold_all(store)] == [1, 2]

    def test_reading_many_jobs_leaves_out_the_missing(self, store: Store) -> None:
        jobs = {job.key: job for job in (a_stored_job(store, number=n) for n in range(3))}
        assert store.read_jobs([*jobs, "site_hourly@1999"]) == jobs
        assert store.read_jobs(iter(jobs)) == jobs

    def test_active_jobs_are_those_not_over(self, store: Store) -> None:
        for number, state in enumerate(JobState):
            a_stored_job(store, state, number)
        fold_all(store)
        states = {job.state for job in store.active_jobs()}
        assert states == {JobState.EMBRYO, JobState.IN_PROGRESS, JobState.FINAL_RUN}

    @pytest.mark.parametrize("state", TERMINAL_JOBS)
    def test_a_held_job_is_active_until_it_is_let_go(self, store: Store, state: JobState) -> None:
        held = a_stored_job(store, state, holds=("request-1",))
        assert store.active_jobs() == [held]
        put_job(store, held.moved(state, NOW, holds=()))
        fold_all(store)
        assert store.active_jobs() == []

    def test_a_job_that_ends_and_is_reopened_leaves_and_returns(self, store: Store) -> None:
        over = put_job(store, a_stored_job(store).moved(JobState.PROCESSED, NOW))
        if self.folds:
            assert store.active_jobs() == [over], "until the feed has it, nobody else tells"
        fold_all(store)
        assert store.active_jobs() == []
        again = put_job(store, over.moved(JobState.EMBRYO, NOW, generation=2))
        assert store.active_jobs() == [again]

    def test_jobs_between_are_those_that_start_there_in_order(self, store: Store) -> None:
        for number in (5, 1, 3, 2, 4):
            a_stored_job(store, number=number)
        a_stored_job(store, number=3, process="other")
        found = store.jobs_between("site_hourly", an_hour(2).start, an_hour(4).start)
        assert [job.interval for job in found] == [an_hour(2), an_hour(3)]

    def test_jobs_between_are_exact_to_the_microsecond(self, store: Store) -> None:
        job = a_stored_job(store)
        start = job.interval.start
        assert store.jobs_between("site_hourly", start, start + MICROSECOND) == [job]
        assert store.jobs_between("site_hourly", start + MICROSECOND, start + 2 * MICROSECOND) == []
        assert store.jobs_between("site_hourly", start - MICROSECOND, start) == []

    def test_jobs_sort_by_start_and_not_by_label(self, store: Store) -> None:
        names = {0: "z", 1: "b", 2: "a"}
        for number, label in names.items():
            interval = replace(an_hour(number), label=label)
            put_job(store, replace(a_job(), interval=interval).moved(JobState.IN_PROGRESS, NOW))
        assert labels(store.jobs_between("site_hourly", EPOCH, NOW)) == ["z", "b", "a"]
        assert labels(store.last_jobs("site_hourly", 2)) == ["a", "b"]

    def test_jobs_before_1970_and_in_the_year_9999_sort_too(self, store: Store) -> None:
        old = Interval(
            datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 1, 1, tzinfo=UTC), "0001-01-01T00"
        )
        last = Interval(
            datetime(9999, 12, 31, 23, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            "9999-12-31T23",
        )
        for interval in (last, old, an_hour()):
            put_job(store, replace(a_job(), interval=interval).moved(JobState.IN_PROGRESS, NOW))
        found = store.last_jobs("site_hourly", 9)
        assert [job.interval for job in found] == [last, an_hour(), old]

    def test_the_last_jobs_are_newest_first_and_so_many(self, store: Store) -> None:
        for number in (2, 0, 1):
            a_stored_job(store, JobState.PROCESSED, number)
        a_stored_job(store, number=9, process="other")
        found = store.last_jobs("site_hourly", 2)
        assert [job.interval for job in found] == [an_hour(2), an_hour(1)]
        assert store.last_jobs("site_hourly", 0) == []
        assert store.last_jobs("unknown", 5) == []

    def test_any_text_survives(self, store: Store) -> None:
        text = 'straße "x" \\ \n\t\0 \x1b[0m 日本 🕰 \udcff \u2028'
        interval = replace(an_hour(), label="2024-05-01T00+02:00 é日🕰'%_")
        job = replace(a_job(process="prüfung_日"), interval=interval, holds=(text,))
        put_job(store, job.moved(JobState.FAILED, NOW, text, fingerprint=text))
        unit = replace(a_unit(process="prüfung_日"), interval=interval, low=text, owner="日")
        put_unit(store, unit.moved(UnitState.INVALID, NOW, text))
        assert store.read_jobs([job.key])[job.key].reason == text
        assert store.read_jobs([job.key])[job.key].holds == (text,)
        assert store.read_units([unit.key])[unit.key].low == text
        assert {entry.transition.reason for entry in fold_all(store)} == {text, ""}
        assert {entry.interval.label for entry in store.feed(0, 9)} == {interval.label}

    # pruning

    @pytest.mark.parametrize("state", TERMINAL_JOBS)
    def test_folded_jobs_that_are_over_are_pruned(self, store: Store, state: JobState) -> None:
        jobs = [a_stored_job(store, state, number) for number in range(3)]
        fold_all(store)
        assert store.prune_jobs("site_hourly", an_hour(2).start) == 2
        assert list(store.read_jobs(job.key for job in jobs)) == [jobs[2].key]
        assert store.last_jobs("site_hourly", 9) == [jobs[2]]
        assert store.jobs_between("site_hourly", EPOCH, NOW) == [jobs[2]]

    def test_pruning_leaves_other_processes_alone(self, store: Store) -> None:
        a_stored_job(store, JobState.PROCESSED)
        a_stored_job(store, JobState.PROCESSED, process="other")
        fold_all(store)
        assert store.prune_jobs("other", NOW) == 1
        assert labels(store.last_jobs("site_hourly", 9)) == ["2024-05-01T00"]

    def test_active_jobs_are_not_pruned(self, store: Store) -> None:
        a_stored_job(store)
        fold_all(store)
        assert store.prune_jobs("site_hourly", NOW) == 0

    def test_held_jobs_are_not_pruned(self, store: Store) -> None:
        a_stored_job(store, JobState.PROCESSED, holds=("request-1",))
        fold_all(store)
        assert store.prune_jobs("site_hourly", NOW) == 0

    def test_unfolded_jobs_are_not_pruned(self, store: Store) -> None:
        self.need_folds()
        a_stored_job(store, JobState.PROCESSED)
        assert store.prune_jobs("site_hourly", NOW) == 0
        fold_all(store)
        assert store.prune_jobs("site_hourly", NOW) == 1

    def test_a_job_written_after_the_fold_is_not_pruned(self, store: Store) -> None:
        self.need_folds()
        job = a_stored_job(store)
        fold_all(store)
        put_job(store, job.moved(JobState.PROCESSED, NOW))
        assert store.prune_jobs("site_hourly", NOW) == 0

    def test_a_write_without_a_transition_does_not_hide_one_not_folded(self, store: Store) -> None:
        self.need_folds()
        job = a_stored_job(store, JobState.PROCESSED)
        put_job(store, replace(job, version=2))
        assert store.prune_jobs("site_hourly", NOW) == 0
        assert len(fold_all(store)) == 1

    def test_units_are_pruned_with_their_job_and_only_with_it(self, store: Store) -> None:
        for number, state in enumerate((JobState.PROCESSED, JobState.IN_PROGRESS)):
            a_stored_job(store, state, number)
            for generation in (1, 2):
                put_unit(
                    store, a_unit(number, generation=generation, state=UnitState.PROCESSED, run=1)
                )
        put_unit(store, a_unit(0, process="site_hourly2", state=UnitState.PROCESSED))
        fold_all(store)
        keys = [a_unit(n, generation=g, run=1).key for n in (0, 1) for g in (1, 2)]
        other = a_unit(0, process="site_hourly2").key
        assert store.prune_jobs("site_hourly", NOW) == 1
        assert sorted(store.read_units([*keys, other])) == sorted([*keys[2:], other])

    def test_units_are_pruned_within_a_span_and_their_jobs_stay(self, store: Store) -> None:
        for number in range(4):
            a_stored_job(store, JobState.PROCESSED, number)
            for generation in (1, 2):
                unit = a_unit(number, generation=generation, state=UnitState.PROCESSED)
                put_unit(store, unit)
        put_unit(store, a_unit(1, process="other", state=UnitState.PROCESSED))
        fold_all(store)
        assert store.prune_units("site_hourly", an_hour(1).start, an_hour(3).start) == 4
        assert store.prune_units("site_hourly", an_hour(1).start, an_hour(3).start) == 0
        keys = [a_unit(n, generation=g).key for n in range(4) for g in (1, 2)]
        other = a_unit(1, process="other").key
        assert sorted(store.read_units([*keys, other])) == sorted([*keys[:2], *keys[6:], other])
        assert labels(store.last_jobs("site_hourly", 9)) == [an_hour(n).label for n in (3, 2, 1, 0)]

    def test_units_that_are_out_or_of_active_jobs_are_not_pruned(self, store: Store) -> None:
        a_stored_job(store, JobState.IN_PROGRESS, 0)
        a_stored_job(store, JobState.SKIPPED, 1)
        kept = [put_unit(store, a_unit(0, state=UnitState.PROCESSED)), put_unit(store, a_unit(1))]
        fold_all(store)
        assert store.prune_units("site_hourly", EPOCH, NOW) == 0
        keys = [unit.key for unit in kept]
        assert list(store.read_units(keys)) == keys

    def test_a_job_whose_unit_is_still_out_is_not_pruned(self, store: Store) -> None:
        a_stored_job(store, JobState.SKIPPED)
        unit = put_unit(store, a_unit())
        fold_all(store)
        assert store.prune_jobs("site_hourly", NOW) == 0
        put_unit(store, canceled(unit, NOW, "skipped"), unit.fence)
        fold_all(store)
        assert store.prune_jobs("site_hourly", NOW) == 1
        assert store.active_units() == []

    def test_a_pruned_job_may_begin_again(self, store: Store) -> None:
        a_stored_job(store, JobState.PROCESSED)
        fold_all(store)
        store.prune_jobs("site_hourly", NOW)
        again = a_stored_job(store)
        assert [entry.transition for entry in fold_all(store)] == list(again.transitions)

    # units of work

    def test_a_saved_unit_is_read_back_as_it_was(self, store: Store) -> None:
        task = Task(
            command=("wc", "-l", "a b"),
            noop_codes=(3, 99),
            arguments={"deep": [1, 2.5, None, {"é": True}]},
            source="events",
            sink="hourly",
            time_limit=timedelta(microseconds=1),
            max_attempts=1,
            backoff=timedelta(days=1000, microseconds=7),
            priority=-5,
        )
        unit = a_unit(
            generation=7,
            run=2,
            task=task,
            attempt=3,
            failures=2,
            owner="box-1/4/abc",
            lease_until=LEASE_END,
            not_before=NOW,
            started_at=NOW - MICROSECOND,
            finished_at=NOW + MICROSECOND,
            low=["a", 1],
            high={"é": None},
            count=0,
            fingerprint="",
            progress=(0.5, None, "half"),
        ).moved(UnitState.PROCESSED, NOW, "fine")
        put_unit(store, unit)
        assert store.read_units([unit.key, "x@y#1"]) == {unit.key: unit}

    def test_inserting_a_unit_twice_is_refused_with_it(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        unit = put_unit(store, a_unit())
        assert open_another().save_units([UnitWrite(a_unit(), None)]) == [Refused(unit)]
        assert len(fold_all(store)) == 1

    def test_replacing_a_unit_that_is_not_there_is_refused_with_nothing(self, store: Store) -> None:
        unit = a_unit()
        nothing: Refused[Unit] = Refused(None)
        assert store.save_units([UnitWrite(unit, unit.fence)]) == [nothing]
        assert store.read_units([unit.key]) == {}

    def test_a_unit_is_replaced_by_who_holds_it(self, store: Store) -> None:
        put_unit(store, a_unit())
        [unit] = store.claim(a_claim())
        done = unit.moved(UnitState.PROCESSED, NOW, finished_at=NOW, count=5)
        put_unit(store, done, unit.fence)
        assert store.read_units([unit.key]) == {unit.key: done}
        assert store.active_units() == []

    @pytest.mark.parametrize(
        "wrong",
        [
            {"state": UnitState.REQUESTED},
            {"state": UnitState.CLAIMED},
            {"state": UnitState.PROCESSED},
            {"attempt": 2},
            {"attempt": 0},
            {"owner": "worker-2"},
            {"owner": None},
            {"owner": ""},
            {"lease_until": LEASE_END + MICROSECOND},
            {"lease_until": LEASE_END - MICROSECOND},
        ],
    )
    def test_a_wrong_fence_is_refused(self, store: Store, wrong: dict[str, Any]) -> None:
        put_unit(store, a_unit())
        [unit] = store.claim(a_claim())
        done = unit.moved(UnitState.PROCESSED, NOW)
        fence = replace(unit.fence, **wrong)
        assert store.save_units([UnitWrite(done, fence)]) == [Refused(unit)]
        assert store.read_units([unit.key]) == {unit.key: unit}

    def test_a_fence_with_the_right_lease_lets_pass(self, store: Store) -> None:
        put_unit(store, a_unit())
        [unit] = store.claim(a_claim())
        fence = replace(unit.fence, lease_until=LEASE_END)
        put_unit(store, after_failure(unit, NOW, "lost"), fence)

    def test_a_renewed_lease_is_not_taken_for_a_lost_one(self, store: Store) -> None:
        put_unit(store, a_unit())
        [seen] = store.claim(a_claim())
        assert store.renew([Renewal(seen.key, 1, "worker-1", LEASE_END + MICROSECOND)]) == [True]
        lost = after_failure(seen, NOW, "lease ran out")
        fence = replace(seen.fence, lease_until=seen.lease_until)
        [answer] = store.save_units([UnitWrite(lost, fence)])
        assert answer == Refused(replace(seen, lease_until=LEASE_END + MICROSECOND))

    def test_a_superseded_attempt_cannot_report(self, store: Store) -> None:
        put_unit(store, a_unit())
        [first] = store.claim(a_claim())
        put_unit(store, after_failure(first, NOW, "lost", timedelta(0)), first.fence)
        [second] = store.claim(a_claim(owner="worker-2"))
        late = first.moved(UnitState.PROCESSED, NOW)
        assert store.save_units([UnitWrite(late, first.fence)]) == [Refused(second)]

    def test_the_same_owner_cannot_report_its_former_attempt(self, store: Store) -> None:
        put_unit(store, a_unit())
        [first] = store.claim(a_claim())
        put_unit(store, after_failure(first, NOW, "lost", timedelta(0)), first.fence)
        [second] = store.claim(a_claim())
        assert second.owner == first.owner
        late = first.moved(UnitState.PROCESSED, NOW)
        assert store.save_units([UnitWrite(late, first.fence)]) == [Refused(second)]

    def test_a_canceled_unit_takes_no_result(self, store: Store) -> None:
        put_unit(store, a_unit())
        [unit] = store.claim(a_claim())
        over = put_unit(store, canceled(unit, NOW, "reopened"), unit.fence)
        late = unit.moved(UnitState.PROCESSED, NOW)
        assert store.save_units([UnitWrite(late, unit.fence)]) == [Refused(over)]

    def test_a_version_never_goes_back(self, store: Store) -> None:
        seen = put_unit(store, a_unit())
        held = put_unit(
            store,
            seen.moved(UnitState.CLAIMED, NOW, owner="w", lease_until=LEASE_END),
            seen.fence,
        )
        back = put_unit(store, handed_back(held, NOW, "not started"), held.fence)
        assert back.fence == seen.fence
        outdated = canceled(seen, NOW, "reopened")
        assert store.save_units([UnitWrite(outdated, seen.fence)]) == [Refused(back)]

    def test_a_tombstone_keeps_the_unit_from_being_requested(self, store: Store) -> None:
        grave = put_unit(store, canceled(a_unit(), NOW, "reopened before it was requested"))
        assert store.save_units([UnitWrite(a_unit(), None)]) == [Refused(grave)]
        assert store.claim(a_claim()) == []

    def test_a_batch_of_units_is_answered_one_by_one_in_order(self, store: Store) -> None:
        first = put_unit(store, a_unit(0))
        wrong = replace(first.fence, attempt=9)
        answers = store.save_units(
            [
                UnitWrite(a_unit(1), None),
                UnitWrite(a_unit(0), None),
                UnitWrite(canceled(first, NOW, ""), wrong),
                UnitWrite(a_unit(2), None),
                UnitWrite(a_unit(3), a_unit(3).fence),
            ]
        )
        assert answers == [APPLIED, Refused(first), Refused(first), APPLIED, Refused(None)]
        assert labels(store.active_units()) == [an_hour(n).label for n in range(3)]

    def test_a_second_write_on_a_unit_in_one_batch_sees_the_first(self, store: Store) -> None:
        unit = a_unit()
        over = canceled(unit, NOW, "at once")
        answers = store.save_units(
            [UnitWrite(unit, None), UnitWrite(over, unit.fence), UnitWrite(over, unit.fence)]
        )
        assert answers == [APPLIED, APPLIED, Refused(over)]

    def test_held_units_are_those_of_workers(self, store: Store) -> None:
        for number, state in enumerate(UnitState):
            put_unit(store, a_unit(9 - number, state=state))
        held = {UnitState.CLAIMED, UnitState.IN_PROGRESS}
        units = [unit for unit in store.active_units() if unit.state in held]
        assert len(units) == 2
        assert store.held_units() == units

    def test_active_units_are_those_not_over(self, store: Store) -> None:
        for number, state in enumerate(UnitState):
            put_unit(store, a_unit(number, state=state))
        states = [unit.state for unit in store.active_units()]
        assert sorted(states) == ["claimed", "in_progress", "requested"]

    def test_a_unit_read_without_its_history_keeps_what_is_stored_of_it(self, store: Store) -> None:
        unit = put_unit(store, a_unit())
        (read,) = store.read_units([unit.key, "none"], history=False).values()
        assert replace(read, transitions=unit.transitions) == unit
        gone = canceled(read, NOW, "not wanted")
        put_unit(store, gone, read.fence)
        whole = store.read_units([unit.key])[unit.key]
        assert whole.transitions == (*unit.transitions, gone.transitions[-1])
        assert [entry.transition for entry in fold_all(store)] == list(whole.transitions)

    # claims

    def test_a_claim_starts_the_unit_as_the_model_says(self, store: Store) -> None:
        unit = put_unit(store, a_unit(not_before=NOW, failures=1, attempt=2, reason="before"))
        claim = a_claim(owner="box/1/é")
        expected = unit.moved(
            UnitState.IN_PROGRESS,
            NOW,
            owner="box/1/é",
            lease_until=LEASE_END,
            started_at=NOW,
        )
        assert store.claim(claim) == [expected] == [taken(unit, claim, UnitInput.START)]
        assert store.read_units([unit.key]) == {unit.key: expected}
        assert expected.transitions[-1].after == "in_progress"

    def test_a_claim_keeps_no_more_transitions_than_the_model(self, store: Store) -> None:
        asked = a_unit().transitions[0]
        many = tuple(replace(asked, version=version) for version in range(2, 2 + TRANSITIONS_KEPT))
        unit = put_unit(store, a_unit(transitions=many, version=many[-1].version))
        [begun] = store.claim(a_claim())
        assert begun == taken(unit, a_claim(), UnitInput.START)
        assert len(begun.transitions) == TRANSITIONS_KEPT

    def test_a_claim_takes_so_many_and_no_more(self, store: Store) -> None:
        store.save_units([UnitWrite(a_unit(number), None) for number in range(5)])
        assert store.claim(a_claim(0)) == []
        assert len(store.claim(a_claim(3))) == 3
        assert len(store.claim(a_claim(3))) == 2
        assert store.claim(a_claim(3)) == []

    def test_a_claim_takes_high_priority_then_the_oldest_then_by_key(self, store: Store) -> None:
        numbers = list(range(12))
        random.Random(7).shuffle(numbers)
        for number in numbers:
            put_unit(store, a_unit(number // 2, f"p{number % 2}", priority=number % 3 - 1))
        units = store.claim(a_claim(12))
        order = [(-unit.task.priority, unit.interval.start, unit.key) for unit in units]
        assert order == sorted(order) == [unit.turn for unit in units]
        assert len(units) == 12

    def test_a_claim_in_parts_has_the_same_order(self, store: Store) -> None:
        for number in (3, 1, 2, 0):
            put_unit(store, a_unit(number))
        found = [store.claim(a_claim())[0].interval for _ in range(4)]
        assert found == [an_hour(number) for number in range(4)]

    def test_a_unit_waits_out_its_back_off(self, store: Store) -> None:
        put_unit(store, a_unit(not_before=NOW))
        early = NOW - MICROSECOND
        assert store.claim(a_claim(now=early)) == []
        assert len(store.claim(a_claim(now=NOW))) == 1

    def test_one_in_back_off_does_not_keep_others_waiting(self, store: Store) -> None:
        put_unit(store, a_unit(0, not_before=NOW + MICROSECOND, priority=9))
        put_unit(store, a_unit(1))
        assert labels(store.claim(a_claim(9))) == [an_hour(1).label]

    def test_a_claim_may_name_its_processes(self, store: Store) -> None:
        for process in ("a", "b", "c"):
            put_unit(store, a_unit(process=process))
        assert store.claim(a_claim(9, processes=frozenset())) == []
        assert store.claim(a_claim(9, processes=frozenset({"x"}))) == []
        found = store.claim(a_claim(9, processes=frozenset({"a", "c"})))
        assert [unit.process for unit in found] == ["a", "c"]
        assert [unit.process for unit in store.claim(a_claim(9))] == ["b"]

    def test_a_claim_may_name_its_units(self, store: Store) -> None:
        for number in range(4):
            put_unit(store, a_unit(number))
        assert store.claim(a_claim(9, keys=())) == []
        named = (a_unit(3).key, "site_hourly@1999-01-01T00#1", a_unit(1).key, a_unit(3).key)
        assert labels(store.claim(a_claim(1, keys=named))) == [an_hour(1).label]
        assert labels(store.claim(a_claim(9, keys=named))) == [an_hour(3).label]
        assert store.claim(a_claim(9, keys=named)) == []
        assert labels(store.claim(a_claim(9))) == [an_hour(0).label, an_hour(2).label]

    def test_a_claim_of_named_units_has_the_order_of_every_claim(self, store: Store) -> None:
        numbers = list(range(12))
        random.Random(7).shuffle(numbers)
        for number in numbers:
            put_unit(store, a_unit(number // 2, f"p{number % 2}", priority=number % 3 - 1))
        keys = tuple(unit.key for unit in store.active_units())
        units = store.claim(a_claim(12, keys=keys))
        assert [unit.turn for unit in units] == sorted(unit.turn for unit in units)
        assert len(units) == 12

    def test_to_be_named_is_one_condition_among_the_others(self, store: Store) -> None:
        put_unit(store, a_unit(0, not_before=NOW + MICROSECOND))
        put_unit(store, a_unit(1, state=UnitState.CANCELED))
        put_unit(store, a_unit(2, "slow"))
        put_unit(store, a_unit(3, attempt=2))
        put_unit(store, a_unit(4))
        put_unit(store, a_unit(5))
        keys = (*(a_unit(number).key for number in range(5)), a_unit(2, "slow").key)
        mine = frozenset({"site_hourly"})
        wish: dict[str, Any] = {"keys": keys, "ahead": 9, "quick": frozenset({"site_hourly"})}
        assert store.claim(a_claim(9, keys=keys, processes=frozenset())) == []
        ahead = store.claim(a_claim(0, processes=mine, **wish))
        assert [(unit.interval, unit.state.value) for unit in ahead] == [(an_hour(4), "claimed")]
        begun = store.claim(a_claim(9, processes=mine, **wish))
        assert [(unit.interval, unit.state.value) for unit in begun] == [
            (an_hour(3), "in_progress")
        ]
        assert [unit.process for unit in store.claim(a_claim(9, keys=keys))] == ["slow"]
        assert labels(store.claim(a_claim(9))) == [an_hour(5).label]

    def test_an_offered_unit_is_claimed_as_it_stands(self, store: Store) -> None:
        unit, late, gone = (a_unit(number) for number in range(3))
        put_unit(store, unit)
        put_unit(store, replace(late, version=3))
        put_unit(store, replace(gone, state=UnitState.CANCELED))
        forged = replace(unit, task=replace(unit.task, entry="evil:code"), low=7, failures=3)
        elsewhere = {"processes": frozenset({"x"})}
        for processes, offered in ((elsewhere, unit), ({}, gone), ({}, a_unit(9))):
            assert store.claim(an_offered_claim(offered, **processes)) == []
        (begun,) = store.claim(an_offered_claim(forged))
        assert (begun.task, begun.low, begun.failures) == (unit.task, None, 0)
        assert (begun.state, begun.version) == (UnitState.IN_PROGRESS, 2)
        assert store.read_units([unit.key]) == {unit.key: begun}
        assert store.claim(an_offered_claim(unit)) == []
        (begun,) = store.claim(an_offered_claim(late))
        assert (begun.state, begun.version) == (UnitState.IN_PROGRESS, 4)

    def test_with_a_unit_come_those_that_make_its_call_full(self, store: Store) -> None:
        for number in (4, 2, 0, 3, 1, 5, 6, 7):
            put_unit(store, in_a_batch(number, 3))
        put_unit(store, a_unit(0, "single"))
        claim = a_claim(2)
        begun = store.claim(claim)
        assert sorted(unit.key for unit in begun) == sorted(
            [a_unit(0, "single").key, *(a_unit(number).key for number in range(3))]
        )
        assert {unit.key: unit for unit in begun} == store.read_units([u.key for u in begun])
        one = next(unit for unit in begun if unit.key == a_unit(2).key)
        assert one == taken(in_a_batch(2, 3), claim, UnitInput.START)
        assert labels(store.claim(a_claim(2))) == [an_hour(number).label for number in (3, 4, 5)]
        assert labels(store.claim(a_claim(2))) == [an_hour(number).label for number in (6, 7)]

    def test_a_call_ends_where_units_do_not_follow_or_are_not_to_be_with_others(
        self, store: Store
    ) -> None:
        put_unit(store, in_a_batch(0))
        put_unit(store, in_a_batch(1))
        put_unit(store, in_a_batch(3))  # behind a gap
        put_unit(store, in_a_batch(4, attempt=2))
        put_unit(store, in_a_batch(5, not_before=NOW + MICROSECOND))
        put_unit(store, in_a_batch(6))
        put_unit(store, in_a_batch(7, arguments={"site": "b"}))
        put_unit(store, in_a_batch(8, 8, arguments={"site": "b"}, priority=-1))
        put_unit(store, in_a_batch(1, process="another"))
        calls = []
        while begun := store.claim(a_claim(1)):
            calls.append([(unit.interval.start.hour, unit.process[0]) for unit in begun])
        assert calls == [
            [(0, "s"), (1, "s")],
            [(1, "a")],
            [(3, "s")],
            [(4, "s")],
            [(6, "s")],
            [(7, "s"), (8, "s")],
        ]
        assert labels(store.claim(a_claim(1, now=NOW + MICROSECOND))) == [an_hour(5).label]

    def test_what_makes_a_call_full_need_not_be_named(self, store: Store) -> None:
        for number in range(5):
            put_unit(store, in_a_batch(number, 3))
        offered = in_a_batch(1, 3)
        begun = store.claim(an_offered_claim(offered))
        assert labels(begun) == [an_hour(number).label for number in (1, 2, 3)]
        named = (in_a_batch(0).key, in_a_batch(4).key)
        begun = store.claim(a_claim(2, keys=named))
        assert labels(begun) == [an_hour(number).label for number in (0, 4)]

    def test_what_makes_a_call_full_is_not_claimed_ahead_as_well(self, store: Store) -> None:
        for number in range(5):
            put_unit(store, in_a_batch(number, 3))
        begun = store.claim(a_claim(1, ahead=1, quick=frozenset({"site_hourly"})))
        assert [unit.state.value for unit in begun] == [*["in_progress"] * 3, "claimed"]
        assert labels(begun) == [an_hour(number).label for number in range(4)]

    def test_those_of_a_call_are_reported_while_the_next_is_claimed(self, store: Store) -> None:
        for number in range(4):
            put_unit(store, in_a_batch(number, 2))
        begun = store.claim(a_claim())
        writes = [UnitWrite(handed_back(unit, NOW, "stop"), unit.fence) for unit in begun]
        answers, others = store.save_and_claim(writes, a_claim(owner="worker-1/2"))
        assert answers == [APPLIED, APPLIED]
        assert {unit.owner for unit in others} == {"worker-1/2"}

    @pytest.mark.parametrize("state", [s for s in UnitState if s is not UnitState.REQUESTED])
    def test_only_requested_units_are_claimed(self, store: Store, state: UnitState) -> None:
        put_unit(store, a_unit(state=state))
        assert store.claim(a_claim()) == []
        assert store.next_claimable() is None

    def test_a_unit_given_back_can_be_claimed_again(self, store: Store) -> None:
        put_unit(store, a_unit())
        [unit] = store.claim(a_claim())
        put_unit(store, handed_back(unit, NOW, "shutdown"), unit.fence)
        [again] = store.claim(a_claim(owner="worker-2"))
        assert (again.attempt, again.owner, again.failures) == (2, "worker-2", 0)

    def test_the_next_claimable_is_the_earliest(self, store: Store) -> None:
        put_unit(store, a_unit(0, not_before=NOW + 2 * MICROSECOND))
        put_unit(store, a_unit(1, not_before=NOW + MICROSECOND))
        assert store.next_claimable() == NOW + MICROSECOND
        put_unit(store, a_unit(2))
        assert store.next_claimable() == EPOCH
        store.claim(a_claim())
        assert store.next_claimable() == NOW + MICROSECOND

    def test_behind_the_started_some_are_claimed_ahead(self, store: Store) -> None:
        for number in (4, 2, 0, 3, 1):
            put_unit(store, a_unit(number))
        units = store.claim(a_claim(2, ahead=2, quick=frozenset({"site_hourly"})))
        assert [unit.interval for unit in units] == [an_hour(number) for number in range(4)]
        assert [unit.state for unit in units] == ["in_progress"] * 2 + ["claimed"] * 2
        assert [unit.started_at for unit in units] == [NOW, NOW, None, None]
        assert {unit.owner for unit in units} == {"worker-1"}
        assert {unit.lease_until for unit in units} == {LEASE_END}
        assert store.read_units(unit.key for unit in units) == {unit.key: unit for unit in units}
        assert labels(store.claim(a_claim(9))) == [an_hour(4).label]

    def test_a_claim_ahead_is_as_the_model_says(self, store: Store) -> None:
        unit = put_unit(store, a_unit(not_before=NOW, reason="handed back"))
        claim = a_claim(0, owner="box/1/é", ahead=1, quick=frozenset({"site_hourly"}))
        expected = unit.moved(UnitState.CLAIMED, NOW, owner="box/1/é", lease_until=LEASE_END)
        assert store.claim(claim) == [expected] == [taken(unit, claim, UnitInput.CLAIM)]
        assert store.active_units() == [expected]
        assert store.next_claimable() is None
        assert [entry.transition for entry in fold_all(store)] == list(expected.transitions)

    def test_without_a_free_slot_units_are_only_claimed_ahead(self, store: Store) -> None:
        store.save_units([UnitWrite(a_unit(number), None) for number in range(3)])
        units = store.claim(a_claim(0, ahead=2, quick=frozenset({"site_hourly"})))
        assert [unit.state for unit in units] == ["claimed", "claimed"]
        assert labels(units) == [an_hour(0).label, an_hour(1).label]

    def test_only_units_of_quick_processes_are_claimed_ahead(self, store: Store) -> None:
        for number, process in enumerate("abcabc"):
            put_unit(store, a_unit(number, process, priority=number == 5))
        assert store.claim(a_claim(0, ahead=9)) == []
        units = store.claim(a_claim(1, ahead=9, quick=frozenset({"b", "c"})))
        assert [unit.process for unit in units] == ["c", "b", "c", "b"]
        assert [unit.state for unit in units] == ["in_progress", "claimed", "claimed", "claimed"]

    def test_a_claim_ahead_keeps_to_the_processes_that_it_names(self, store: Store) -> None:
        for process in ("a", "b", "c"):
            put_unit(store, a_unit(process=process))
        wish: dict[str, Any] = {"ahead": 9, "quick": frozenset({"b", "c"})}
        assert store.claim(a_claim(1, processes=frozenset(), **wish)) == []
        units = store.claim(a_claim(1, processes=frozenset({"a", "b"}), **wish))
        assert [(unit.process, unit.state) for unit in units] == [
            ("a", "in_progress"),
            ("b", "claimed"),
        ]

    def test_only_first_attempts_are_claimed_ahead(self, store: Store) -> None:
        put_unit(store, a_unit(0))
        put_unit(store, a_unit(1, attempt=2, failures=1))
        put_unit(store, a_unit(2, attempt=2))
        put_unit(store, a_unit(3))
        quick = frozenset({"site_hourly"})
        assert labels(store.claim(a_claim(0, ahead=9, quick=quick))) == [
            an_hour(0).label,
            an_hour(3).label,
        ]
        assert store.claim(a_claim(0, ahead=9, quick=quick)) == []
        again = store.claim(a_claim(1, ahead=9, quick=quick))
        assert [(unit.attempt, unit.state) for unit in again] == [(2, "in_progress")]

    def test_a_claim_ahead_leaves_one_in_back_off(self, store: Store) -> None:
        put_unit(store, a_unit(0, not_before=NOW + MICROSECOND))
        put_unit(store, a_unit(1, not_before=NOW))
        units = store.claim(a_claim(0, ahead=9, quick=frozenset({"site_hourly"})))
        assert labels(units) == [an_hour(1).label]

    def test_a_unit_claimed_ahead_is_reported_with_its_start(self, store: Store) -> None:
        put_unit(store, a_unit())
        [held] = store.claim(a_claim(0, ahead=1, quick=frozenset({"site_hourly"})))
        fold_all(store)
        begun = held.moved(UnitState.IN_PROGRESS, NOW, started_at=NOW)
        done = begun.moved(UnitState.PROCESSED, NOW + MICROSECOND, finished_at=NOW, count=5)
        assert store.save_units([UnitWrite(done, begun.fence)]) == [Refused(held)]
        put_unit(store, done, held.fence)
        assert store.read_units([held.key]) == {held.key: done}
        assert store.active_units() == []
        assert [entry.transition for entry in fold_all(store)] == list(done.transitions[-2:])
        assert store.save_units([UnitWrite(done, held.fence)]) == [Refused(done)]

    def test_a_unit_claimed_ahead_and_lost_is_handed_back_in_its_attempt(
        self, store: Store
    ) -> None:
        put_unit(store, a_unit())
        wish = a_claim(0, ahead=1, quick=frozenset({"site_hourly"}))
        [held] = store.claim(wish)
        put_unit(store, handed_back(held, NOW, "not started"), held.fence)
        [again] = store.claim(replace(wish, owner="worker-2"))
        assert (again.attempt, again.owner, again.state) == (1, "worker-2", "claimed")
        begun = held.moved(UnitState.IN_PROGRESS, NOW, started_at=NOW)
        late = begun.moved(UnitState.PROCESSED, NOW)
        assert store.save_units([UnitWrite(late, held.fence)]) == [Refused(again)]

    def test_two_handles_never_claim_the_same(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        store.save_units([UnitWrite(a_unit(number), None) for number in range(20)])
        other = open_another()
        found = [
            unit.key
            for turn in range(10)
            for handle, owner in ((store, "a"), (other, "b"))
            for unit in handle.claim(a_claim(1 + turn % 2, owner))
        ]
        assert len(found) == len(set(found)) == 20

    def test_64_threads_claim_every_unit_once(self, store: Store) -> None:
        count, threads = 192, 64
        store.save_units([UnitWrite(a_unit(number), None) for number in range(count)])
        at_once = threading.Barrier(threads)
        quick = frozenset({"site_hourly"})

        def work(number: int) -> list[tuple[str, int]]:
            at_once.wait()
            held = []
            ahead = number % 2
            wish = a_claim(2 - ahead, f"worker-{number}", ahead=ahead, quick=quick)
            while units := store.claim(wish):
                held += [(unit.key, unit.attempt) for unit in units]
            return held

        with ThreadPoolExecutor(threads) as pool:
            held = [each for part in pool.map(work, range(threads)) for each in part]
        assert len(held) == len(set(held)) == count
        stored = store.active_units()
        assert {unit.state for unit in stored} <= {UnitState.IN_PROGRESS, UnitState.CLAIMED}

    def test_64_threads_insert_a_unit_once(self, store: Store) -> None:
        at_once = threading.Barrier(64)

        def insert(number: int) -> Applied | Refused[Unit]:
            at_once.wait()
            return store.save_units([UnitWrite(a_unit(owner=f"{number}"), None)])[0]

        with ThreadPoolExecutor(64) as pool:
            answers = list(pool.map(insert, range(64)))
        [stored] = store.active_units()
        assert Counter(map(type, answers)) == {Applied: 1, Refused: 63}
        assert all(answer == Refused(stored) for answer in answers if answer != APPLIED)

    def test_threads_that_race_on_a_job_win_once_each_version(self, store: Store) -> None:
        job = a_stored_job(store)
        wins = []

        def race(number: int) -> None:
            for _ in range(6):
                mine = store.read_jobs([job.key])[job.key]
                after = mine.moved(JobState.IN_PROGRESS, NOW, f"thread {number}")
                if store.save_jobs([JobWrite(after, mine.version)]) == [APPLIED]:
                    wins.append(after.version)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(race, range(8)))
        assert sorted(wins) == list(range(2, 2 + len(wins)))
        told = [entry.transition.version for entry in fold_all(store)]
        assert told[-len(wins) :] == sorted(wins)

    def test_4_processes_claim_every_attempt_once(self, store: Store) -> None:
        self.need_shareable()
        count = 400
        store.save_units([UnitWrite(a_unit(number), None) for number in range(count)])
        parts = run_parties("claim", self.opener, store.url, 4)
        held = [tuple(line) for part in parts for line in part]
        assert len(held) == len(set(held)) == count
        assert sum(unit.attempt for unit in store.active_units()) == count

    def test_4_processes_fold_every_transition_once(self, store: Store) -> None:
        self.need_shareable()
        self.need_folds()
        jobs = [a_job(number).moved(JobState.IN_PROGRESS, NOW) for number in range(300)]
        store.save_jobs([JobWrite(job, 0) for job in jobs])
        parts = run_parties("fold", self.opener, store.url, 4)
        counts = [count for part in parts for count in part]
        assert sum(counts) == 300
        assert [entry.seq for entry in store.feed(0, 1000)] == list(range(1, 301))

    # renewals

    def test_a_renewal_moves_the_lease_and_the_progress_only(self, store: Store) -> None:
        put_unit(store, a_unit())
        [unit] = store.claim(a_claim())
        fold_all(store)
        later = LEASE_END + timedelta(seconds=5)
        progress = (3.0, 10.0, "three of ten é")
        assert store.renew([Renewal(unit.key, 1, "worker-1", later, progress)]) == [True]
        assert store.read_units([unit.key]) == {
            unit.key: replace(unit, lease_until=later, progress=progress)
        }
        assert store.fold(10) == 0

    def test_a_renewal_without_progress_leaves_the_last_known(self, store: Store) -> None:
        put_unit(store, a_unit())
        [unit] = store.claim(a_claim())
        progress = (1.0, None, "")
        store.renew([Renewal(unit.key, 1, "worker-1", LEASE_END, progress)])
        store.renew([Renewal(unit.key, 1, "worker-1", LEASE_END)])
        assert store.read_units([unit.key])[unit.key].progress == progress

    def test_a_unit_claimed_ahead_is_renewed_too(self, store: Store) -> None:
        unit = put_unit(store, a_unit(state=UnitState.CLAIMED, owner="w", lease_until=NOW))
        assert store.renew([Renewal(unit.key, 1, "w", LEASE_END)]) == [True]
        assert store.read_units([unit.key])[unit.key].lease_until == LEASE_END

    @pytest.mark.parametrize(("attempt", "owner"), [(2, "worker-1"), (0, "worker-1"), (1, "other")])
    def test_a_stranger_cannot_renew(self, store: Store, attempt: int, owner: str) -> None:
        put_unit(store, a_unit())
        [unit] = store.claim(a_claim())
        assert store.renew([Renewal(unit.key, attempt, owner, LEASE_END + MICROSECOND)]) == [False]
        assert store.read_units([unit.key]) == {unit.key: unit}

    @pytest.mark.parametrize("state", [UnitState.REQUESTED, *TERMINAL_UNITS])
    def test_what_nobody_holds_cannot_be_renewed(self, store: Store, state: UnitState) -> None:
        unit = put_unit(store, a_unit(state=state, owner="worker-1"))
        assert store.renew([Renewal(unit.key, 1, "worker-1", LEASE_END)]) == [False]
        assert store.read_units([unit.key]) == {unit.key: unit}

    def test_renewals_are_answered_one_by_one(self, store: Store) -> None:
        store.save_units([UnitWrite(a_unit(number), None) for number in range(3)])
        units = store.claim(a_claim(3))
        lost = units[1]
        put_unit(store, canceled(lost, NOW, "skipped"), lost.fence)
        wishes = [Renewal(unit.key, 1, "worker-1", LEASE_END + MICROSECOND) for unit in units]
        wishes.append(Renewal("x@y#1", 1, "worker-1", LEASE_END))
        assert store.renew(wishes) == [True, False, True, False]

    def test_a_holder_reports_after_renewing(self, store: Store) -> None:
        put_unit(store, a_unit())
        [unit] = store.claim(a_claim())
        store.renew([Renewal(unit.key, 1, "worker-1", LEASE_END + MICROSECOND)])
        put_unit(store, unit.moved(UnitState.PROCESSED, NOW), unit.fence)

    # the feed

    def test_a_transition_is_folded_once_with_all_it_says(self, store: Store) -> None:
        job = put_job(
            store, a_job(generation=2, attempts=3, result=1).moved(JobState.FAILED, NOW, "why")
        )
        entry = FeedEntry(
            seq=1,
            kind="job",
            key=job.key,
            process="site_hourly",
            interval=an_hour(),
            transition=job.transitions[0],
        )
        assert store.fold(10) == int(self.folds)
        assert store.fold(10) == 0
        assert store.feed(0, 10) == [entry]

    def test_nothing_is_in_the_feed_before_it_is_folded(self, store: Store) -> None:
        self.need_folds()
        a_stored_job(store)
        assert store.feed(0, 10) == []

    def test_units_are_folded_too(self, store: Store) -> None:
        unit = put_unit(store, a_unit())
        [begun] = store.claim(a_claim())
        entries = fold_all(store)
        assert [entry.kind for entry in entries] == ["unit", "unit"]
        assert [entry.transition for entry in entries] == list(begun.transitions)
        assert {entry.key for entry in entries} == {unit.key}

    def test_the_feed_has_no_gaps(self, store: Store) -> None:
        for number in range(7):
            a_stored_job(store, number=number)
            put_unit(store, a_unit(number))
            if number % 3 == 0:
                store.fold(2)
        fold_all(store, 3)
        assert [entry.seq for entry in store.feed(0, 100)] == list(range(1, 15))

    def test_the_transitions_of_a_document_keep_their_order(self, store: Store) -> None:
        job = a_stored_job(store)
        for state in (JobState.PROCESSED, JobState.EMBRYO, JobState.SKIPPED):
            job = put_job(store, job.moved(state, NOW))
        entries = fold_all(store)
        assert [entry.transition.version for entry in entries] == [1, 2, 3, 4]

    def test_transitions_already_in_the_feed_are_not_given_again(self, store: Store) -> None:
        job = a_stored_job(store)
        fold_all(store)
        job = put_job(store, job.moved(JobState.PROCESSED, NOW))
        assert len(job.transitions) == 2
        assert [entry.transition.version for entry in fold_all(store)] == [2]

    def test_a_document_moved_several_times_before_it_is_saved_tells_all(
        self, store: Store
    ) -> None:
        job = a_job().moved(JobState.IN_PROGRESS, NOW).moved(JobState.PROCESSED, NOW)
        put_job(store, job, expected=0)
        job = put_job(
            store, job.moved(JobState.EMBRYO, NOW).moved(JobState.SKIPPED, NOW), expected=2
        )
        assert [entry.transition for entry in fold_all(store)] == list(job.transitions)

    def test_a_write_without_a_transition_tells_nothing(self, store: Store) -> None:
        job = a_stored_job(store)
        fold_all(store)
        put_job(store, replace(job, version=2, forced=True))
        assert store.fold(10) == 0
        put_job(store, replace(job, version=2, forced=True).moved(JobState.PROCESSED, NOW))
        assert [entry.transition.version for entry in fold_all(store)] == [3]

    def test_a_refused_write_tells_nothing(self, store: Store) -> None:
        a_stored_job(store)
        store.save_jobs([JobWrite(a_job().moved(JobState.SKIPPED, NOW), 0)])
        assert len(fold_all(store)) == 1

    def test_a_fold_takes_at_most_so_many_documents(self, store: Store) -> None:
        self.need_folds()
        for number in range(5):
            put_job(store, a_stored_job(store, number=number).moved(JobState.PROCESSED, NOW))
        given: list[FeedEntry] = []
        while count := store.fold(2):
            entries = store.feed(len(given), 100)
            assert len(entries) == count
            assert len({entry.key for entry in entries}) <= 2
            given += entries
        assert len(given) == 10

    def test_documents_are_folded_in_the_order_of_their_commits(self, store: Store) -> None:
        if not self.exact_commit_order:
            pytest.skip("knows the order between documents only roughly")
        order = []
        for number in (4, 2, 9, 0):
            order.append(a_stored_job(store, number=number).key)
            order.append(put_unit(store, a_unit(number)).key)
        job = store.read_jobs(order)[order[0]]
        order.append(put_job(store, job.moved(JobState.PROCESSED, NOW)).key)
        assert [entry.key for entry in fold_all(store, 2)] == order

    def test_two_folders_share_the_work_without_overlap(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        other = open_another()
        count = 0
        for number in range(30):
            a_stored_job(store, number=number)
            if number % 4 == 3:
                count += store.fold(2) + other.fold(1)
        while folded := other.fold(3):
            count += folded
        assert count == (30 if self.folds else 0)
        assert store.fold(10) == 0
        given = other.feed(0, 100)
        assert [entry.seq for entry in given] == list(range(1, 31))
        assert len({(entry.key, entry.transition.version) for entry in given}) == 30

    def test_threads_fold_while_others_write(self, store: Store) -> None:
        counts: list[int] = []
        over = threading.Event()

        def write(part: int) -> None:
            for number in range(part * 25, part * 25 + 25):
                put_job(store, a_stored_job(store, number=number).moved(JobState.PROCESSED, NOW))

        def fold(_: int) -> None:
            while not over.is_set():
                counts.append(store.fold(3))

        with ThreadPoolExecutor(6) as pool:
            folders = [pool.submit(fold, number) for number in range(2)]
            for writer in [pool.submit(write, part) for part in range(4)]:
                writer.result()
            over.set()
            for folder in folders:
                folder.result()
        while folded := store.fold(10):
            counts.append(folded)
        given = store.feed(0, 1000)
        assert sum(counts) == (200 if self.folds else 0)
        assert [entry.seq for entry in given] == list(range(1, 201))
        for key in {entry.key for entry in given}:
            told = [entry.transition.version for entry in given if entry.key == key]
            assert told == [1, 2]

    def test_the_feed_is_read_from_anywhere_in_pieces(self, store: Store) -> None:
        for number in range(5):
            a_stored_job(store, number=number)
        fold_all(store)
        assert [entry.seq for entry in store.feed(2, 2)] == [3, 4]
        assert [entry.seq for entry in store.feed(4, 2)] == [5]
        assert store.feed(5, 2) == []
        assert store.feed(0, 0) == []

    def test_changes_are_the_feed_in_short(self, store: Store) -> None:
        job = a_stored_job(store)
        assert store.changes(0, 10) == ([] if self.folds else [(1, "job", job.key, 1)])
        put_unit(store, a_unit())
        store.claim(a_claim())
        fold_all(store)
        short = [(1, "job", job.key, 1), (2, "unit", a_unit().key, 1), (3, "unit", a_unit().key, 2)]
        assert store.changes(0, 10) == short
        assert store.changes(1, 1) == short[1:2]
        assert store.changes(0, 0) == store.changes(3, 10) == []
        put_job(store, job.moved(JobState.PROCESSED, NOW))
        assert store.changes(3, 10) == ([] if self.folds else [(4, "job", job.key, 2)])
        fold_all(store)
        store.prune_feed(3)
        assert store.changes(0, 10) == [(4, "job", job.key, 2)]

    def test_who_follows_is_told_what_others_did(self, store: Store) -> None:
        job, unit = a_stored_job(store), a_unit()
        put_unit(store, unit)
        known = {(job.key, 1), (unit.key, 1)}
        news = store.follow(0, 10, known)
        assert [change[1:] for change in news.changes] == [
            ("job", job.key, 1),
            ("unit", unit.key, 1),
        ]
        assert (news.units, news.more) == ({}, False)
        (claimed,) = store.claim(a_claim())
        news = store.follow(2, 10, known)
        assert list(news.changes) == [(3, "unit", unit.key, 2)]
        assert replace(news.units[unit.key], transitions=()) == replace(claimed, transitions=())
        assert [entry.seq for entry in store.feed(0, 10)] == [1, 2, 3]
        news = store.follow(3, 10, known)
        assert (list(news.changes), news.units, news.more) == ([], {}, False)

    def test_who_follows_is_told_what_another_has_folded(
        self, store: Store, open_another: Callable[[], Store]
    ) -> None:
        other, told = open_another(), []
        position, rounds = 0, 0
        for number in range(6):
            a_stored_job(store, number=number)
            put_unit(store, a_unit(number=number))
            if number % 2:
                fold_all(other)
            if number == 3:
                store.follow(position, 0, ())  # not told yet, and so asked for again
            news = store.follow(position, 3, ())
            while news.changes or news.more:
                assert [change[0] for change in news.changes] == list(
                    range(position + 1, position + 1 + len(news.changes))
                )
                told += [change[1:] for change in news.changes]
                units = {change[2] for change in news.changes if change[1] == "unit"}
                assert set(news.units) == units
                position += len(news.changes)
                rounds += 1
                news = store.follow(position, 3, ())
            assert len(told) == 2 * (number + 1)
        assert len(set(told)) == 12
        assert rounds >= 6

    def test_a_pruned_feed_goes_on_counting(self, store: Store) -> None:
        for number in range(3):
            a_stored_job(store, number=number)
        fold_all(store)
        assert store.prune_feed(2) == 2
        assert store.prune_feed(2) == 0
        assert [entry.seq for entry in store.feed(0, 10)] == [3]
        assert store.prune_feed(99) == 1
        a_stored_job(store, number=3)
        assert store.prune_feed(3) == 0
        fold_all(store)
        assert [entry.seq for entry in store.feed(0, 10)] == [4]

    # ledgers

    def test_a_ledger_is_read_back_by_its_process(self, store: Store) -> None:
        records = [
            LedgerRecord("a", 3, {"runs": [[0, 1], [3600, 0]], "standings": [["processed", 1]]}),
            LedgerRecord("b", 0, {}),
        ]
        store.save_ledgers(records)
        assert store.read_ledgers() == {record.process: record for record in records}

    def test_a_ledger_that_reaches_further_stays(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        further, behind = LedgerRecord("a", 9, {"x": 9}), LedgerRecord("a", 8, {"x": 8})
        store.save_ledgers([further])
        open_another().save_ledgers([behind, LedgerRecord("b", 1, {})])
        assert store.read_ledgers()["a"] == further
        assert store.read_ledgers()["b"].through == 1
        store.save_ledgers([LedgerRecord("a", 10, {"x": 10})])
        assert store.read_ledgers()["a"].through == 10

    # requests

    def test_a_request_is_read_back_as_it_was(self, store: Store) -> None:
        request = a_request(actor="zoë", reason="late data", starts=(NOW, EPOCH))
        store.file_request(request)
        assert store.read_request(request.id) == request

    def test_filing_a_request_twice_is_harmless(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        store.file_request(a_request())
        open_another().file_request(a_request(reason="again"))
        assert store.open_requests() == [a_request()]

    def test_filing_an_answered_request_again_does_not_open_it(self, store: Store) -> None:
        store.file_request(a_request())
        done = a_request(state="done", answered_at=NOW, answer={"reopened": 3})
        store.move_request(done, "filed")
        store.file_request(a_request())
        assert store.open_requests() == []
        assert store.read_request(done.id) == done

    def test_open_requests_are_in_the_order_of_filing(self, store: Store) -> None:
        for number in (0, 1, 2):
            store.file_request(a_request(number, id=f"request-{9 - number}"))
        refused = a_request(1, id="request-8", state="refused", answered_at=NOW)
        store.move_request(refused, "filed")
        assert [request.id for request in store.open_requests()] == ["request-9", "request-7"]

    def test_the_first_answer_stands(self, store: Store, open_another: OpenAnother) -> None:
        store.file_request(a_request())
        first = a_request(state="done", answered_at=NOW, answer={"by": 1})
        assert store.move_request(first, "filed")
        second = a_request(state="refused", answered_at=NOW)
        assert not open_another().move_request(second, "filed")
        assert store.read_request(first.id) == first
        assert store.move_request(first, "filed")  # as one is told whose first answer was lost

    def test_answering_what_was_never_filed_does_nothing(self, store: Store) -> None:
        assert not store.move_request(a_request(state="done", answered_at=NOW), "filed")
        assert store.read_request(a_request().id) is None

    def test_what_is_planned_waits_for_another(self, store: Store) -> None:
        plan = a_request(state="planned", options={"only": True}, of="another")
        store.file_request(plan)
        assert store.open_requests() == []
        assert store.read_request(plan.id) == plan
        assert not store.move_request(replace(plan, state="done"), "filed")
        assert store.move_request(replace(plan, state="filed"), "planned")
        assert store.open_requests() == [replace(plan, state="filed")]

    def test_the_last_requests_are_told_newest_first(self, store: Store) -> None:
        assert store.last_requests(3) == []
        for number in range(4):
            store.file_request(a_request(number))
        done = a_request(2, state="done")
        store.move_request(done, "filed")
        assert store.last_requests(3) == [a_request(3), done, a_request(1)]
        assert store.last_requests(0) == []

    # documents

    def test_a_document_is_replaced_version_by_version(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        assert store.save_document("catalog", "é", {"processes": ["é"]}, 0)
        assert store.read_documents("catalog") == {"é": Versioned(1, {"processes": ["é"]})}
        assert open_another().save_document("catalog", "é", {}, 1)
        assert store.read_documents("catalog") == {"é": Versioned(2, {})}

    @pytest.mark.parametrize("expected", [0, 2, 7])
    def test_a_document_of_another_version_is_left(self, store: Store, expected: int) -> None:
        store.save_document("switches", "a", {"who": "first"}, 0)
        assert not store.save_document("switches", "a", {"who": "second"}, expected)
        assert not store.save_document("switches", "a", None, expected)
        assert store.read_documents("switches") == {"a": Versioned(1, {"who": "first"})}

    def test_a_first_document_expects_none(self, store: Store) -> None:
        assert not store.save_document("backfills", "a", {}, 1)
        assert store.read_documents("backfills") == {}

    def test_a_document_may_be_put_whatever_stands(self, store: Store) -> None:
        for number in (1, 2):
            assert store.save_document("workers", "a", {"number": number}, None)
            assert store.read_documents("workers") == {"a": Versioned(number, {"number": number})}

    @pytest.mark.parametrize("expected", [1, None])
    def test_a_document_is_removed(self, store: Store, expected: int | None) -> None:
        for key in ("a", "b"):
            store.save_document("workers", key, {}, 0)
        assert store.save_document("workers", "a", None, expected)
        assert store.read_documents("workers") == {"b": Versioned(1, {})}
        assert store.save_document("workers", "a", {}, 0)

    def test_kinds_of_documents_have_nothing_to_do_with_each_other(self, store: Store) -> None:
        for kind in KINDS:
            assert store.save_document(kind, "same", {"kind": kind}, 0)
        for kind in KINDS:
            assert store.read_documents(kind) == {"same": Versioned(1, {"kind": kind})}

    # leases

    def test_a_free_lease_is_taken(self, store: Store) -> None:
        lease = store.take_lease("scheduler", "a", NOW, LEASE_END)
        assert lease == Lease(owner="a", epoch=1, until=LEASE_END, since=NOW)
        assert store.read_lease("scheduler") == lease

    def test_a_held_lease_is_shown_to_others(self, store: Store, open_another: OpenAnother) -> None:
        mine = store.take_lease("scheduler", "a", NOW, LEASE_END)
        last = LEASE_END - MICROSECOND
        assert open_another().take_lease("scheduler", "b", last, last + timedelta(hours=1)) == mine
        assert store.read_lease("scheduler") == mine

    def test_an_own_lease_is_renewed_in_its_epoch(self, store: Store) -> None:
        store.take_lease("scheduler", "a", NOW, LEASE_END)
        later = LEASE_END + timedelta(seconds=9)
        lease = Lease(owner="a", epoch=1, until=later, since=NOW)
        assert store.take_lease("scheduler", "a", NOW + MICROSECOND, later) == lease
        assert store.take_lease("scheduler", "a", later + MICROSECOND, later) == lease

    def test_an_expired_lease_goes_to_the_next_with_a_new_epoch(self, store: Store) -> None:
        store.take_lease("scheduler", "a", NOW, LEASE_END)
        later = LEASE_END + timedelta(seconds=9)
        lease = Lease(owner="b", epoch=2, until=later, since=LEASE_END)
        assert store.take_lease("scheduler", "b", LEASE_END, later) == lease
        assert store.take_lease("scheduler", "a", LEASE_END, later) == lease

    def test_a_dropped_lease_is_free_at_once(self, store: Store) -> None:
        store.take_lease("scheduler", "a", NOW, LEASE_END)
        store.drop_lease("scheduler", "a", NOW)
        dropped = store.read_lease("scheduler")
        assert dropped is not None
        assert (dropped.owner, dropped.epoch, dropped.since) == ("a", 1, NOW)
        assert store.take_lease("scheduler", "b", NOW, LEASE_END).epoch == 2

    def test_only_the_owner_drops_a_lease(self, store: Store) -> None:
        lease = store.take_lease("scheduler", "a", NOW, LEASE_END)
        store.drop_lease("scheduler", "b", NOW)
        store.drop_lease("other", "a", NOW)
        assert store.read_lease("scheduler") == lease

    def test_leases_of_different_names_are_apart(self, store: Store) -> None:
        store.take_lease("scheduler", "a", NOW, LEASE_END)
        assert store.take_lease("supervisor", "b", NOW, LEASE_END).owner == "b"

    def test_64_threads_that_want_a_lease_see_one_owner(self, store: Store) -> None:
        with ThreadPoolExecutor(64) as pool:
            leases = pool.map(
                lambda number: store.take_lease("scheduler", f"{number}", NOW, LEASE_END), range(64)
            )
            assert len(set(leases)) == 1

    # boxes

    def test_a_box_is_read_back_as_it_was(self, store: Store, open_another: OpenAnother) -> None:
        record = a_box(
            programs=(
                ProgramRecord(name="scheduler", wanted=False, state="stopped"),
                ProgramRecord(
                    name="worker",
                    wanted=True,
                    state="crash_loop",
                    pid=4711,
                    since=NOW + MICROSECOND,
                    restarts=7,
                    cpu_seconds=0.25,
                    memory_bytes=2**40,
                    reason="exit code 1: é",
                ),
            ),
            trouble="the store did not answer",
        )
        store.save_box(record)
        assert open_another().read_boxes() == [record]

    def test_a_box_is_put_in_the_place_of_the_one_before(self, store: Store) -> None:
        later = a_box(supervisor=None, since=None, seen_at=LEASE_END)
        for record in (a_box(programs=(A_PROGRAM,)), a_box("db-2"), later):
            store.save_box(record)
        assert store.read_boxes() == [later, a_box("db-2")]

    def test_boxes_are_read_by_name(self, store: Store) -> None:
        for box in ("b", "a-10", "a-9", "B"):
            store.save_box(a_box(box))
        assert [record.box for record in store.read_boxes()] == ["B", "a-10", "a-9", "b"]

    def test_a_program_is_switched_off_and_on(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        other = open_another()
        store.switch_program("db-1", "worker", False)
        other.switch_program("db-1", "worker", False)
        other.switch_program("db-1", "scheduler", False)
        other.switch_program("db-2", "heavy", False)
        assert store.switched_off("db-1") == {"worker", "scheduler"}
        store.switch_program("db-1", "worker", True)
        store.switch_program("db-1", "worker", True)
        assert other.switched_off("db-1") == {"scheduler"}
        assert other.switched_off("db-2") == {"heavy"}
        assert other.switched_off("db-3") == frozenset()

    def test_a_switch_needs_no_box_and_outlives_its_records(self, store: Store) -> None:
        store.switch_program("db-1", "worker", False)
        assert store.read_boxes() == []
        store.save_box(a_box(programs=(A_PROGRAM,)))
        store.save_box(a_box())
        assert store.switched_off("db-1") == {"worker"}
        store.switch_program("db-1", "worker", True)
        assert store.read_boxes() == [a_box()]

    # calls together

    def test_calls_together_are_answered_as_by_themselves(self, store: Store) -> None:
        with store.together():
            job = put_job(store, a_job().moved(JobState.IN_PROGRESS, NOW, unit=a_unit().key))
            unit = put_unit(store, a_unit())
            assert store.save_jobs([JobWrite(a_job().moved(JobState.FAILED, NOW), 0)]) == [
                Refused(job)
            ]
            assert store.read_units([unit.key]) == {unit.key: unit}
            (mine,) = store.claim(a_claim())
            assert store.claim(a_claim(owner="another")) == []
            assert store.renew([Renewal(mine.key, 1, "worker-1", LEASE_END)]) == [True]
            assert len(fold_all(store)) == 3

    def test_what_was_done_together_is_there_for_others_after_the_block(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        other = open_another()
        with store.together():
            job = a_stored_job(store)
            with store.together():
                unit = put_unit(store, a_unit())
        assert other.read_jobs([job.key]) == {job.key: job}
        assert other.read_units([unit.key]) == {unit.key: unit}

    def test_after_a_block_that_raised_every_write_is_there_or_not_and_work_goes_on(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        other = open_another()
        with contextlib.suppress(RuntimeError), store.together():
            job = a_stored_job(store)
            unit = put_unit(store, a_unit())
            raise RuntimeError
        standing = other.read_jobs([job.key])
        assert standing in ({}, {job.key: job})
        following = job.moved(JobState.PROCESSED, NOW)
        (answer,) = store.save_jobs([JobWrite(following, job.version if standing else 0)])
        assert answer == APPLIED
        assert other.read_jobs([job.key])[job.key].state is JobState.PROCESSED
        assert other.read_units([unit.key]) in ({}, {unit.key: unit})

    def test_a_block_may_be_empty_or_only_read(self, store: Store) -> None:
        with store.together():
            pass
        with store.together():
            assert store.active_jobs() == []

    @pytest.mark.parametrize("brought", [True, False])
    @pytest.mark.parametrize("limit", [0, 1, 3])
    def test_a_report_and_a_claim_in_one_are_answered_as_by_themselves(
        self, store: Store, limit: int, brought: bool
    ) -> None:
        units = [put_unit(store, a_unit(number)) for number in range(4)]
        (begun,) = store.claim(a_claim(keys=(units[0].key,)))
        done = begun.moved(UnitState.PROCESSED, NOW, finished_at=NOW)
        wanted = units[1 : limit + 1]
        offer = {"keys": tuple(unit.key for unit in wanted), "offered": tuple(wanted)}
        claim = a_claim(limit, owner="worker-2", **(offer if brought else {}))
        answers, held = store.save_and_claim([UnitWrite(done, begun.fence)], claim)
        assert answers == [APPLIED]
        assert [unit.key for unit in held] == [unit.key for unit in wanted]
        assert {unit.owner for unit in held} <= {"worker-2"}
        stands = store.read_units(unit.key for unit in units)
        assert stands[done.key] == done
        assert [stands[unit.key] for unit in held] == held

    @pytest.mark.parametrize("brought", [True, False])
    def test_of_a_report_and_a_claim_each_may_be_in_vain(self, store: Store, brought: bool) -> None:
        units = [put_unit(store, a_unit(number)) for number in range(3)]
        begun, other = store.claim(a_claim(2))
        gone = put_unit(store, canceled(begun, NOW, "skipped"), begun.fence)
        done = [unit.moved(UnitState.PROCESSED, NOW) for unit in (begun, other)]
        offer = {"keys": (units[2].key,), "offered": (units[2],)} if brought else {}
        answers, held = store.save_and_claim(
            [UnitWrite(done[0], begun.fence), UnitWrite(done[1], other.fence)],
            a_claim(1, owner="worker-2", **offer),
        )
        assert answers == [Refused(gone), APPLIED]
        assert labels(held) == [an_hour(2).label]
        end = held[0].moved(UnitState.PROCESSED, NOW)
        again = store.save_and_claim(
            [UnitWrite(end, held[0].fence)], a_claim(1, owner="worker-3", **offer)
        )
        assert again == ([APPLIED], [])

    def test_threads_do_not_share_a_block(self, store: Store) -> None:
        with ThreadPoolExecutor(1) as aside, store.together():
            assert aside.submit(put_unit, store, a_unit()).result() == a_unit()
            assert store.read_units([a_unit().key]) == {a_unit().key: a_unit()}

    # the store itself

    def test_a_tidy_up_changes_nothing(self, store: Store) -> None:
        job = a_stored_job(store)
        store.checkpoint()
        assert store.read_jobs([job.key]) == {job.key: job}
        put_job(store, job.moved(JobState.PROCESSED, NOW))
        store.checkpoint()
        assert len(fold_all(store)) == 2

    def test_closing_twice_is_harmless(self, open_another: OpenAnother) -> None:
        handle = open_another()
        handle.close()
        handle.close()

    def test_what_was_written_is_there_for_a_later_handle(
        self, store: Store, open_another: OpenAnother
    ) -> None:
        self.need_shareable()
        job, unit = a_stored_job(store), put_unit(store, a_unit())
        entries = fold_all(store)
        store.close()
        later = open_another()
        assert later.active_jobs() == [job]
        assert later.active_units() == [unit]
        assert later.feed(0, 10) == entries


# parties: what the cases let other processes do


def run_parties(party: str, opener: str, url: str, count: int) -> list[list[Any]]:
    """Let so many processes do the same at once on a store; what each of them printed as JSON."""
    root = str(Path(synergy.__file__).parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    parties = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "synergy.testing.contracts"),
                *(party, opener, url, f"party-{number}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        for number in range(count)
    ]
    try:
        for each in parties:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in parties:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        answers = [each.communicate(timeout=60)[0] for each in parties]
    finally:
        for each in parties:
            each.kill()
            each.communicate()
    assert [each.returncode for each in parties] == [0] * count
    return [json.loads(answer) for answer in answers]


def main(arguments: Sequence[str]) -> None:
    """One party: open the store, wait for the word, work until nothing is left, print it."""
    party, opener, url, owner = arguments
    module, _, name = opener.partition(":")
    store = getattr(importlib.import_module(module), name)(url)
    print("ready", flush=True)
    sys.stdin.readline()
    done: list[Any] = []
    if party == "claim":
        while units := store.claim(a_claim(3, owner)):
            done += [(unit.key, unit.attempt) for unit in units]
    elif party == "fold":
        while count := store.fold(5):
            done.append(count)
    store.close()
    print(json.dumps(done))


if __name__ == "__main__":
    main(sys.argv[1:])
