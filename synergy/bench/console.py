"""What looking costs: each page of the console with a long history behind it, and watchers.

The console is a process of its own, asked by HTTP on loopback as browsers do.  A watcher follows
the changes every two seconds, and loads its page again when there were some.
"""

import argparse
import gzip
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from synergy import __version__
from synergy.bench.core import BEGIN, FULL, SMALL, UNIFORM, History
from synergy.bench.frame import Figure, head, measured, median, options, positive
from synergy.clock import SystemClock
from synergy.core.model import Job, JobWrite
from synergy.mx.addresses import Address
from synergy.mx.console import Console, Setting
from synergy.mx.server import Server
from synergy.mx.table import ROUTES
from synergy.programs import Identity, identity_of, processor_seconds
from synergy.stores import open_store

#: Watchers at once, seconds between two looks of one, and how long they are watched.
WATCHERS, EVERY, WATCHED = 20, 2.0, 20.0
#: Seconds between changes while there are some.
CHANGING = 1.0
HOST = "127.0.0.1:8080"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--runs", type=positive, default=9, metavar="N", help="medians of N; 9")
    options(parser, FIGURES)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    return {**head("console"), "runs": args.runs, "figures": measured(args, FIGURES)}


def pages(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds and bytes of each page, with two million finished intervals in a SQLite store:
    the first time anybody asks, and after that; compressed as a proxy would."""
    with _history(args) as (history, folder), _served(history, folder) as served:
        with closing(_Visitor(served)) as visitor:
            ready, _ = _timed(partial(visitor.page, "/"))
            found = {
                path: _page(partial(visitor.page, path), args.runs) for path in _paths(history)
            }
        return {
            "finished": history.finished,
            "first_page_seconds": round(ready, 3),
            "slowest_milliseconds": max(page["milliseconds"] for page in found.values()),
            "largest_compressed_bytes": max(page["compressed_bytes"] for page in found.values()),
            "pages": found,
        }


def watchers(args: argparse.Namespace) -> dict[str, Any]:
    """Share of a core that the console takes for twenty watchers of the timetable: while nothing
    happens, and while something does every second, so that each look brings the page again."""
    watched = 3.0 if args.small else WATCHED
    with _history(args) as (history, folder), _served(history, folder) as served:
        quiet = _share(served, watched)
        with _changing(history):
            busy = _share(served, watched)
    return {"watchers": WATCHERS, "seconds": watched, "quiet": quiet, "busy": busy}


FIGURES: dict[str, Figure] = {"pages": pages, "watchers": watchers}


class _Since(SystemClock):
    """The machine's clock, as if it had been put to an instant when it was made."""

    def __init__(self, instant: datetime) -> None:
        self._ahead = instant - datetime.now(UTC)

    def now(self) -> datetime:
        """Goes on from that instant."""
        return super().now() + self._ahead


@contextmanager
def _history(args: argparse.Namespace) -> Iterator[tuple[History, Path]]:
    with tempfile.TemporaryDirectory(prefix="synergy-bench-") as folder:
        stored = (SMALL if args.small else FULL).stored * 2
        yield History(f"sqlite:///{folder}/store.db", stored, UNIFORM), Path(folder)


def _console(history: History, folder: Path, address: str = HOST) -> Console:
    host, _, port = address.partition(":")
    return Console(
        Setting(
            name="bench",
            version=__version__,
            box="here",
            address=Address(host, int(port)),
            hosts=("localhost",),
            folder=folder / "console",
            log_dir=folder / "logs",
            open_store=lambda: open_store(history.url, create=False),
            read_catalog=lambda store: (1, history.catalog),
            clock=_Since(history.now),
            ring=lambda: None,
        ),
        ROUTES,
    )


def _paths(history: History) -> list[str]:
    """Pages of each kind, of what is finished and of what is not."""
    processes = history.catalog.processes
    year = processes["t3_yearly"].calendar.containing(BEGIN).label
    first = processes["t3_hourly"].calendar.containing(BEGIN).label
    last = processes["t3_hourly"].calendar.containing(history.now - timedelta(hours=1)).label
    return [
        "/",
        *(f"/timetable?level={level}" for level in ("hour", "day", "week", "month", "year")),
        "/processes",
        "/processes/t3_hourly",
        f"/t/t3_yearly/{year}",
        f"/t/t3_hourly/{last}",
        f"/t/t3_hourly/{first}/reprocess",
        "/freeruns",
        "/requests",
        "/boxes",
        "/audit",
        "/search?q=hourly",
        "/metrics",
        "/api/v1/status",
        "/api/v1/intervals?process=t3_hourly&limit=1000",
        f"/api/v1/intervals/t3_yearly/{year}",
        f"/api/v1/intervals/t3_yearly/{year}/why",
        "/api/v1/jobs?limit=1000",
    ]


def _page(ask: Callable[[], bytes], runs: int) -> dict[str, Any]:
    first, body = _timed(ask)
    later = [_timed(ask)[0] for _ in range(runs)]
    return {
        "first_milliseconds": round(first * 1e3, 1),
        "milliseconds": round(median(later) * 1e3, 1),
        "bytes": len(body),
        "compressed_bytes": len(gzip.compress(body, 6)),
    }


def _timed(ask: Callable[[], bytes]) -> tuple[float, bytes]:
    began = time.perf_counter()
    body = ask()
    return time.perf_counter() - began, body


# watchers


@dataclass(frozen=True, slots=True)
class _Served:
    """A console in a process of its own, and the cookie of somebody who may look at all of it."""

    identity: Identity
    url: str
    cookie: str


@contextmanager
def _served(history: History, folder: Path) -> Iterator[_Served]:
    with closing(_console(history, folder)) as console:
        cookie = f"{console.gate.cookie}={console.sessions.begin(None)}"
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(history, folder, theirs), daemon=True
    )
    process.start()
    try:
        url = ours.recv()
        identity = identity_of(process.pid or 0)
        assert identity is not None
        yield _Served(identity, url, cookie)
    finally:
        process.terminate()
        process.join(10)


