"""When one interval will be complete."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from synergy.core.intervals import Interval
from synergy.forecast.needs import obstacles, rests_on
from synergy.forecast.scene import WINDOW, Scene, left_out
from synergy.forecast.target import Made, Step, Target
from synergy.history import due_of

#: Plays of a forecast, where there is time for so many.  Of 20 k - 1 plays, the k-th and the k-th
#: last enclose nine tenths.
PLAYS = 199
#: The fewest of which a band of nine tenths can be made.
FEWEST = 19
#: Seconds that a forecast may take.
BUDGET = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When an interval will be complete."""

    process: str
    interval: Interval
    now: datetime
    #: Plays that were made in the time that there was.
    plays: int
    #: When it was complete, of each play, ascending; of those in which it was.
    ends: tuple[datetime, ...]
    #: Why it was not, in the others, and how often.
    never: Mapping[str, int]
    #: What it rests on and will not end by itself; then nothing was played.
    stuck: tuple[str, ...] = ()
    #: What made its end in the median play, the first of it first.
    path: tuple[Step, ...] = ()
    #: What was assumed in place of what is not known.
    assumed: tuple[str, ...] = ()

    @property
    def median(self) -> datetime | None:
        """Half of the plays have ended by then; None where they did not."""
        return self._place(self.plays // 2) if self.plays else None

    @property
    def low(self) -> datetime | None:
        """The beginning of the band."""
        return self._place(self._outside - 1) if self.plays else None

    @property
    def high(self) -> datetime | None:
        """The end of the band; None where it has none."""
        return self._place(self.plays - self._outside) if self.plays else None

    @property
    def chance(self) -> float:
        """The share of forecasts whose band encloses what happens."""
        return max(self.plays + 1 - 2 * self._outside, 0) / (self.plays + 1)

    @property
    def _outside(self) -> int:
        """The place of the first play within the band, from either side."""
        return outside(self.plays)

    def _place(self, place: int) -> datetime | None:
        return self.ends[place] if place < len(self.ends) else None


def outside(plays: int) -> int:
    """The place, from either side, of the first of so many ascending plays that lies within the
    band of nine tenths."""
    return max((plays + 1) // 20, 1)


def foretell(
    scene: Scene,
    process: str,
    interval: Interval,
    *,
    plays: int = PLAYS,
    budget: float = BUDGET,
    clock: Callable[[], float] = time.monotonic,
) -> Forecast:
    """Play what comes until the interval is complete, as often as asked or as there is time for.

    `budget` in seconds, of `clock`.
    """
    reach = rests_on(scene.catalog, scene.timetable, process, interval)
    stuck = tuple(obstacles(scene, reach))
    if stuck:
        return Forecast(
            process=process, interval=interval, now=scene.now, plays=0, ends=(), never={},
            stuck=stuck, assumed=tuple(scene.assumed(reach)),
        )  # fmt: skip
    needed = scene.catalog.closure([process])
    due = max(due_of(scene.catalog, process, interval), scene.now)
    part, left = scene.lessened(needed, min(due, scene.now + 2 * WINDOW))
    target = Target(part, process, interval, reach)
    assumed = [*scene.assumed(reach)]
    if left:
        assumed.append(left_out(left))
    if target.leap is not None:
        assumed.append(_leapt_over(target.leap))
    until = clock() + budget
    made: list[Made] = []
    while len(made) < plays and (not made or clock() < until):
        one = target.once(len(made), lambda: clock() > until)
        if one is None:
            break
        made.append(one)
    if len(made) >= FEWEST:
        del made[(len(made) + 1) // 20 * 20 - 1 :]
    ended = sorted((one.end, one.number) for one in made if one.end is not None)
    never = Counter(one.never for one in made if one.end is None)
    middle = len(made) // 2
    return Forecast(
        process=process,
        interval=interval,
        now=scene.now,
        plays=len(made),
        ends=tuple(end for end, _ in ended),
        never=dict(never.most_common()),
        path=target.path(ended[middle][1]) if middle < len(ended) else (),
        assumed=tuple(assumed),
    )


def _leapt_over(leap: datetime) -> str:
    until = leap.strftime("%Y-%m-%d %H:%M")
    return f"from when nothing is behind until {until} UTC only what is given up counts"
