"""The supervisor over real processes and a store in memory: what it starts, keeps, and lets go."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from synergy.clock import SystemClock
from synergy.core.model import BoxRecord, ProgramRecord
from synergy.errors import Unreachable
from synergy.owners import new_owner
from synergy.ports import Store
from synergy.programs import Identity, alive, identity_of, start_detached
from synergy.stores.bell import MemoryBell
from synergy.stores.memory import MemoryStore
from synergy.supervisor.loop import SUPERVISOR, Setting, Supervisor
from synergy.supervisor.plan import Rules

#: Seconds that anything may take; what is waited for takes far less.
PATIENCE = 20.0
SLEEP = ["sleep", "600"]
#: Hears no SIGTERM, has a child that hears none either, and says when both are there.
DEAF = [
    *("sh", "-c"),
    "trap '' TERM; sh -c \"trap '' TERM; sleep 600; sleep 600\" & echo $! > child; "
    "while :; do sleep 600; done",
]


class Yard:
    """A box: programs that are plain commands, a store that may be away, and what was said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: dict[str, list[str]] = {}
        #: The programs that have left a pid.
        self.found: dict[str, Identity] = {}
        self.started: list[tuple[str, Identity]] = []
        self.strangers: list[Identity] = []
        self.store = MemoryStore()
        self.bell = MemoryBell()
        self.away = ""
        self.freed = 0
        self.said: list[tuple[str, str]] = []
        self.supervisors: list[Supervisor] = []

    # Programs

    def start(self, name: str) -> int:
        pid = start_detached(self.commands[name], self.folder / f"{name}.out", cwd=self.folder)
        identity = identity_of(pid, zombies=True)
        assert identity is not None
        self.started.append((name, identity))
        return pid

    def find(self, name: str) -> Identity | None:
        found = self.found.get(name)
        return found if found is not None and alive(found) else None

    def last_words(self, name: str) -> str:
        printed = self.folder / f"{name}.out"
        return printed.read_text().strip() if printed.exists() else ""

    # what the supervisor works with

    def open_store(self) -> Store:
        self.check()
        return self.store

    def hand_on(self, store: Store, bell: Any) -> int:
        self.check()
        self.freed += 1
        return 0

    def check(self) -> None:
        if self.away:
            raise Unreachable(self.away)

    def supervise(self, *names: str, box: str = "db-1", **rules: Any) -> Supervisor:
        for name in names:
            self.commands.setdefault(name, SLEEP)
        supervisor = Supervisor(
            Setting(
                box=box,
                owner=new_owner(SUPERVISOR, box),
                names=names,
                programs=self,
                open_store=self.open_store,
                bell=self.bell,
                clock=SystemClock(),
                hand_on=self.hand_on,
                say=lambda action, text: self.said.append((action, text)),
                rules=Rules(**rules),
            )
        )
        self.supervisors.append(supervisor)
        return supervisor

    def elsewhere(self, *argv: str) -> Identity:
        """A process that nobody here has started."""
        process = subprocess.Popen(argv, cwd=self.folder, start_new_session=True)
        process.returncode = 0  # its end is the supervisor's business
        identity = identity_of(process.pid)
        assert identity is not None
        self.strangers.append(identity)
        return identity

    # what the tests look at

    def record(self, box: str = "db-1") -> BoxRecord:
        return next(record for record in self.store.read_boxes() if record.box == box)

    def program(self, name: str) -> ProgramRecord:
        return next(each for each in self.record().programs if each.name == name)

    def actions(self) -> list[str]:
        return [action for action, _ in self.said]

    def close(self) -> None:
        self.away = ""
        for _, identity in self.started:
            if alive(identity):
                os.kill(identity.pid, signal.SIGKILL)
        for supervisor in self.supervisors:
            supervisor.close()
        for identity in self.strangers:
            if alive(identity):
                os.kill(identity.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(identity.pid, 0)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with contextlib.closing(Yard(tmp_path)) as yard:
        yield yard


def until(supervisor: Supervisor, fact: Callable[[], Any]) -> Any:
    """What the fact gives once it is true, the supervisor at work meanwhile."""
    give_up = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(StopIteration):
            if found := fact():
                return found
        assert time.monotonic() < give_up, "it did not come true"
        supervisor.once(0.05)


def runs(yard: Yard, name: str) -> Callable[[], Any]:
    return lambda: yard.program(name).pid


def test_what_is_wanted_is_started_and_recorded(yard: Yard) -> None:
    supervisor = yard.supervise("one", "two")
    until(supervisor, lambda: runs(yard, "one")() and runs(yard, "two")())
    record = yard.record()
    assert record.supervisor is not None
    assert [(each.name, each.wanted, each.state) for each in record.programs] == [
        ("one", True, "running"),
        ("two", True, "running"),
    ]
    assert yard.program("one").pid == yard.started[0][1].pid
    assert yard.program("one").memory_bytes > 0
    since = yard.program("one").since
    assert since is not None
    assert abs(SystemClock().now() - since) < timedelta(seconds=PATIENCE)
    supervisor.close()
    assert not any(alive(identity) for _, identity in yard.started)
    record = yard.record()
    assert record.supervisor is None
    assert [(each.wanted, each.state, each.pid) for each in record.programs] == [
        (True, "stopped", None)
    ] * 2
    supervisor.close()


def test_what_is_killed_is_started_again_after_what_it_held_was_freed(yard: Yard) -> None:
    supervisor = yard.supervise("one")
    pid = until(supervisor, runs(yard, "one"))
    freed = yard.freed
    os.kill(pid, signal.SIGKILL)
    again = until(supervisor, lambda: len(yard.started) == 2 and runs(yard, "one")())
    assert again != pid
    assert yard.freed == freed + 1
    assert yard.program("one").restarts == 1
    assert "killed by SIGKILL" in dict(yard.said)["ended"]


def test_what_ends_again_and_again_is_marked_and_says_why(yard: Yard) -> None:
    yard.commands["broken"] = ["sh", "-c", "echo no such table; exit 3"]
    supervisor = yard.supervise("broken", "good", many=4, first_wait=0.01)
    until(supervisor, lambda: yard.program("broken").state == "crash_loop")
    broken = yard.program("broken")
    assert broken.wanted
    assert broken.pid is None
    assert "exit code 3" in broken.reason
    assert "no such table" in broken.reason
    assert [name for name, _ in yard.started].count("broken") == 4
    assert yard.program("good").state == "running", "the others are not disturbed"
    # somebody cures it
    yard.commands["broken"] = SLEEP
    yard.bell.ring(SUPERVISOR)
    until(supervisor, runs(yard, "broken"))
    assert yard.program("broken").state == "running"


def test_what_cannot_be_started_is_tried_again(yard: Yard) -> None:
    yard.commands["missing"] = ["/nowhere/program"]
    supervisor = yard.supervise("missing", many=3, first_wait=0.01)
    until(supervisor, lambda: yard.program("missing").state == "crash_loop")
    assert "/nowhere/program" in yard.program("missing").reason


def test_without_a_store_nothing_is_started_and_what_runs_stays(yard: Yard) -> None:
    yard.away = "the store does not answer"
    supervisor = yard.supervise("one", "two")
    yard.found["two"] = yard.elsewhere(*SLEEP)
    until(supervisor, lambda: "unreachable" in yard.actions())
    supervisor.once(0.05)
    assert yard.started == []
    assert "nothing is started until the store answers" in dict(yard.said)["unreachable"]
    yard.away = ""
    pid = until(supervisor, runs(yard, "one"))
    assert "reachable" in yard.actions()
    # away again: one program dies, the other stays
    yard.away = "the store does not answer"
    freed = yard.freed
    os.kill(pid, signal.SIGKILL)
    until(supervisor, lambda: yard.actions().count("unreachable") == 2)
    for _ in range(5):
        supervisor.once(0.05)
    assert len(yard.started) == 1
    assert alive(yard.found["two"])
    yard.away = ""
    until(supervisor, lambda: len(yard.started) == 2)
    assert yard.freed == freed + 1, "what the dead held is freed as soon as that is possible"
    assert until(supervisor, lambda: yard.program("two").pid) == yard.found["two"].pid


def test_a_program_is_switched_off_and_on(yard: Yard) -> None:
    supervisor = yard.supervise("one", "two")
    until(supervisor, lambda: runs(yard, "one")() and runs(yard, "two")())
    yard.store.switch_program("db-1", "one", False)
    yard.bell.ring(SUPERVISOR)
    until(supervisor, lambda: yard.program("one").state == "stopped")
    assert yard.program("one") == ProgramRecord(name="one", wanted=False, state="stopped")
    supervisor.close()
    # also for the next supervisor
    supervisor = yard.supervise("one", "two")
    until(supervisor, runs(yard, "two"))
    assert yard.program("one").state == "stopped"
    yard.store.switch_program("db-1", "one", True)
    yard.bell.ring(SUPERVISOR)
    until(supervisor, runs(yard, "one"))
    assert [name for name, _ in yard.started] == ["one", "two", "two", "one"]


def test_what_runs_already_is_adopted_and_kept(yard: Yard) -> None:
    found = yard.found["one"] = yard.elsewhere(*SLEEP)
    supervisor = yard.supervise("one")
    assert until(supervisor, runs(yard, "one")) == found.pid
    assert yard.started == []
    os.kill(found.pid, signal.SIGKILL)
    until(supervisor, lambda: yard.started and runs(yard, "one")() == yard.started[0][1].pid)
    supervisor.close()
    assert not alive(yard.started[0][1])


def test_a_supervisor_after_a_killed_one_doubles_nothing_and_kills_nothing(yard: Yard) -> None:
    """As it is left by SIGKILL: its programs run, its record stands, nobody has said goodbye."""
    first = yard.supervise("one", "two")
    until(first, lambda: runs(yard, "one")() and runs(yard, "two")())
    yard.found.update(yard.started)
    gone = "supervisor@" + new_owner("x", "db-1").partition("@")[2].replace(
        f":{os.getpid()}:", ":1:", 1
    )
    second = yard.supervise("one", "two")
    yard.store.save_box(BoxRecord(**{**fields_of(yard.record()), "supervisor": gone}))
    until(second, lambda: yard.actions().count("adopted") == 2)
    until(second, lambda: yard.record().supervisor == second.setting.owner)
    assert len(yard.started) == 2
    assert all(alive(identity) for _, identity in yard.started)
    second.close()
    assert not any(alive(identity) for _, identity in yard.started), "they were its own"


def fields_of(record: BoxRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in BoxRecord.__dataclass_fields__}


def test_what_the_box_is_to_run_no_more_is_stopped(yard: Yard) -> None:
    old = yard.found["old"] = yard.elsewhere(*SLEEP)
    foreign = yard.elsewhere(*SLEEP)
    yard.store.save_box(
        BoxRecord(
            box="db-1",
            supervisor=None,
            since=None,
            seen_at=SystemClock().now(),
            programs=(ProgramRecord(name="old", wanted=True, state="running", pid=old.pid),),
        )
    )
    supervisor = yard.supervise("one")
    until(supervisor, lambda: not alive(old))
    until(supervisor, lambda: [each.name for each in yard.record().programs] == ["one"])
    assert alive(foreign)


def test_a_second_supervisor_of_a_box_starts_nothing(yard: Yard) -> None:
    other = "supervisor@db-1/elsewhere:7:1.0:boot:abcd"
    now = SystemClock().now()
    yard.store.save_box(BoxRecord(box="db-1", supervisor=other, since=now, seen_at=now))
    supervisor = yard.supervise("one")
    until(supervisor, lambda: "unreachable" in yard.actions())
    assert "an id of its own by the setting BOX" in dict(yard.said)["unreachable"]
    assert yard.started == []
    # the other has been silent for long
    old = now - timedelta(minutes=1)
    yard.store.save_box(BoxRecord(box="db-1", supervisor=other, since=old, seen_at=old))
    until(supervisor, runs(yard, "one"))


def test_what_does_not_end_is_killed_with_all_below_it(yard: Yard) -> None:
    yard.commands["deaf"] = DEAF
    supervisor = yard.supervise("deaf", "quick", grace=0.5)
    until(supervisor, lambda: (yard.folder / "child").exists() and runs(yard, "deaf")())
    child = until(supervisor, lambda: int((yard.folder / "child").read_text() or 0))
    tree = [psutil.Process(child), *psutil.Process(yard.started[0][1].pid).children(True)]
    supervisor.close()
    assert not any(alive(identity) for _, identity in yard.started)
    _, left = psutil.wait_procs(tree, timeout=PATIENCE)
    assert [one for one in left if one.status() != psutil.STATUS_ZOMBIE] == []
    assert ("stopped", "deaf had to be killed") in yard.said
    assert ("stopped", "quick stopped") in yard.said


def test_time_of_the_processor_and_memory_are_those_of_the_whole_tree(yard: Yard) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass\n"
    yard.commands["busy"] = [
        *(sys.executable, "-c"),
        f"import subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}])\n"
        f"subprocess.Popen([sys.executable, '-c', {burn!r} + 'time.sleep(600)'])\n"
        "open('burnt', 'w').close()\ntime.sleep(600)\n",
    ]
    supervisor = yard.supervise("busy")
    until(supervisor, (yard.folder / "burnt").exists)

    def told() -> bool:
        yard.bell.ring(SUPERVISOR)
        # A little less than they burn: the system counts in ticks.  One child alone burns 0.3.
        return yard.program("busy").cpu_seconds >= 0.5

    until(supervisor, told)
    assert yard.program("busy").cpu_seconds < 10
    assert yard.program("busy").memory_bytes > 8_000_000
    child = psutil.Process(yard.started[0][1].pid).children()[0]
    supervisor.close()
    child.kill()
