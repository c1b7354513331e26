"""What a changed context means for the intervals that there are."""

from datetime import datetime
from typing import Any

import pytest

from synergy.core.building import CatalogError, build
from synergy.core.catalog import Process
from synergy.core.changes import COUNTED, Change, compare, refused
from synergy.core.context import (
    Context,
    ProcessDeclaration,
    daily,
    freerun,
    hourly,
    monthly,
    previous,
    tree,
    yearly,
)
from synergy.core.intervals import Interval
from synergy.core.timetable import Timetable
from synergy.testing.stage import Stage

NOW = datetime.fromisoformat("2026-11-20T00:30Z")
START: dict[str, Any] = {"start": "2026-11-18", "lag": 0}


def hour(**options: Any) -> ProcessDeclaration:
    return hourly("h", run="w:f", **options)


def day(**options: Any) -> ProcessDeclaration:
    return daily("d", run="w:f", **options)


def site(*levels: ProcessDeclaration, **options: Any) -> Context:
    return Context(tree("site", levels or (day(), hour()), **{**START, **options}))


def played(context: Context) -> Stage:
    """Everything that is due is done."""
    stage = Stage(context, at=NOW)
    stage.work()
    return stage


def changes(before: Context, after: Context, *accepted: str, **options: Any) -> list[Change]:
    stage = played(before)
    return compare(
        stage.catalog, build(after, NOW), stage.timetable, NOW, accepted=accepted, **options
    )


def only(before: Context, after: Context, *accepted: str, **options: Any) -> Change:
    [change] = changes(before, after, *accepted, **options)
    return change


def test_what_is_as_it_was_is_no_change() -> None:
    assert changes(site(), site()) == []


def test_a_new_process_says_where_it_starts_and_what_falls_due() -> None:
    client = Context(
        *site().declared, tree("client", [daily("c", run="w:f", after="d")], start="2026-11-19")
    )
    change = only(site(), client)
    assert str(change) == (
        "process c: is new; it starts 2026-11-19T00:00Z, and 1 interval falls due now"
    )


def test_nothing_falls_due_beyond_the_end_of_a_tree() -> None:
    levels = (monthly("m", run="w:f"), day(), hour())
    change = changes(site(until="2026-11-19"), site(*levels, until="2026-11-19"))[0]
    assert change.consequence == "it starts 2026-11-01T00:00Z, and 0 intervals fall due now"
    short = Context(
        *site().declared,
        tree("c", [hourly("x", run="w:f")], start="2026-11-17", until="2026-11-18"),
    )
    assert only(site(), short).consequence.endswith("24 intervals fall due now")


def test_a_removed_process_says_what_stays_and_who_waited_for_it() -> None:
    both = Context(
        *site().declared, tree("client", [daily("c", run="w:f", after="d")], start="2026-11-18")
    )
    alone = Context(tree("client", [daily("c", run="w:f")], start="2026-11-18"))
    told = [str(change) for change in changes(both, alone)]
    assert told == [
        "process c: no longer waits for d; what is finished stands, what waits for nothing else "
        "may begin",
        "process d: is gone; 2 intervals recorded of it are kept in the store, out of sight; "
        "c no longer waits for it",
        "process h: is gone; 48 intervals recorded of it are kept in the store, out of sight",
    ]


def test_a_process_that_comes_back_is_cut_as_it_was_or_refused() -> None:
    stage = played(site())
    recorded = {"h": stage.interval("h", "2026-11-19T23")}
    change = changes(site(day()), site(), recorded=recorded)[-1]
    assert (change.name, change.what, change.refused) == ("h", "is registered again", False)
    assert change.consequence == (
        "it starts 2026-11-18T00:00Z, and 48 intervals that are not recorded fall due now"
    ), "where nothing is known of them"
    ledgers = {"h": stage.timetable.ledgers["h"]}
    change = changes(site(day()), site(), recorded=recorded, ledgers=ledgers)[-1]
    assert change.consequence == (
        "it starts 2026-11-18T00:00Z, and 0 intervals that are not recorded fall due now"
    )
    change = changes(site(day()), site(day(), hour(grouping=3)), recorded=recorded)[-1]
    assert change.refused
    assert not change.accept
    assert str(change) == (
        "process h: has a history that is cut otherwise, such as 2026-11-19T23; "
        "its history cannot be read as another's: give it a new name"
    )


