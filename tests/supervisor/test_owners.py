"""Who holds a lease or a unit, whether it still lives, and what becomes of it when it does not."""

import contextlib
import os
import socket
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from synergy.app import hand_on
from synergy.cli.boxes import bound_in_vain, standing_by
from synergy.cli.output import who
from synergy.clock import SystemClock
from synergy.core.catalog import Program
from synergy.core.model import BoxRecord, Claim, ProgramRecord
from synergy.errors import BadInput
from synergy.leases import LEADER
from synergy.owners import departed, new_owner, owner_of
from synergy.ports import STANDBY
from synergy.programs import Identity, identity_of
from synergy.project import open_project
from synergy.stores.bell import MemoryBell
from synergy.stores.memory import MemoryStore
from synergy.testing.contracts import a_unit, put_unit
from synergy.worker.alone import lease_name

HOST = socket.gethostname()
NOW = SystemClock().now()


def name_of(process: Identity, program: str = "worker", place: str = HOST) -> str:
    return f"{program}@{place}:{process.pid}:{process.created}:{process.boot}:abcd"


@pytest.fixture
def dead() -> Identity:
    """A process that has ended."""
    process = subprocess.Popen(["sleep", "600"])
    identity = identity_of(process.pid)
    process.kill()
    process.wait()
    assert identity is not None
    return identity


def test_a_name_tells_program_box_host_and_process() -> None:
    me = identity_of(os.getpid())
    assert me is not None
    here, named = owner_of(new_owner("worker", HOST)), owner_of(new_owner("worker", "db-1"))
    assert here is not None
    assert named is not None
    assert (here.program, here.box, here.host, here.process) == ("worker", HOST, HOST, me)
    assert (named.program, named.box, named.host, named.process) == ("worker", "db-1", HOST, me)
    token = owner_of(new_owner("worker", "db-1") + "/17")
    assert token is not None
    assert token.process == me
    assert new_owner("worker", "db-1") != new_owner("worker", "db-1")
    assert who(new_owner("worker", "db-1")) == f"worker (process {me.pid} at db-1)"
    for other in ("", "worker", "a@b", "w@h:x:1.0:boot:ab"):
        assert owner_of(other) is None


def test_only_what_has_ended_on_this_host_has_departed(dead: Identity) -> None:
    me = identity_of(os.getpid())
    assert me is not None
    assert departed(name_of(dead))
    assert departed(name_of(dead, place=f"db-1/{HOST}") + "/3")
    assert departed(name_of(Identity(me.pid, me.created - 1, me.boot))), "the number was reused"
    assert departed(name_of(Identity(me.pid, me.created, "an-earlier-boot")))
    assert not departed(name_of(me))
    assert not departed(name_of(dead, place="another-host"))
    assert not departed(name_of(dead, place=f"{HOST}/another-host"))
    assert not departed("nobody")


def test_what_the_dead_held_is_free_at_once(dead: Identity) -> None:
    store, bell = MemoryStore(), MemoryBell()
    me = identity_of(os.getpid())
    assert me is not None
    for number in range(4):
        put_unit(store, a_unit(number))
    until = NOW + timedelta(days=1)
    for owner, limit in ((name_of(dead) + "/1", 2), (name_of(me) + "/1", 1)):
        store.claim(Claim(owner=owner, now=NOW, lease_until=until, limit=limit))
    leases = (LEADER, lease_name("loader"), lease_name("living"))
    for lease, process in zip(leases, (dead, dead, me), strict=True):
        store.take_lease(lease, name_of(process), NOW, until)
    alone = [
        Program(name=name, slots=1, processes=None, alone=True) for name in ("loader", "living")
    ]
    with (
        contextlib.closing(bell.listen("worker")) as workers,
        contextlib.closing(bell.listen("scheduler")) as schedulers,
        contextlib.closing(bell.listen(STANDBY)) as standbys,
    ):
        assert hand_on(store, bell, alone) == 2
        assert workers.wait(0)
        assert schedulers.wait(0)
        assert standbys.wait(0)
        assert [(unit.attempt, unit.owner is None) for unit in store.active_units()] == [
            (2, True),
            (2, True),
            (1, False),
            (1, True),
        ]
        ends = [lease.until for lease in map(store.read_lease, leases) if lease is not None]
        assert [end == until for end in ends] == [False, False, True]
        # a second time there is nothing to do, and nobody is woken
        assert hand_on(store, bell, alone) == 0
        assert not workers.wait(0)
        assert not standbys.wait(0)


def a_box(box: str, seconds: float = 0, supervisor: str | None = "s", pid: int = 7) -> BoxRecord:
    """A box that was heard of so long ago, with a scheduler."""
    return BoxRecord(
        box=box,
        supervisor=supervisor,
        since=NOW,
        seen_at=NOW - timedelta(seconds=seconds),
        programs=(ProgramRecord(name="scheduler", wanted=True, state="running", pid=pid),),
    )


def test_who_stands_by_is_supervised_heard_of_and_does_not_lead() -> None:
    store = MemoryStore()
    leader = name_of(Identity(7, 1.0, "b"), "scheduler", "db-1/somewhere")
    lease = store.take_lease(LEADER, leader, NOW, NOW + timedelta(seconds=4))
    boxes = [a_box("db-1"), a_box("db-2"), a_box("db-3", seconds=60), a_box("db-4", 0, None)]
    assert standing_by(boxes, lease, NOW) == {"db-2": 7}
    assert standing_by(boxes, None, NOW) == {"db-1": 7, "db-2": 7}


@pytest.mark.parametrize(
    ("patterns", "boxes", "said"),
    [
        ((), [], ""),
        (("db-*",), [], "bound to boxes db-*, none of which has been seen"),
        (("db-*", "x"), [a_box("web-1")], "bound to boxes db-*, x, none of which has been seen"),
        (("db-*",), [a_box("db-1")], ""),
        (("db-*",), [a_box("db-1", 60), a_box("db-2", 5)], ""),
        (("db-*",), [a_box("db-1", 60, None)], ""),
        (
            ("db-*",),
            [a_box("db-1", 60), a_box("db-2", 90), a_box("web-1")],
            "bound to boxes db-*, none of which is heard of: db-1 last",
        ),
    ],
)
def test_what_nobody_can_work_is_told(
    patterns: tuple[str, ...], boxes: list[BoxRecord], said: str
) -> None:
    told = bound_in_vain(patterns, boxes, NOW)
    assert told.startswith(said)
    assert bool(told) == bool(said)


def test_a_box_is_named_by_its_setting_or_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYNERGY_BOX", raising=False)
    monkeypatch.syspath_prepend("")
    assert open_project(tmp_path).box == HOST
    monkeypatch.setenv("SYNERGY_BOX", "db-1.example.org")
    assert open_project(tmp_path).box == "db-1.example.org"
    for wrong in ("db 1", "-", "db/1", "db-*", "é"):
        monkeypatch.setenv("SYNERGY_BOX", wrong)
        with pytest.raises(BadInput, match="is no id of a box"):
            open_project(tmp_path)
