"""Who judges is judged: a flawless history passes, and every flaw is told."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest

from synergy.core.intervals import Interval
from synergy.core.model import FeedEntry, Job, Transition
from synergy.core.states import JobState
from tests.chaos.witness import Expected, Line, Opening, Verdict, judge

DAY = datetime(2024, 2, 1, tzinfo=UTC)
END = datetime(2024, 2, 2, tzinfo=UTC)
#: An hour that ran twice, and the day that was made of it.
HOUR = Opening("hour", "2024-02-01T07", 2)


@dataclass
class History:
    """One day, one of whose hours ran again; what the witness and the store know of it."""

    expected: Expected = field(default_factory=lambda: Expected(DAY, END))
    lines: list[Line] = field(default_factory=list)
    feed: list[FeedEntry] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)

    def run(self, opening: Opening, attempt: int = 1) -> None:
        """It is done, as it should be."""
        self.lines += [Line(len(self.lines), what, opening, attempt) for what in ("start", "end")]
        interval = Interval(DAY, END, opening.label)
        for after in ("in_progress", "processed"):
            self.enter("unit", opening.unit, opening, after, attempt)
        for after in ("final_run", "processed"):
            self.enter("job", opening.job, opening, after, attempt)
        below = self.expected.inputs[opening]
        self.jobs[opening.job] = Job(
            process=opening.process,
            interval=interval,
            state=JobState.PROCESSED,
            generation=opening.generation,
            consumed={each.job: each.generation for each in below if each.generation > 1},
        )

    def enter(self, kind: str, key: str, opening: Opening, after: str, attempt: int) -> None:
        """One more entry of the feed."""
        before = [entry.transition.version for entry in self.feed if entry.key == key]
        made = Transition(
            version=max(before, default=1 if kind == "unit" else 0) + 1,
            at=DAY,
            before="",
            after=after,
            generation=opening.generation,
            attempt=attempt,
        )
        self.feed.append(
            FeedEntry(
                seq=len(self.feed) + 1,
                kind=kind,
                key=key,
                process=opening.process,
                interval=Interval(DAY, END, opening.label),
                transition=made,
            )
        )

    def verdict(self) -> Verdict:
        return judge(self.expected, self.lines, self.feed, self.jobs)


@pytest.fixture
def history() -> History:
    """Flawless."""
    made = History()
    for opening in [*made.expected.inputs]:
        made.run(opening)
    made.expected.wave([DAY.replace(hour=7)])
    for opening in made.expected.inputs:
        if opening.generation == 2:
            made.run(opening)
    return made


def test_a_flawless_history_passes(history: History) -> None:
    verdict = history.verdict()
    assert verdict.good, verdict
    assert (verdict.openings, verdict.starts, verdict.started_again) == (29, 29, 0)


def test_a_second_attempt_is_no_flaw(history: History) -> None:
    again = History()
    for opening in history.expected.inputs:
        if opening == HOUR:
            again.lines.append(Line(0, "start", opening, 1))
            again.enter("unit", opening.unit, opening, "in_progress", 1)
            again.enter("unit", opening.unit, opening, "requested", 2)
        again.run(opening, attempt=2 if opening == HOUR else 1)
        if opening.generation == 1 and len(again.expected.inputs) == len(again.jobs):
            again.expected.wave([DAY.replace(hour=7)])
    assert again.verdict().good, again.verdict()
    assert again.verdict().started_again == 1


def lose_a_line(history: History) -> None:
    history.lines = [line for line in history.lines if line[1:3] != ("end", HOUR)]


def lose_a_result(history: History) -> None:
    history.feed = [
        replace(entry, seq=number)
        for number, entry in enumerate(
            (e for e in history.feed if (e.key, e.transition.after) != (HOUR.unit, "processed")), 1
        )
    ]


@pytest.mark.parametrize("flaw", [lose_a_line, lose_a_result])
def test_what_is_lost_is_told(history: History, flaw: Callable[[History], None]) -> None:
    flaw(history)
    assert history.verdict().lost == [HOUR.unit]


def apply_again(history: History) -> None:
    history.enter("job", HOUR.job, HOUR, "processed", 1)


def report_again(history: History) -> None:
    history.enter("unit", HOUR.unit, HOUR, "processed", 1)


def supersede(history: History) -> None:
    history.enter("unit", HOUR.unit, HOUR, "requested", 2)


@pytest.mark.parametrize("flaw", [apply_again, report_again, supersede])
def test_what_is_applied_twice_is_told(history: History, flaw: Callable[[History], None]) -> None:
    flaw(history)
    assert history.verdict().applied_twice == [HOUR.unit]


def skip_a_number(history: History) -> None:
    history.feed[-1] = replace(history.feed[-1], seq=len(history.feed) + 1)


def skip_a_version(history: History) -> None:
    last = history.feed[-1]
    made = replace(last.transition, version=last.transition.version + 1)
    history.feed[-1] = replace(last, transition=made)


def start_too_early(history: History) -> None:
    early = Line(0, "start", Opening("day", "2024-02-01", 1), 1)
    history.lines.insert(10, early)


def run_unasked(history: History) -> None:
    history.lines.append(Line(99, "end", Opening("hour", "2024-02-01T07", 3), 1))


def stand_too_low(history: History) -> None:
    history.jobs[HOUR.job] = replace(history.jobs[HOUR.job], generation=1)


def not_stand(history: History) -> None:
    del history.jobs[HOUR.job]


def stand_unasked(history: History) -> None:
    history.jobs["hour@2024-02-02T00"] = history.jobs[HOUR.job]


def be_made_of_the_old(history: History) -> None:
    history.jobs["day@2024-02-01"] = replace(history.jobs["day@2024-02-01"], consumed={})


@pytest.mark.parametrize(
    ("flaw", "said"),
    [
        (skip_a_number, "the feed has gaps"),
        (skip_a_version, "the feed has version"),
        (start_too_early, "day@2024-02-01#1 was started before hour@2024-02-01T05#1"),
        (run_unasked, "hour@2024-02-01T07#3 was not asked for"),
        (stand_too_low, "hour@2024-02-01T07#2 stands as processed in generation 1"),
        (not_stand, "hour@2024-02-01T07 is not in the store"),
        (stand_unasked, "hour@2024-02-02T00 is no interval of the span"),
        (be_made_of_the_old, "day@2024-02-01#2 consumed"),
    ],
)
def test_whatever_else_is_wrong_is_told(
    history: History, flaw: Callable[[History], None], said: str
) -> None:
    flaw(history)
    assert [text for text in history.verdict().wrong if text.startswith(said)]
