"""How many intervals lie between two instants: by arithmetic, however many they are."""

from datetime import datetime
from zoneinfo import ZoneInfo

from synergy.core.intervals import Calendar, Granularity

_CLOCK = {Granularity.MINUTELY: 60, Granularity.HOURLY: 3600}
_MONTHS = {Granularity.MONTHLY: 1, Granularity.QUARTERLY: 3, Granularity.YEARLY: 12}
#: Below so many seconds' worth of intervals they are simply told one by one.
_FEW = 3


def number_between(calendar: Calendar, start: datetime, end: datetime) -> int:
    """How many intervals lie between two instants at which intervals begin.

    Where the clock is set, minutes and hours that it skips or repeats are counted as they are; of
    groups one more or less may be counted in a place where it is set twice.
    """
    if start >= end:
        return 0
    interval = calendar.containing(start)
    for number in range(1, _FEW + 1):
        if interval.end >= end:
            return number
        interval = calendar.next(interval)
    zone = ZoneInfo(calendar.zone)
    first, last = start.astimezone(zone), end.astimezone(zone)
    size = _CLOCK.get(calendar.granularity)
    if size is not None:
        size *= calendar.grouping
        elapsed = (end - start).total_seconds()
        shift = _offset(last) - _offset(first)
        # What is larger than the step of the clock is only shortened or lengthened by it.
        return round((elapsed + (shift if size > abs(shift) else 0)) / size)
    if calendar.granularity in _MONTHS:
        months = (last.year - first.year) * 12 + last.month - first.month
        return months // (_MONTHS[calendar.granularity] * calendar.grouping)
    days = last.date().toordinal() - first.date().toordinal()
    return days // 7 if calendar.granularity is Granularity.WEEKLY else days


def _offset(local: datetime) -> float:
    offset = local.utcoffset()
    assert offset is not None
    return offset.total_seconds()
