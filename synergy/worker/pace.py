"""How long the units of a process take, and how many of them may be claimed ahead by that.

Claiming ahead is bounded by time: what takes milliseconds is claimed by the window, so that
neither the store nor the pipe is asked for each single unit; what takes longer, or is not known
yet, is claimed when it starts, and its overhead is irrelevant.
"""

from typing import Final

#: A process is quick as long as its units take no longer than this on average (seconds).
QUICK: Final = 0.005
#: Seconds of expected work that are claimed ahead for each slot, and units at most.
WINDOW, WINDOW_UNITS = 0.05, 256
#: Seconds of expected work that are given to a slot in one go, and units at most.
HANDFUL, HANDFUL_UNITS = 0.025, 128
#: The weight of the newest unit in an average.
_WEIGHT: Final = 0.2


class Pace:
    """Moving averages of seconds of work."""

    def __init__(self) -> None:
        #: The processes that may be claimed ahead.
        self.quick: frozenset[str] = frozenset()
        self._seconds: dict[str, float] = {}
        #: Of the units of quick processes, whichever they belong to.
        self._expected = QUICK

    def note(self, process: str, seconds: float) -> None:
        """A unit of a process has taken so long."""
        before = self._seconds.get(process, seconds)
        after = self._seconds[process] = before + (seconds - before) * _WEIGHT
        if (after <= QUICK) != (process in self.quick):
            self.quick ^= {process}
        if after <= QUICK:
            self._expected += (seconds - self._expected) * _WEIGHT

    def forget(self, process: str) -> None:
        """Its units have to show anew that they are quick: one of them cost its slot."""
        self._seconds.pop(process, None)
        self.quick -= {process}

    def window(self) -> int:
        """How many units may be claimed ahead for each slot; 0 while no process is quick."""
        return self._fitting(WINDOW, WINDOW_UNITS) if self.quick else 0

    def handful(self) -> int:
        """How many units may wait in a slot."""
        return self._fitting(HANDFUL, HANDFUL_UNITS)

    def _fitting(self, seconds: float, most: int) -> int:
        return max(1, min(most, int(seconds / max(self._expected, 1e-6))))
