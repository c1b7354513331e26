"""What plays show of intervals: when they were requested, began and ended."""

from dataclasses import dataclass
from datetime import datetime

from synergy.core.intervals import Interval
from synergy.core.model import FeedEntry
from synergy.core.states import TERMINAL, JobState, UnitState


@dataclass(slots=True)
class Seen:
    """What a play showed of an interval."""

    interval: Interval
    requested: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    attempts: int = 0

    def see(self, entry: FeedEntry) -> None:
        """Take in a transition of its job or deciding unit."""
        made = entry.transition
        if entry.kind == "job":
            if JobState(made.after) in TERMINAL:
                self.ended = made.at
            elif self.requested is None:
                self.requested = made.at
        elif made.after == _BEGUN:
            self.attempts += 1
            self.started = self.started or made.at


_BEGUN = UnitState.IN_PROGRESS.value
#: By process and start.
Trace = dict[tuple[str, datetime], Seen]


def note(trace: Trace, entry: FeedEntry) -> None:
    """Write down what matters of a transition: not those of provisional runs."""
    if entry.kind == "unit" and "." in entry.key.rpartition("#")[2]:
        return
    key = entry.process, entry.interval.start
    seen = trace.get(key)
    if seen is None:
        seen = trace[key] = Seen(entry.interval)
    seen.see(entry)