@pytest.mark.parametrize(
    "after",
    [site(day(), hour(grouping=2)), site(zone="Europe/Berlin"), site(monthly("d", run="w:f"))],
)
def test_another_cut_is_refused_where_there_is_history(after: Context) -> None:
    found = refused(changes(site(), after))
    assert found
    for change in found:
        assert change.accept == ""
        assert "are recorded as they were cut: give the process a new name" in change.consequence


def test_what_is_recorded_is_passed_over_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that comes back with all of its history: nothing of that is looked at singly."""
    stage = played(site(start="2026-06-01"))
    ledgers = {"h": stage.timetable.ledgers["h"]}
    recorded = {"h": stage.interval("h", "2026-11-19T23")}
    made: list[Interval] = []
    original = Process.due

    def counted(self: Process, interval: Interval) -> datetime:
        made.append(interval)
        return original(self, interval)

    before, after = (
        build(site(day(), start="2026-06-01"), NOW),
        build(site(start="2026-06-01"), NOW),
    )
    monkeypatch.setattr(Process, "due", counted)
    compare(before, after, Timetable(before), NOW, recorded=recorded, ledgers=ledgers)
    assert len(made) < 10


def test_another_cut_is_nothing_where_there_is_none() -> None:
    before, after = site(start="2026-11-25"), site(day(), hour(grouping=2), start="2026-11-25")
    change = only(before, after)
    assert not change.refused
    assert change.consequence == "nothing was recorded of it; 0 intervals fall due now"


def test_an_earlier_start_says_what_falls_due_and_what_stands_without_it() -> None:
    levels = (yearly("y", run="w:f"), monthly("m", run="w:f"), day(), hour())
    before = site(*levels, start="2024-11-18", until="2024-11-20")
    after = site(*levels, start="2024-11-17", until="2024-11-20")
    change = only(before, after)
    assert str(change) == (
        "tree site: starts 2024-11-17T00:00Z, not 2024-11-18T00:00Z; 1 interval of d, 24 intervals "
        "of h fall due now; what is finished stands without these: reprocess m 2024-11 to count "
        "them in"
    )


def test_a_later_start_is_refused_until_it_is_accepted_word_for_word() -> None:
    later = site(start="2026-11-19")
    change = only(site(), later)
    assert change.refused
    assert change.accept == "tree site starts 2026-11-19T00:00Z"
    assert change.consequence == (
        "1 interval of d, 24 intervals of h that were recorded there would be out of sight"
    )
    assert only(site(), later, "tree site starts 2026-11-18T12:00Z").refused
    accepted = only(site(), later, change.accept)
    assert not accepted.refused
    assert accepted.consequence.startswith("as accepted, 1 interval of d, 24 intervals of h")


def test_a_later_start_is_nothing_where_nothing_was_recorded() -> None:
    change = only(site(start="2026-11-25"), site(start="2026-11-26"))
    assert (change.refused, change.consequence) == (False, "nothing was recorded there")


def test_an_end_may_be_set_where_nothing_was_recorded_behind_it() -> None:
    assert not only(site(), site(until="2026-11-25")).refused
    change = only(site(), site(until="2026-11-19"))
    assert change.refused
    assert change.accept == "tree site ends 2026-11-19T00:00Z"
    assert not only(site(), site(until="2026-11-19"), change.accept).refused


def test_a_later_end_says_what_falls_due() -> None:
    change = only(site(until="2026-11-19"), site())
    assert str(change) == (
        "tree site: has no end, where it ended 2026-11-19T00:00Z; "
        "1 interval of d, 24 intervals of h fall due now"
    )


def test_another_lag_says_what_falls_due_at_once() -> None:
    slow, quick = site(day(), hour(lag=7200)), site(day(), hour(lag=60))
    assert only(slow, quick).consequence == "2 intervals fall due at once"
    assert only(quick, slow).consequence == "what has not begun falls due that much later"


def test_another_machine_lets_what_is_at_work_end() -> None:
    change = only(site(), site(day(), hour(machine="continuous")))
    assert change.what == "is continuous, not discrete"
    assert "ends by the machine that it began with" in change.consequence
    assert not change.refused


def test_dependencies_come_and_go_for_what_has_not_finished() -> None:
    change = only(site(), site(day(after=previous("d")), hour()))
    assert str(change) == (
        "process d: waits for offset(-1, d) too; what waits, waits for that; "
        "2 intervals finished without it stand: reprocess what shall have it"
    )
    change = only(site(day(blocking="children"), hour()), site())
    assert change.what == "blocks on normal, not children"


def test_another_level_between_changes_what_is_waited_for() -> None:
    before = site(monthly("m", run="w:f"), hour())
    after = site(monthly("m", run="w:f"), day(), hour())
    assert [change.what for change in changes(before, after)] == [
        "waits for its children of d too",
        "no longer waits for its children of h",
        "is new",
    ]


def test_another_task_is_for_what_is_requested_from_now_on() -> None:
    change = only(site(), site(day(), hourly("h", run="w:g")))
    assert change.what == "runs something else, or otherwise"


def test_another_tree_may_leave_intervals_out() -> None:
    apart = Context(
        tree("site", [day()], **START), tree("late", [hour()], start="2026-11-19", lag=0)
    )
    found = {change.what: change for change in changes(site(), apart)}
    moved = found["is of tree late, not site"]
    assert moved.refused
    assert moved.consequence == "24 intervals that were recorded would be out of sight"
    accepted = {change.what: change for change in changes(site(), apart, moved.accept)}
    assert not accepted[moved.what].refused


def test_freeruns_are_told_too() -> None:
    def with_one(name: str, **options: Any) -> Context:
        made = freerun(name, run="w:f", start="2026-11-18", **{"at": "every 60", **options})
        return Context(*site().declared, made)

    assert only(site(), with_one("f")).what == "is new"
    assert only(with_one("f"), site()).what == "is gone"
    changed = only(with_one("f"), with_one("f", at="every 90"))
    assert changed.what == "fires every 90 (misfire once), not every 60 (once)"


def test_what_was_a_freerun_is_no_process_and_the_other_way_round() -> None:
    was = Context(
        tree("site", [day()], **START),
        freerun("h", run="w:f", at="every 60", start="2026-11-18"),
    )
    for before, after in ((was, site()), (site(), was)):
        found = refused(changes(before, after))
        assert [(change.name, change.accept) for change in found] == [("h", "")]


def test_everything_is_told_at_once() -> None:
    after = Context(tree("site", [day(), hour(grouping=2)], start="2026-11-19", lag=60))
    found = changes(site(), after)
    assert [change.refused for change in found] == [True, False, True]
    assert {change.name for change in refused(found)} == {"site", "h"}


def test_what_waits_and_was_written_is_recorded_too() -> None:
    stage = Stage(site(), at=NOW)
    assert stage.timetable.active
    found = compare(stage.catalog, build(site(start="2026-11-19"), NOW), stage.timetable, NOW)
    assert refused(found)


def test_no_more_is_counted_than_is_told() -> None:
    long = Context(tree("t", [hour()], start="1990-01-01"))
    before = build(Context(), NOW)
    [change] = compare(before, build(long, NOW), Timetable(before), NOW)
    assert f"{COUNTED} intervals or more fall due now" in change.consequence


def test_what_is_accepted_is_told_in_words() -> None:
    assert build(Context(accept="tree site starts 2026-11-19T00:00Z"), NOW)
    with pytest.raises(CatalogError, match=r"Context\(accept=…\): 7 is no text"):
        build(Context(accept=["x", 7]), NOW)  # type: ignore[list-item]
