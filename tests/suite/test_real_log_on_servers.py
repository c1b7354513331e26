"""The real access log on every store, with and without a broker: the same report, byte for byte."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from synergy.brokers.rabbitmq.removal import remove
from synergy.programs import alive, identity_of
from synergy.services import Place, servers_status
from synergy.stores.removal import drop_database
from tests import servers
from workers.servers import KINDS

REPO = Path(__file__).resolve().parents[2]
#: Seconds that one run may take; undisturbed it takes five, most of them to start the programs.
PATIENCE = 180
PROCESSES = (
    *("site_yearly", "site_monthly", "site_daily", "site_hourly"),
    *("client_yearly", "client_monthly", "client_daily", "alert_daily"),
)

#: Opens a place that is a test's own, and leaves nothing there.
Open = Callable[[], AbstractContextManager[str]]

pytestmark = pytest.mark.slow

#: Part of the log → the day it starts on; all end with the last file's.
STARTS = {"whole": "2024-05-12", "part": "2024-05-19"}


@contextmanager
def sqlite() -> Iterator[str]:
    """A file in the project."""
    yield "sqlite:///state/synergy.db"


@contextmanager
def mongodb() -> Iterator[str]:
    """A database of its own on a standalone server."""
    with a_database(servers.mongodb()) as url:
        yield url


@contextmanager
def mongodb_set() -> Iterator[str]:
    """A database of its own on a replica set."""
    with a_database(servers.mongodb_set()) as url:
        yield url


@contextmanager
def a_database(server: str) -> Iterator[str]:
    """Dropped in the end."""
    url = servers.with_database(server, servers.fresh_name("log"))
    try:
        yield url
    finally:
        drop_database(url)


@contextmanager
def none() -> Iterator[str]:
    """Workers look into the store."""
    yield "none"


@contextmanager
def rabbitmq() -> Iterator[str]:
    """Names of its own on a server."""
    url = f"{servers.rabbitmq()}?prefix={servers.fresh_name('log')}"
    try:
        yield url
    finally:
        remove(url, PROCESSES)


class Suite:
    """The illustration suite in a folder of its own, on the real log."""

    def __init__(self, folder: Path, logs: list[Path], truth: dict[str, Any]) -> None:
        self.folder = folder
        self.parts = {"whole": logs, "part": logs[:2]}
        self.clients = folder / "clients.json"
        self.clients.write_text(json.dumps(truth["site_owner"]["map"]))
        for name in ("context.py", "settings.py"):
            shutil.copy(REPO / name, folder / name)
        for name in ("workers", "db"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPO / name, folder / name, ignore=ignore)

    def in_one_process(self, part: str, broker: str) -> bytes:
        """Work a part of the log there, the store in memory; what the report says."""
        logs, out = [str(path) for path in self.parts[part]], self.folder / "out.json"
        self._tell(part)
        self._run(Path(__file__).with_name("in_one_process.py"), *logs, broker, out)
        return out.read_bytes()

    def demonstrate(self, part: str, *where: str) -> bytes:
        """The same by the demonstration, with its programs."""
        out = self.folder / "out.json"
        self.demo(
            *("--input", *self.parts[part], "--site-segment", "2", "--clients", self.clients),
            *(*where, "--exit-when-done", "--report", out),
        )
        return out.read_bytes()

    def demo(self, *words: str | Path) -> str:
        """A command of the demonstration; what it tells beside its data."""
        return self._run("-m", "synergy.cli", "demo", *words)

    def _tell(self, part: str) -> None:
        """What the demonstration would write down."""
        told = {"name": part, "clients": str(self.clients), "segment": 2, "lag": 0, "host": False}
        span = {"start": f"{STARTS[part]}T00:00+00:00", "until": "2024-05-21T00:00+00:00"}
        file = self.folder / ".synergy" / "demo.json"
        file.parent.mkdir()
        file.write_text(json.dumps({**told, **span}))

    def _run(self, *words: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{self.folder}:{REPO}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr


@pytest.fixture
def suite(tmp_path: Path, logs: list[Path], truth: dict[str, Any]) -> Suite:
    return Suite(tmp_path, logs, truth)


@pytest.fixture(scope="module")
def expected(
    folders: Callable[[], AbstractContextManager[str]], logs: list[Path], truth: dict[str, Any]
) -> dict[str, bytes]:
    """Part → its report, made in one process without any server."""
    found = {}
    for part in STARTS:
        with folders() as folder:
            found[part] = Suite(Path(folder), logs, truth).in_one_process(part, "none")
    return found


@pytest.mark.parametrize(
    ("level", "digits"), [("hourly", 10), ("daily", 8), ("monthly", 6), ("yearly", 4)]
)
def test_in_one_process_the_figures_are_the_counted_ones(
    expected: dict[str, bytes], truth: dict[str, Any], level: str, digits: int
) -> None:
    written = {
        "".join(filter(str.isdigit, label)): (its["requests"], its["bytes"])
        for label, its in json.loads(expected["whole"])[level].items()
    }
    assert written == {
        label[:digits]: (its["count"], its["bytes"]) for label, its in truth["utc"][level].items()
    }


@pytest.mark.parametrize(
    ("store", "broker"),
    [
        (sqlite, none),
        (sqlite, rabbitmq),
        (mongodb, none),
        (mongodb, rabbitmq),
        (mongodb_set, none),
        (mongodb_set, rabbitmq),
    ],
)
def test_on_every_store_and_broker_the_report_is_the_same(
    suite: Suite, expected: dict[str, bytes], store: Open, broker: Open
) -> None:
    with store() as keeps, broker() as brings:
        found = suite.demonstrate("whole", "--store", keeps, "--broker", brings)
    assert found == expected["whole"]


def test_in_one_process_with_nothing_but_what_is_brought_it_is_the_same(
    suite: Suite, expected: dict[str, bytes]
) -> None:
    with rabbitmq() as brings:
        assert suite.in_one_process("whole", brings) == expected["whole"]


def test_servers_that_it_brings_up_itself_are_gone_when_it_is_forgotten(
    suite: Suite, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers.mongodb(), servers.rabbitmq()  # where there are such, it can bring up its own
    for name in ("MONGODB", "RABBITMQ"):
        monkeypatch.delenv(f"SYNERGY_TEST_{name}")
    place = Place(suite.folder / ".synergy" / "services", suite.folder / "compose.yaml")
    try:
        assert suite.demonstrate("part", "--servers") == expected["part"]
        found = {one.name: one for one in servers_status(place, {})}
        began = [identity_of(pid) for name in KINDS for pid in found[name].pids.values()]
        assert len(began) >= 2
    finally:
        said = suite.demo("--reset")
    assert "mongodb: ended" in said
    assert "rabbitmq: ended" in said
    assert not [process for process in began if process is not None and alive(process)]
    assert not (suite.folder / ".synergy").exists()
