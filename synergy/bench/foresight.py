"""Whether forecasts come true: worlds with a past, forecast from within a day, then played on.

A world has a day of hours, durations of its own, workers that are plenty or scarce, and attempts
that fail, all by a seed.  It is played up to an instant within its last day; there the end of that
day is forecast from what stands in the store, as `forecast` does it; then the world is played on.
"""

import argparse
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from synergy.bench.frame import head, positive
from synergy.core.building import build
from synergy.core.context import Context, daily, hourly, program, tree
from synergy.core.model import FeedEntry, Unit, job_key
from synergy.forecast import FEWEST, Forecast, foretell, scene_of
from synergy.garbage import seldom_collected
from synergy.reading import Reading
from synergy.stores.memory import MemoryStore
from synergy.testing.play import PROCESSED, Crew, Ending, Play
from synergy.worker.outcomes import failed

#: The first day of every world, and how many there are before the last one.
BEGIN, PAST = datetime(2026, 3, 2, tzinfo=UTC), 14
_FAILED = failed("a matter of chance")


class World:
    """One world."""

    def __init__(self, seed: int) -> None:
        chance = self._chance = random.Random(f"world {seed}")
        levels = [
            daily("day", run="w:f", max_attempts=9, backoff=30),
            hourly("hour", run="w:f", max_attempts=9, backoff=30),
        ]
        self.slots = chance.choice((1, 2, 4))
        levels_of_days = tree("t", levels, start=BEGIN.isoformat())
        context = Context(levels_of_days, program("worker", slots=self.slots))
        self.catalog = build(context, BEGIN)
        #: From quick ones to such that all workers are nearly always busy.
        self._typical = 3600 * self.slots * chance.uniform(0.01, 0.8)
        self._width = chance.uniform(0.1, 0.6)
        self._faults = chance.choice((0.0, 0.03, 0.1))
        self._endings: dict[tuple[str, int], Ending] = {}
        calendar = self.catalog.processes["day"].calendar
        self.day = calendar.containing(BEGIN + timedelta(days=PAST, hours=1))
        #: Where it stands still to be forecast.
        self.now = self.day.start + timedelta(hours=chance.uniform(1.0, 24.0))
        self.store = MemoryStore()
        for _ in self._played(BEGIN, self.now):
            pass

    def forecast(self, plays: int = 2 * FEWEST + 1) -> Forecast:
        """The end of the last day, as it is seen now."""
        scene = scene_of(Reading(self.store, self.catalog), self.now)
        return foretell(scene, "day", self.day, plays=plays, budget=math.inf)

    def end(self) -> datetime | None:
        """Play on: when the day was complete; None where it was not within a week."""
        key = job_key("day", self.day)
        for entry in self._played(self.now, self.day.end + timedelta(days=7)):
            if entry.key == key and entry.transition.after == "processed":
                return entry.transition.at
        return None

    def _played(self, begin: datetime, until: datetime) -> Iterator[FeedEntry]:
        crews = [Crew(slots=self.slots)]
        play = Play(self.catalog, begin, until, self._plot, crews=crews, store=self.store)
        for entries in play.run():
            yield from entries

    def _plot(self, unit: Unit) -> Ending:
        """The same of the same attempt, also when it is asked for again."""
        key = unit.key, unit.attempt
        known = self._endings.get(key)
        if known is None:
            seconds = self._typical * math.exp(self._chance.gauss(0.0, self._width))
            outcome = _FAILED if self._chance.random() < self._faults else PROCESSED
            known = Ending(duration=timedelta(seconds=seconds), outcome=outcome)
            self._endings[key] = known
        return known


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--worlds", type=positive, default=300, metavar="N", help="so many worlds; 300"
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything."""
    with seldom_collected():
        return {**head("forecast"), **coverage(args.worlds)}


def coverage(worlds: int, first: int = 0) -> dict[str, Any]:
    """How often what happened lay within the band, below and above it, and beside the median."""
    within = below = above = early = 0
    for seed in range(first, first + worlds):
        world = World(seed)
        told, end = world.forecast(), world.end()
        within += (
            told.low is not None
            and end is not None
            and told.low <= end
            and (told.high is None or end <= told.high)
        )
        below += end is not None and told.low is not None and end < told.low
        above += told.high is not None and (end is None or end > told.high)
        early += end is not None and (told.median is None or end <= told.median)
    return {
        "worlds": worlds,
        "band": told.chance,
        "within": within / worlds,
        "below": below / worlds,
        "above": above / worlds,
        "before_the_median": early / worlds,
    }
