"""When to fire: at a steady pace, at times of the week, or by a cron line.

A trigger is a value that answers one question: which instant comes next after this one? It keeps
no count and knows no clock, so a restart neither shifts nor repeats anything. Local times that
are skipped when the clock is set forward fire once, at the change; times that are repeated fire
once, the first time. Cron lines with a `*` in the minute or hour follow the elapsed time through
both, as in Debian's cron.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from synergy.core.intervals import BadCalendar, Calendar, Granularity, first_reaching


class BadTrigger(ValueError):
    """A text describes no trigger, or one that never fires."""


class Trigger(Protocol):
    """A rule for firing; its text form parses back to an equal trigger in the same zone."""

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first firing strictly after the instant, aware UTC; None if there is none."""

    def __str__(self) -> str:
        """Return the canonical text form."""


def parse_trigger(text: str, zone: str = "UTC") -> Trigger:
    """Read `every 1800`, `at Tue-10:00,Fri-18:00` or `cron 15 3 * * *` by the clock of the zone."""
    kind, _, rest = " ".join(text.split()).partition(" ")
    match kind.lower():
        case "every":
            return _every(text, rest)
        case "at":
            return At(tuple(_slot(text, slot.strip()) for slot in rest.split(",")), zone)
        case "cron":
            return Cron(rest, zone)
    if kind.startswith("@") or len(text.split()) == _CRON_FIELDS:
        return Cron(text, zone)
    raise _refusal(text, "names no kind of trigger")


@dataclass(frozen=True, slots=True)
class Every:
    """Fire each `seconds`, counted from 1970, so that every restart agrees."""

    seconds: int

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= _LONGEST:
            raise _refusal(str(self), f"has a pace outside of 1 to {_LONGEST} seconds")

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the next multiple of the pace."""
        try:
            return _EPOCH + ((instant - _EPOCH) // self._pace + 1) * self._pace
        except OverflowError:
            return None

    def __str__(self) -> str:
        return f"every {self.seconds}"

    @property
    def _pace(self) -> timedelta:
        return timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True, order=True)
class Slot:
    """A time of day, on one weekday or on all."""

    #: 0 is Monday, 6 is Sunday, -1 is every day
    weekday: int
    hour: int
    minute: int

    def __post_init__(self) -> None:
        if not (
            _EVERY_DAY <= self.weekday <= 6 and 0 <= self.hour <= 23 and 0 <= self.minute <= 59
        ):
            raise _refusal(f"at {self.hour:02}:{self.minute:02}", "names no time of the week")

    def __str__(self) -> str:
        day = "*" if self.weekday == _EVERY_DAY else _WEEKDAYS[self.weekday]
        return f"{day}-{self.hour:02}:{self.minute:02}"


@dataclass(frozen=True, slots=True)
class At:
    """Fire at times of the week on the local clock of the zone."""

    #: in order and each once, however they were given
    slots: tuple[Slot, ...]
    zone: str = "UTC"

    def __post_init__(self) -> None:
        _check_zone(self.zone)
        if not self.slots:
            raise _refusal("at", "names no time")
        object.__setattr__(self, "slots", tuple(sorted(set(self.slots))))

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the next slot that the local clock reaches."""
        try:
            return next((fire for fire in self._firings(instant) if fire > instant), None)
        except OverflowError:
            return None

    def _firings(self, instant: datetime) -> Iterator[datetime]:
        # From the day before, which the clock may still show again, through the same weekday of
        # the following week.
        today = instant.astimezone(ZoneInfo(self.zone)).toordinal()
        for ordinal in range(today - 1, today + 9):
            times = sorted(
                (slot.hour, slot.minute)
                for slot in self.slots
                if slot.weekday in (_EVERY_DAY, (ordinal - 1) % 7)
            )
            for hour, minute in times:
                local = (ordinal - _EPOCH.toordinal()) * 86_400 + hour * 3_600 + minute * 60
                yield _EPOCH + timedelta(seconds=first_reaching(self.zone, local))

    def __str__(self) -> str:
        return "at " + ",".join(str(slot) for slot in self.slots)


@dataclass(frozen=True, slots=True)
class Cron:
    """Fire by a cron line of five fields on the local clock of the zone."""

    #: five fields in upper case, aliases expanded
    line: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        _check_zone(self.zone)
        line = " ".join(self.line.upper().split())
        object.__setattr__(self, "line", _ALIASES.get(line, line))
        if len(self.line.split()) != _CRON_FIELDS:
            raise _refusal(f"cron {self.line}", f"has not {_CRON_FIELDS} fields")
        try:
            fires = next(CronSim(self.line, _EPOCH), None)
        except CronSimError as error:
            raise _refusal(f"cron {self.line}", f"is no cron line ({error})") from error
        if fires is None:
            raise _refusal(f"cron {self.line}", "would never fire")

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the next instant that the line names."""
        try:
            # In a repeated hour the line names the first pass, which may already lie behind.
            for fire in CronSim(self.line, instant.astimezone(ZoneInfo(self.zone))):
                if fire.astimezone(UTC) > instant:
                    return fire.astimezone(UTC)
        except (OverflowError, ValueError):  # past year 9999
            pass
        return None

    def __str__(self) -> str:
        return f"cron {self.line}"


def _every(text: str, pace: str) -> Every:
    given = re.fullmatch(r"([0-9]{1,9}) *([smhd]?)", pace)
    if given is None:
        raise _refusal(text, "has no pace")
    return Every(int(given[1]) * _UNITS[given[2]])


def _slot(text: str, slot: str) -> Slot:
    given = re.fullmatch(r"(?:([0-6*]|[A-Za-z]{3})-)?([0-9]{1,2}):([0-9]{2})", slot)
    weekday = _DAYS.get((given[1] or "*").capitalize()) if given else None
    if given is None or weekday is None:
        raise _refusal(text, f"has the unreadable time {slot!r}")
    return Slot(weekday, int(given[2]), int(given[3]))


def _check_zone(zone: str) -> None:
    try:
        Calendar(Granularity.DAILY, zone=zone)
    except BadCalendar as error:
        raise BadTrigger(str(error)) from error


def _refusal(text: str, reason: str) -> BadTrigger:
    return BadTrigger(
        f"trigger {text!r} {reason}; accepted: 'every 1800' (seconds, or 30m, 2h, 1d), "
        "'at Tue-10:00,Fri-18:00,*-09:00' (weekday or 0 for Monday to 6, * or nothing for every "
        "day), 'cron 15 3 * * *' (five fields that can fire, or @daily and the like)"
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EVERY_DAY: Final = -1
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAYS: Final = {
    "*": _EVERY_DAY,
    **{str(number): number for number in range(7)},
    **{name: number for number, name in enumerate(_WEEKDAYS)},
}
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
#: A hundred years: whoever waits longer has made a mistake.
_LONGEST: Final = 36_525 * 86_400
_CRON_FIELDS: Final = 5
_ALIASES: Final = {
    "@HOURLY": "0 * * * *",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@WEEKLY": "0 0 * * 0",
    "@MONTHLY": "0 0 1 * *",
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
}
