"""Plan, apply, withdraw: what is touched is what was printed, once, and may be taken back."""

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core import machines, plans
from synergy.core.building import CatalogError
from synergy.core.context import (
    After,
    Context,
    daily,
    hourly,
    monthly,
    previous,
    tree,
    weekly,
    yearly,
)
from synergy.core.model import Applied, Job, JobWrite, Refused, Request
from synergy.testing.invariants import CheckedStore
from synergy.testing.stage import Stage, fails, finds_nothing, processes, processes_with

SPAN: dict[str, Any] = {"start": "2026-11-18", "until": "2026-11-20", "lag": 0}
HOUR = "2026-11-18T07"


def context(**hour: Any) -> Context:
    """hour → day → month → year, and a client tree that depends on the days."""
    return Context(
        tree(
            "site",
            [
                yearly("y", run="w:f"),
                monthly("m", run="w:f"),
                daily("d", run="w:f"),
                hourly("h", run="w:f", **hour),
            ],
            **SPAN,
        ),
        tree("client", [monthly("cm", run="w:f"), daily("c", run="w:f", after="d")], **SPAN),
    )


def finished(worker: Any = processes, **hour: Any) -> Stage:
    stage = Stage(context(**hour), at="2027-01-01T00:00Z")
    stage.store = CheckedStore(stage.catalog, strict=True)
    stage.restart()
    stage.work(worker)
    stage.started.clear()
    return stage


def everything(stage: Stage) -> dict[str, Job]:
    store = stage.store
    assert isinstance(store, CheckedStore)
    return dict(store._jobs)


def ends(stage: Stage) -> dict[str, tuple[Any, ...]]:
    """States and results of all jobs."""
    return {
        key: (job.state, job.result, job.result_state, job.fingerprint, job.stale)
        for key, job in everything(stage).items()
    }


def touched(answer: Request) -> list[tuple[str, str]]:
    items = answer.answer["touched"]
    assert isinstance(items, list)
    return [
        (str(item["process"]), str(item["interval"])) for item in items if isinstance(item, dict)
    ]


def printed(stage: Stage, action: str, process: str, *labels: str) -> plans.Plan:
    named = [(process, stage.interval(process, label)) for label in labels]
    return plans.plan(stage.timetable, action, named, stage.clock.now())


def left(answer: Request) -> dict[str, str]:
    items = answer.answer["left"]
    assert isinstance(items, list)
    return {f"{item['process']} {item['interval']}": item["why"] for item in items}  # type: ignore[index,call-overload,misc]


def test_a_plan_is_stored_and_changes_nothing() -> None:
    stage = finished()
    before = everything(stage)
    plan = stage.plan("reprocess", "h", HOUR)
    assert (plan.state, plan.options["changes"]) == ("planned", 6)
    stage.restart()
    assert everything(stage) == before
    assert stage.store.open_requests() == []


def test_what_is_applied_is_what_was_planned() -> None:
    stage = finished()
    steps = printed(stage, "reprocess", "h", HOUR).steps
    plan = stage.plan("reprocess", "h", HOUR)
    answer = stage.apply(plan)
    assert answer.state == "done"
    assert sorted(touched(answer)) == sorted((s.process, s.interval.label) for s in steps)
    applied = stage.store.read_request(plan.id)
    assert applied is not None
    assert (applied.state, applied.answer) == ("done", {"applied_by": answer.id})
    assert stage.job("h", HOUR).requests[-1] == plan.id, "jobs know it by the plan"
    stage.work()
    assert len(stage.started) == 6


def test_it_is_applied_once_however_often_that_is_asked() -> None:
    stage = finished()
    plan = stage.plan("reprocess", "h", HOUR)
    first, second = (
        Request(id=name, action="apply", process="h", starts=(), of=plan.id,
                filed_at=stage.clock.now())
        for name in ("one", "two")
    )  # fmt: skip
    stage.store.file_request(first)
    stage.file(second)
    third = stage.apply(plan)
    answers = [stage.store.read_request(name) for name in ("one", "two", third.id)]
    assert [each.state for each in answers if each] == ["done", "refused", "refused"]
    assert third.answer["why"] == f"plan {plan.id} has been applied already"
    assert stage.job("h", HOUR).generation == 2


