"""Plan, apply, withdraw as people and scripts type it."""

import json
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

Wait = Callable[..., Any]


def planned(project: Any, *words: str) -> str:
    """The id of a plan that is stored."""
    name = project.json(*words, "--plan")["id"]
    assert isinstance(name, str)
    return name


def test_a_plan_says_what_changes_why_and_what_to_type_next(running: Any) -> None:
    told = running.ok("reprocess", "hour", "2024-05-14T07", "--plan", "--reason", "late data")
    lines = told.splitlines()
    assert lines[0] == "reprocess hour 2024-05-14T07: 3 intervals change"
    assert [re.split(r"  +", line) for line in lines[1:5]] == [
        ["process", "interval", "is", "then", "because"],
        ["hour", "2024-05-14T07", "processed", "runs again", "named"],
        [
            "day",
            "2024-05-14",
            "processed",
            "runs again, or is kept",
            "its child hour 2024-05-14T07",
        ],
        ["copy", "2024-05-14", "processed", "runs again, or is kept", "depends on day 2024-05-14"],
    ]  # fmt: skip
    assert lines[5].startswith("1 hour, 1 day, 1 copy; 1 unit for certain, up to 3; ")
    name = re.findall(r"planned as (\w+); nothing has changed yet", told)[0]
    assert f"apply {name}" in told
    assert f"withdraw {name}" in told
    assert running.jobs("hour", "2024-05-14T07")["hour@2024-05-14T07"]["generation"] == 1
    listed = running.json("plans", "--open")
    (mine,) = [plan for plan in listed if plan["id"] == name]
    assert (mine["state"], mine["changes"], mine["reason"]) == ("planned", 3, "late data")
    assert name in running.ok("plans")
    assert lines[1:5] == running.ok("plans", name).splitlines()[2:6], "shown again"
    running.ok("withdraw", name)


def test_what_is_applied_is_what_was_planned_and_once(running: Any, wait: Wait) -> None:
    made = running.json("reprocess", "hour", "2024-05-15T07", "--plan")
    with ThreadPoolExecutor(4) as pool:
        runs: list[subprocess.CompletedProcess[str]] = [
            *pool.map(lambda _: running.run("apply", made["id"], "--json"), range(4))
        ]
    assert sorted(done.returncode for done in runs) == [0, 4, 4, 4], runs
    (answer,) = [json.loads(done.stdout) for done in runs if done.returncode == 0]
    assert {(item["process"], item["interval"]) for item in answer["touched"]} == {
        (step["process"], step["interval"]) for step in made["steps"]
    }
    for verb, told in (("apply", "applied already"), ("apply", made["id"])):
        again = running.run(verb, made["id"])
        assert again.returncode == 4
        assert told in again.stderr
    wait(lambda: not running.json("jobs", "copy", "2024-05-15")[0]["stale"], "the copy")
    assert running.json("jobs", "hour", "2024-05-15T07")[0]["generation"] == 2
    shown = running.ok("plans", made["id"])
    assert shown.startswith(f"{made['id']} is applied; filed ")
    assert "hour 2024-05-15T07  processed → embryo" in shown


def test_what_was_withdrawn_is_neither_applied_nor_withdrawn_again(running: Any) -> None:
    name = planned(running, "reprocess", "hour", "2024-05-14T08")
    assert running.ok("withdraw", name) == (
        f"plan {name} is withdrawn; nothing of it had been done\n"
    )
    for verb in ("apply", "withdraw"):
        done = running.run(verb, name)
        assert (done.returncode, done.stderr) == (4, f"plan {name} has been withdrawn already\n")
    assert running.json("jobs", "hour", "2024-05-14T08")[0]["generation"] == 1


def test_a_second_plan_for_the_same_says_so_and_is_stored_all_the_same(running: Any) -> None:
    one = planned(running, "reprocess", "hour", "2024-05-12T08")
    told = running.ok("reprocess", "hour", "2024-05-12T09", "--plan")
    assert f"! plan {one} (reprocess hour, " in told
    assert "would change some of the same: day 2024-05-12, copy 2024-05-12" in told
    two = re.findall(r"planned as (\w+)", told)[0]
    for name in (one, two):
        running.ok("withdraw", name)


def test_an_outdated_plan_is_refused_with_what_has_joined(running: Any) -> None:
    running.ok("stop", "worker")
    try:
        made = running.json("skip", "hour", "2024-05-13T07..2024-05-13T08", "--plan")
        assert made["left"] == ["hour 2024-05-13T08 is processed already"]
        running.ok("reprocess", "hour", "2024-05-13T08")
        done = running.run("apply", made["id"])
        assert done.returncode == 4
        assert done.stderr == (
            f"plan {made['id']} is outdated: hour 2024-05-13T08 would change too by now; "
            "plan again\n"
        )
        assert "is outdated" in running.ok("plans", made["id"])
        assert running.json("plans", made["id"])["joined"] == ["hour 2024-05-13T08"]
        assert running.jobs("hour", "2024-05-13T07")["hour@2024-05-13T07"]["state"] == "failed"
        running.ok("withdraw", made["id"])
    finally:
        running.ok("start", "worker")


