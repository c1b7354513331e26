"""Work for users' own tests of their workers: no store, no scheduler, no second process.

from synergy.testing.work import work
from workers.site import count

def test_an_empty_hour_is_noop():
    assert count(work("site_hourly", "2024-05-12T00", source="nowhere")).state == "noop"
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final

from synergy.core.intervals import BadLabel, Calendar, Granularity
from synergy.core.model import Json
from synergy.worker.work import Progress, Work

#: What a label looks like, and the calendar that this says.  Minutes are not listed: their labels
#: do not tell how many are grouped.
_SHAPES: Final = (
    (r"\d{4}-\d\d-\d\dT\d\d([+-]\d\d:\d\d)?", Granularity.HOURLY),
    (r"\d{4}-\d\d-\d\dT\d\d([+-]\d\d:\d\d)?/PT(?P<n>\d+)H", Granularity.HOURLY),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d([+-]\d\d:\d\d)?/PT(?P<n>\d+)M", Granularity.MINUTELY),
    (r"\d{4}-\d\d-\d\d", Granularity.DAILY),
    (r"\d{4}-W\d\d", Granularity.WEEKLY),
    (r"\d{4}-\d\d", Granularity.MONTHLY),
    (r"\d{4}-\d\d/P(?P<n>\d+)M", Granularity.MONTHLY),
    (r"\d{4}-Q\d", Granularity.QUARTERLY),
    (r"\d{4}", Granularity.YEARLY),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedWork(Work):
    """Work that remembers the progress that was reported."""

    #: So that pytest does not take it for a test.
    __test__ = False

    #: Each call of `progress` as (done, total, text), in order.
    recorded: list[Progress] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        Work.__post_init__(self)
        object.__setattr__(self, "_report", self.recorded.append)


def work(
    process: str,
    label: str,
    *,
    granularity: Granularity | str | None = None,
    zone: str = "UTC",
    calendar: Calendar | None = None,
    generation: int = 1,
    attempt: int = 1,
    provisional: bool = False,
    source: str | None = None,
    sink: str | None = None,
    low: Json = None,
    high: Json = None,
    **arguments: Any,
) -> TestedWork:
    """What a worker of `process` would be handed for the interval `label`.

    The granularity is taken from the label where its shape tells; where it does not (minutes,
    ten digits), or where the interval is cut in an unusual way, name it or hand in the process's
    `calendar`.  All further keywords are the process's arguments.
    """
    return TestedWork(
        process=process,
        interval=(calendar or _calendar(label, granularity, zone)).parse(label),
        generation=generation,
        run=int(provisional),
        attempt=attempt,
        arguments=arguments,
        source=source,
        sink=sink,
        low=low,
        high=high,
    )


def _calendar(label: str, granularity: Granularity | str | None, zone: str) -> Calendar:
    if granularity is not None:
        named = Granularity(granularity)
        return Calendar(named, _grouping(label, named), zone)
    for shape, inferred in _SHAPES:
        if found := re.fullmatch(shape, label):
            return Calendar(inferred, int(found.groupdict().get("n") or 1), zone)
    names = ", ".join(repr(each.value) for each in Granularity)
    raise BadLabel(
        f"the shape of {label!r} does not tell which interval it is: "
        f"name its granularity (one of {names}) or hand in its calendar"
    )


def _grouping(label: str, granularity: Granularity) -> int:
    for shape, shaped in _SHAPES:
        found = re.fullmatch(shape, label)
        if found and shaped is granularity:
            return int(found.groupdict().get("n") or 1)
    return 1