def test_what_was_withdrawn_is_not_applied_nor_withdrawn_again() -> None:
    stage = finished()
    before = everything(stage)
    plan = stage.plan("reprocess", "h", HOUR)
    assert stage.withdraw(plan).state == "done"
    for again in (stage.apply, stage.withdraw):
        answer = again(plan)
        assert answer.state == "refused"
        assert answer.answer["why"] == f"plan {plan.id} has been withdrawn already"
    assert everything(stage) == before


@pytest.mark.parametrize("action", ["apply", "withdraw"])
def test_what_is_no_plan_is_neither_applied_nor_withdrawn(action: str) -> None:
    stage = finished()
    request = Request(
        id="x", action=action, process="h", starts=(), of="nowhere", filed_at=stage.clock.now()
    )
    assert stage.file(request).answer["why"] == "there is no plan nowhere"
    applied = stage.apply(stage.plan("reprocess", "h", HOUR))
    answer = stage.withdraw(applied)
    assert answer.answer["why"] == f"{applied.id} is no plan: it is a request to apply"


def test_a_plan_is_refused_when_more_would_change_by_now_and_says_what() -> None:
    stage = Stage(context(), at="2027-01-01T00:00Z")
    stage.work(only="h")
    plan = stage.plan("skip", "d", "2026-11-18")
    stage.request("reprocess", "h", HOUR)
    answer = stage.apply(plan)
    assert answer.state == "refused"
    assert answer.answer["why"] == (
        f"plan {plan.id} is outdated: h {HOUR} would change too by now; plan again"
    )
    still = stage.store.read_request(plan.id)
    assert still is not None
    assert still.state == "planned"


def test_what_ends_meanwhile_as_planned_is_planned_anew_without_a_word() -> None:
    stage = Stage(context(), at="2027-01-01T00:00Z")
    stage.work(only="h")
    assert len(printed(stage, "reprocess", "h", HOUR).steps) == 2, "the day is at work"
    plan = stage.plan("reprocess", "h", HOUR)
    stage.work()
    answer = stage.apply(plan)
    assert answer.state == "done"
    assert len(touched(answer)) == 6, "the others had begun: they were in reach"


def test_two_plans_for_the_same_are_absorbed_by_generations() -> None:
    stage = finished()
    one, two = stage.plan("reprocess", "h", HOUR), stage.plan("reprocess", "h", HOUR)
    assert stage.apply(one).state == stage.apply(two).state == "done"
    assert stage.job("d", "2026-11-18").generation == 2
    stage.work()
    assert len(stage.started) == 6


def test_a_skip_is_planned_and_applied() -> None:
    stage = Stage(context(max_attempts=1), at="2027-01-01T00:00Z")
    stage.report(stage.claim(limit=1)[0], fails)
    steps = printed(stage, "skip", "h", "2026-11-18T00").steps
    assert [(step.was, step.becomes, step.run) for step in steps] == [("failed", "skipped", "none")]
    assert touched(stage.apply(stage.plan("skip", "h", "2026-11-18T00"))) == [
        ("h", "2026-11-18T00")
    ]


# unskip


def test_unskip_opens_again_what_a_skip_has_taken_and_what_is_built_on_it() -> None:
    stage = Stage(context(), at="2027-01-01T00:00Z")
    stage.request("skip", "d", "2026-11-18")
    stage.work()
    assert stage.state("h", HOUR) == stage.state("c", "2026-11-18") == "skipped"
    steps = printed(stage, "unskip", "d", "2026-11-18").steps
    answer = stage.request("unskip", "d", "2026-11-18")
    assert sorted(touched(answer)) == sorted((s.process, s.interval.label) for s in steps)
    stage.work()
    assert stage.state("h", HOUR) == stage.state("d", "2026-11-18") == "processed"
    assert stage.state("c", "2026-11-18") == "processed"
    assert {job.state for job in everything_of(stage)} == {"processed"}


def everything_of(stage: Stage) -> list[Job]:
    return [
        stage.job(name, interval.label)
        for name, process in stage.catalog.processes.items()
        for start, end in [stage.catalog.spans[name]]
        if end is not None
        for interval in process.calendar.between(start, end)
    ]


