"""What a broker has offered to a worker and nobody has claimed for it yet."""

from bisect import bisect_left, insort
from collections.abc import Iterable
from datetime import datetime

from synergy.core.model import may_be_ahead
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

    def any_ahead(self, quick: frozenset[str]) -> bool:
        """Whether one of them may be claimed ahead."""
        return any(self._may_be_ahead(turn[-1], quick) for turn in self._turns)

    def take(self, limit: int, ahead: int, quick: frozenset[str]) -> list[Delivery]:
        """Take out the deliveries of those units which one claim may name.

        The first `limit` of them, and of what comes behind those `ahead` that may be claimed so:
        if all of them are there still, the claim takes all.
        """
        named: list[tuple[int, datetime, str]] = []
        for turn in self._turns:
            if limit > 0:
                limit -= 1
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
