"""Boxes as people have them: `super`, real schedulers and workers, SIGKILL for each of them."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from synergy.programs import PidFile, identity_of
from synergy.stores import open_store
from tests.cli.conftest import Project, new_project, wait_for

#: The hours of one day; an hour waits as long as the file is there that holds it.
CONTEXT = """
from synergy import Context, hourly, program, tree

hours = tree(
    "hours",
    [hourly("hour", run="workers.play:run", boxes={boxes!r}, max_attempts=99)],
    start="2024-05-12", until="2024-05-13", lag=0,
)
context = Context(hours, program("worker", slots=1), program("single", slots=1, on="any"))
"""
PLAY = """
import pathlib
import time

from synergy import Result, Work, processed


def run(work: Work) -> Result:
    while pathlib.Path("hold").exists():
        time.sleep(0.02)
    return processed(count=1)
"""


class Box(Project):
    """A box of the project: its own programs, the same store."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder)
        object.__setattr__(self, "name", name)

    name: str

    def environment(self, **more: str) -> dict[str, str]:
        run, logs = f".synergy/{self.name}/run", f".synergy/{self.name}/logs"
        own = {"SYNERGY_BOX": self.name, "SYNERGY_RUN_DIR": run, "SYNERGY_LOG_DIR": logs}
        return {**super().environment(), **own, **more}

    def pid(self, name: str) -> int | None:
        """The living process that is the program."""
        holder = PidFile(self.folder / f".synergy/{self.name}/run/{name}.pid").holder()
        return holder.pid if holder is not None else None

    def kill(self, name: str) -> int:
        """SIGKILL for a program; its process id."""
        pid = self.pid(name)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        return pid

    def programs(self) -> dict[str, dict[str, Any]]:
        return {each["program"]: each for each in self.json("query")}

    def start(self) -> None:
        self.ok("super", "--start")
        wait_for(lambda: all(map(self.pid, ("scheduler", "worker", "single"))), "the programs")

    def log(self, name: str) -> str:
        return (self.folder / f".synergy/{self.name}/logs/{name}.log").read_text()


def one_box(folder: Path, boxes: object = ()) -> Iterator[Box]:
    with new_project(folder) as project:
        project.write("context.py", CONTEXT.format(boxes=boxes))
        project.write("workers/play.py", PLAY)
        box = Box(project.folder, "db-1")
        yield box
        (box.folder / "hold").unlink(missing_ok=True)
        for each in (box, Box(box.folder, "db-2")):
            each.run("super", "--stop")
        assert box.processes() == []


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A box that has never run; whatever runs there afterwards is stopped."""
    yield from one_box(tmp_path / "project")


def started(box: Box, attempt: int) -> dict[str, Any]:
    """The units that run in this attempt, by owner's program."""
    with contextlib.closing(open_store(f"sqlite:///{box.folder}/.synergy/synergy.db")) as store:
        return {
            str(unit.owner).partition("@")[0]: unit
            for unit in store.held_units()
            if unit.attempt == attempt and unit.state == "in_progress"
        }


@pytest.mark.slow
def test_whatever_is_killed_the_box_goes_on(box: Box) -> None:
    box.write("hold", "")
    assert box.ok("super", "--boxid").strip() == "db-1"
    assert box.run("super", "--stop").returncode == 3
    box.start()
    second = box.run("super", "--start")
    assert second.returncode == 4
    assert "super --stop" in second.stderr
    assert box.run("up").returncode == 4

    # a worker: what it held is free at once, and not when its lease has run out
    first = wait_for(lambda: {"worker", "single"} <= {*started(box, 1)} and started(box, 1))
    killed = box.kill("worker")
    again = wait_for(lambda: started(box, 2).values())
    [unit] = again
    assert unit.key == first["worker"].key
    assert "its process has ended" in unit.transitions[-2].reason
    wait_for(lambda: box.pid("worker") not in (None, killed), "another worker")
    told = box.programs()["worker"]
    assert (told["wanted"], told["restarts"], told["state"]) == (True, 1, "running")

    # the scheduler: the next one leads, and does not wait until the lease ends
    before = box.json("status")["scheduler"]
    assert (before["alive"], before["box"], before["epoch"]) == (True, "db-1", 1)
    assert before["pid"] == box.pid("scheduler")
    killed = box.kill("scheduler")
    wait_for(lambda: box.json("status")["scheduler"]["epoch"] == 2, "another leader")
    after = box.json("status")["scheduler"]
    assert after["pid"] == box.pid("scheduler") != killed
    assert after["since"] > before["since"]
    assert "leads since" in box.ok("status")

    # the supervisor: nothing is killed by that, nothing doubled afterwards
    there = {name: box.pid(name) for name in ("scheduler", "worker", "single")}
    box.kill("supervisor")
    box.ok("super", "--start")
    wait_for(lambda: box.log("supervisor").count("is kept") == 3, "what runs to be adopted")
    assert {name: box.pid(name) for name in there} == there
    assert [*map(words_of, box.processes())].count("start worker") == 1
    killed = box.kill("worker")
    wait_for(lambda: box.pid("worker") not in (None, killed), "an adopted worker's successor")

    # the work is done, once
    (box.folder / "hold").unlink()
    wait_for(lambda: len(box.json("jobs", "--state", "processed")) == 24, "the day")
    assert {job["generation"] for job in box.json("jobs")} == {1}
    assert box.json("super", "--stop")["killed"] is False
    assert box.processes() == []
    assert box.pids() == {}


