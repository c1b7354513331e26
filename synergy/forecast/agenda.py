"""All that will start until an instant."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from synergy.core.intervals import Interval
from synergy.forecast.completion import BUDGET, FEWEST, outside
from synergy.forecast.scene import Scene, left_out
from synergy.forecast.traces import Seen, Trace, note

#: Units that are played once within the time that a forecast takes when nobody says how long.
UNITS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One interval that will be worked, over all plays; instants are medians."""

    process: str
    interval: Interval
    starts: datetime
    #: The band of the start.
    low: datetime
    high: datetime | None
    #: None: it does not end within what was played.
    ends: datetime | None
    #: The share of the plays in which it starts.
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """What will start until an instant."""

    now: datetime
    until: datetime
    plays: int
    starts: tuple[Start, ...]
    #: Processes and freeruns that were not played: they would have taken too long.
    left: tuple[str, ...]
    assumed: tuple[str, ...]


def agenda(
    scene: Scene,
    until: datetime,
    *,
    plays: int = FEWEST,
    budget: float = BUDGET,
    clock: Callable[[], float] = time.monotonic,
) -> Agenda:
    """What starts until an instant, in order."""
    part, left = scene.lessened((), until, UNITS * budget / BUDGET)
    stop = clock() + budget
    seen: dict[tuple[str, datetime], list[Seen]] = {}
    made = 0
    while made < plays and (made == 0 or clock() < stop):
        trace: Trace = {}
        for entries in part.play(f"{scene.now.isoformat()} agenda {made}", until).run():
            for entry in entries:
                note(trace, entry)
        for key, one in trace.items():
            if one.started is not None:
                seen.setdefault(key, []).append(one)
        made += 1
    starts = [_start(name, found, made) for (name, _), found in seen.items()]
    known = {start.process for start in starts}
    assumed = [*scene.assumed([name for name in scene.durations if name in known])]
    if left:
        assumed.append(f"{left_out(left)}; --seconds N takes more in")
    return Agenda(
        now=scene.now,
        until=until,
        plays=made,
        starts=tuple(sorted((s for s in starts if s.share >= 0.5), key=_in_order)),
        left=tuple(left),
        assumed=tuple(assumed),
    )


def _in_order(start: Start) -> tuple[datetime, str, datetime]:
    return start.starts, start.process, start.interval.start


def _start(process: str, found: Sequence[Seen], plays: int) -> Start:
    begun = sorted(one.started for one in found if one.started is not None)
    ended = sorted(one.ended for one in found if one.ended is not None)
    first = outside(plays)
    last = plays - first
    return Start(
        process=process,
        interval=found[0].interval,
        starts=begun[min(plays // 2, len(begun) - 1)],
        low=begun[min(first, len(begun)) - 1],
        high=begun[last] if last < len(begun) else None,
        ends=ended[plays // 2] if plays // 2 < len(ended) else None,
        share=len(begun) / plays,
    )
