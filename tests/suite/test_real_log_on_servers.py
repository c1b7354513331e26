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
from synergy.stores.removal import drop_database
from tests import servers

REPO = Path(__file__).resolve().parents[2]
#: Seconds that one run may take; undisturbed it takes five, most of them to start the programs.
PATIENCE = 180
PROCESSES = (
    *("site_yearly", "site_monthly", "site_daily", "site_hourly"),
    *("client_yearly", "client_monthly", "client_daily", "alert_daily"),
)

#: Opens a place on a server that is a test's own, and leaves nothing there.
Place = Callable[[], AbstractContextManager[str]]

pytestmark = pytest.mark.slow

#: Part of the log → the day it starts on; all end with the last file's.
STARTS = {"whole": "2024-05-12", "part": "2024-05-19"}


@contextmanager
def memory() -> Iterator[str]:
    """Within one process."""
    yield "memory://"


@contextmanager
def sqlite() -> Iterator[str]:
    """A file in the project."""
    yield "sqlite:///state/synergy.db"


@contextmanager
def mongodb() -> Iterator[str]:
    """A database of its own on a standalone server."""
    yield from a_database(servers.mongodb())


@contextmanager
def mongodb_set() -> Iterator[str]:
    """A database of its own on a replica set."""
    yield from a_database(servers.mongodb_set())


def a_database(server: str) -> Iterator[str]:
    url = servers.with_database(server, servers.fresh_name("log"))
    yield url
    drop_database(url)


@contextmanager
def none() -> Iterator[str]:
    """Workers look into the store."""
    yield "none"


@contextmanager
def rabbitmq() -> Iterator[str]:
    """Names of its own on a server."""
    url = f"{servers.rabbitmq()}?prefix={servers.fresh_name('log')}"
    yield url
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

    def report(self, part: str, store: str, broker: str) -> bytes:
        """Work a part of the log there; what the report says."""
        logs, out = [str(path) for path in self.parts[part]], self.folder / "out.json"
        if store == "memory://":
            self._tell(part)
            self._run(Path(__file__).with_name("in_one_process.py"), *logs, broker, out)
        else:
            self._run(
                *("-m", "synergy.cli", "demo", "--input", *logs, "--site-segment", "2"),
                *("--clients", self.clients, "--store", store, "--broker", broker),
                *("--exit-when-done", "--report", out),
            )
        return out.read_bytes()

    def _tell(self, part: str) -> None:
        """What the demonstration would write down."""
        told = {"name": part, "clients": str(self.clients), "segment": 2, "lag": 0, "host": False}
        span = {"start": f"{STARTS[part]}T00:00+00:00", "until": "2024-05-21T00:00+00:00"}
        file = self.folder / ".synergy" / "demo.json"
        file.parent.mkdir()
        file.write_text(json.dumps({**told, **span}))

    def _run(self, *words: str | Path) -> None:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{self.folder}:{REPO}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr


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
            found[part] = Suite(Path(folder), logs, truth).report(part, "memory://", "none")
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
    ("store", "broker", "part"),
    [
        (memory, rabbitmq, "part"),
        (sqlite, none, "whole"),
        (sqlite, rabbitmq, "part"),
        (mongodb, none, "part"),
        (mongodb, rabbitmq, "whole"),
        (mongodb_set, none, "part"),
        (mongodb_set, rabbitmq, "whole"),
    ],
)
def test_on_every_store_and_broker_the_report_is_the_same(
    suite: Suite, expected: dict[str, bytes], store: Place, broker: Place, part: str
) -> None:
    with store() as keeps, broker() as brings:
        assert suite.report(part, keeps, brings) == expected[part]
