"""When a program is started, stopped, killed and given a rest: the table, and what always holds."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.supervisor.plan import (
    UNKNOWN,
    Course,
    Rules,
    Standing,
    Step,
    asked,
    begun,
    decide,
    ended,
    forgiven,
    killed,
    standing,
    wake_at,
)

RULES = Rules(well=10, first_wait=1, longest_wait=60, many=5, within=30, grace=20)


def running(**fields: Any) -> Course:
    return Course(**{"since": 100.0, **fields})


@pytest.mark.parametrize(
    ("course", "wanted", "now", "step", "wake", "stands"),
    [
        (UNKNOWN, True, 100, Step.START, -math.inf, "waiting"),
        (UNKNOWN, False, 100, Step.NOTHING, math.inf, "stopped"),
        (running(), True, 100, Step.NOTHING, math.inf, "running"),
        (running(), False, 100, Step.STOP, math.inf, "running"),
        (running(asked=110), False, 129.9, Step.NOTHING, 130, "stopping"),
        (running(asked=110), True, 129.9, Step.NOTHING, 130, "stopping"),
        (running(asked=110), False, 130, Step.KILL, 130, "stopping"),
        (running(asked=110), True, 130, Step.KILL, 130, "stopping"),
        (running(asked=110, killed=True), False, 200, Step.NOTHING, math.inf, "stopping"),
        (Course(again_at=101, failures=2), True, 100.9, Step.NOTHING, 101, "waiting"),
        (Course(again_at=101, failures=2), True, 101, Step.START, 101, "waiting"),
        (Course(again_at=101, failures=2), False, 101, Step.NOTHING, math.inf, "stopped"),
        (Course(again_at=160, marked=True), True, 100, Step.NOTHING, 160, "crash_loop"),
        (Course(again_at=160, marked=True), True, 160, Step.START, 160, "crash_loop"),
        (Course(again_at=160, marked=True), False, 160, Step.NOTHING, math.inf, "stopped"),
        (running(marked=True), True, 129.9, Step.NOTHING, math.inf, "crash_loop"),
        (running(marked=True), True, 130, Step.NOTHING, math.inf, "running"),
        (running(marked=True), False, 101, Step.STOP, math.inf, "running"),
    ],
)
def test_what_is_to_be_done(
    course: Course, wanted: bool, now: float, step: Step, wake: float, stands: str
) -> None:
    assert decide(course, wanted, now, RULES) is step
    assert wake_at(course, wanted, RULES) == wake
    assert standing(course, wanted, now, RULES) is Standing(stands)


def lives(*seconds: float, rules: Rules = RULES) -> Iterator[tuple[float, Course]]:
    """A program that lives so long each time: its wait after each end, and its course then."""
    course, now = UNKNOWN, 1000.0
    for each in seconds:
        now = max(now, course.again_at)
        assert decide(course, True, now, rules) is Step.START
        course = begun(course, now)
        now += each
        course = ended(course, now, rules)
        yield course.again_at - now, course


def test_a_program_that_ends_soon_is_started_later_each_time() -> None:
    patient = Rules(well=10, first_wait=1, longest_wait=60, many=99)
    waits = [wait for wait, _ in lives(*[0.1] * 10, rules=patient)]
    assert waits == pytest.approx([0, 1, 2, 4, 8, 16, 32, 60, 60, 60])


def test_after_a_good_run_it_is_started_at_once() -> None:
    assert [wait for wait, _ in lives(1, 1, 1, 31, 1, 1)] == pytest.approx([0, 1, 2, 0, 1, 2])


def test_many_ends_within_a_short_time_are_a_crash_loop_until_it_runs_well() -> None:
    courses = list(lives(*[1] * 6, 29, 30, 1))
    assert [course.marked for _, course in courses] == [False] * 4 + [True] * 3 + [False] * 2
    assert [wait for wait, _ in courses][4:] == pytest.approx([60, 60, 60, 0, 1])
    assert courses[-1][1].restarts == 8


def test_ends_far_apart_are_no_crash_loop() -> None:
    assert not any(course.marked for _, course in lives(*[8] * 20))


def test_what_could_not_be_started_counts_as_an_end() -> None:
    course = UNKNOWN
    for _ in range(5):
        course = ended(course, 100, RULES)
    assert course.marked
    assert course.again_at == 160


def test_a_program_that_was_asked_to_end_begins_with_a_clean_slate() -> None:
    course = begun(Course(failures=4, marked=True, ends=(1, 2, 3), restarts=7), 100)
    over = ended(killed(asked(course, 110)), 131, RULES)
    assert over == Course(restarts=8)
    assert decide(over, True, 131, RULES) is Step.START


def test_somebody_who_does_something_about_it_need_not_wait() -> None:
    waiting = Course(again_at=160, marked=True, failures=9, restarts=3)
    assert decide(forgiven(waiting), True, 100, RULES) is Step.START
    assert forgiven(running(marked=True)) == running(marked=True)


@dataclass
class Play:
    """A program under the plan: what happens to it is drawn, what is done to it is noted."""

    course: Course = UNKNOWN
    now: float = 1000.0
    wanted: bool = True
    asked_at: float | None = None
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    def obey(self) -> None:
        step = decide(self.course, self.wanted, self.now, RULES)
        match step:
            case Step.START:
                assert self.course.since is None, "never two at once"
                assert self.wanted
                self.course = begun(self.course, self.now)
                self.starts.append(self.now)
            case Step.STOP:
                assert not self.wanted
                assert self.asked_at is None
                self.course, self.asked_at = asked(self.course, self.now), self.now
            case Step.KILL:
                assert self.asked_at is not None, "never without having been asked"
                assert self.now - self.asked_at >= RULES.grace
                self.course = killed(self.course)
        assert decide(self.course, self.wanted, self.now, RULES) is Step.NOTHING or (
            step is Step.NOTHING and self.course.since is None
        )

    def end(self) -> None:
        if self.course.since is None:
            return
        if self.asked_at is None:
            self.ends.append(self.now)
        else:
            self.ends.clear()
        self.course, self.asked_at = ended(self.course, self.now, RULES), None


EVENTS = st.lists(
    st.one_of(
        st.just("end"),
        st.just("switch"),
        st.sampled_from([0.0, 0.01, 0.5, 1.0, 5.0, 9.0, 11.0, 25.0, 31.0, 90.0]),
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens_the_rules_are_kept(events: list[str | float]) -> None:
    play = Play()
    for event in events:
        if event == "end":
            play.end()
        elif event == "switch":
            play.wanted = not play.wanted
        else:
            assert isinstance(event, float)
            play.now += event
        play.obey()
        recent = [end for end in play.ends if play.now - end < RULES.within]
        if len(recent) >= RULES.many and play.course.since is None:
            assert play.course.marked
        if play.wanted and play.course.since is None:
            wait = wake_at(play.course, True, RULES) - play.now
            assert 0 < wait <= RULES.longest_wait, "it is never given up, and never forgotten"
        if not play.wanted and play.course.since is not None:
            assert play.asked_at is not None
    starts = [play.starts[n : n + 8] for n in range(len(play.starts) - 7)]
    if "switch" not in events:
        assert all(eight[-1] - eight[0] >= RULES.within for eight in starts), "no storm of starts"