def test_unskip_leaves_what_is_not_skipped_and_says_why() -> None:
    stage = finished()
    plan = printed(stage, "unskip", "h", HOUR, "2026-11-18T08")
    assert plan.steps == ()
    assert plan.left == (f"h {HOUR} is processed, not skipped",
                         "h 2026-11-18T08 is processed, not skipped")  # fmt: skip
    assert touched(stage.request("unskip", "h", HOUR)) == []
    assert stage.job("h", HOUR).generation == 1


# withdrawn after it was applied


def busy(**hour: Any) -> Stage:
    """Two days that have nothing to do with each other, all finished; the one hour of the second
    that may be at work is: so nothing of the first begins."""
    days = [daily("d", run="w:f"), hourly("h", run="w:f", **{"parallel": 1, **hour})]
    clients = [daily("c", run="w:f", after="d"), hourly("g", run="w:f", after="h", parallel=1)]
    stage = Stage(
        Context(tree("site", days, **SPAN), tree("client", clients, **SPAN)), at="2027-01-01T00:00Z"
    )
    stage.store = CheckedStore(stage.catalog, strict=True)
    stage.restart()
    stage.work(processes_with("x"))
    stage.request("reprocess", "h", "2026-11-19T23")
    stage.claim()
    stage.started.clear()
    return stage


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("restarted", [True, False])
def test_a_withdrawn_request_leaves_everything_as_it_was(planned: bool, restarted: bool) -> None:
    stage = busy()
    before = ends(stage)
    if planned:
        request = stage.plan("reprocess", "h", HOUR)
        stage.apply(request)
    else:
        request = stage.request("reprocess", "h", HOUR)
    if restarted:
        stage.restart()
    answer = stage.withdraw(request)
    assert (answer.state, answer.answer["left"]) == ("done", [])
    assert touched(answer) == [
        ("h", HOUR), ("g", HOUR), ("d", "2026-11-18"), ("c", "2026-11-18"),
    ]  # fmt: skip
    assert ends(stage) == before
    assert stage.job("c", "2026-11-18").generation == 2, "numbers are never given twice"
    assert stage.job("d", "2026-11-18").consumed == {f"h@{HOUR}": 2}
    assert stage.withdraw(request).answer["why"] == (
        f"{'plan' if planned else 'request'} {request.id} has been withdrawn already"
    )
    (last,) = stage.store.active_units()
    stage.report(last, processes_with("x"))
    stage.work(processes_with("x"))
    assert stage.started == []
    stage.request("reprocess", "h", HOUR)
    stage.work(processes_with("y"))
    assert len(stage.started) == 4


def test_what_has_begun_runs_on_and_what_is_built_on_it_stays_open() -> None:
    stage = finished(processes_with("x"))
    request = stage.request("reprocess", "h", HOUR, "2026-11-19T07", reason="late data")
    (unit,) = stage.claim(limit=1)
    assert unit.interval.label == HOUR
    answer = stage.withdraw(request)
    # Both units are requested: neither can be called back unharmed.
    assert left(answer)[f"h {HOUR}"] == "it has begun"
    assert left(answer)["d 2026-11-18"] == f"its input h {HOUR} runs again"
    assert left(answer)["y 2026"] == "its input m 2026-11 runs again"
    stage.report(unit, processes_with("y"))
    stage.work(processes_with("y"))
    assert stage.job("y", "2026").result == 2


def test_of_a_sequence_only_what_lies_behind_what_has_begun_stays_open() -> None:
    days = daily("p", run="w:f", after=previous("p"))
    stage = Stage(
        Context(tree("t", [days], start="2026-11-01", until="2026-11-06", lag=0)),
        at="2027-01-01T00:00Z",
    )
    stage.work(processes_with("x"))
    request = stage.request("reprocess", "p", "2026-11-02", "2026-11-04")
    stage.work(finds_nothing, only="nobody")
    answer = stage.withdraw(request)
    assert left(answer)["p 2026-11-02"] == "it has begun"
    assert touched(answer) == []


def test_what_another_request_wants_too_stays_open() -> None:
    stage = finished(processes_with("x"), parallel=1)
    first = stage.request("reprocess", "h", "2026-11-18T01", "2026-11-18T02")
    second = stage.request("reprocess", "h", "2026-11-18T02")
    answer = stage.withdraw(first)
    assert left(answer)["h 2026-11-18T02"].startswith("another request wants it")
    assert left(answer)["d 2026-11-18"].startswith("another request wants it")
    assert second.state == "done"
    stage.work(processes_with("x"))
    assert stage.state("d", "2026-11-18") == "processed"


