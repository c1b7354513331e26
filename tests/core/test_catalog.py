"""The catalog: all problems of a context at once, and who waits for whom by the calendar."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synergy.core.building import CatalogError, build
from synergy.core.catalog import Catalog, Input
from synergy.core.context import (
    After,
    Context,
    ProcessDeclaration,
    TreeDeclaration,
    daily,
    freerun,
    hourly,
    last,
    minutely,
    monthly,
    offset,
    previous,
    program,
    quarterly,
    tree,
    weekly,
    yearly,
)
from synergy.core.intervals import Interval

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DECLARE = {
    "minutely": minutely,
    "hourly": hourly,
    "daily": daily,
    "weekly": weekly,
    "monthly": monthly,
    "quarterly": quarterly,
    "yearly": yearly,
}


def problems(
    *declared: Any, sources: dict[str, str] | None = None, pools: dict[str, int] | None = None
) -> tuple[str, ...]:
    """All that is wrong; empty for a context that can be used."""
    try:
        build(Context(*declared, sources=sources, pools=pools), NOW)
    except CatalogError as error:
        return error.problems
    return ()


def one(*levels: ProcessDeclaration, **options: Any) -> TreeDeclaration:
    return tree("t", levels or [daily("p", run="w:f")], **options)


def process(**options: Any) -> TreeDeclaration:
    return one(daily("p", **{"run": "w:f", **options}))


def entry(**options: Any) -> Any:
    return freerun("f", **{"at": "every 60", "run": "w:f", **options})


PROBLEMS: list[tuple[str, list[Any], str, str]] = [
    # (what is wrong, declared, place, sentence)
    (
        "unknown process in after",
        [process(after="nobody")],
        'process "p"',
        '"nobody" is no registered process; known are p',
    ),
    (
        "a freerun in after",
        [process(after="f"), entry()],
        'process "p"',
        '"f" is no registered process; known are p',
    ),
    ("unknown object in a tree", [one(3)], 'tree "t"', "3 is no process (hourly(…)"),  # type: ignore[arg-type]
    ("a tree in a tree", [tree("t", [one()])], 'tree "t"', "is no process"),  # type: ignore[list-item]
    ("unknown object in the context", [[one()]], "Context(…)", "is none of tree(…)"),
    ("a process beside the trees", [daily("p", run="w:f")], "Context(…)", "is none of tree(…)"),
    (
        "granularities outside the lattice",
        [one(monthly("m", run="w:f"), weekly("w", run="w:f"))],
        'tree "t"',
        'weekly "w" does not nest in monthly "m"; the lattice is minutes ⊂ hour',
    ),
    (
        "weeks in years",
        [one(yearly("y", run="w:f"), weekly("w", run="w:f"), daily("d", run="w:f"))],
        'tree "t"',
        'weekly "w" does not nest in yearly "y"',
    ),
    (
        "two of one granularity",
        [one(daily("a", run="w:f"), daily("b", run="w:f"))],
        'tree "t"',
        "are of one granularity",
    ),
    (
        "groups that do not nest",
        [one(hourly("a", run="w:f", grouping=3), hourly("b", run="w:f", grouping=2))],
        'tree "t"',
        'hourly "b" in groups of 2 does not nest in hourly "a" in groups of 3',
    ),
    (
        "months in quarters by two",
        [one(quarterly("q", run="w:f"), monthly("m", run="w:f", grouping=2))],
        'tree "t"',
        'monthly "m" in groups of 2 does not nest in quarterly "q"',
    ),
    (
        "grouping that does not divide",
        [one(hourly("p", run="w:f", grouping=5))],
        'process "p"',
        "hourly intervals cannot be grouped by 5; accepted: 1, 2, 3, 4, 6, 8, 12, 24",
    ),
    ("grouped days", [process(grouping=2)], 'process "p"', "cannot be grouped by 2; accepted: 1"),
    ("no grouping", [process(grouping=0)], 'process "p"', "grouping 0 is not a whole number"),
    ("unknown zone", [one(zone="Mars/Base")], 'tree "t"', "zone 'Mars/Base' is unknown"),
    ("empty zone", [one(zone="")], 'tree "t"', "zone '' is unknown"),
    ("path as a zone", [one(zone="../UTC")], 'tree "t"', "zone '../UTC' is unknown"),
    ("unknown zone", [entry(zone="Mars/Base")], 'freerun "f"', "zone 'Mars/Base' is unknown"),
    ("cron that never fires", [entry(at="cron 0 0 30 2 *")], 'freerun "f" at', "30 2 *"),
    ("every that never fires", [process(every="cron 0 0 31 4 *")], 'process "p" every', "31 4 *"),
    ("no trigger", [entry(at="sometimes")], 'freerun "f" at', "names no kind of trigger"),
    ("cycle of one", [process(after="p")], 'process "p"', "it waits for itself: p → p"),
    (
        "cycle within a tree",
        [one(daily("d", run="w:f"), hourly("h", run="w:f", after="d"))],
        'process "d"',
        "it waits for itself: d → h → d",
    ),
    (
        "cycle across trees",
        [
            one(daily("a", run="w:f", after="b")),
            tree("u", [daily("b", run="w:f", after="c")]),
            tree("v", [daily("c", run="w:f", after=last(3, "a"))]),
        ],
        'process "a"',
        "it waits for itself: a → b → c → a",
    ),
    (
        "an hour back and then the whole day",
        [
            tree("t", [hourly("a", run="w:f", after=previous("b"))]),
            tree("u", [hourly("b", run="w:f", after="c")]),
            tree("v", [daily("c", run="w:f", after="a")]),
        ],
        'process "a"',
        "it waits for itself",
    ),
    (
        "a window that ends within the day",
        [
            tree("t", [daily("d", run="w:f", after=After("h", -1, 3))]),
            tree("u", [hourly("h", run="w:f", after="d")]),
        ],
        'process "d"',
        "it waits for itself: d → h → d",
    ),
    (
        "the month before the week",
        [
            tree("t", [weekly("w", run="w:f", after=previous("m"))]),
            tree("u", [monthly("m", run="w:f", after="w")]),
        ],
        'process "w"',
        "it waits for itself",
    ),
    (
        "the day before in another zone",
        [
            tree("t", [daily("a", run="w:f", after="b")]),
            tree("u", [daily("b", run="w:f", after="c")], zone="Asia/Tokyo"),
            tree("v", [daily("c", run="w:f", after=previous("a"))]),
        ],
        'process "a"',
        "it waits for itself",
    ),
    (
        "a later interval",
        [process(after=offset(1, "p"))],
        'process "p"',
        'it cannot wait for a later "p": offset 1 > 0',
    ),
    ("window of none", [process(after=last(0, "p"))], 'process "p"', "window 0 is not a whole"),
    ("window of -1", [process(after=last(-1, "p"))], 'process "p"', "window -1 is not a whole"),
    ("too far back", [process(after=offset(-99999, "p"))], 'process "p"', "offset -99999 is not"),
    ("too long a window", [process(after=last(99999, "p"))], 'process "p"', "window 99999 is not"),
    ("bad name", [one(daily("a b", run="w:f"))], 'process "a b"', "a name is made of letters"),
    ("empty name", [one(daily("", run="w:f"))], 'process ""', "a name is made of letters"),
    ("key as name", [one(daily("a@b", run="w:f"))], 'process "a@b"', "a name is made of letters"),
    ("bad name", [tree("a#b", [daily("p", run="w:f")])], 'tree "a#b"', "a name is made"),
    ("bad name", [freerun("a\n", at="every 1", run="w:f")], "freerun", "a name is made of"),
    ("bad name", [program("über uns")], 'program "über uns"', "a name is made of letters"),
    (
        "process twice",
        [one(), tree("u", [hourly("p", run="w:f")])],
        'process "p"',
        "the name is taken already, at test_catalog.py:",
    ),
    ("tree twice", [one(), one(hourly("h", run="w:f"))], 'tree "t"', "the name is taken already"),
    (
        "freerun named as a process",
        [one(daily("f", run="w:f")), entry()],
        'freerun "f"',
        "the name is taken already",
    ),
    (
        "program named as a freerun",
        [entry(), program("f")],
        'program "f"',
        "the name is taken already",
    ),
    ("neither run nor command", [process(run=None)], 'process "p"', "it needs either run="),
    ("both", [process(command=["true"])], 'process "p"', "it needs either run="),
    ("neither", [entry(run=None)], 'freerun "f"', "it needs either run="),
    ("command as one text", [process(run=None, command="ls -l")], 'process "p"', "is one text"),
    ("a word that is none", [process(run=None, command=["a", None])], 'process "p"', "None, which"),
    ("run without a function", [process(run="workers")], 'process "p"', "is not of the form"),
    ("run as a path", [process(run="w/f.py:f")], 'process "p"', "is not of the form"),
    ("negative lag", [process(lag=-1)], 'process "p"', "lag -1 is not a number of seconds"),
    (
        "negative lag",
        [process(lag=timedelta(seconds=-1))],
        'process "p"',
        "is not a number of seconds",
    ),
    ("lag as text", [process(lag="5m")], 'process "p"', "lag '5m' is not a number of seconds"),
    ("lag of a tree", [one(lag="5m")], 'tree "t"', "lag '5m' is not a number of seconds"),
    ("no number", [process(lag=float("nan"))], 'process "p"', "lag nan is not a number"),
    ("endless", [process(time_limit=float("inf"))], 'process "p"', "time_limit inf is not"),
    ("endless", [process(backoff=1e300)], 'process "p"', "backoff 1e+300 is not a number"),
    ("no time at all", [process(time_limit=0)], 'process "p"', "time_limit 0 lets nothing run"),
    ("bad start", [one(start="in May")], 'tree "t"', "start 'in May' is no date or time"),
    ("bad until", [one(until=2024)], 'tree "t"', "until 2024 is no date or time"),
    (
        "until before start",
        [one(start="2024-02-01", until="2024-01-01")],
        'tree "t"',
        "until '2024-01-01' is not after its start",
    ),
    (
        "until before now",
        [one(until="2024-01-01")],
        'tree "t"',
        "until '2024-01-01' is not after its start",
    ),
    (
        "before time",
        [one(start="0001-01-01", zone="Asia/Tokyo")],
        'tree "t"',
        "start '0001-01-01' lies beyond what can be told",
    ),
    (
        "after time",
        [one(until="9999-12-31T23:00")],
        'tree "t"',
        "would begin or end beyond what can be told",
    ),
    (
        "recomputing without a source",
        [process(machine="recomputing")],
        'process "p"',
        "a recomputing process needs a source",
    ),
    (
        "recomputing from an unknown source",
        [process(machine="recomputing", source="other")],
        'process "p"',
        "source is 'other', known are none",
    ),
    ("no processes", [tree("t", [])], 'tree "t"', "it has no processes"),
    ("processes as text", [tree("t", "x")], 'tree "t"', "processes 'x' is one text"),  # type: ignore[arg-type]
    (
        "program of unknown processes",
        [one(), program("w", processes=["p", "q"])],
        'program "w"',
        '"q" is no registered process; known are p',
    ),
    (
        "program of one text",
        [one(), program("w", processes="p")],
        'program "w"',
        "processes 'p' is one text; a list of names is wanted",
    ),
    ("no slots", [program("w", slots=0)], 'program "w"', "slots 0 is not a whole number from 1"),
    ("slots in words", [program("w", slots="two")], 'program "w"', "slots 'two' is not a whole"),  # type: ignore[arg-type]
    (
        "a pattern that no box bears",
        [process(boxes="db 1")],
        'process "p"',
        "boxes 'db 1' is neither the name of a box nor a pattern",
    ),
    ("an open bracket", [entry(boxes=["db-[12"])], 'freerun "f"', "boxes 'db-[12' is neither"),
    ("an empty pattern", [program("w", boxes="")], 'program "w"', "boxes '' is neither"),
    ("a number as box", [program("w", boxes=[7])], 'program "w"', "boxes 7 is neither"),  # type: ignore[list-item]
    ("boxes as number", [process(boxes=7)], 'process "p"', "boxes 7 is no list of boxes"),
    ("bad on", [program("w", on="some")], 'program "w"', "on 'some' is none of all, any"),
    (
        "boxes that no program of it runs on",
        [
            process(boxes=["db-1", "db-2"]),
            program("w", processes=["p"], boxes="web-*"),
            program("v", boxes="db-3"),
        ],
        'process "p"',
        "it is bound to boxes db-1, db-2, where no program works on it: w on web-*, v on db-3",
    ),
    ("reserved name", [program("scheduler")], 'program "scheduler"', "belongs to synergy itself"),
    ("bad machine", [process(machine="freerun")], 'process "p"', "machine 'freerun' is none of"),
    ("bad blocking", [process(blocking="all")], 'process "p"', "blocking 'all' is none of"),
    ("bad on_failure", [process(on_failure="x")], 'process "p"', "on_failure 'x' is none of"),
    ("bad misfire", [entry(misfire="never")], 'freerun "f"', "misfire 'never' is none of"),
    ("no attempts", [process(max_attempts=0)], 'process "p"', "max_attempts 0 is not a whole"),
    ("parallel none", [process(parallel=0)], 'process "p"', "parallel 0 is not a whole number"),
    (
        "unknown pool",
        [process(pool="db")],
        'process "p"',
        "pool 'db' is none that",
    ),
    ("pool of a freerun", [entry(pool=7)], 'freerun "f"', "pool 7 is none that"),
    (
        "catch-up",
        [process(catch_up="some")],
        'process "p"',
        "'some' is none of all, latest",
    ),
    ("promise", [process(complete_by="6 am")], 'process "p"', "complete_by '6 am' is neither"),
    ("promised late", [process(complete_by="24:00")], 'process "p"', "is neither a local time"),
    ("promised soon", [process(complete_by=300)], 'process "p"', "an interval is due 300 s after"),
    ("promised before", [process(complete_by=-1)], 'process "p"', "complete_by -1 is not a number"),
    ("priority", [process(priority="high")], 'process "p"', "priority 'high' is not a whole"),
    ("exit code", [process(noop_codes=[256])], 'process "p"', "noop_codes 256 is not a whole"),
    ("batch of none", [process(batch=0)], 'process "p"', "batch 0 is not a whole number from 1"),
    ("large batch", [process(batch=257)], 'process "p"', "is not a whole number from 1 to 256"),
    (
        "batch of a command",
        [one(hourly("p", command=["true"], batch=2))],
        'process "p"',
        "batch=2 is for functions and classes, which can be handed several intervals in one call: "
        "a command is started for each, so its batch is 1",
    ),
    (
        "batch that is never full",
        [process(batch=5, parallel=4)],
        'process "p"',
        "batch=5 can never be filled: parallel lets no more than 4 of its intervals be at work",
    ),
    ("batch of a freerun", [entry(batch=2)], 'freerun "f"', "no option 'batch'"),
    ("arguments", [process(arguments=[1])], 'process "p"', "arguments [1] are no mapping"),
    ("not JSON", [process(arguments={"a": {1, 2}})], 'process "p"', "cannot be written as JSON"),
    ("not a number", [process(arguments={"a": float("nan")})], 'process "p"', "as JSON"),
    ("no name", [process(arguments={1: 2})], 'process "p"', "have a name that is no text"),
    ("misspelled option", [process(blokcing="children")], 'process "p"', "no option 'blokcing'"),
    ("misspelled option", [entry(machine="discrete")], 'freerun "f"', "no option 'machine'"),
    ("after of a wrong type", [process(after=3)], 'process "p"', "after 3 is neither a name nor"),
    ("name of a wrong type", [one(daily(None, run="w:f"))], 'process "None"', "a name is made of"),
]


@pytest.mark.parametrize(
    ("declared", "place", "sentence"),
    [case[1:] for case in PROBLEMS],
    ids=[f"{number}-{case[0]}" for number, case in enumerate(PROBLEMS)],
)
def test_a_problem_is_said_once_and_with_its_place(
    declared: list[Any], place: str, sentence: str
) -> None:
    found = problems(*declared)
    assert len([problem for problem in found if sentence in problem]) == 1, found
    assert len(found) == 1, "one mistake is one sentence"
    assert place in found[0]
    assert found[0].startswith("Context(") or re.match(r"test_catalog\.py:\d+ ", found[0])


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        (["a"], "is no mapping of names to functions"),
        ({"a": "nowhere"}, "'nowhere' is not of the form"),
        ({"a": None}, "None is not of the form"),
        ({3: "w:f"}, "3 is no name"),
        ({"": "w:f"}, "'' is no name"),
    ],
)
def test_a_source_that_cannot_be_called_is_a_problem(sources: Any, sentence: str) -> None:
    assert [sentence in problem for problem in problems(one(), sources=sources)] == [True]


@pytest.mark.parametrize(
    ("pools", "sentence"),
    [
        (["db"], "['db'] is no mapping of names to numbers of units"),
        ({"db": 0}, 'pool "db": limit 0 is not a whole number from 1 up'),
        ({"db": "two"}, "pool \"db\": limit 'two' is not a whole number"),
        ({"db": True}, 'pool "db": limit True is not a whole number'),
        ({"d b": 1}, 'pool "d b": a name is made of letters'),
        ({3: 1}, 'pool "3": a name is made of letters'),
    ],
)
def test_a_pool_that_cannot_be_is_a_problem(pools: Any, sentence: str) -> None:
    assert [sentence in problem for problem in problems(one(), pools=pools)] == [True]


def test_every_problem_of_a_context_is_reported_at_once_and_in_order() -> None:
    found = problems(
        tree("a b", [hourly("h", run="w:f", grouping=5), 3], zone="Mars"),  # type: ignore[list-item]
        tree("t", [daily("d", run="w", after=["nobody", "e"], lag=-1, machine="fast")]),
        tree("u", [daily("e", after="d", max_attempts=0), daily("e", run="w:f", every="x")]),
        freerun("f", at="cron 0 0 30 2 *", command="ls", misfire="never"),
        program("w", slots=0, processes=["nobody"]),
        "nonsense",
        sources={"s": "nowhere"},
    )
    said = [re.sub(r"^test_catalog.py:\d+ ", "", problem) for problem in found]
    assert [sentence[:50] for sentence in said] == [
        "Context(sources=…) source \"s\": 'nowhere' is not of",
        "tree \"a b\": a name is made of letters, digits, '_'",
        "tree \"a b\": zone 'Mars' is unknown; a name of the ",
        'process "h": hourly intervals cannot be grouped by',
        'tree "a b": 3 is no process (hourly(…), daily(…), ',
        "process \"d\": machine 'fast' is none of discrete, c",
        'process "d": lag -1 is not a number of seconds fro',
        'process "d": run \'w\' is not of the form "package.m',
        'process "e": it needs either run="package.module:f',
        'process "e": max_attempts 0 is not a whole number ',
        'process "e": the name is taken already, at test_ca',
        "process \"e\" every: trigger 'x' names no kind of tr",
        "freerun \"f\": misfire 'never' is none of once, skip",
        "freerun \"f\" at: trigger 'cron 0 0 30 2 *' is no cr",
        "freerun \"f\": command 'ls' is one text; a list of w",
        "Context(…): 'nonsense' is none of tree(…), freerun",
        'program "w": slots 0 is not a whole number from 1 ',
        'program "w": "nobody" is no registered process; kn',
        'process "d": "nobody" is no registered process; kn',
        'process "d": it waits for itself: d → e → d (→ wai',
    ]


def test_a_broken_process_is_not_reported_again_by_those_who_depend_on_it() -> None:
    found = problems(
        one(hourly("h", run="w:f", grouping=5)),
        tree("u", [hourly("i", run="w:f", after="h")]),
        program("w", processes=["h", "i"]),
    )
    assert len(found) == 1
    assert "cannot be grouped by 5" in found[0]


GOOD: list[tuple[str, list[Any]]] = [
    ("the process itself before", [process(after=previous("p"))]),
    ("the last week of itself", [process(after=After("p", -1, 7))]),
    (
        "hours after the day before",
        [one(daily("d", run="w:f"), hourly("h", run="w:f", after=previous("d")))],
    ),
    (
        "a circle that goes a month back",
        [
            one(monthly("m", run="w:f"), daily("d", run="w:f", after="b")),
            tree("u", [hourly("b", run="w:f", after=previous("m"))]),
        ],
    ),
    (
        "days across zones",
        [one(), tree("u", [daily("q", run="w:f", after=["p", last(7, "p")])], zone="Asia/Tokyo")],
    ),
    (
        "itself before, in a circle of its own, beside another zone",
        [
            one(daily("p", run="w:f", after=previous("p"))),
            tree("u", [daily("q", run="w:f", after=["p", previous("q")])], zone="Asia/Tokyo"),
        ],
    ),
    ("week and day", [one(weekly("w", run="w:f"), daily("d", run="w:f"))]),
    (
        "groups in groups",
        [
            one(
                monthly("a", run="w:f", grouping=6),
                monthly("b", run="w:f", grouping=3),
                daily("c", run="w:f"),
                hourly("d", run="w:f", grouping=12),
                hourly("e", run="w:f", grouping=4),
                minutely("g", run="w:f", grouping=20),
            )
        ],
    ),
    ("any order of levels", [one(hourly("h", run="w:f"), yearly("y", run="w:f"))]),
    ("a list as processes", [tree("t", [daily("p", run="w:f")])]),
    ("a path in a command", [process(run=None, command=["cp", 3, 1.5])]),
    ("a tree and a process of one name", [tree("p", [daily("p", run="w:f")])]),
    ("program of a freerun", [entry(), program("w", processes=["f"])]),
    ("boxes in all forms", [process(boxes=["a", "b-*", "c?", "d[0-9]", "e[!x].org"])]),
    ("patterns that may meet", [process(boxes="*-db"), program("w", boxes=["web", "a*"])]),
    ("a program on one of the boxes", [process(boxes=["a", "b*"]), program("w", boxes="b1")]),
    ("nothing", []),
]


@pytest.mark.parametrize("declared", [case[1] for case in GOOD], ids=[case[0] for case in GOOD])
def test_what_can_be_used_is_not_complained_of(declared: list[Any]) -> None:
    assert problems(*declared) == ()


def test_the_error_says_all_problems_each_on_a_line() -> None:
    with pytest.raises(CatalogError) as refused:
        build(Context(process(lag=-1), entry(at="never")), NOW)
    assert str(refused.value) == "\n".join(refused.value.problems)
    assert len(refused.value.problems) == 2


def test_a_tree_without_a_start_begins_now() -> None:
    catalog = build(Context(one()), NOW)
    assert catalog.trees["t"].start == NOW
    assert catalog.spans["p"] == (datetime(2026, 11, 20, tzinfo=UTC), None)


def test_start_and_until_are_local_and_a_level_has_all_that_intersects_them() -> None:
    site = one(
        monthly("m", run="w:f"),
        hourly("h", run="w:f"),
        zone="Europe/Berlin",
        start="2024-05-12T07:30",
        until="2024-06-01",
    )
    spans = build(Context(site), NOW).spans
    assert spans["h"] == (
        datetime(2024, 5, 12, 5, tzinfo=UTC),
        datetime(2024, 5, 31, 22, tzinfo=UTC),
    )
    assert spans["m"] == (
        datetime(2024, 4, 30, 22, tzinfo=UTC),
        datetime(2024, 5, 31, 22, tzinfo=UTC),
    )


def test_the_levels_lag_is_the_trees_where_it_has_none() -> None:
    catalog = build(Context(one(daily("d", run="w:f"), hourly("h", run="w:f", lag=0), lag=7)), NOW)
    assert catalog.processes["d"].lag == timedelta(seconds=7)
    assert catalog.processes["h"].lag == timedelta(0)


# who waits for whom


def labels(catalog: Catalog, given: Input) -> list[str]:
    return [interval.label for interval in catalog.intervals_of(given)]


def inputs(catalog: Catalog, name: str, label: str) -> dict[tuple[str, str], list[str]]:
    interval = catalog.processes[name].calendar.parse(label)
    return {
        (given.kind, given.process): labels(catalog, given)
        for given in catalog.inputs(name, interval)
    }


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_a_day_has_as_many_children_as_the_clock_shows_hours(day: str, hours: int) -> None:
    levels = daily("d", run="w:f"), hourly("h", run="w:f")
    catalog = build(Context(one(*levels, zone="Europe/Berlin", start="2026-01-01")), NOW)
    found = inputs(catalog, "d", day)
    assert len(found["child", "h"]) == hours


DEPENDENCIES = [
    # (who, on what, with what, label, waits for)
    ("daily", "daily", After("o"), "2024-05-14", ["2024-05-14"]),
    ("daily", "daily", previous("o"), "2024-05-14", ["2024-05-13"]),
    ("daily", "daily", offset(-7, "o"), "2024-05-14", ["2024-05-07"]),
    ("daily", "daily", last(3, "o"), "2024-05-14", ["2024-05-12", "2024-05-13", "2024-05-14"]),
    ("daily", "daily", After("o", -1, 2), "2024-05-14", ["2024-05-12", "2024-05-13"]),
    ("daily", "hourly", After("o"), "2024-05-14", [f"2024-05-14T{h:02}" for h in range(24)]),
    ("daily", "hourly", previous("o"), "2024-05-14", [f"2024-05-13T{h:02}" for h in range(24)]),
    ("daily", "hourly", last(2, "o"), "2024-05-14", ["2024-05-14T22", "2024-05-14T23"]),
    ("daily", "hourly", After("o", -1, 1), "2024-05-14", ["2024-05-14T22"]),
    ("daily", "monthly", After("o"), "2024-05-14", ["2024-05"]),
    ("daily", "monthly", previous("o"), "2024-05-14", ["2024-04"]),
    ("daily", "monthly", last(2, "o"), "2024-05-14", ["2024-04", "2024-05"]),
    ("monthly", "weekly", After("o"), "2024-02", [f"2024-W{w:02}" for w in range(5, 10)]),
    ("weekly", "monthly", After("o"), "2024-W05", ["2024-01", "2024-02"]),
    ("weekly", "monthly", previous("o"), "2024-W05", ["2024-01"]),
    ("hourly", "daily", After("o"), "2024-05-14T03", ["2024-05-14"]),
]


@pytest.mark.parametrize(("own", "other", "after", "label", "meant"), DEPENDENCIES)
def test_a_dependency_means_these_intervals(
    own: str, other: str, after: After, label: str, meant: list[str]
) -> None:
    catalog = build(
        Context(
            tree("t", [DECLARE[own]("p", run="w:f", after=after)], start="2024-01-01"),
            tree("u", [DECLARE[other]("o", run="w:f")], start="2023-01-01"),
        ),
        NOW,
    )
    assert inputs(catalog, "p", label) == {("dependency", "o"): meant}


def test_what_lies_before_the_others_start_is_not_waited_for() -> None:
    catalog = build(
        Context(
            tree("t", [daily("p", run="w:f", after=last(7, "o"))], start="2024-01-01"),
            tree("u", [daily("o", run="w:f")], start="2024-01-03", until="2024-01-05"),
        ),
        NOW,
    )
    assert inputs(catalog, "p", "2024-01-02") == {}
    assert inputs(catalog, "p", "2024-01-04") == {("dependency", "o"): ["2024-01-03", "2024-01-04"]}
    assert inputs(catalog, "p", "2024-01-11") == {}
    assert inputs(catalog, "p", "2024-01-10") == {("dependency", "o"): ["2024-01-04"]}


GROUPINGS = {"minutely": [15, 30], "hourly": [1, 3, 4], "monthly": [1, 2]}
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/New_York"]
#: Around the changes of the clocks of Berlin, Lord Howe and New York, and ISO week 53.
STARTS = ["2020-10-24", "2020-12-30T07", "2021-03-27T22:30", "2020-10-03", "2021-04-03T13"]
Levels = list[tuple[str, int]]
NESTED: list[Levels] = [
    [("monthly", 1), ("daily", 1), ("hourly", 1)],
    [("weekly", 1), ("daily", 1)],
    [("daily", 1), ("hourly", 3), ("hourly", 1)],
    [("yearly", 1), ("monthly", 2)],
    [("quarterly", 1), ("monthly", 1), ("daily", 1), ("hourly", 4)],
    [("daily", 1), ("minutely", 30)],
    [("hourly", 2)],
    [("weekly", 1)],
    [("monthly", 2)],
]


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Two or three trees, each process depending on some that were drawn before it."""
    trees: list[TreeDeclaration] = []
    names: list[str] = []
    for number in range(draw(st.integers(2, 3))):
        start = datetime.fromisoformat(draw(st.sampled_from(STARTS)))
        start += timedelta(hours=draw(st.integers(0, 5)))
        levels = []
        for granularity, grouping in draw(st.sampled_from(NESTED)):
            name = f"{granularity}{grouping}_{number}"
            after = [
                After(
                    draw(st.sampled_from(names)),
                    draw(st.integers(-3, 0)),
                    draw(st.none() | st.integers(1, 4)),
                )
                for _ in range(draw(st.integers(0, 2)) if names else 0)
            ]
            levels.append(
                DECLARE[granularity](
                    name, run="w:f", grouping=grouping, after=after, machine="discrete"
                )
            )
        names += [level.name for level in levels]
        # An hour alone may be the one that the clock skips.
        length = draw(st.none() | st.integers(2, 70))
        trees.append(
            tree(
                f"t{number}",
                levels,
                zone=draw(st.sampled_from(ZONES)),
                start=start.isoformat(),
                until=(start + timedelta(hours=length)).isoformat() if length else None,
            )
        )
    return build(Context(*trees), NOW)