def test_a_skipped_hour_is_unskipped(running: Any, wait: Wait) -> None:
    running.write("fail-hour-2024-05-16T03", "")
    running.ok("reprocess", "hour", "2024-05-16T03")
    wait(lambda: running.jobs("hour", "2024-05-16T03", "--state", "failed"), "the failure")
    running.ok("skip", "hour", "2024-05-16T03")
    (running.folder / "fail-hour-2024-05-16T03").unlink()
    wait(lambda: running.jobs("day", "2024-05-16", "--state", "processed"), "the day")
    told = running.ok("unskip", "hour", "2024-05-16T03..2024-05-16T04")
    assert "hour 2024-05-16T03  skipped → embryo" in told
    assert "left: hour 2024-05-16T04 is processed, not skipped" in told
    wait(lambda: running.jobs("hour", "2024-05-16T03", "--state", "processed"), "the hour")


def test_only_the_named_hour_runs_again_and_its_day_is_marked(running: Any, wait: Wait) -> None:
    told = running.ok("reprocess", "hour", "2024-05-14T11", "--only", "--plan")
    assert told.startswith("reprocess hour 2024-05-14T11 only: 3 intervals change\n")
    assert re.search(r"day +2024-05-14 +processed +is marked stale +its child hour", told)
    assert "; 2 marked stale\n" in told
    name = re.findall(r"planned as (\w+)", told)[0]
    generation = running.json("jobs", "day", "2024-05-14")[0]["generation"]
    done = running.ok("apply", name)
    assert "day 2024-05-14  marked stale\n" in done
    wait(lambda: running.jobs("hour", "2024-05-14T11", "--state", "processed"), "the hour")
    (day,) = running.json("jobs", "day", "2024-05-14")
    assert (day["state"], day["stale"], day["generation"]) == ("processed", True, generation)
    running.ok("reprocess", "day", "2024-05-14")
    wait(lambda: not running.json("jobs", "copy", "2024-05-14")[0]["stale"], "the copy")


def test_with_no_scheduler_alive_it_is_filed_and_carried_out_when_one_starts(
    fresh: Any, wait: Wait
) -> None:
    for name in ("scheduler", "worker"):
        fresh.ok("start", name)
    done = wait(lambda: fresh.json("jobs", "hello_hourly", "--state", "processed"), "an hour")
    for name in ("worker", "scheduler"):
        fresh.ok("stop", name)
    plan = planned(fresh, "reprocess", "hello_hourly", done[0]["interval"])
    told = fresh.ok("apply", plan)
    assert "filed as " in told
    assert "no scheduler has been running since" in told
    assert fresh.json("plans", plan)["state"] == "planned"
    fresh.ok("start", "scheduler")
    assert wait(lambda: fresh.json("plans", plan)["state"] == "done", "the plan")


#: What is typed, the exit code, and a part of what is said.
WRONG = [
    (["apply", "nowhere"], 3, "there is no plan 'nowhere'; those there are:"),
    (["withdraw", "nowhere"], 3, "there is no plan 'nowhere'"),
    (["plans", "nowhere"], 3, "there is no plan 'nowhere'"),
    (["apply"], 2, "required: ID"),
    (["reprocess", "hour", "2024-05-12", "2024-05-13T09..2024-05-13T02", "--plan"], 2,
     "2 of these are no intervals"),
    (["reprocess", "huor", "2024-05-12T00", "--plan"], 3, "did you mean hour"),
    (["reprocess", "hour", "2023-01-01T00", "--plan"], 3, "spans from"),
    (["unskip", "ping", "2024-05-12"], 2, "trigger ping"),
    (["trigger", "ping", "--plan"], 2, "unrecognized"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "told"), WRONG)
def test_what_is_wrong_is_said_in_a_sentence(
    running: Any, words: list[str], code: int, told: str
) -> None:
    done = running.run(*words)
    assert done.returncode == code, done
    assert told in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_what_has_not_begun_cannot_run_again(fresh: Any) -> None:
    fresh.ok("start", "scheduler")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    done = fresh.run("reprocess", "hello_hourly", f"{tomorrow:%Y-%m-%dT%H}")
    assert done.returncode == 2
    assert "nothing to run again: hello_hourly" in done.stderr
    assert "begins at" in done.stderr


def test_what_is_no_plan_is_not_applied(running: Any) -> None:
    request = running.json("trigger", "ping")
    done = running.run("apply", request["id"])
    assert (done.returncode, done.stderr) == (
        4, f"{request['id']} is no plan: it is a request to trigger\n",
    )  # fmt: skip
