"""What an operator's question costs: why an interval stands as it does, with a long history.

Within this process, the store open.  Told as wall clock, and as processor time of this process,
which others at work on the machine change less.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from synergy.bench.core import BEGIN, FULL, MIXED, SMALL, UNIFORM, History, Size
from synergy.bench.frame import Figure, head, measured, median, options, positive
from synergy.core import plans
from synergy.core.intervals import Interval
from synergy.explanation import explain
from synergy.hindsight import Hindsight
from synergy.ports import Store
from synergy.reading import Reading
from synergy.stores import open_store
from synergy.story import tell


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--runs", type=positive, default=9, metavar="N", help="medians of N; 9")
    options(parser, FIGURES)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    return {**head("answers"), "runs": args.runs, "figures": measured(args, FIGURES)}


def why(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds to read what stands in a SQLite store and to explain why the oldest year is not
    finished: an hour in each thousand is at work, in each of ten trees."""
    return _told(args, lambda store, history: _explain(Reading(store, history.catalog), history))


def past(args: argparse.Namespace) -> dict[str, Any]:
    """The same of the moment before anything that the feed tells happened, all of which is undone:
    as many transitions as there are hours at work."""

    def answer(store: Store, history: History) -> None:
        reading = Reading(store, history.catalog)
        _explain(Hindsight(reading, history.now - timedelta(seconds=1)), history)

    return _told(args, answer)


def plan(args: argparse.Namespace) -> dict[str, Any]:
    """The same of a plan: what running the first hour again would change."""

    def answer(store: Store, history: History) -> None:
        reading = Reading(store, history.catalog)
        hour = history.catalog.processes["t3_hourly"].calendar.containing(BEGIN)
        made = plans.plan(reading.timetable, "reprocess", [("t3_hourly", hour)], history.now)
        assert made.steps

    return _told(args, answer)


FIGURES: dict[str, Figure] = {"why": why, "past": past, "plan": plan}


def _explain(reading: Reading, history: History) -> None:
    process, interval = _asked(history)
    explanation = explain(reading, process, interval, history.now)
    assert explanation.root.text
    if reading.present:
        tell(reading, process, interval, history.now)


def _asked(history: History) -> tuple[str, Interval]:
    calendar = history.catalog.processes["t3_yearly"].calendar
    return "t3_yearly", calendar.containing(BEGIN)


def _told(args: argparse.Namespace, answer: Callable[[Store, History], None]) -> dict[str, Any]:
    size: Size = SMALL if args.small else FULL
    found: dict[str, Any] = {}
    for mixture, standings in (("uniform", UNIFORM), ("mixed", MIXED)):
        with tempfile.TemporaryDirectory(prefix="synergy-bench-") as folder:
            history = History(f"sqlite:///{folder}/store.db", size.stored, standings)
            with _opened(history.url) as store:
                taken = [_timed(partial(answer, store, history)) for _ in range(args.runs)]
            found[mixture] = {
                "finished": history.finished,
                "unfinished": history.unfinished,
                "milliseconds": round(median(wall for wall, _ in taken) * 1e3, 1),
                "processor_milliseconds": round(median(spent for _, spent in taken) * 1e3, 1),
            }
    return found


@contextmanager
def _opened(url: str) -> Iterator[Store]:
    store = open_store(url)
    try:
        yield store
    finally:
        store.close()


def _timed(act: Callable[[], None]) -> tuple[float, float]:
    """Seconds that it takes: by the wall clock, and of the processor."""
    wall, spent = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - spent
