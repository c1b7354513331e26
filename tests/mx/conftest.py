"""A console over a real SQLite store with a small timetable in it, and browsers of each role."""

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from synergy import Context, daily, freerun, hourly, monthly, tree
from synergy.app import save_context, versioned_catalog
from synergy.core.context import to_document, with_starts
from synergy.mx import passwords
from synergy.mx.addresses import Address, Transport
from synergy.mx.console import Console, Setting
from synergy.mx.roles import Role
from synergy.mx.table import ROUTES
from synergy.stores import open_store
from synergy.testing.stage import Stage, fails, processes

START = datetime(2026, 11, 18, tzinfo=UTC)
NOW = "2026-11-20T15:30Z"
HOST = "127.0.0.1:8080"
ORIGIN = f"http://{HOST}"
LOOPBACK, IN_THE_CLEAR = Address("127.0.0.1", 8080), Transport()
PASSWORD = "seven purple tractors"
HASHED = passwords.hashed(PASSWORD)
#: An hour that failed.
FAILED = "2026-11-20T07"
#: When somebody had the freerun fired.
FIRED = "2026-11-20T15:30:00Z"

CONTEXT = Context(
    tree(
        "site",
        [
            monthly("site_monthly", run="w:f", blocking="children"),
            daily("site_daily", run="w:f", blocking="children"),
            hourly("site_hourly", run="w:f", max_attempts=1),
        ],
        zone="UTC",
        start="2026-11-18",
        lag=0,
    ),
    tree("client", [daily("client_daily", run="w:f", after="site_daily")], start="2026-11-18"),
    freerun("sweep", run="w:f", at="every 3600"),
)


@dataclass
class House:
    """A console, the stage behind it, and who comes to it."""

    stage: Stage
    console: Console
    folder: Path
    database: Path
    rings: list[str] = field(default_factory=list)

    def browser(self, role: Role) -> "Browser":
        """Somebody of that role, logged in."""
        if role is Role.NOBODY:
            return Browser(self, "")
        accounts = self.console.accounts
        if role.word not in accounts.users():
            with accounts._accounts.changing() as content:  # hashing takes its time, on purpose
                content.setdefault("users", {})[role.word] = {
                    "role": role.word,
                    "password": HASHED,
                    "stamp": role.word,
                    "disabled": False,
                    "made_at": 0,
                }
        return Browser(self, self.console.sessions.begin(accounts.users()[role.word]))

    @property
    def now(self) -> datetime:
        return self.stage.clock.now()

    def pass_by(self, **by: float) -> None:
        """Let time pass for the console, and nothing else."""
        self.stage.clock.set(self.now + timedelta(**by))

    def digest(self) -> str:
        """Of all that stands in the store."""
        with sqlite3.connect(self.database) as connection:
            dump = "\n".join(connection.iterdump())
        return hashlib.sha256(dump.encode()).hexdigest()


@dataclass
class Browser:
    """Asks the console as a browser does."""

    house: House
    cookie: str

    def __post_init__(self) -> None:
        self.client = Client(self.house.console, use_cookies=False)

    def open(self, path: str, method: str = "GET", **more: Any) -> TestResponse:
        headers = {"Host": HOST, **more.pop("headers", {})}
        if self.cookie:
            headers["Cookie"] = f"{self.house.console.gate.cookie}={self.cookie}"
        return self.client.open(path, method=method, headers=headers, **more)

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.open(path, **more)

    def post(self, path: str, data: Any = None, **more: Any) -> TestResponse:
        """As a form of ours is sent."""
        headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", **more.pop("headers", {})}
        form = {"form_token": self.form_token(), **(data or {})}
        return self.open(path, "POST", data=form, headers=headers, **more)

    def form_token(self) -> str:
        """What the forms of its pages carry."""
        page = self.get("/requests").get_data(as_text=True) if self.cookie else ""
        found = re.search(r'name="form_token" value="(\w+)"', page)
        return found[1] if found else ""


Build = Callable[..., House]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Makes a house; `work` says how its timetable was worked."""
    made: list[House] = []

    def make(
        context: Context = CONTEXT,
        *,
        at: str = NOW,
        address: Address = LOOPBACK,
        transport: Transport = IN_THE_CLEAR,
        hosts: tuple[str, ...] = (),
    ) -> House:
        database = tmp_path / "s.db"
        store = open_store(f"sqlite:///{database}")
        now = datetime.fromisoformat(at)
        save_context(store, with_starts(to_document(context), None, now), 0)
        stage = Stage(context, at, store=store)
        rings: list[str] = []
        console = Console(
            Setting(
                name="project",
                version="0.0",
                box="box-1",
                address=address,
                transport=transport,
                hosts=hosts,
                folder=tmp_path / "console",
                log_dir=tmp_path / "logs",
                open_store=lambda: open_store(f"sqlite:///{database}", create=False),
                read_catalog=versioned_catalog,
                clock=stage.clock,
                ring=lambda: rings.append("scheduler"),
            ),
            ROUTES,
        )
        made.append(House(stage, console, tmp_path, database, rings))
        return made[-1]

    yield make
    for house in made:
        house.console.close()
        house.stage.store.close()


@pytest.fixture
def house(build: Build) -> House:
    """The usual one: three days of hours, one of which has failed; a freerun that fired once."""
    house = build()
    house.stage.request("trigger", "sweep")
    house.stage.work(
        lambda unit, now: (fails if unit.interval.label == FAILED else processes)(unit, now)
    )
    return house