def test_what_waits_behind_a_limit_has_not_begun() -> None:
    stage = finished(processes_with("x"), parallel=1)
    request = stage.request("reprocess", "h", "2026-11-18T01", "2026-11-19T02")
    answer = stage.withdraw(request)
    assert ("h", "2026-11-19T02") in touched(answer)
    assert ("d", "2026-11-19") in touched(answer)
    assert left(answer)["d 2026-11-18"] == "its input h 2026-11-18T01 runs again"


def test_what_had_failed_has_failed_again_for_the_same_reason() -> None:
    stage = busy(max_attempts=1)
    stage.request("reprocess", "h", HOUR)
    (other,) = stage.store.active_units()
    stage.report(other, processes_with("x"))
    stage.work(fails, only="h")
    assert stage.state("h", HOUR) == "failed"
    stage.request("reprocess", "h", "2026-11-19T23")
    before = ends(stage)
    request = stage.request("reprocess", "h", HOUR)
    assert stage.state("h", HOUR) == "embryo"
    answer = stage.withdraw(request)
    assert ("h", HOUR) in touched(answer)
    job = stage.job("h", HOUR)
    assert (job.state, job.generation) == ("failed", 3)
    assert job.reason == f"withdraw {answer.id}; before: attempt 1 (the last of 1): it failed"
    assert ends(stage)[job.key] == before[job.key]
    assert stage.state("d", "2026-11-18") == "embryo", "it waits for it, as it did before"


def test_what_was_skipped_is_skipped_again_and_what_was_built_on_it_stands() -> None:
    stage = Stage(context(parallel=1), at="2027-01-01T00:00Z")
    stage.request("skip", "d", "2026-11-18")
    stage.work(processes_with("x"))
    stage.request("reprocess", "h", "2026-11-19T23")
    before = ends_of(stage)
    request = stage.request("unskip", "d", "2026-11-18")
    assert stage.state("d", "2026-11-18") == "embryo"
    answer = stage.withdraw(request)
    assert stage.state("h", HOUR) == stage.state("d", "2026-11-18") == "skipped"
    assert stage.state("c", "2026-11-18") == "skipped"
    assert {process for process, _ in touched(answer)} == {"h", "d", "c"}
    assert {key: end for key, end in ends_of(stage).items() if key[0] not in "my"} == {
        key: end for key, end in before.items() if key[0] not in "my"
    }
    stage.work(processes_with("x"))
    assert stage.state("y", "2026") == "processed"


def ends_of(stage: Stage) -> dict[str, tuple[Any, ...]]:
    return {job.key: (job.state, job.result) for job in everything_of(stage)}


@pytest.mark.parametrize("restarted", [False, True])
def test_a_skip_that_was_carried_out_cannot_be_taken_back_but_unskipped(restarted: bool) -> None:
    stage = Stage(context(), at="2027-01-01T00:00Z")
    request = stage.request("skip", "h", HOUR)
    if restarted:
        stage.restart()
    answer = stage.withdraw(request)
    assert answer.state == "refused"
    assert "unskip" in str(answer.answer["why"])


def test_a_job_named_stays_forced_until_it_has_succeeded() -> None:
    """It failed, and its child changes nothing: kept, it would stand with the result of before."""
    stage = finished(processes_with("same"))
    stage.request("reprocess", "d", "2026-11-18")
    while units := stage.claim():
        for unit in units:
            stage.report(unit, fails)
        stage.advance(hours=1)
    assert stage.state("d", "2026-11-18") == "failed"
    stage.started.clear()
    stage.request("reprocess", "h", HOUR)
    stage.work(processes_with("same"))
    assert "d@2026-11-18#3!1" in stage.started
    assert not stage.job("d", "2026-11-18").forced


class MeddledStore(CheckedStore):
    """Somebody else writes a job just before a certain write of ours does."""

    #: The key of the job, and what it becomes; None: nobody meddles.
    meddling: tuple[str, Callable[[Job], Job]] | None = None

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        answers: list[Applied | Refused[Job]] = []
        for write in writes:
            if self.meddling is not None and self.meddling[0] == write.job.key:
                _, meddle = self.meddling
                self.meddling = None
                standing = self._jobs[write.job.key]
                (done,) = super().save_jobs([JobWrite(meddle(standing), standing.version)])
                assert isinstance(done, Applied)
            answers += super().save_jobs([write])
        return answers