def around(catalog: Catalog, name: str, count: int) -> Iterator[Interval]:
    """Intervals of a process: some before its span, and its first; few where they are long."""
    calendar = catalog.processes[name].calendar
    count = min(
        count, {"yearly": 3, "quarterly": 4, "monthly": 5}.get(calendar.granularity.value, 24)
    )
    interval = calendar.shift(calendar.starting_at(catalog.spans[name][0]), -2)
    for _ in range(count):
        yield interval
        interval = calendar.next(interval)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(catalogs())
def test_inputs_and_consumers_are_the_inverse_of_each_other(catalog: Catalog) -> None:
    forth: set[tuple[str, str, str, str]] = set()
    back: set[tuple[str, str, str, str]] = set()
    seen = {name: [*around(catalog, name, 24)] for name in catalog.processes}
    known = {name: {one.start for one in found} for name, found in seen.items()}
    for name, intervals in seen.items():
        for interval in intervals:
            if not catalog.exists(name, interval):
                continue
            for given_ in catalog.inputs(name, interval):
                for other in seen[given_.process]:
                    if given_.start <= other.start < given_.end:
                        assert catalog.exists(given_.process, other)
                        forth.add((name, interval.label, given_.process, other.label))
            for consumer, its in catalog.consumers(name, interval):
                assert catalog.exists(consumer, its)
                if its.start in known[consumer]:
                    back.add((consumer, its.label, name, interval.label))
    assert forth == back


