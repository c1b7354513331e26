"""When an interval will be complete: the timetable as it stands, played on a virtual clock.

What stands in the store (`Scene`) is put into a store in memory, and the real scheduler plays it
from now on (`testing.play`), many times.  How long an attempt takes and how it ends is drawn anew
each time, from what is recorded of its process (`Durations`).  The ends of all these plays, in
order, are the forecast: half of them lie before the median, and of n plays the k-th and the k-th
last enclose what really happens with a chance of ``(n + 1 - 2k) / (n + 1)``, if the time to come is
as the one that is recorded.

Each play has a seed of its own, made of the instant, the interval and the number of the play, so
that the same store at the same instant gives the same forecast.
"""

from synergy.forecast.agenda import Agenda, Start, agenda
from synergy.forecast.completion import BUDGET, FEWEST, PLAYS, Forecast, foretell
from synergy.forecast.scene import Scene, scene_of
from synergy.forecast.target import Step

__all__ = [
    "BUDGET",
    "FEWEST",
    "PLAYS",
    "Agenda",
    "Forecast",
    "Scene",
    "Start",
    "Step",
    "agenda",
    "foretell",
    "scene_of",
]
