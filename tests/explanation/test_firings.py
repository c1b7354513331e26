"""What `why` says of a freerun is what the scheduler does, and doing what it says makes it run."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from synergy.core.context import Context, FreerunDeclaration, daily, freerun, tree
from synergy.core.freeruns import firing_interval
from synergy.core.states import UnitState
from synergy.explanation import Cause, Explanation, Link, explain, explain_freerun
from synergy.leases import LEADER
from synergy.presence import WorkerRecord, remove_worker, save_worker
from synergy.reading import Reading
from synergy.story import Share, tell
from synergy.testing.stage import Stage, fails, processes

BEGIN = datetime.fromisoformat("2026-11-20T00:00Z")
SEEDS = 60
#: Steps within which a firing must be over when each does what is told.
STEPS = 60
#: How a firing may be over.
OVER = (Cause.ENDED, Cause.GIVEN_UP, Cause.MISSED)


def entry(**options: Any) -> FreerunDeclaration:
    return freerun("f", **{"at": "every 1800", "run": "w:f", **options})


def a_stage(*others: object, pools: dict[str, int] | None = None, **options: Any) -> Stage:
    return Stage(Context(entry(**options), *others, pools=pools or {}), at=BEGIN)


def reading_of(stage: Stage) -> Reading:
    return Reading(stage.store, stage.catalog)


def told(stage: Stage, name: str = "f") -> Explanation:
    return explain_freerun(reading_of(stage), name, stage.clock.now())


def told_of(stage: Stage, clock: str, name: str = "f") -> Link:
    firing = firing_interval(datetime.fromisoformat(f"2026-11-20T{clock}Z"))
    return explain(reading_of(stage), name, firing, stage.clock.now()).asked


def listens(stage: Stage, yes: bool = True) -> None:
    if not yes:
        remove_worker(stage.store, "worker")
        return
    now = stage.clock.now()
    save_worker(
        stage.store,
        WorkerRecord(
            owner="worker", program="w", box="b", slots=9, processes=None, busy=0, seen_at=now
        ),
    )


def sleep(stage: Stage, until: str) -> None:
    """No scheduler is alive until then; and then one is."""
    stage.clock.set(datetime.fromisoformat(f"2026-11-20T{until}Z"))
    stage.restart()


# whatever happens


class FiringsWorld:
    """A stage with freeruns at which things happen by chance."""

    def __init__(self, random: Random) -> None:
        self.random = random
        days = tree("t", [daily("day", run="w:f", pool="db")], start="2026-11-17", lag=0)
        declared = [
            freerun(
                name,
                at=random.choice(["every 600", "every 1800", "cron 7 * * * *"]),
                run="w:f",
                misfire=random.choice(["once", "skip", "all"]),
                pool=random.choice([None, "db"]),
                max_attempts=random.choice([1, 2]),
                backoff=random.choice([0, 60]),
            )
            for name in ("f", "g")
        ]
        self.stage = Stage(Context(days, *declared, pools={"db": 1}), at=BEGIN)
        self.listens = random.random() < 0.7
        self.beat()

    def beat(self) -> None:
        listens(self.stage, self.listens)

    def happen(self) -> None:
        """Something."""
        happening: Callable[[], object] = self.random.choice(
            [self.time, self.time, self.work, self.claim, self.switch, self.trigger, self.sleep]
        )
        happening()
        self.beat()

    def time(self) -> None:
        self.stage.advance(minutes=self.random.choice([1, 7, 31]))

    def work(self) -> None:
        for unit in self.stage.claim(limit=self.random.choice([1, 5])):
            self.stage.report(unit, self.random.choice([processes, processes, fails]))

    def claim(self) -> None:
        self.stage.claim(limit=1)

    def switch(self) -> None:
        self.stage.request("switch", self.random.choice("fg"), on=self.random.random() < 0.5)

    def trigger(self) -> None:
        self.stage.request("trigger", self.random.choice("fg"))

    def sleep(self) -> None:
        self.stage.clock.advance(timedelta(minutes=self.random.choice([3, 50])))
        self.stage.restart()


def obey(world: FiringsWorld, link: Link) -> None:
    """Do what is named as the next thing."""
    stage = world.stage
    match link.cause:
        case Cause.FUTURE | Cause.BACK_OFF:
            assert link.at is not None
            assert link.at > stage.clock.now()
            stage.until(link.at)
        case Cause.OFF:
            (hint,) = link.hints
            name = hint.words.removeprefix("process on ")
            assert stage.request("switch", name, on=True).state == "done"
        case Cause.NO_WORKER:
            world.listens = True
        case Cause.FREE_WORKER | Cause.WORKERS_BUSY | Cause.AT_WORK:
            for unit in stage.store.active_units():
                if unit.state is UnitState.IN_PROGRESS:
                    stage.report(unit)
            for unit in stage.claim(limit=3):
                stage.report(unit)
        case Cause.WORKER_GONE:
            stage.until(link.at or stage.clock.now() + timedelta(minutes=1))
        case _:
            raise AssertionError(link)
    world.beat()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_doing_what_is_said_brings_a_firing_to_its_end(seed: int) -> None:
    random = Random(seed)
    world = FiringsWorld(random)
    for _ in range(random.choice([3, 10, 30])):
        world.happen()
    for name in "fg":
        explanation = told(world.stage, name)
        asked = explanation.asked.interval
        for _ in range(STEPS):
            if explanation.asked.cause in OVER and not explanation.asked.waits_for:
                break
            obey(world, explanation.root)
            explanation = explain(reading_of(world.stage), name, asked, world.stage.clock.now())
        else:
            raise AssertionError((seed, name, explanation.chain))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_is_held_without_a_reason(seed: int) -> None:
    world = FiringsWorld(Random(seed))
    seen = set()
    for _ in range(15):
        world.happen()
        for name in "fg":
            explanation = told(world.stage, name)
            others = [each for each in (explanation.latest, explanation.upcoming) if each]
            for link in (*explanation.chain, *others):
                assert link.text, link
                assert link.next or link.cause is Cause.ENDED, link
                seen.add(link.cause)
            # The scheduler has done all that it can: nothing may be left that only it has to do.
            assert explanation.root.cause not in (Cause.READY, Cause.BUSY), explanation.chain
    assert seen & {Cause.FUTURE, Cause.OFF}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_told_while_no_scheduler_is_alive_is_what_the_next_one_does(seed: int) -> None:
    random = Random(seed)
    world = FiringsWorld(random)
    for _ in range(20):
        world.happen()
        world.stage.clock.advance(timedelta(minutes=random.choice([1, 3, 50])))
        expected = {name: told(world.stage, name).chain for name in "fg"}
        world.stage.restart()
        for name, chain in expected.items():
            link = chain[-1]
            found = reading_of(world.stage).document(name, link.interval)
            match link.cause:
                case Cause.OFF:
                    assert found is None
                case Cause.READY if link.state == "embryo":
                    if found is None:  # its place has gone to another of its pool
                        assert world.stage.catalog.pool_of(name) is not None
                        continue
                    assert (found.state == "skipped") == ("recorded as skipped" in link.text)
                    assert link.text.endswith(found.reason), "for the reason that was told"


def test_chance_brings_about_most_of_what_can_hold_a_firing() -> None:
    seen = set()
    for seed in range(30):
        world = FiringsWorld(Random(seed))
        for _ in range(15):
            world.happen()
            seen |= {link.cause for name in "fg" for link in told(world.stage, name).chain}
    assert seen >= {
        *(Cause.OFF, Cause.POOL, Cause.BACK_OFF, Cause.NO_WORKER, Cause.FREE_WORKER),
        *(Cause.AT_WORK, Cause.GIVEN_UP, Cause.MISSED, Cause.ENDED, Cause.FUTURE),
    }


# one by one


def test_one_that_has_never_fired_says_when_it_will_and_by_which_trigger() -> None:
    stage = a_stage(at="cron 30 2 * * *", zone="Europe/Berlin")
    link = told(stage).asked
    assert (link.cause, link.next) == (Cause.FUTURE, "it fires")
    assert link.at == datetime.fromisoformat("2026-11-20T01:30Z")
    assert link.text == "its time has not come; its trigger: cron 30 2 * * * (Europe/Berlin)"


def test_after_one_that_ended_well_the_next_is_told() -> None:
    stage = a_stage()
    stage.advance(minutes=31)
    stage.work()
    explanation = told(stage)
    assert explanation.asked.cause is Cause.ENDED
    assert explanation.latest is None
    assert explanation.upcoming is not None
    assert explanation.upcoming.interval.label == "2026-11-20T01:00:00Z"


def test_one_given_up_says_its_error_and_the_next_comes_all_the_same() -> None:
    stage = a_stage(max_attempts=1)
    stage.advance(minutes=30)
    stage.work(fails)
    explanation = told(stage)
    link = explanation.root
    assert link.cause is Cause.GIVEN_UP
    assert link.text == "given up: attempt 1 (the last of 1): it failed"
    label = "2026-11-20T00:30:00Z"
    assert [hint.words for hint in link.hints] == [f"log f {label}", "trigger f"]
    assert explanation.upcoming is not None


def test_a_back_off_is_not_ended_by_a_trigger_which_would_be_refused() -> None:
    stage = a_stage(backoff=600, max_attempts=3)
    stage.advance(minutes=30)
    stage.work(fails)
    link = told(stage).root
    assert link.cause is Cause.BACK_OFF
    assert [hint.words for hint in link.hints] == ["log f 2026-11-20T00:30:00Z"]
    stage.advance(minutes=1)
    assert stage.request("trigger", "f").state == "refused"


@pytest.mark.parametrize(
    ("misfire", "words"), [("once", "it is recorded as skipped"), ("all", "it waits for that")]
)
def test_while_one_is_at_work_it_is_said_what_becomes_of_the_next(misfire: str, words: str) -> None:
    stage = a_stage(misfire=misfire)
    stage.advance(minutes=30)
    upcoming = told(stage).upcoming
    assert upcoming is not None
    assert upcoming.text.endswith(f"; where the one before is still at work then, {words}")


def test_an_overlapping_firing_leads_to_the_run_that_was_in_its_way() -> None:
    stage = a_stage(max_attempts=9, backoff=3600)
    stage.advance(minutes=30)
    stage.work(fails)
    stage.advance(minutes=30)
    latest = told(stage).latest
    assert latest is not None
    assert latest == told_of(stage, "01:00")
    assert latest.cause is Cause.MISSED
    assert latest.text == "not run: the run of 2026-11-20T00:30:00Z was still at work"
    assert [hint.words for hint in latest.hints] == ["why f 2026-11-20T00:30:00Z"]


def test_under_the_policy_all_a_firing_waits_for_that_before_it() -> None:
    stage = a_stage(misfire="all")
    stage.until("2026-11-20T01:30Z")
    listens(stage)
    second = told_of(stage, "01:00")
    assert second.cause is Cause.BUSY
    assert "the run of 2026-11-20T00:30:00Z is at work, and misfire all" in second.text
    third = explain(
        reading_of(stage), "f", firing_interval(stage.clock.now()), stage.clock.now()
    ).chain
    assert [link.interval.label[11:16] for link in third] == ["00:30", "01:00", "01:30"]
    assert [link.cause for link in third] == [Cause.FREE_WORKER, Cause.BUSY, Cause.BUSY]
    assert [link.waits_for[0].state.value for link in third[1:]] == ["in_progress", "embryo"]


def test_a_full_pool_is_told_with_whose_unit_is_out_a_firing_too() -> None:
    other = freerun("g", at="every 900", run="w:f", pool="db")
    stage = a_stage(other, pools={"db": 1}, pool="db")
    stage.until("2026-11-20T00:30Z")
    explanation = told(stage)
    assert [(link.process, link.cause) for link in explanation.chain] == [
        ("g", Cause.NO_WORKER),
        ("f", Cause.POOL),
    ]
    assert "pool db is full: 1 unit is out (1 of g)" in explanation.asked.text
    stage.work(only="g")
    stage.work(only="f")
    assert told(stage).asked.cause is Cause.ENDED


def test_an_interval_that_waits_for_its_pool_is_led_to_the_firing_in_it() -> None:
    days = tree("t", [daily("day", run="w:f", pool="db")], start="2026-11-20", lag=0)
    stage = a_stage(days, at="every 43200", pools={"db": 1}, pool="db")
    stage.until("2026-11-21T00:00Z")
    chain = explain(
        reading_of(stage), "day", stage.interval("day", "2026-11-20"), stage.clock.now()
    ).chain
    assert [link.process for link in chain] == ["f", "day"]
    assert chain[1].cause is Cause.POOL


@pytest.mark.parametrize(
    ("misfire", "missed", "then"),
    [
        ("once", 2, "once it may go out, it runs, also for 2 missed firings"),
        ("all", 0, ""),
        ("skip", 2, "once it may go out, it is recorded as skipped: missed, 0:05:00 late"),
    ],
)
def test_what_is_off_says_who_and_why_and_what_becomes_of_what_it_misses(
    misfire: str, missed: int, then: str
) -> None:
    stage = a_stage(misfire=misfire)
    stage.advance(minutes=1)
    stage.request("switch", "f", reason="too loud", on=False)
    before = told(stage)
    assert before.root.cause is Cause.OFF
    assert "f is switched off since 2026-11-20 00:01:00 UTC: too loud; " in before.root.text
    assert before.upcoming is None
    stage.until("2026-11-20T01:35Z")
    link = told(stage).asked
    assert link.cause is Cause.OFF
    assert link.interval.start == BEGIN + timedelta(minutes=30 + 30 * missed)
    assert link.text.endswith(then or "too loud")
    stage.request("switch", "f", on=True)
    served = stage.store.last_jobs("f", 1)[0]
    assert served.interval == link.interval, "what was told is what happens"
    assert (served.state.value == "skipped") == (misfire == "skip")
    if misfire == "skip":
        told_then = told(stage).asked.text
        assert told_then.endswith("; f was switched off until 2026-11-20 01:35 UTC")


def test_the_firings_that_a_later_one_was_served_for_lead_to_it() -> None:
    stage = a_stage()
    sleep(stage, "02:10")
    asked = told_of(stage, "01:00")
    assert asked.cause is Cause.MISSED
    assert asked.text == (
        "missed; of those missed the latest one counts (misfire once), that of 2026-11-20T02:00:00Z"
    )
    assert asked.hints[0].words == "why f 2026-11-20T02:00:00Z"
    served = told_of(stage, "02:00")
    assert served.text.endswith("(also for 3 missed firings)")


def test_firings_before_it_began_are_told_from_those_that_were_forgotten() -> None:
    stage = a_stage()
    stage.advance(minutes=31)
    stage.work()
    early = told_of(stage, "00:00")
    assert early.text == "not run: f begins with its firings after 2026-11-20 00:00 UTC"


def test_while_no_scheduler_is_alive_what_is_due_says_so() -> None:
    stage = a_stage()
    now = stage.clock.now()
    stage.store.take_lease(LEADER, "scheduler", now, now + timedelta(minutes=5))
    stage.clock.advance(timedelta(minutes=100))
    explanation = told(stage)
    assert explanation.standstill == "no scheduler has been running since 2026-11-20 00:05 UTC"
    assert explanation.root.cause is Cause.READY
    assert explanation.asked.interval.label == "2026-11-20T01:30:00Z"
    assert explanation.asked.text.endswith("it runs, also for 2 missed firings")


def test_what_was_late_says_when_the_scheduler_came() -> None:
    stage = a_stage(misfire="skip")
    stage.advance(minutes=30)
    stage.work()
    stage.clock.set(datetime.fromisoformat("2026-11-20T01:40Z"))
    now = stage.clock.now()
    stage.store.take_lease(LEADER, "scheduler", now, now + timedelta(minutes=5))
    stage.restart()
    assert told(stage).root.text == (
        "not run: missed, 0:10:00 late; the scheduler that served it took over at "
        "2026-11-20 01:40 UTC"
    )


def test_a_firing_by_hand_is_told_with_whose_request_it_was() -> None:
    stage = a_stage()
    stage.advance(minutes=10)
    stage.request("trigger", "f", reason="to see it")
    assert "(trigger r1: to see it)" in told(stage).asked.text
    stage.work()
    link = told_of(stage, "00:10")
    assert link.cause is Cause.ENDED


def test_a_firing_tells_its_story_and_its_shares_add_up() -> None:
    stage = a_stage(backoff=60, max_attempts=3)
    sleep(stage, "01:10")
    stage.clock.advance(timedelta(seconds=5))
    stage.work(fails)
    stage.advance(minutes=2)
    (unit,) = stage.claim()
    stage.clock.advance(timedelta(seconds=20))
    stage.report(unit)
    asked = told(stage).asked.interval
    story = tell(reading_of(stage), "f", asked, stage.clock.now())
    assert story is not None
    assert [step.text for step in story.steps][:2] == [
        "it fell due",
        "its unit was requested: also for 1 missed firing",
    ]
    assert story.shares[Share.TURN] == timedelta(minutes=10)
    assert story.shares[Share.WORKING] == timedelta(seconds=20)
    assert sum(story.shares.values(), timedelta()) == story.ends - story.begins
    assert story.shares[Share.INPUTS] == timedelta(0)


def test_one_that_was_skipped_has_a_story_too() -> None:
    stage = a_stage(misfire="skip")
    sleep(stage, "00:40")
    story = tell(reading_of(stage), "f", told(stage).asked.interval, stage.clock.now())
    assert story is not None
    assert story.steps[-1].text == "it ended as skipped: missed, 0:10:00 late"


def test_the_answer_costs_no_more_the_longer_it_was_off() -> None:
    stage = a_stage(at="every 1")
    stage.request("switch", "f", on=False)
    reading = reading_of(stage)
    entry_ = stage.catalog.freeruns["f"]
    asked: list[datetime] = []

    class Counting:
        def next_after(self, instant: datetime) -> datetime | None:
            asked.append(instant)
            return entry_.trigger.next_after(instant)

        def __str__(self) -> str:
            return str(entry_.trigger)

    stage.catalog.freeruns["f"] = replace(entry_, trigger=Counting())  # type: ignore[index]
    costs = []
    for days in (1, 300):
        asked.clear()
        explain_freerun(reading, "f", BEGIN + timedelta(days=days))
        costs.append(len(asked))
    assert costs[1] <= costs[0] + 60
    assert costs[1] < 1000
