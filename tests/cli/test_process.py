"""Switching processes and freeruns off and on from the command line."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.conftest import new_project

CONTEXT = """
from synergy import Context, daily, freerun, hourly, tree

span = {"start": "2024-05-12", "until": "2024-05-13", "lag": 0}
site = tree("site", [daily("day", run="workers.play:run", pool="db"),
                     hourly("hour", run="workers.play:run", pool="db")], **span)
ping = freerun("ping", command=["true"], at="cron 0 0 1 1 *", pool="db")
context = Context(site, ping, pools={"db": 3})
"""
PLAY = """
from synergy import Result, Work, processed


def run(work: Work) -> Result:
    return processed()
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A scheduler and no worker: nothing moves by itself."""
    with new_project(tmp_path_factory.mktemp("switches") / "project") as project:
        project.write("context.py", CONTEXT)
        project.write("workers/play.py", PLAY)
        project.ok("start", "scheduler")
        yield project


def test_off_is_told_everywhere_and_on_asks_what_is_to_be_caught_up(project: Any) -> None:
    assert project.ok("process", "off", "hour", "ping", "--reason", "the base is moved") == (
        "hour is off\nping is off\n"
    )
    sentence = "hour is switched off since "
    assert sentence in project.ok("status")
    assert sentence in project.ok("list")
    assert project.json("status")["off"].keys() == {"hour", "ping"}
    assert project.json("list")["off"]["hour"].endswith(": the base is moved")
    assert sentence in project.run("jobs", "hour").stderr
    assert sentence not in project.run("jobs", "day").stderr
    heading, *rows = project.ok("process", "list").splitlines()
    assert heading.split() == ["process", "since", "(UTC)", "by", "catch-up", "pool", "reason"]
    assert [row.split()[:2] for row in rows] == [["day", "on"], ["hour", "off"], ["ping", "off"]]
    told = {entry["process"]: entry for entry in project.json("process")}
    assert told["hour"] | {"since": "", "actor": ""} == {
        "process": "hour",
        "kind": "process",
        "on": False,
        "since": "",
        "actor": "",
        "reason": "the base is moved",
        "recording": None,
        "catch_up": "all",
        "pool": "db",
    }

    refused = project.run("process", "on", "hour")
    assert refused.returncode == 2
    assert refused.stderr == (
        "hour has 24 open intervals, 2024-05-12T00 to 2024-05-12T23; "
        "say what becomes of them: --catch-up all|latest|none\n"
    )
    refused = project.run("process", "on", "ping", "hour", "--catch-up", "all")
    assert refused.returncode == 2
    assert "ping: a freerun has no intervals" in refused.stderr
    assert project.run("trigger", "ping").returncode == 4

    assert project.ok("process", "on", "hour", "--catch-up", "none") == (
        "hour is on; 24 intervals are open: all of them are recorded as skipped\n"
    )
    assert project.ok("process", "on", "ping", "hour") == "ping is on\nhour is on already\n"
    assert {job["state"] for job in project.json("jobs", "hour")} == {"skipped"}
    assert "not caught up: its process was switched off" in project.ok("jobs", "hour")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("off", "nobody"), 3, "no process 'nobody' is registered; known are day, hour, ping"),
        (("off",), 2, "the following arguments are required: NAME"),
        (("on", "day", "--catch-up", "some"), 2, "invalid choice: 'some'"),
        (("out", "day"), 2, "invalid choice: 'out'"),
    ],
)
def test_what_is_wrong_is_said(project: Any, words: tuple[str, ...], code: int, text: str) -> None:
    done = project.run("process", *words)
    assert done.returncode == code
    assert text in done.stderr


def test_what_is_filed_without_a_scheduler_says_so(project: Any) -> None:
    project.ok("stop", "scheduler")
    done = project.ok("process", "off", "day")
    assert done.startswith("filed as ")
    assert "it is carried out when one starts" in done
    (filed,) = project.json("process", "off", "day")
    assert filed["state"] == "filed"
    project.ok("start", "scheduler")