@pytest.mark.parametrize("key", [f"h@{HOUR}", f"g@{HOUR}", "d@2026-11-18", "c@2026-11-18"])
@pytest.mark.parametrize("how", ["joined", "touched"])
def test_a_refused_write_of_a_withdrawal_is_looked_at_anew(key: str, how: str) -> None:
    """I4: what builds on what another has opened, too, is not closed."""
    stage = busy()
    request = stage.request("reprocess", "h", HOUR)
    store = MeddledStore(stage.catalog, strict=True)
    vars(store).update({**vars(stage.store), "meddling": None})
    stage.store = store
    stage.restart()

    def meddle(job: Job) -> Job:
        if how == "touched":
            return job.moved(job.state, stage.clock.now(), job.reason)
        machine = stage.catalog.processes[job.process].machine
        joined = machines.reopened(
            machine, job, "other", stage.clock.now(), target=False, hold=True, reason=""
        )
        assert joined is not None
        released = machines.released(joined, "other", stage.clock.now())
        assert released is not None
        return replace(released, version=job.version + 1, transitions=joined.transitions)

    store.meddling = (key, meddle)
    answer = stage.withdraw(request)
    assert store.meddling is None
    everyone = {f"h {HOUR}", f"g {HOUR}", "d 2026-11-18", "c 2026-11-18"}
    back = {f"{name} {label}" for name, label in touched(answer)}
    if how == "touched":
        assert back == everyone
    else:
        meddled = key.replace("@", " ")
        assert left(answer)[meddled].startswith("another request wants it")
        above = everyone if meddled[0] == "h" else {meddled, "c 2026-11-18"}
        assert back == everyone - above
        assert {*left(answer)} == everyone - back
    assert store.violations == []


# whatever is done in whatever order


def any_context(chance: random.Random) -> Context:
    """A few trees that depend on each other somehow, of few intervals."""
    names: list[str] = []
    trees = []
    for number in range(chance.randint(1, 3)):
        levels = []
        for level in chance.choice(["mdh", "dh", "dh", "d", "h", "wd"]):
            name = f"{level}{number}"
            after = [
                After(chance.choice(names), chance.choice([0, 0, 0, -1]), chance.choice([None, 2]))
                for _ in range(chance.choice([0, 1, 1, 2]) if names else 0)
            ]
            if chance.random() < 0.2:
                after.append(After(name, -1))
            options: dict[str, Any] = {
                "run": "w:f",
                "after": after,
                "blocking": chance.choice(["normal", "children", "dependencies"]),
                "parallel": chance.choice([None, 1, 1, 2]),
            }
            made = {"m": monthly, "w": weekly, "d": daily}.get(level)
            levels.append(made(name, **options) if made else hourly(name, grouping=6, **options))
        names += [level.name for level in levels]
        trees.append(tree(f"t{number}", levels, **SPAN))
    return Context(*trees)


def any_stage(chance: random.Random) -> Stage:
    """Everything of it is finished."""
    while True:
        with suppress(CatalogError):  # a cycle
            stage = Stage(any_context(chance), at="2027-02-01T00:00Z")
            break
    stage.store = CheckedStore(stage.catalog, strict=True)
    stage.restart()
    stage.work(processes_with("same"))
    stage.started.clear()
    return stage


