"""What a broker has offered to a worker and nobody has claimed for it yet."""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from datetime import datetime

from synergy.core.batches import may_be_shared
from synergy.core.model import Claim, Unit, may_be_ahead
from synergy.core.states import UnitState
from synergy.ports import Delivery


class Offers:
    """Deliveries by their units, in the order in which units are claimed.

    A unit that was delivered twice is one offer.
    """

    def __init__(self) -> None:
        self._turns: list[tuple[int, datetime, str]] = []
        self._deliveries: dict[str, list[Delivery]] = {}

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """These units are offered, perhaps again."""
        for delivery in deliveries:
            turn = delivery.unit.turn
            known = self._deliveries.setdefault(turn[-1], [])
            if not known:
                insort(self._turns, turn)
            known.append(delivery)

    def clear(self) -> None:
        """Nothing is offered any more."""
        self._turns.clear()
        self._deliveries.clear()

    def withdraw(self, keys: Iterable[str]) -> list[Delivery]:
        """Take out the deliveries of units that were claimed though no claim named them."""
        found = []
        for key in keys:
            if key in self._deliveries:
                deliveries = self._deliveries.pop(key)
                del self._turns[bisect_left(self._turns, deliveries[0].unit.turn)]
                found += deliveries
        return found

    def ahead(self, quick: frozenset[str]) -> int:
        """How many of them may be claimed ahead."""
        return sum(self._may_be_ahead(turn[-1], quick) for turn in self._turns)

    def take(self, first: int, ahead: int, quick: frozenset[str]) -> list[Delivery]:
        """Take out the deliveries of the units which one claim is to name.

        The `first` ones, and of what comes behind those `ahead` that may be claimed so.
        """
        named: list[tuple[int, datetime, str]] = []
        for turn in self._turns:
            if first > 0:
                first -= 1
            elif ahead <= 0:
                break
            elif self._may_be_ahead(turn[-1], quick):
                ahead -= 1
            else:
                continue
            named.append(turn)
        for turn in named:
            del self._turns[bisect_left(self._turns, turn)]
        return [delivery for turn in named for delivery in self._deliveries.pop(turn[-1])]

    def _may_be_ahead(self, key: str, quick: frozenset[str]) -> bool:
        return may_be_ahead(self._deliveries[key][-1].unit, quick)


def decided(offered: Iterable[Delivery], claim: Claim, units: Sequence[Unit]) -> list[Delivery]:
    """Of what an answered claim named, the deliveries of units that were taken or refused.

    The claim passes over none that it could have taken: so what it left behind, coming before the
    last that it took in the same way, it refused; and everything, if it took fewer than it might.
    Of those that may share a call only the first tells: others may have come along with it.
    """
    begun = [unit for unit in units if unit.state is UnitState.IN_PROGRESS]
    started = [
        unit.turn
        for place, unit in enumerate(begun[: claim.limit])
        if not place or not may_be_shared(unit)
    ]
    taken = {unit.key for unit in begun}
    ahead = [unit.turn for unit in units if unit.state is UnitState.CLAIMED]

    def is_decided(unit: Unit) -> bool:
        turn = unit.turn
        if len(begun) < claim.limit or (started and turn <= started[-1]) or unit.key in taken:
            return True
        by_time = len(ahead) < claim.ahead or (ahead and turn <= ahead[-1])
        return bool(by_time) and may_be_ahead(unit, claim.quick)

    return [each for each in offered if is_decided(each.unit)]
