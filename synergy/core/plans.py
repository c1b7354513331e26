"""Which intervals of which trees a request will touch, in which order, before it does."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from synergy.core.catalog import Catalog
from synergy.core.intervals import Interval

#: A job by process and interval.
Place = tuple[str, Interval]


def to_reopen(
    catalog: Catalog, targets: Iterable[Place], begun: Callable[[Place], bool]
) -> list[Place]:
    """The targets and everything built on them, who consumes before what is consumed.

    So ancestors and dependents are fenced before the target is reopened (protocol D7).  What has
    not `begun` yet cannot have consumed anything, but it may begin at any moment, by another clock
    or while the request is executed: so it is held like the others, and nothing beyond it.
    """

    def consumers(place: Place) -> Iterator[Place]:
        return catalog.consumers(*place) if begun(place) else iter(())

    return _followers_first(targets, consumers)


def to_skip(catalog: Catalog, targets: Iterable[Place]) -> list[Place]:
    """The targets with all their children and all that depends on the very same interval.

    Parents are not skipped: a skipped child counts as finished for them.  Neither are jobs that
    look back at it through an offset or a window.
    """

    def below(place: Place) -> Iterator[Place]:
        process, interval = place
        for name, dependent, how in catalog.dependents(process, interval):
            if how.offset == 0 and how.window is None and dependent == interval:
                yield name, dependent
        child = catalog.child_of(process)
        if child is not None:
            for given in catalog.inputs(process, interval):
                if given.kind == "child":
                    yield from ((child, one) for one in catalog.intervals_of(given))

    return _followers_first(targets, below)


def _followers_first(
    targets: Iterable[Place], followers: Callable[[Place], Iterator[Place]]
) -> list[Place]:
    """Depth-first, each place after all that follow from it, each once."""
    order: list[Place] = []
    seen: set[tuple[str, datetime]] = set()
    for target in targets:
        stack: list[tuple[Place, Iterator[Place]]] = []
        _enter(target, stack, seen, followers)
        while stack:
            place, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                order.append(place)
                stack.pop()
            else:
                _enter(following, stack, seen, followers)
    return order


def _enter(
    place: Place,
    stack: list[tuple[Place, Iterator[Place]]],
    seen: set[tuple[str, datetime]],
    followers: Callable[[Place], Iterator[Place]],
) -> None:
    key = (place[0], place[1].start)
    if key not in seen:
        seen.add(key)
        stack.append((place, followers(place)))
