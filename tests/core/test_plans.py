"""What a request will touch: everything built on it, who consumes before what is consumed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synergy.core.building import build
from synergy.core.catalog import Catalog
from synergy.core.context import Context, daily, hourly, last, monthly, offset, previous, tree
from synergy.core.plans import Place, to_reopen, to_skip

NOW = datetime(2027, 6, 1, tzinfo=UTC)


def catalog() -> Catalog:
    span = {"start": "2026-11-18", "until": "2026-11-22"}
    return build(
        Context(
            tree(
                "site",
                [monthly("m", run="w:f"), daily("d", run="w:f"), hourly("h", run="w:f")],
                **span,
            ),
            tree("client", [daily("c", run="w:f", after=["d", previous("c")])], **span),
            tree("alert", [daily("a", run="w:f", after=["d", offset(-2, "d")])], **span),
            tree("trend", [daily("t", run="w:f", after=last(2, "d"))], **span),
            tree("fine", [hourly("g", run="w:f", after="h")], **span),
        ),
        NOW,
    )


CATALOG = catalog()


def place(process: str, label: str) -> Place:
    return process, CATALOG.processes[process].calendar.parse(label)


def begun(place: Place) -> bool:
    return place[1].start <= NOW


def said(places: list[Place]) -> list[str]:
    return [f"{name} {interval.label[8:] or interval.label}" for name, interval in places]


def test_a_reopened_hour_touches_all_that_is_built_on_it() -> None:
    order = to_reopen(CATALOG, [place("h", "2026-11-19T07")], begun)
    assert sorted(said(order)) == sorted(
        ["h 19T07", "g 19T07", "d 19", "m 2026-11", "c 19", "c 20", "c 21", "a 19", "a 21",
         "t 19", "t 20"]
    )  # fmt: skip
    assert order[-1] == place("h", "2026-11-19T07")


def test_of_what_has_not_begun_only_what_could_begin_next_is_held() -> None:
    now = datetime(2026, 11, 20, 3, tzinfo=UTC)
    order = to_reopen(CATALOG, [place("h", "2026-11-19T07")], lambda place: place[1].start <= now)
    assert {"c 20", "c 21", "a 21"} <= {*said(order)}
    assert not {"c 22", "a 23"} & {*said(order)}


targets = st.lists(
    st.tuples(
        st.sampled_from(["m", "d", "h", "c", "a", "t", "g"]),
        st.integers(18, 21),
        st.integers(0, 23),
    ).map(
        lambda drawn: place(
            drawn[0],
            {
                "m": "2026-11",
                "h": f"2026-11-{drawn[1]}T{drawn[2]:02}",
                "g": f"2026-11-{drawn[1]}T{drawn[2]:02}",
            }.get(drawn[0], f"2026-11-{drawn[1]}"),
        )
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(targets)
def test_who_consumes_comes_before_what_is_consumed_and_everyone_once(chosen: list[Place]) -> None:
    order = to_reopen(CATALOG, chosen, begun)
    position = {(name, interval.start): number for number, (name, interval) in enumerate(order)}
    assert len(position) == len(order)
    assert {(name, interval.start) for name, interval in chosen} <= set(position)
    for name, interval in order:
        for consumer, its in CATALOG.consumers(name, interval):
            assert position[consumer, its.start] < position[name, interval.start]


@settings(max_examples=40, deadline=None)
@given(targets)
def test_a_plan_is_the_same_for_the_same_request(chosen: list[Place]) -> None:
    assert to_reopen(CATALOG, chosen, begun) == to_reopen(CATALOG, chosen, begun)
    assert {*to_reopen(CATALOG, chosen, begun)} == {*to_reopen(CATALOG, chosen[::-1], begun)}


def test_a_skip_goes_down_and_sideways_but_neither_up_nor_to_who_looks_back() -> None:
    order = said(to_skip(CATALOG, [place("d", "2026-11-19")]))
    hours = [f"{process} 19T{hour:02}" for process in "gh" for hour in range(24)]
    assert sorted(order) == sorted([*hours, "d 19", "c 19", "a 19"])
    assert order[-1] == "d 19"


@pytest.mark.parametrize("process", ["m", "c"])
def test_a_skip_of_a_leaf_touches_what_lies_below_it_alone(process: str) -> None:
    label = "2026-11" if process == "m" else "2026-11-20"
    touched = {name for name, _ in to_skip(CATALOG, [place(process, label)])}
    assert touched == ({"m", "d", "h", "c", "a", "g"} if process == "m" else {"c"})


def test_a_skipped_month_takes_only_the_days_of_its_span() -> None:
    days = [said([one])[0] for one in to_skip(CATALOG, [place("m", "2026-11")]) if one[0] == "d"]
    assert sorted(days) == ["d 18", "d 19", "d 20", "d 21"]
