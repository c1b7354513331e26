"""How long attempts take and whether they fail, drawn from what is recorded."""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from statistics import pstdev

from synergy.core.catalog import Catalog
from synergy.core.model import Unit
from synergy.core.states import UnitState
from synergy.history import durations, latest_units
from synergy.ports import Store

#: Recorded units from which durations are drawn.
RECORDED = 100
#: What exceeds all records does so by this share of their standard deviation, on average.
BEYOND = 2 / 3
#: How long is assumed where nothing at all is recorded, in seconds.
UNKNOWN = 1.0


@dataclass(frozen=True)
class Durations:
    """What is recorded of the attempts of a process, or of others in its place."""

    #: Seconds, ascending, and beside each how its unit ended.
    seconds: tuple[float, ...]
    ended: tuple[UnitState, ...]
    #: Failures of each unit before its end, ascending.
    failures: tuple[int, ...]
    #: Whose they are: the process itself, other processes, or nobody's.
    of: tuple[str, ...]

    def draw(self, chance: random.Random, above: float = 0.0) -> tuple[float, UnitState]:
        """How long an attempt takes that has taken so long already, and how it ends, if it does
        not fail.

        The next value falls between any two neighbours with the same chance, and beyond the
        outermost with that chance, too: so few records make a wide forecast.  One that has taken
        longer than all that are recorded is taken to begin anew.
        """
        known = self.seconds
        first = bisect_right(known, above) if above > 0 else 0
        number = len(known) - first
        if number == 0:
            more, ended = self.draw(chance)
            return above + more, ended
        place = first + chance.randrange(number + 1)
        if place == len(known):
            return known[-1] + self._spread * chance.expovariate(1.0), self.ended[-1]
        low = known[place - 1] if place > first else max(above, known[0] - self._spread)
        return max(low + (known[place] - low) * chance.random(), 0.0), self.ended[place]

    @cached_property
    def _spread(self) -> float:
        """How far the outermost may be exceeded: a share of the standard deviation, as it is of
        most distributions."""
        known = self.seconds
        return pstdev(known) * BEYOND if len(known) > 1 else known[0] * BEYOND

    def resampled(self, chance: random.Random) -> "Durations":
        """What might have been recorded as well: as many, drawn from these.  What few records say
        is uncertain, and by this each play has it differ."""
        number = len(self.seconds)
        places = sorted(chance.choices(range(number), k=number))
        return replace(
            self,
            seconds=tuple(self.seconds[place] for place in places),
            ended=tuple(self.ended[place] for place in places),
            failures=tuple(sorted(chance.choices(self.failures, k=len(self.failures)))),
        )

    def fails(self, chance: random.Random, failures: int) -> bool:
        """Whether the attempt after so many failures fails, too."""
        return chance.random() < self._failing(failures)

    def _failing(self, failures: int) -> float:
        """The share of those that failed as often before and failed once more."""
        reached = len(self.failures) - bisect_left(self.failures, failures)
        beyond = len(self.failures) - bisect_right(self.failures, failures)
        return beyond / reached if reached else 0.0

    def chance_of_failure(self, attempts: int) -> float:
        """The chance that so many attempts fail one after the other."""
        return prod(map(self._failing, range(attempts)))


def durations_of(units: Iterable[Unit], of: Iterable[str]) -> Durations | None:
    """What these units tell; None where none of them tells anything."""
    told = [(took.total_seconds(), unit.state, unit.failures) for unit, took in durations(units)]
    if not told:
        return None
    told.sort(key=lambda one: one[0])
    good = [
        state if state is not UnitState.INVALID else UnitState.PROCESSED for _, state, _ in told
    ]
    return Durations(
        seconds=tuple(one[0] for one in told),
        ended=tuple(good),
        failures=tuple(sorted(one[2] for one in told)),
        of=tuple(of),
    )


def recorded(store: Store, catalog: Catalog, names: Iterable[str]) -> dict[str, Durations]:
    """What there is to draw from, of each of these processes: where nothing is recorded of one,
    what is recorded of the others of its tree, then of all."""
    names = [*names]
    units = {name: latest_units(store, name, RECORDED) for name in names}
    found: dict[str, Durations] = {}
    for name in names:
        process = catalog.processes.get(name)
        tree = catalog.trees[process.tree].processes if process is not None else ()
        for others in ([name], [other for other in tree if other in units], names):
            told = [other for other in others if units[other]]
            known = durations_of((unit for other in told for unit in units[other]), told)
            if known is not None:
                break
        else:
            known = Durations((UNKNOWN,), (UnitState.PROCESSED,), (0,), ())
        found[name] = known
    return found
