"""What is sent to a slot is what it reads; what it holds for, and what it forgets."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from synergy.core.intervals import Calendar, Granularity
from synergy.core.model import Task, Unit
from synergy.records import to_text
from synergy.worker.board import Board, open_page
from synergy.worker.slot import Pipe, Slot
from synergy.worker.wire import calls_in, leave_to_message, units_to_message

NOW = datetime(2026, 11, 20, tzinfo=UTC)
HOURS = Calendar(Granularity.HOURLY)


def units(count: int, **task: object) -> list[tuple[int, Unit]]:
    first = HOURS.containing(NOW)
    return [
        (
            number,
            Unit(
                process="p",
                interval=HOURS.shift(first, number),
                generation=2,
                run=number % 2,
                attempt=3,
                task=Task(entry="m:f", **task),  # type: ignore[arg-type]
                created_at=NOW,
                low={"id": number},
            ),
        )
        for number in range(1, count + 1)
    ]


def test_units_are_read_as_they_were_sent() -> None:
    sent = units(3, arguments={"colour": "bleu"}, source="s", sink="t")
    message = json.loads(to_text(units_to_message(sent, 7.5)))
    assert len(message["tasks"]) == 1, "what they have in common is sent once"
    assert message["at"] == 7.5
    for (errand,), (number, unit) in zip(calls_in(message), sent, strict=True):
        assert (errand.number, errand.process, errand.interval) == (number, "p", unit.interval)
        assert (errand.generation, errand.run, errand.attempt) == (2, unit.run, 3)
        assert (errand.task, errand.low, errand.high) == (unit.task, unit.low, None)


class Bench:
    """A slot in this process, whose pipes are ours."""

    def __init__(self) -> None:
        requests, self.requests = os.pipe()
        self.answers, answers = os.pipe()
        self.slot = Slot(requests, Pipe(answers), Board(open_page()), os.getcwd())

    def take(self, message: dict[str, object]) -> None:
        self.slot._take(json.loads(to_text(message)))

    def waiting(self) -> list[int]:
        return [errand.number for (errand,) in self.slot._queue]


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    os.close(bench.requests)
    os.close(bench.answers)


def test_leave_forgets_what_was_sent_behind_a_unit_and_nothing_sent_later(bench: Bench) -> None:
    sent = units(6)
    bench.slot._held = True
    bench.take(units_to_message(sent[:4], 1.0))
    bench.take(leave_to_message(2, 5.0))
    bench.take(units_to_message(sent[4:], 6.0))
    assert bench.waiting() == [1, 2, 5, 6]
    assert not bench.slot._held


def test_leave_to_go_on_forgets_nothing(bench: Bench) -> None:
    bench.slot._held = True
    bench.take(units_to_message(units(4), 1.0))
    bench.take(leave_to_message(None, 5.0))
    assert bench.waiting() == [1, 2, 3, 4]
    assert bench.slot._looked == 5.0


def test_the_time_of_sending_counts_and_not_the_time_of_reading(bench: Bench) -> None:
    bench.take(units_to_message(units(1), 100.0))
    assert bench.slot._looked == 100.0
    bench.take(units_to_message(units(2), 200.0))
    assert bench.slot._looked == 100.0, "it was at work: its own look at the clock counts"