def keys(steps: Iterable[plans.Step]) -> set[str]:
    return {f"{step.process}@{step.interval.label}" for step in steps}


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False))
def test_plans_touch_what_they_printed_once_and_withdrawals_restore_it(
    chance: random.Random,
) -> None:
    stage = any_stage(chance)
    for _ in range(chance.randint(1, 3)):
        before = ends(stage)
        process = chance.choice([*stage.catalog.processes])
        start, end = stage.catalog.spans[process]
        assert end is not None
        there = [one.label for one in stage.catalog.processes[process].calendar.between(start, end)]
        named = chance.sample(there, chance.randint(1, min(4, len(there))))
        steps = printed(stage, "reprocess", process, *named).steps
        plan = stage.plan("reprocess", process, *named)
        answer = stage.apply(plan)
        changed = [f"{name}@{label}" for name, label in touched(answer)]
        assert len(changed) == len({*changed})
        assert {*changed} == keys(steps)
        if chance.random() < 0.3:
            stage.restart()
        if chance.random() < 0.5:
            withdrawal = stage.withdraw(plan)
            back = {f"{name}@{label}" for name, label in touched(withdrawal)}
            stayed = {what.replace(" ", "@") for what in left(withdrawal)}
            assert back | stayed == {*changed}, "each is told"
            assert not back & stayed
            after = ends(stage)
            assert {key: after[key] for key in back} == {key: before[key] for key in back}
            stage.work(processes_with("same"))
            assert not back & {key.split("#")[0] for key in stage.started}
            assert ends(stage) == before
        else:
            same = chance.random() < 0.5
            stage.work(processes_with("same" if same else "other"))
            runs = [key.split("#")[0] for key in stage.started]
            assert len(runs) == len({*runs}), "each at most once in a wave"
            certain = keys(step for step in steps if step.run is plans.Run.CERTAIN)
            assert certain <= {*runs} <= {*changed}
            if not same:
                break  # what is kept after that depends on what is built on what
            assert {*runs} == certain, "what is built on it is kept"
        stage.started.clear()
    assert stage.store.active_jobs() == []
    assert stage.store.active_units() == []


# only


def steps_of(stage: Stage, *labels: str) -> tuple[plans.Step, ...]:
    named = [("h", stage.interval("h", label)) for label in labels]
    return plans.plan(stage.timetable, "reprocess", named, stage.clock.now(), only=True).steps


def test_only_the_named_run_again_and_what_is_built_on_them_is_marked_stale() -> None:
    stage = finished(processes_with("x"))
    steps = steps_of(stage, HOUR)
    assert [(s.process, s.marks, s.run.value) for s in steps] == [
        ("h", False, "certain"), ("d", True, "none"), ("c", True, "none"), ("cm", True, "none"),
        ("m", True, "none"), ("y", True, "none"),
    ]  # fmt: skip
    answer = stage.apply(stage.plan("reprocess", "h", HOUR, only=True))
    assert sorted(touched(answer)) == sorted((s.process, s.interval.label) for s in steps)
    stage.work(processes_with("y"))
    assert stage.started == [f"h@{HOUR}#2!1"]
    day = stage.job("d", "2026-11-18")
    assert (day.state, day.generation, day.outdated) == ("processed", 1, True)
    assert not stage.job("h", HOUR).outdated
    assert not stage.job("d", "2026-11-19").outdated
    assert stage.store.active_jobs() == []
    assert steps_of(stage, HOUR)[1:] == (), "they are marked already"


def test_the_marked_is_brought_up_to_date_by_a_reprocess() -> None:
    stage = finished(processes_with("x"))
    stage.request("reprocess", "h", HOUR, only=True)
    stage.work(processes_with("y"))
    stage.started.clear()
    stage.request("reprocess", "d", "2026-11-18")
    stage.work(processes_with("y"))
    assert len(stage.started) == 5
    assert [job.key for job in everything(stage).values() if job.outdated] == []


def test_what_is_at_work_on_the_named_begins_anew_when_that_has_run() -> None:
    stage = Stage(context(), at="2027-01-01T00:00Z")
    stage.store = CheckedStore(stage.catalog, strict=True)
    stage.restart()
    stage.work(only="h")
    days = stage.claim(only="d")
    stage.request("reprocess", "h", HOUR, only=True)
    assert stage.job("d", "2026-11-18").generation == 2
    assert [stage.report(unit) for unit in days] == [False, True]
    stage.work()
    assert stage.job("d", "2026-11-18").consumed == {f"h@{HOUR}": 2}
    assert {job.state for job in everything_of(stage)} == {"processed"}


def test_of_a_withdrawn_reprocess_of_only_the_named_the_marks_stay_and_it_says_so() -> None:
    stage = busy()
    plan = stage.plan("reprocess", "h", HOUR, only=True)
    stage.apply(plan)
    answer = stage.withdraw(plan)
    assert touched(answer) == [("h", HOUR)]
    assert left(answer) == {
        f"g {HOUR}": "it stays marked stale",
        "d 2026-11-18": "it stays marked stale",
        "c 2026-11-18": "it stays marked stale",
    }
    assert stage.job("h", HOUR).state == "processed"