@settings(max_examples=25, deadline=None)
@given(catalogs())
def test_children_are_what_their_parent_encloses(catalog: Catalog) -> None:
    for name in catalog.processes:
        child = catalog.child_of(name)
        if child is None:
            continue
        for interval in around(catalog, name, 8):
            children = [
                one
                for given_ in catalog.inputs(name, interval)
                if given_.kind == "child"
                for one in catalog.intervals_of(given_)
            ]
            assert all(interval.encloses(one) for one in children)
            assert all(catalog.parent(child, one) == (name, interval) for one in children)


def test_a_program_takes_what_its_box_may_work() -> None:
    catalog = build(
        Context(
            one(daily("d", run="w:f", boxes="db-*"), hourly("h", run="w:f")),
            entry(boxes=["web-1"]),
            program("all"),
            program("some", processes=["d", "f"]),
        ),
        NOW,
    )
    everything, some = catalog.programs["all"], catalog.programs["some"]
    assert catalog.workable(everything, "db-7") == {"d", "h"}
    assert catalog.workable(everything, "web-1") == {"h", "f"}
    assert catalog.workable(everything, "elsewhere") == {"h"}
    assert catalog.workable(some, "db-7") == {"d"}
    assert catalog.workable(some, "elsewhere") == frozenset()


def test_what_is_bound_to_no_box_is_taken_whatever_it_is() -> None:
    catalog = build(Context(one(), program("w"), program("v", processes=["p"])), NOW)
    assert catalog.workable(catalog.programs["w"], "db-1") is None
    assert catalog.workable(catalog.programs["v"], "db-1") == {"p"}


def test_a_batch_that_its_pool_never_lets_be_full_is_refused() -> None:
    [found] = problems(process(batch=3, pool="db"), pools={"db": 2})
    assert found.endswith(
        'process "p": batch=3 can never be filled: pool db lets no more than 2 of its intervals '
        "be at work at once"
    )
    assert build(Context(process(batch=3, pool="db"), pools={"db": 3}), NOW)
