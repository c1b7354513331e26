"""Scenarios: a timetable and what is to happen to it, as a JSON document to be played.

The shape is that of ``schemas/scenario.json``.  What processes and trees mean is checked by the
same code that checks a ``context.py``; only what a scenario has of its own is checked here.  All
problems are told at once, each with its place in the document.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from synergy.core.building import CATCH_UPS, CatalogError, build
from synergy.core.catalog import Catalog
from synergy.core.context import After, Context, ProcessDeclaration, TreeDeclaration
from synergy.core.intervals import BadCalendar, BadLabel, Calendar, Granularity, Interval
from synergy.core.model import Request, Unit
from synergy.errors import BadInput
from synergy.schemas import misshapes, schema
from synergy.testing.play import Crew, Ending, Play
from synergy.worker.outcomes import Outcome, Verdict

#: What the processes of a scenario run: nothing ever starts it.
ENTRY: Final = "scenario:played"
#: The source of its recomputing processes; see `Play`.
SOURCE: Final = "played"
#: How an attempt ends of which nothing is said: processed after a second.
DEFAULT: Final = Ending(duration=timedelta(seconds=1))

#: Outcome → how the attempt ends; None: its worker vanishes.
_VERDICTS: Mapping[str, Verdict | None] = {
    "processed": Verdict.PROCESSED,
    "noop": Verdict.NOOP,
    "failed": Verdict.FAILED,
    "lost": None,
}
#: Said of an attempt for which no reason was given.
_REASONS: Mapping[str, str] = {"failed": "the scenario says so"}
#: Options of a process that are handed on as they are.
_OPTIONS: Final = tuple(
    option
    for option in schema("scenario")["properties"]["processes"]["items"]["properties"]
    if option not in ("name", "after")
)

#: Actions that switch a process: off, and on.
_SWITCHES: Mapping[str, bool] = {"off": False, "on": True}

#: Process, interval label, generation, attempt; None where all are meant.
_Key = tuple[str, str | None, int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A scenario that has been checked."""

    catalog: Catalog
    zone: str
    clock: datetime
    until: datetime
    workers: int | None = None
    default: Ending = DEFAULT
    outcomes: Mapping[_Key, Ending] = field(default_factory=dict)
    requests: Sequence[Request] = ()

    def ending(self, unit: Unit) -> Ending:
        """How this attempt ends: by what names it most closely, interval first."""
        if not self.outcomes:
            return self.default
        label = unit.interval.label
        for interval in (label, None):
            for generation in (unit.generation, None):
                for attempt in (unit.attempt, None):
                    found = self.outcomes.get((unit.process, interval, generation, attempt))
                    if found is not None:
                        return found
        return self.default

    def play(self, **options: Any) -> Play:
        """The play of it; `options` are those of `Play`."""
        return Play(
            self.catalog,
            self.clock,
            self.until,
            self.ending,
            requests=self.requests,
            crews=(Crew(slots=self.workers),),
            **options,
        )


def parse(text: str, name: str = "the scenario") -> Scenario:
    """Read a scenario out of the text of a file called `name`.

    Raises:
        BadInput: naming every problem, each with its place.
    """
    twice: list[str] = []

    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.extend(key for place, (key, _) in enumerate(given) if key in dict(given[:place]))
        return dict(given)

    def constant(word: str) -> Any:
        raise ValueError(f"{word} is no number of JSON")

    try:
        document = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise BadInput(f"{name}:{error.lineno}:{error.colno} is no JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} is no JSON: {error}") from error
    return read(document, name, [f'"{key}" is said twice in one object' for key in twice])


def read(document: object, name: str = "the scenario", problems: Sequence[str] = ()) -> Scenario:
    """Check a scenario; `problems` are those that were found before.

    Raises:
        BadInput: naming every problem, each with its place.
    """
    return _Reader(document, problems).scenario(name)


def instant_of(text: object) -> datetime:
    """An instant in UTC, given in ISO 8601 with its offset.

    Raises:
        ValueError: saying what would be accepted.
    """
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no text")
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        what = "has no offset" if instant is not None else "is no instant"
        raise ValueError(
            f"{text!r} {what}; accepted: ISO 8601 with an offset, such as "
            '"2026-11-20T17:00:00Z" or "2026-11-20T18:00+01:00"'
        )
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} lies beyond what can be told") from None


