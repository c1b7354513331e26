"""Declarations: they remember their line, survive the store, and never raise for a wrong type."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from synergy.core.building import CatalogError, build
from synergy.core.context import (
    After,
    Context,
    Declaration,
    ProcessDeclaration,
    daily,
    freerun,
    from_document,
    hourly,
    last,
    minutely,
    monthly,
    offset,
    previous,
    program,
    quarterly,
    to_document,
    tree,
    weekly,
    with_starts,
    yearly,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def full() -> Context:
    """One of everything, with every option that has a form of its own."""
    return Context(
        tree(
            "site",
            [
                yearly("site_yearly", run="w:f", grouping=1),
                quarterly("site_quarterly", command=["sum", "--all"], noop_codes=[3, 4]),
                monthly("site_monthly", run="w:f", on_failure="skip", priority=-2),
                daily("site_daily", run="w:f", blocking="children", lag=timedelta(minutes=90)),
                hourly(
                    "site_hourly",
                    run="w:f",
                    machine="recomputing",
                    source="events",
                    every="every 30",
                    arguments={"deep": {"er": [1, 2.5, None, True, "ü"]}},
                    time_limit=timedelta(seconds=1.5),
                    backoff=0.25,
                    max_attempts=7,
                    parallel=3,
                    pool="db",
                    catch_up="latest",
                    sink="figures",
                ),
                minutely("site_minutely", run="w:f", grouping=15, machine="continuous"),
            ],
            zone="Europe/Berlin",
            start="2024-05-12",
            until=datetime(2026, 1, 1, tzinfo=UTC),
            lag=timedelta(seconds=7),
        ),
        tree(
            "client",
            [
                weekly("client_weekly", run="w:f", after=[previous("client_weekly"), "site_daily"]),
                daily(
                    "client_daily",
                    run="w:f",
                    after=["site_daily", last(7, "site_daily"), offset(-7, "site_hourly")],
                ),
            ],
        ),
        freerun("cleanup", at="cron 15 3 * * *", zone="Asia/Tokyo", command=["true"]),
        freerun("probe", at="every 1800", run="w:f", misfire="all", time_limit=5),
        program("one", slots=3, processes=["site_daily", "cleanup"], boxes="db-*", on="any"),
        program("two"),
        sources={"events": "w:keys"},
        schedulers=["ctl-1", "ctl-2"],
        pools={"db": 2},
    )


def test_a_context_comes_back_from_its_document_as_it_was() -> None:
    document = json.loads(json.dumps(to_document(full())))
    again = from_document(document)
    assert build(again, NOW) == build(full(), NOW)
    assert to_document(again) == document
    assert build(again, NOW).spans == build(full(), NOW).spans


def test_a_document_of_before_an_option_was_known_is_still_read() -> None:
    document = to_document(full())
    for level in document["trees"][0]["processes"]:
        del level["priority"], level["sink"], level["boxes"]
    del document["schedulers"]
    assert build(from_document(document), NOW).processes["site_daily"].task.priority == 0


def test_declarations_remember_the_line_that_made_them() -> None:
    def places(*declared: Declaration) -> list[str]:
        return [str(item.place).partition(":")[0] for item in declared]

    site = tree("site", [daily("day", run="w:f")])
    made = [site, *site.processes, freerun("f", at="every 1", run="w:f"), program("p")]
    assert places(*made) == ["test_context.py"] * 4  # type: ignore[arg-type]
    first, second = hourly("a", run="w:f"), hourly("b", run="w:f")
    assert first.place == second.place
    third = hourly("c", run="w:f")
    assert int(third.place.split(":")[1]) == int(first.place.split(":")[1]) + 2


@pytest.mark.parametrize(
    ("after", "meant"),
    [
        ("a", (After("a"),)),
        (previous("a"), (After("a", offset=-1),)),
        (last(7, "a"), (After("a", window=7),)),
        (offset(-7, "a"), (After("a", offset=-7),)),
        (["a", last(2, "b")], (After("a"), After("b", window=2))),
        ((), ()),
    ],
)
def test_what_comes_before_can_be_said_shortly(after: Any, meant: tuple[After, ...]) -> None:
    assert daily("d", run="w:f", after=after).after == meant


def test_a_tree_without_a_start_keeps_the_one_it_was_first_given() -> None:
    document = to_document(full())
    first = with_starts(document, None, NOW)
    assert [tree_["start"] for tree_ in first["trees"]] == ["2024-05-12", NOW.isoformat()]
    later = with_starts(document, first, NOW + timedelta(days=3))
    assert later == first
    moved = to_document(full())
    moved["trees"][1]["start"] = "2020-01-01"
    assert with_starts(moved, first, NOW)["trees"][1]["start"] == "2020-01-01"


WRONG: list[Any] = [None, 3, -1, 1.5, True, "text", b"bytes", [], [None], {}, {"a": 1}, object()]
#: Where an object stands in memory would be another name of the test in every run.
NAMES = [type(value).__name__ if type(value) is object else repr(value) for value in WRONG]
OPTIONS = sorted(
    {option.name for option in fields(ProcessDeclaration)}
    - {"name", "granularity", "unknown", "place"}
)


def _sentences(declared: Any, **rest: Any) -> tuple[str, ...]:
    try:
        build(Context(*declared, **rest), NOW)
    except CatalogError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("value", WRONG, ids=NAMES)
@pytest.mark.parametrize("option", OPTIONS)
def test_no_value_of_a_process_option_raises_anything_but_sentences(
    option: str, value: Any
) -> None:
    options: dict[str, Any] = {"run": "w:f", "machine": "recomputing", "source": "s", option: value}
    for problem in _sentences([tree("t", [hourly("p", **options)])], sources={"s": "w:k"}):
        assert problem.startswith("test_context.py:")
        assert 'process "p"' in problem


@pytest.mark.parametrize("value", WRONG, ids=NAMES)
@pytest.mark.parametrize("option", ["name", "processes", "zone", "start", "until", "lag"])
def test_no_value_of_a_tree_option_raises_anything_but_sentences(option: str, value: Any) -> None:
    options: dict[str, Any] = {"name": "t", "processes": [daily("p", run="w:f")], option: value}
    for problem in _sentences([tree(**options)]):
        assert "tree" in problem


@pytest.mark.parametrize("value", WRONG, ids=NAMES)
@pytest.mark.parametrize(
    "option", ["name", "at", "zone", "misfire", "run", "command", "arguments", "priority"]
)
def test_no_value_of_a_freerun_option_raises_anything_but_sentences(
    option: str, value: Any
) -> None:
    options: dict[str, Any] = {"name": "f", "at": "every 60", "run": "w:f", option: value}
    for problem in _sentences([freerun(**options)]):
        assert "freerun" in problem


@pytest.mark.parametrize("value", WRONG, ids=NAMES)
@pytest.mark.parametrize("option", ["name", "slots", "processes"])
def test_no_value_of_a_program_option_raises_anything_but_sentences(
    option: str, value: Any
) -> None:
    options: dict[str, Any] = {"name": "f", option: value}
    for problem in _sentences([program(**options)]):
        assert "program" in problem


@pytest.mark.parametrize("value", WRONG, ids=NAMES)
def test_nothing_given_to_a_context_raises_anything_but_sentences(value: Any) -> None:
    assert _sentences([value])
    _sentences([], sources=value)
    _sentences([], sources={"s": value})
    _sentences([tree("t", [hourly(value, run="w:f", after=[After(value), After("t", value)])])])
    _sentences([tree("t", [hourly("p", run="w:f", after=After("p", -1, value))])])
