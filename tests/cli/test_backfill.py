"""Backfills from the command line."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from synergy.cli import lanes
from synergy.core.building import build
from synergy.core.context import Context, daily, tree
from synergy.reading import Reading
from tests.cli.conftest import new_project
from tests.scheduler import test_backfills as backfills

Wait = Callable[..., Any]

CONTEXT = """
from synergy import Context, daily, hourly, previous, program, tree

span = {"start": "2024-05-12", "until": "2024-05-17", "lag": 0}
site = tree("site", [daily("day", run="workers.play:run"),
                     hourly("hour", run="workers.play:run", catch_up="none")], **span)
chain = tree("chain", [daily("link", run="workers.play:run", after=previous("link"))], **span)
context = Context(site, chain, program("worker", slots=4))
"""
PLAY = """
from synergy import Result, Work, processed


def run(work: Work) -> Result:
    return processed()
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Five days of hours that were not caught up, and a worker."""
    with new_project(tmp_path_factory.mktemp("backfills") / "project") as project:
        project.write("context.py", CONTEXT)
        project.write("workers/play.py", PLAY)
        project.ok("start", "scheduler")
        project.ok("start", "worker")
        yield project


def test_a_backfill_is_planned_begun_looked_at_and_over(project: Any, wait: Wait) -> None:
    wait(lambda: {job["state"] for job in project.json("jobs", "hour")} == {"skipped"}, "the past")
    everything = ("backfill", "hour", "2024-05-12T00..2024-05-16T23")
    planned = project.json(*everything, "--plan")
    assert planned | {"slots": 4} == {
        "id": planned["id"],
        "state": "planned",
        "action": "backfill",
        "process": "hour",
        "intervals": 120,
        "reasons": {"not caught up": 120},
        "left": {},
        "above": {"day": 5},
        "slots": 4,
        "at_most": 2,
        "at_least": 1,
        "seconds": None,
        "overlaps": [],
    }
    assert project.json("backfill", "list") == [], "a plan is only a plan"
    assert project.json("plans", "--open")[0]["id"] == planned["id"]
    other = project.json("backfill", "hour", "2024-05-13T05", "--plan")
    assert {"id": planned["id"], "intervals": ["hour 2024-05-13T05", "day 2024-05-13"]} in (
        other["overlaps"]
    )
    project.ok("withdraw", other["id"])
    told = project.ok("withdraw", planned["id"])
    assert told == f"plan {planned['id']} is withdrawn; nothing of it had been done\n"
    assert project.run("apply", planned["id"]).returncode == 4
    assert project.json("backfill", "list") == []
    refused = project.run(*everything)
    assert refused.returncode == 2
    assert "runs 120 intervals again, more than 100; if that is meant, add --yes" in refused.stderr
    assert "120  not caught up" in refused.stdout

    begun = project.json(*everything, "--yes", "--order", "newest", "--reason", "the new rules")
    assert begun["intervals"] == 120
    (told,) = project.json("backfill", "list")
    assert (told["id"], told["process"], told["intervals"]) == (begun["id"], "hour", 120)
    assert told["reason"] == "the new rules"
    wait(lambda: project.json("backfill", "list")[0]["state"] == "done", "the backfill")
    assert project.json("backfill", "list")[0]["ended"] == 120
    states = {key: (job["state"], job["generation"]) for key, job in project.jobs("hour").items()}
    assert set(states.values()) == {("processed", 2)}
    wait(lambda: {j["state"] for j in project.json("jobs", "day")} == {"processed"}, "the days")
    assert "done" in project.ok("backfill", "list")
    assert project.ok(*everything).startswith("nothing of hour needs a run\nleft as they are: 120")


def test_a_backfill_is_paused_goes_on_and_is_canceled(project: Any, wait: Wait) -> None:
    project.ok("stop", "worker")
    begun = project.json("backfill", "hour", "2024-05-12T00..2024-05-15T23", "--force", "--yes")
    known = begun["id"]
    assert f"backfill   {known} of hour: 0 of " in project.ok("status")
    assert "is paused; what is at work ends" in project.ok("backfill", "pause", known)
    assert ", paused" in project.ok("status")
    assert "goes on" in project.ok("backfill", "resume", known)
    assert "is canceled; " in project.ok("backfill", "cancel", known)
    again = project.run("backfill", "cancel", known)
    assert again.returncode == 4
    assert f"backfill {known} is canceled" in again.stderr
    project.ok("start", "worker")
    wait(lambda: {j["state"] for j in project.json("jobs", "day")} == {"processed"}, "the days")


def test_a_plan_is_shown_applied_once_and_withdrawn(project: Any) -> None:
    project.ok("stop", "worker")
    words = ("backfill", "hour", "2024-05-12T00..2024-05-15T23", "--force", "--order", "newest")
    told = project.ok(*words, "--plan", "--reason", "the new rules").splitlines()
    assert told[0] == "96 intervals of hour, newest first:"
    (name,) = re.findall(r"planned as (\w+); nothing has changed yet", told[-3])
    assert (told[-2].split()[-2:], told[-1].split()[-2:]) == (["apply", name], ["withdraw", name])
    shown = project.ok("plans", name).splitlines()
    assert shown[1:-2] == told[:-3], "shown again"
    about = "backfill hour 96 intervals, 2024-05-12T00 to 2024-05-15T23"
    assert re.search(rf"{name} +planned +{about} +96 ", project.ok("plans"))
    listed = project.json("plans", name)
    assert listed["intervals"] == ["2024-05-12T00..2024-05-15T23"]
    assert (listed["changes"], listed["joined"]) == (96, [])

    assert f"plan {name} is applied; how far it is: " in project.ok("apply", name)
    (begun,) = [each for each in project.json("backfill", "list") if each["id"] == name]
    assert (begun["order"], begun["reason"], begun["force"]) == ("newest", "the new rules", True)
    again = project.run("apply", name)
    assert (again.returncode, again.stderr) == (4, f"plan {name} has been applied already\n")
    assert f"backfill {name} of hour: 0 of 96" in project.ok("plans", name)
    told_back = project.ok("withdraw", name)
    assert told_back.startswith(f"backfill {name} is canceled; ")
    again = project.run("withdraw", name)
    assert (again.returncode, again.stderr) == (4, f"plan {name} has been withdrawn already\n")
    assert ", canceled" in project.ok("plans", name)

    direct = project.json(*words)["id"]
    project.ok("backfill", "cancel", direct)
    over = project.run("withdraw", direct)
    assert (over.returncode, over.stderr) == (
        4, f"backfill {direct} is over: nothing of it is left to be taken back\n",
    )  # fmt: skip
    project.ok("start", "worker")


def test_one_whose_process_is_not_registered_is_told_so() -> None:
    stage = backfills.stage_of()
    backfills.backfill(stage, "2026-11-01T00", "2026-11-02T23")
    stage.work()
    asked = backfills.backfill(stage, "2026-11-01T00", "2026-11-02T23")
    for unit in stage.claim():
        stage.report(unit)
    days = Context(tree("client", [daily("c", run="w:f")], **backfills.FIRST))
    reading = Reading(stage.store, build(days, stage.clock.now()))
    begun = lanes.all_of(reading)[asked.id]
    assert lanes.in_short(reading, begun).endswith(" of 48, and h is not registered")
    assert lanes.end_of(reading, begun, stage.clock.now()) == "when h is registered"
    assert lanes.as_json(reading, begun, stage.clock.now())["estimated_end"] is None
    (line,) = lanes.going_on(reading)
    assert line.startswith(f"{asked.id} of h: ")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("hour",), 2, "name the intervals: "),
        (("nobody", "2024"), 3, "no process 'nobody' is registered"),
        (("hour", "2024"), 2, "hour: "),
        (("link", "2024-05-12"), 2, "the intervals of link build on one another"),
        (("hour", "2024-05-12T00", "--max-share", "101"), 2, "is no percentage from 0 to 100"),
        (("hour", "2024-05-12T00", "--min-share", "60"), 2, "60% is more than --max-share 50%"),
        (
            ("hour", "2024-05-12T00", "--plan", "--min-share", "0", "--max-share", "0"),
            *(2, "--max-share 0% leaves it no slot at all"),
        ),
        (("pause",), 2, "which backfill: "),
        (("pause", "x"), 3, "no backfill x; there go on none"),
    ],
)
def test_what_is_wrong_is_said(project: Any, words: tuple[str, ...], code: int, text: str) -> None:
    done = project.run("backfill", *words)
    assert done.returncode == code, done
    assert text in done.stderr