class _Reader:
    """Collects what is wrong instead of stopping at the first.

    Whatever is not of its shape has been complained of by the schema, and is passed over here.
    """

    def __init__(self, document: object, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        for found in misshapes("scenario", document):
            self._problem(found.place, found.what)
        self.document: Mapping[str, Any] = document if isinstance(document, dict) else {}
        self.catalog: Catalog | None = None
        self.clock: datetime | None = None
        self.calendars: dict[str, Calendar | None] = {}

    def scenario(self, name: str) -> Scenario:
        self.clock = clock = self._instant("clock")
        until = self._instant("until")
        if clock is not None and until is not None and until < clock:
            self._problem("until", f"{self.document['until']!r} lies before clock")
        zone = self._zone()
        self._timetable(zone, clock)
        default = self._default()
        outcomes = self._outcomes(default)
        requests = self._requests(clock, until)
        if self.problems or self.catalog is None or clock is None or until is None:
            raise BadInput(f"{name} cannot be played:", self.problems)
        return Scenario(
            catalog=self.catalog,
            zone=zone,
            clock=clock,
            until=until,
            workers=self.document.get("workers"),
            default=default,
            outcomes=outcomes,
            requests=requests,
        )

    def _problem(self, place: str, what: str) -> None:
        self.problems.append(f"{place}: {what}" if place else what)

    def _objects(self, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The objects of a list, each with its place."""
        listed = self.document.get(key)
        if isinstance(listed, list):
            for number, item in enumerate(listed):
                if isinstance(item, dict):
                    yield f"{key}[{number}]", item

    def _instant(self, key: str) -> datetime | None:
        if not isinstance(self.document.get(key), str):
            return None
        try:
            return instant_of(self.document[key])
        except ValueError as error:
            self._problem(key, str(error))
            return None

    def _zone(self) -> str:
        zone = self.document.get("zone", "UTC")
        if isinstance(zone, str):
            try:
                return Calendar(Granularity.DAILY, zone=zone).zone
            except BadCalendar as error:
                self._problem("zone", str(error))
        return "UTC"

    # the timetable

    def _timetable(self, zone: str, clock: datetime | None) -> None:
        declared: dict[str, ProcessDeclaration] = {}
        spare: list[ProcessDeclaration] = []
        for place, item in self._objects("processes"):
            process = _process(place, item)
            if process is None:
                continue
            if process.name in declared:
                spare.append(process)
            declared.setdefault(process.name, process)
        trees: list[TreeDeclaration] = []
        owners: dict[str, str] = {}
        for place, item in self._objects("trees"):
            name, names = item.get("name"), _texts(item.get("processes"))
            levels = []
            for process_name in names:
                if process_name not in declared:
                    self._problem(place, _unknown(process_name, declared))
                elif process_name in owners:
                    self._problem(
                        place,
                        f'"{process_name}" is listed in {owners[process_name]} already; '
                        "a process belongs to one tree, once",
                    )
                else:
                    owners[process_name] = place
                    levels.append(declared[process_name])
                    self.calendars[process_name] = _calendar(
                        declared[process_name], item.get("zone", zone)
                    )
            if isinstance(name, str) and (levels or item.get("processes") == []):
                trees.append(_tree(place, item, levels, zone, clock))
        for process in declared.values():
            if process.name not in owners:
                self._problem(f'{process.place} process "{process.name}"', "no tree has it")
                self.calendars[process.name] = None
        # A tree of their own has their options checked like those of all others.
        rest = [process for process in declared.values() if process.name not in owners] + spare
        strays = [_stray(process, zone, clock) for process in rest]
        given = self.document.get("pools")
        pools = given if isinstance(given, dict) else {}
        context = Context(*trees, *strays, sources={SOURCE: ENTRY}, pools=pools)
        try:
            self.catalog = build(context, clock or datetime.now(UTC))
        except CatalogError as error:
            self.problems += [each.replace("Context(pools=…)", "pools") for each in error.problems]

    # what happens

    def _default(self) -> Ending:
        given = self.document.get("default")
        return _ending(given if isinstance(given, dict) else {}, DEFAULT)

    def _outcomes(self, default: Ending) -> dict[_Key, Ending]:
        found: dict[_Key, Ending] = {}
        for place, item in self._objects("outcomes"):
            label = item.get("interval")
            interval = self._interval(place, item) if label is not None else None
            key = (
                str(item.get("process")),
                interval.label if interval is not None else None,
                _whole(item.get("generation")),
                _whole(item.get("attempt")),
            )
            if label is None:
                self._known(place, item)
            elif interval is None:
                continue
            if key in found:
                self._problem(place, "the outcome of these attempts was given before")
            found[key] = _ending(item, default)
        return found

    def _requests(self, clock: datetime | None, until: datetime | None) -> list[Request]:
        requests: list[Request] = []
        for place, item in self._objects("requests"):
            at = None
            if isinstance(item.get("at"), str):
                try:
                    at = instant_of(item["at"])
                except ValueError as error:
                    self._problem(f"{place}.at", str(error))
            if at is not None and clock is not None and until is not None:
                if not clock <= at <= until:
                    self._problem(f"{place}.at", f"{item['at']!r} is not from clock to until")
            on = _SWITCHES.get(str(item.get("action")))
            asked = self._named(place, item) if on is None else self._switched(place, item, on)
            if at is not None and asked is not None:
                requests.append(
                    Request(
                        id=f"r{len(requests) + 1}",
                        process=str(item.get("process")),
                        filed_at=at,
                        reason=str(item.get("reason", "")),
                        **asked,
                    )
                )
        return requests

    def _named(self, place: str, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """What a request asks for an interval; None where that cannot be told."""
        if "interval" not in item:
            self._problem(place, '"interval" is missing')
        if "catch_up" in item:
            self._problem(f"{place}.catch_up", 'only "on" takes it')
        interval = self._interval(place, item)
        if interval is None:
            return None
        return {"action": str(item.get("action")), "starts": (interval.start,)}

    def _switched(self, place: str, item: Mapping[str, Any], on: bool) -> dict[str, Any] | None:
        """How a request switches a process; None where that cannot be told."""
        policy = item.get("catch_up")
        if "interval" in item:
            self._problem(f"{place}.interval", "a process is switched as a whole: leave it out")
        if policy is not None and not on:
            self._problem(f"{place}.catch_up", 'only "on" takes it')
        elif policy is not None and policy not in CATCH_UPS:
            self._problem(f"{place}.catch_up", f"{policy!r} is none of {', '.join(CATCH_UPS)}")
        if not self._known(place, item):
            return None
        options = {"on": on} if policy is None else {"on": on, "catch_up": policy}
        return {"action": "switch", "starts": (), "options": options}

    def _known(self, place: str, item: Mapping[str, Any]) -> bool:
        """Whether it names a process that there is; said where it does not."""
        name = item.get("process")
        if isinstance(name, str) and name not in self.calendars:
            self._problem(f"{place}.process", _unknown(name, self.calendars))
        return isinstance(name, str) and name in self.calendars

    def _interval(self, place: str, item: Mapping[str, Any]) -> Interval | None:
        """The interval that an outcome or a request names; None where it cannot be told."""
        label = item.get("interval")
        if not self._known(place, item) or not isinstance(label, str):
            return None
        process = item["process"]
        calendar = self.calendars[process]
        if calendar is None:
            return None
        try:
            interval = calendar.parse(label)
        except BadLabel as error:
            self._problem(f"{place}.interval", str(error))
            return None
        first = calendar.containing(self.clock) if self.clock is not None else interval
        if interval.start < first.start:
            self._problem(
                f"{place}.interval", f"{label!r} lies before the first of {process}, {first.label}"
            )
            return None
        return interval


def _process(place: str, item: Mapping[str, Any]) -> ProcessDeclaration | None:
    """The declaration; None without a name to speak of."""
    name = item.get("name")
    if not isinstance(name, str):
        return None
    options = {key: item[key] for key in _OPTIONS if item.get(key) is not None}
    options.setdefault("granularity", None)
    if options.get("machine") == "recomputing":
        options["source"] = SOURCE
    return ProcessDeclaration(
        name=name, run=ENTRY, after=_afters(item.get("after")), place=place, **options
    )


def _tree(
    place: str,
    item: Mapping[str, Any],
    levels: Sequence[ProcessDeclaration],
    zone: str,
    clock: datetime | None,
) -> TreeDeclaration:
    given = {"lag": item["lag"]} if item.get("lag") is not None else {}
    return TreeDeclaration(
        name=item["name"],
        processes=levels,
        zone=item.get("zone", zone),
        start=clock.isoformat() if clock is not None else None,
        place=place,
        **given,
    )


def _stray(process: ProcessDeclaration, zone: str, clock: datetime | None) -> TreeDeclaration:
    name = process.place.replace("[", ".").rstrip("]")
    return _tree(process.place, {"name": name}, [process], zone, clock)


def _afters(given: object) -> tuple[After, ...]:
    found = []
    for item in given if isinstance(given, list) else ():
        if isinstance(item, str):
            found.append(After(item))
        elif isinstance(item, dict) and isinstance(item.get("process"), str):
            found.append(After(item["process"], item.get("offset", 0), item.get("window")))
    return tuple(found)


def _calendar(process: ProcessDeclaration, zone: object) -> Calendar | None:
    """By which its labels are read; None where its declaration is wrong, which is told of."""
    try:
        return Calendar(Granularity(process.granularity), process.grouping, str(zone))
    except (ValueError, TypeError):
        return None


def _ending(item: Mapping[str, Any], default: Ending) -> Ending:
    """How an attempt ends, the default where the item is silent."""
    seconds, named = item.get("duration"), item.get("outcome")
    duration = default.duration
    if isinstance(seconds, int | float) and 0 <= seconds <= _LONGEST:
        duration = timedelta(seconds=seconds)
    outcome = default.outcome
    if isinstance(named, str) and named in _VERDICTS:
        verdict = _VERDICTS[named]
        outcome = Outcome(verdict, _REASONS.get(named, "")) if verdict is not None else None
    if outcome is not None:
        outcome = replace(
            outcome,
            reason=str(item.get("reason", outcome.reason)),
            fingerprint=item.get("fingerprint", outcome.fingerprint),
        )
    return Ending(duration=duration, outcome=outcome)


#: Longest duration (seconds): a hundred years, as everywhere.
_LONGEST: Final = 3_155_760_000


def _texts(given: object) -> list[str]:
    return [item for item in given if isinstance(item, str)] if isinstance(given, list) else []


def _whole(given: object) -> int | None:
    return given if isinstance(given, int) else None


def _unknown(name: str, known: Iterable[str]) -> str:
    return f'"{name}" is none of the processes: {", ".join(known) or "there are none"}'