def words_of(pid: int) -> str:
    """``start worker`` of a program's command line."""
    try:
        line = psutil.Process(pid).cmdline()
    except psutil.Error:
        return ""
    place = line.index("synergy.cli") if "synergy.cli" in line else len(line)
    return " ".join(line[place + 1 : place + 3])


def test_what_is_switched_off_stays_off(box: Box) -> None:
    box.start()
    pid = box.pid("worker")
    stopped = box.json("stop", "worker")
    assert stopped == {"program": "worker", "pid": pid, "killed": False}
    told = box.programs()["worker"]
    assert (told["running"], told["wanted"], told["state"]) == (False, False, "stopped")
    assert box.run("stop", "worker").returncode == 3
    assert "off" in box.ok("super", "--query")
    box.ok("super", "--stop")
    box.ok("super", "--start")
    wait_for(lambda: box.pid("single"), "the others")
    assert box.pid("worker") is None
    began = box.json("start", "worker")
    assert began["pid"] == box.pid("worker")
    assert box.programs()["worker"]["wanted"] is True
    assert box.run("start", "nobody").returncode == 3


@pytest.mark.slow
def test_a_number_that_belongs_to_somebody_else_is_left_alone(box: Box) -> None:
    """A pid file of before, whose process id the system has given to another since."""
    foreign = subprocess.Popen(["sleep", "600"])
    try:
        me = identity_of(foreign.pid)
        assert me is not None
        for birth in (f"{me.created + 1!r} {me.boot}", f"{me.created!r} another-boot"):
            box.write(".synergy/db-1/run/worker.pid", f"{foreign.pid}\n{birth}\n")
            assert box.programs()["worker"]["running"] is False
            box.start()
            assert box.pid("worker") != foreign.pid
            box.ok("super", "--stop")
            assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_without_its_store_a_supervisor_waits(box: Box) -> None:
    box.write(".synergy/store", "a file in the place of the folder")
    url = "sqlite:///.synergy/store/synergy.db"
    console = subprocess.Popen(
        [*box.command, "super", "--start", "--console", "--store", url],
        cwd=box.folder,
        env=box.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert console.stderr is not None
        said = ""
        while "nothing is started until the store answers" not in said:
            said = console.stderr.readline()
            assert said, "it has ended"
        assert [*map(words_of, box.processes())].count("start worker") == 0
        (box.folder / ".synergy/store").unlink()
        wait_for(lambda: box.pid("worker") and box.pid("scheduler"), "the programs")
    finally:
        console.terminate()
        console.communicate()
    assert console.returncode == 0
    assert box.processes() == []


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Box]:
    """The hours are bound to boxes of which none has been seen."""
    yield from one_box(tmp_path / "project", "web-*")


def test_what_is_bound_to_another_box_is_not_taken_here(bound: Box) -> None:
    bound.start()
    wait_for(lambda: bound.json("status")["units"] == {"requested": 24}, "the requests")
    sentence = "bound to boxes web-*, none of which has been seen"
    assert sentence in bound.ok("why", "hour", "2024-05-12T07")
    assert f"hour is {sentence}" in bound.ok("status")
    assert bound.json("status")["problems"] == [f"hour is {sentence}"]
    web = Box(bound.folder, "web-1")
    web.ok("start", "worker")
    try:
        wait_for(lambda: len(bound.json("jobs", "--state", "processed")) == 24, "the day")
        assert bound.json("status")["problems"] == []
    finally:
        web.ok("stop", "worker")


@pytest.mark.slow
def test_two_boxes_share_the_work_and_one_leads(box: Box) -> None:
    other = Box(box.folder, "db-2")
    box.start()
    wait_for(lambda: box.json("status")["scheduler"]["alive"], "a leader")
    other.start()
    wait_for(lambda: box.json("status")["scheduler"]["standby"], "who stands by")
    told = box.json("status")["scheduler"]
    assert told["box"] == "db-1"
    assert told["standby"] == [{"box": "db-2", "pid": other.pid("scheduler")}]
    assert f"standing by: db-2 (process {other.pid('scheduler')})" in box.ok("status")
    boxes = {each["box"]: each for each in other.json("super", "--query")}
    assert [each["alive"] for each in boxes.values()] == [True, True]

    # the program that works on one box at a time
    wait_for(lambda: "at work: no other box is" in box.log("single"), "its turn")
    wait_for(lambda: "standing by: single@db-1/" in other.log("single"), "the other's rest")

    # whoever is quicker leads after a leader was killed: the other one, or its own successor
    box.kill("scheduler")
    wait_for(lambda: box.json("status")["scheduler"]["epoch"] == 2, "another leader")

    # all goes to the other box when this one stops
    box.ok("super", "--stop")
    wait_for(lambda: "at work: no other box is" in other.log("single"), "its turn there")
    wait_for(lambda: other.json("status")["scheduler"]["box"] == "db-2", "its lead")
    wait_for(lambda: len(other.json("jobs", "--state", "processed")) == 24, "the day")
