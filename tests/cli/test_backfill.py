"""Backfills from the command line."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cli.conftest import new_project

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
        "state": "planned",
        "process": "hour",
        "intervals": 120,
        "reasons": {"not caught up": 120},
        "left": {},
        "above": {"day": 5},
        "slots": 4,
        "at_most": 2,
        "at_least": 1,
        "seconds": None,
    }
    assert project.json("backfill", "list") == [], "a plan is only a plan"
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


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("hour",), 2, "name the intervals: "),
        (("nobody", "2024"), 3, "no process 'nobody' is registered"),
        (("hour", "2024"), 2, "hour: "),
        (("link", "2024-05-12"), 2, "the intervals of link build on one another"),
        (("hour", "2024-05-12T00", "--max-share", "101"), 2, "is no percentage from 0 to 100"),
        (("hour", "2024-05-12T00", "--min-share", "60"), 2, "60% is more than --max-share 50%"),
        (("pause",), 2, "which backfill: "),
        (("pause", "x"), 3, "no backfill x; there go on none"),
    ],
)
def test_what_is_wrong_is_said(project: Any, words: tuple[str, ...], code: int, text: str) -> None:
    done = project.run("backfill", *words)
    assert done.returncode == code, done
    assert text in done.stderr
