"""What a user registers in ``context.py``: plain declarations, nothing checked yet.

Each declaration remembers the line that made it, so that `catalog.build` can report every problem
of a context at once with its place.  A context turns into a plain document and back, which is how
the scheduler leaves it in the store for the console and the command line.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import PurePath
from typing import Any

#: A duration: seconds, or a timedelta.
Duration = int | float | timedelta


@dataclass(frozen=True, slots=True)
class After:
    """A dependency: which intervals of another process an interval waits for.

    Plain (``offset`` 0, no ``window``): all that share time with it: the same day, the hours of
    my day, the month I lie in.  ``offset`` -1 is the one before, ``window`` 7 the last seven of
    them, the newest being the one that a plain dependency would end with.
    """

    process: str
    offset: int = 0
    window: int | None = None


def previous(process: str) -> After:
    """The interval before; of the process itself, it makes it sequential."""
    return After(process, offset=-1)


def last(count: int, process: str) -> After:
    """The last `count` intervals up to and with the one of the same time."""
    return After(process, window=count)


def offset(intervals: int, process: str) -> After:
    """The interval so many before (negative): ``offset(-7, "site_daily")`` is a week ago."""
    return After(process, offset=intervals)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessDeclaration:
    """One level of a tree; see `hourly` and its sisters for the meaning of each option."""

    name: str
    granularity: str
    run: str | None = None
    command: Sequence[str] = ()
    noop_codes: Sequence[int] = ()
    machine: str = "discrete"
    blocking: str = "normal"
    after: Sequence[After] = ()
    on_failure: str = "hold"
    grouping: int = 1
    arguments: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    sink: str | None = None
    every: str = "every 60"
    lag: Duration | None = None
    time_limit: Duration | None = None
    max_attempts: int = 3
    backoff: Duration = 10
    parallel: int | None = None
    batch: int = 1
    pool: str | None = None
    priority: int = 0
    catch_up: str = "all"
    boxes: str | Sequence[str] = ()
    late: str = "ignore"
    late_for: Duration | None = None
    late_every: str | Duration | None = None
    complete_by: str | Duration | None = None
    #: Options that were given and do not exist.
    unknown: Sequence[str] = ()
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeDeclaration:
    """Processes of descending granularity, joined by calendar enclosure."""

    name: str
    processes: Sequence[ProcessDeclaration]
    zone: str = "UTC"
    start: str | None = None
    until: str | None = None
    lag: Duration = 300
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreerunDeclaration:
    """A trigger-driven run beside the timetable."""

    name: str
    at: str
    zone: str = "UTC"
    run: str | None = None
    command: Sequence[str] = ()
    noop_codes: Sequence[int] = ()
    misfire: str = "once"
    start: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None
    sink: str | None = None
    time_limit: Duration | None = None
    max_attempts: int = 1
    backoff: Duration = 10
    pool: str | None = None
    priority: int = 0
    boxes: str | Sequence[str] = ()
    #: Options that were given and do not exist.
    unknown: Sequence[str] = ()
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramDeclaration:
    """A worker program: how many units at once, of which processes, and on which boxes it runs."""

    name: str
    slots: int = 2
    processes: Sequence[str] = ()
    boxes: str | Sequence[str] = ()
    on: str = "all"
    place: str = ""


Declaration = TreeDeclaration | FreerunDeclaration | ProgramDeclaration


class Context:
    """Everything that is registered.

    `sources` names what the recomputing processes read: ``name -> "package.module:function"``; the
    function takes an interval and returns its first and last key, or None while it has none.
    `schedulers` names the boxes whose supervisor keeps a scheduler; without it all do.  `pools`
    names what several processes share, and how many units of them all may be out at once:
    ``{"db": 2}``.  `accept` has the words of changes that put recorded intervals out of sight and
    are meant; ``check`` tells them.
    """

    def __init__(
        self,
        *declared: Declaration,
        sources: Mapping[str, str] | None = None,
        schedulers: str | Sequence[str] = (),
        pools: Mapping[str, int] | None = None,
        accept: str | Sequence[str] = (),
    ) -> None:
        self.declared = declared
        self.schedulers = schedulers
        #: Of this context only: it is no part of what is stored.
        self.accept = accept
        self.sources, self.no_sources = _mapping(sources)
        self.pools, self.no_pools = _mapping(pools)


def _mapping(given: object) -> tuple[dict[str, Any], object]:
    """What was given as a mapping, and what was given and is none."""
    if given is None:
        return {}, None
    return (dict(given), None) if isinstance(given, Mapping) else ({}, given)


def _place() -> str:
    frame = sys._getframe(2)
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _sister(granularity: str) -> Callable[..., ProcessDeclaration]:
    def declare(
        name: str,
        *,
        after: str | After | Sequence[str | After] = (),
        **options: Any,
    ) -> ProcessDeclaration:
        return ProcessDeclaration(
            name=name,
            granularity=granularity,
            after=_afters(after),
            place=_place(),
            **_known(ProcessDeclaration, options, "name", "granularity", "after"),
        )

    declare.__name__ = granularity
    declare.__doc__ = f"""Declare a {granularity} process.

    `run` is ``"package.module:function"`` (or a class), or `command` a list of words.
    `machine`: discrete, continuous or recomputing (which needs a `source`); `every` is how often
    the latter two run while the interval is open.  `blocking`: normal, children or dependencies.
    `after`: process names, or `previous`, `last`, `offset`.  `on_failure`: hold or skip.
    `grouping`: so many {granularity} intervals in one.  `lag` seconds after the interval's end it
    is due (the tree's by default).  `time_limit` and `backoff` in seconds; `max_attempts` before
    it is given up; `parallel` units of it at once, `pool` those that it shares with others;
    `batch`: up to so many adjacent intervals are one call of its function or class;
    `priority` high goes first.  `catch_up`: all, latest or none of the intervals that it missed
    while it was switched off, or before it was registered, are worked.  `boxes`: only workers on
    these take it, by name or pattern (``"db-*"``).  `late`: what becomes of a finished interval of
    a recomputing process whose source has grown: ignore, mark or reprocess; it is looked at for
    `late_for` seconds after its end, `late_every` so often.  `complete_by`: what it promises, a
    local time (``"06:00"``) or seconds after the interval's end.
    """
    return declare


minutely = _sister("minutely")
hourly = _sister("hourly")
daily = _sister("daily")
weekly = _sister("weekly")
monthly = _sister("monthly")
quarterly = _sister("quarterly")
yearly = _sister("yearly")


def tree(
    name: str,
    processes: Sequence[ProcessDeclaration],
    *,
    zone: str = "UTC",
    start: str | datetime | None = None,
    until: str | datetime | None = None,
    lag: Duration = 300,
) -> TreeDeclaration:
    """Declare a tree: its levels in any order, cut by the local clock of `zone`.

    `start` and `until` are local dates or times (``"2024-05-12"``, ``"2024-05-12T07:00"``), or
    aware datetimes; without a start it is the moment when the scheduler first sees the tree.
    """
    return TreeDeclaration(
        name=name,
        processes=_several(processes),
        zone=zone,
        start=_as_text(start),
        until=_as_text(until),
        lag=lag,
        place=_place(),
    )


def freerun(
    name: str, *, at: str, start: str | datetime | None = None, **options: Any
) -> FreerunDeclaration:
    """Declare a freerun: `run` or `command`, fired by the trigger `at` (local to `zone`).

    `at`: ``"every 1800"``, ``"at Tue-10:00,Fri-18:00"`` or ``"cron 15 3 * * *"``.
    `misfire`: what becomes of firings that nobody served: once (the latest), skip, or all.
    `start`: the firings after this instant count; without it, those after the moment when the
    scheduler first sees the freerun.
    """
    return FreerunDeclaration(
        name=name,
        at=at,
        start=_as_text(start),
        place=_place(),
        **_known(FreerunDeclaration, options, "name", "at", "start"),
    )


def program(
    name: str,
    *,
    slots: int = 2,
    processes: Sequence[str] = (),
    boxes: str | Sequence[str] = (),
    on: str = "all",
) -> ProgramDeclaration:
    """Declare a worker program: `slots` units at once, of these processes (all by default).

    `boxes` names the boxes that it is for, by name or pattern (``"db-*"``), every box by default.
    `on`: it works on all of them, or on any one of them at a time.
    """
    return ProgramDeclaration(
        name=name,
        slots=slots,
        processes=_several(processes),
        boxes=_several(boxes),
        on=on,
        place=_place(),
    )


def _as_text(instant: str | datetime | None) -> str | None:
    return instant.isoformat() if isinstance(instant, datetime) else instant


def _afters(after: str | After | Sequence[str | After]) -> tuple[After, ...]:
    listed = _several(after) if not isinstance(after, str | After) else (after,)
    if not isinstance(listed, tuple):
        listed = (listed,)
    return tuple(After(item) if isinstance(item, str) else item for item in listed)


def _several(given: Any) -> Any:
    """A list of any kind as a tuple; what is none as it is, for the catalog to complain of."""
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        return tuple(given)
    return given


def _known(kind: type, options: dict[str, Any], *named: str) -> dict[str, Any]:
    """The options that a declaration has; the names of all others as its option `unknown`."""
    known = {item.name for item in fields(kind)} - {"unknown", "place", *named}
    return {
        **{name: value for name, value in options.items() if name in known},
        "unknown": tuple(name for name in options if name not in known),
    }


def to_document(context: Context) -> dict[str, Any]:
    """The context as JSON values."""
    return {
        "trees": [_plain(d) for d in context.declared if isinstance(d, TreeDeclaration)],
        "freeruns": [_plain(d) for d in context.declared if isinstance(d, FreerunDeclaration)],
        "programs": [_plain(d) for d in context.declared if isinstance(d, ProgramDeclaration)],
        "sources": dict(context.sources),
        "schedulers": _plain(context.schedulers),
        "pools": dict(context.pools),
    }


def from_document(document: Mapping[str, Any]) -> Context:
    """The context that a document was made from."""
    return Context(
        *(
            TreeDeclaration(
                **{
                    **tree_,
                    "processes": tuple(
                        ProcessDeclaration(
                            **{**level, "after": tuple(After(**item) for item in level["after"])}
                        )
                        for level in tree_["processes"]
                    ),
                }
            )
            for tree_ in document["trees"]
        ),
        *(FreerunDeclaration(**entry) for entry in document["freeruns"]),
        *(ProgramDeclaration(**entry) for entry in document["programs"]),
        sources=document["sources"],
        schedulers=document.get("schedulers", ()),
        pools=document.get("pools", {}),
    )


def with_starts(
    document: Mapping[str, Any], stored: Mapping[str, Any] | None, now: datetime
) -> dict[str, Any]:
    """The document with a start for every tree and freerun: the one first given, else `now`.

    What has no start begins when it is first seen, and keeps that start ever after.
    """

    def started(kind: str) -> list[dict[str, Any]]:
        known = {each["name"]: each.get("start") for each in stored[kind]} if stored else {}
        return [
            {**each, "start": each["start"] or known.get(each["name"]) or now.isoformat()}
            for each in document[kind]
        ]

    return {**document, "trees": started("trees"), "freeruns": started("freeruns")}


def _plain(value: Any) -> Any:
    """Dataclasses to objects, tuples to lists, timedeltas to seconds."""
    if hasattr(value, "__dataclass_fields__"):
        return {
            item.name: _plain(getattr(value, item.name))
            for item in fields(value)
            if item.name != "unknown"
        }
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