def _serve(history: History, folder: Path, tell: Connection) -> None:
    console = _console(history, folder, "127.0.0.1:0")
    server = Server(console)
    tell.send(server.url)
    server.run()


@contextmanager
def _changing(history: History) -> Iterator[None]:
    """One hour after the other is reopened, as somebody does who reprocesses."""
    enough = threading.Event()

    def change() -> None:
        with closing(open_store(history.url)) as store:
            process = history.catalog.processes["t3_hourly"]
            for number, interval in enumerate(process.calendar.between(BEGIN, history.now)):
                job = Job(process=process.name, interval=interval)
                store.save_jobs([JobWrite(history.dispatched(job), 0)])
                store.fold(100)
                if enough.wait(CHANGING) or number > WATCHED:
                    break

    thread = threading.Thread(target=change)
    thread.start()
    yield
    enough.set()
    thread.join()


def _share(served: _Served, seconds: float) -> Mapping[str, Any]:
    """What so many watchers ask for in so many seconds, and the share of a core that it takes."""
    looks: list[bool] = []
    threads = [
        threading.Thread(target=_watch, args=(served, EVERY * one / WATCHERS, seconds, looks))
        for one in range(WATCHERS)
    ]
    before, began = processor_seconds(served.identity), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after, passed = processor_seconds(served.identity), time.monotonic() - began
    assert before is not None
    assert after is not None
    return {
        "looks": len(looks),
        "pages": sum(looks),
        "share_of_a_core": round((after - before) / passed, 4),
    }


def _watch(served: _Served, later: float, seconds: float, looks: list[bool]) -> None:
    """One who looks; notes whether each look brought the page again."""
    end = time.monotonic() + seconds
    time.sleep(later)
    with closing(_Visitor(served)) as visitor:
        seq = json.loads(visitor.page("/api/v1/status"))["seq"]
        while time.monotonic() < end:
            changes = f"/api/v1/changes?after={seq}&limit=1000"
            status, body = visitor.ask(changes, **{"If-None-Match": f'"{seq}"'})
            if status == 200:
                seq = json.loads(body)["seq"]
                visitor.page("/timetable?level=hour")
            looks.append(status == 200)
            time.sleep(EVERY)


class _Visitor:
    """A browser's connection; close it."""

    def __init__(self, served: _Served) -> None:
        place = urlsplit(served.url)
        self._connection = HTTPConnection(place.hostname or "", place.port or 0, timeout=60)
        self._cookie = served.cookie

    def ask(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body."""
        self._connection.request("GET", path, headers={"Cookie": self._cookie, **headers})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def page(self, path: str) -> bytes:
        """The body of what must be there."""
        status, body = self.ask(path)
        assert status == 200, (path, status, body[:200])
        return body

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
