"""The doorbells wake whoever listens, and never do harm."""

import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synergy.bells import Bells
from synergy.ports import Bell
from synergy.stores import open_bell
from synergy.stores.bell import MemoryBell, SocketBell, place_beside


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where the sockets of a store of this test are; short, whatever pytest's folders are like."""
    place = place_beside(tmp_path / "store.db")
    yield place
    if place.exists():
        for each in place.iterdir():
            each.unlink()
        place.rmdir()


@pytest.fixture(params=["memory", "socket", "several"])
def bell(request: pytest.FixtureRequest, place: Path) -> Bell:
    match request.param:
        case "memory":
            return MemoryBell()
        case "socket":
            return SocketBell(place)
    return Bells(SocketBell(place), MemoryBell())


def test_a_ring_wakes_a_listener(bell: Bell) -> None:
    ear = bell.listen("worker")
    threading.Timer(0.05, bell.ring, ["worker"]).start()
    before = time.monotonic()
    assert ear.wait(5)
    assert time.monotonic() - before < 2
    ear.close()


def test_nobody_rings_and_time_passes(bell: Bell) -> None:
    ear = bell.listen("worker")
    assert not ear.wait(0.01)
    assert not ear.wait(-1)
    ear.close()


def test_a_ring_before_the_wait_is_not_lost(bell: Bell) -> None:
    ear = bell.listen("worker")
    bell.ring("worker")
    assert ear.wait(0)
    ear.close()


def test_many_rings_are_one_and_a_full_ear_does_not_block(bell: Bell) -> None:
    ear = bell.listen("worker")
    for _ in range(5000):
        bell.ring("worker")
    assert ear.wait(0)
    assert not ear.wait(0)
    ear.close()


def test_drained_rings_are_forgotten(bell: Bell) -> None:
    ear = bell.listen("worker")
    bell.ring("worker")
    ear.drain()
    assert not ear.wait(0)
    ear.drain()
    ear.close()


def test_everybody_of_the_role_hears_and_nobody_else(bell: Bell) -> None:
    one, two, other = bell.listen("worker"), bell.listen("worker"), bell.listen("scheduler")
    bell.ring("worker")
    assert (one.wait(0), two.wait(0), other.wait(0)) == (True, True, False)
    for ear in (one, two, other):
        ear.close()


def test_ringing_where_nobody_ever_listened_is_harmless(bell: Bell) -> None:
    bell.ring("worker")


def test_who_has_closed_is_not_rung(bell: Bell) -> None:
    one, two = bell.listen("worker"), bell.listen("worker")
    one.close()
    one.close()
    bell.ring("worker")
    assert two.wait(0)
    two.close()


def test_its_descriptor_is_readable_when_it_has_rung(bell: Bell) -> None:
    ear = bell.listen("scheduler")
    assert ear.fileno() >= 0
    bell.ring("scheduler")
    assert ear.wait(0)
    ear.close()


def test_the_folder_is_private_and_the_socket_goes_with_its_listener(place: Path) -> None:
    ear = SocketBell(place).listen("worker")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    [path] = place.iterdir()
    assert path.name == f"worker-{os.getpid()}-0.sock"
    other = SocketBell(place).listen("worker")
    ear.close()
    assert [each.name for each in place.iterdir()] == [f"worker-{os.getpid()}-1.sock"]
    other.close()
    assert not place.exists()


def test_who_begins_to_listen_while_others_leave_is_heard(place: Path) -> None:
    bell, stop = SocketBell(place), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            SocketBell(place).listen("other").close()

    others = threading.Thread(target=come_and_go)
    others.start()
    try:
        for _ in range(500):
            ear = bell.listen("worker")
            bell.ring("worker")
            assert ear.wait(0)
            ear.close()
    finally:
        stop.set()
        others.join()


def test_a_dead_listener_is_removed_by_who_rings(place: Path) -> None:
    bell = SocketBell(place)
    ear = bell.listen("worker")
    dead = place / "worker-1-0.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(os.fspath(dead))
    bell.ring("worker")
    assert not dead.exists()
    assert ear.wait(0)
    ear.close()


def test_another_program_rings(place: Path) -> None:
    ear = SocketBell(place).listen("scheduler")
    code = (
        "import sys; from pathlib import Path; from synergy.stores.bell import SocketBell; "
        "SocketBell(Path(sys.argv[1])).ring('scheduler')"
    )
    subprocess.run([sys.executable, "-c", code, str(place)], check=True, timeout=30)
    assert ear.wait(0)
    ear.close()


def test_a_folder_that_others_can_enter_is_not_trusted(place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)
    bell = SocketBell(place)
    ear = bell.listen("worker")
    assert list(place.iterdir()) == []
    bell.ring("worker")
    assert not ear.wait(0)
    ear.close()


def test_a_deep_store_has_a_short_place(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a folder with a long name"] * 8, "store.db")
    other = deep.with_name("other.db")
    assert len(str(place_beside(deep))) < 70
    assert place_beside(deep) != place_beside(other)
    bell = open_bell(f"sqlite:///{deep}")
    ear = bell.listen("scheduler")
    open_bell(f"sqlite:///{deep}").ring("scheduler")
    assert ear.wait(0)
    ear.close()
    assert not place_beside(deep).exists()


def test_a_deep_temporary_folder_is_left_for_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/" + "x" * 90)
    assert place_beside(tmp_path / "store.db").parent == Path("/tmp")


def test_a_store_is_known_by_its_real_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = [tmp_path / "s.db", tmp_path / "link" / "s.db", Path("s.db")]
    assert len({place_beside(name) for name in names}) == 1


# several as one


def test_one_of_several_bells_is_enough(place: Path) -> None:
    box, far = SocketBell(place), MemoryBell()
    ear = Bells(box, far).listen("worker")
    for bell in (box, far):
        bell.ring("worker")
        assert select.select([ear], [], [], 5)[0]
        assert ear.wait(0)
        assert not ear.wait(0)
        bell.ring("worker")
        ear.drain()
        assert not select.select([ear], [], [], 0)[0]
    ear.close()


def test_several_bells_reach_who_listens_to_one_of_them(place: Path) -> None:
    box, far = SocketBell(place), MemoryBell()
    ears = [bell.listen("scheduler") for bell in (box, far)]
    Bells(box, far).ring("scheduler")
    assert [ear.wait(0) for ear in ears] == [True, True]
    for ear in ears:
        ear.close()
