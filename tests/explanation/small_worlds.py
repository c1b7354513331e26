"""Random small timetables and what may happen to them, for tests of what is told about them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any

from synergy.core import recovery
from synergy.core.backfills import built_on_itself
from synergy.core.context import (
    Context,
    daily,
    hourly,
    last,
    monthly,
    offset,
    previous,
    tree,
)
from synergy.core.model import Unit
from synergy.core.plans import Ranges
from synergy.presence import WorkerRecord, remove_worker, save_worker
from synergy.reading import Reading
from synergy.testing.stage import Stage, Worker, fails, finds_nothing, processes

BEGIN = datetime.fromisoformat("2026-11-20T00:00Z")
#: As whom the stage claims.
WORKER = "worker"


def a_context(random: Random) -> Context:
    """Two or three trees, each with one to three levels, some depending on others."""
    open_ended = {"machine": "continuous", "every": "every 1200"}
    hours = open_ended if random.random() < 0.4 else {}
    first = tree(
        "site",
        [
            monthly("site_monthly", run="w:f", **_options(random)),
            daily("site_daily", run="w:f", **_options(random)),
            hourly("site_hourly", run="w:f", **hours, **_options(random)),
        ],
        **_span(random),
    )
    after = random.choice(
        ["site_daily", last(3, "site_daily"), offset(-1, "site_daily"), "site_hourly"]
    )
    options = _options(random)
    second = tree(
        "client", [daily("client_daily", run="w:f", after=after, **options)], **_span(random)
    )
    trees = [first, second]
    if random.random() < 0.5:
        before = previous("ledger_daily")
        options = _options(random)
        level = daily("ledger_daily", run="w:f", after=before, **options)
        trees.append(tree("ledger", [level], **_span(random)))
    return Context(*trees, pools={"db": random.choice([1, 3])})


def _span(random: Random) -> dict[str, Any]:
    until = {"until": "2026-11-24"} if random.random() < 0.3 else {}
    return {"start": "2026-11-19", "lag": random.choice([0, 300]), **until}


def _options(random: Random) -> dict[str, Any]:
    return {
        "blocking": random.choice(["normal", "children", "dependencies"]),
        "on_failure": random.choice(["hold", "hold", "skip"]),
        "max_attempts": random.choice([1, 2, 3]),
        "backoff": random.choice([0, 60]),
        "parallel": random.choice([None, None, 1, 4]),
        "pool": random.choice([None, None, "db"]),
    }


def gives_up(unit: Unit, now: datetime) -> Unit:
    """The worker that says it is of no use."""
    return recovery.given_up(unit, now, "it will never do")


class SmallWorld:
    """A stage at which things happen by chance."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.stage = Stage(a_context(random), at=BEGIN)
        self.listens(random.random() < 0.7)

    def listens(self, listens: bool) -> None:
        """Whether a worker says that it takes whatever there is."""
        if listens:
            save_worker(self.stage.store, self.record)
        else:
            remove_worker(self.stage.store, WORKER)

    @property
    def record(self) -> WorkerRecord:
        """What the worker tells of itself."""
        return WorkerRecord(
            owner=WORKER,
            program="worker",
            box="box",
            slots=2,
            processes=None,
            busy=0,
            seen_at=self.stage.clock.now(),
        )

    def happen(self) -> None:
        """Something."""
        happening: Callable[[], object] = self.random.choice(
            [
                *(self.time, self.time, self.work, self.work, self.claim),
                *(self.skip, self.reprocess, self.mark, self.switch, self.backfill),
            ]
        )
        happening()

    def time(self) -> None:
        self.stage.advance(minutes=self.random.choice([1, 7, 60, 600]))

    def work(self) -> None:
        for unit in self.stage.claim(limit=self.random.choice([1, 5, 50])):
            self.stage.clock.advance(timedelta(seconds=self.random.choice([0, 3])))
            self.stage.report(unit, self._worker())

    def _worker(self) -> Worker:
        return self.random.choice([processes, processes, processes, finds_nothing, fails, gives_up])

    def claim(self) -> None:
        """Begin some work and leave it at that."""
        self.stage.claim(limit=self.random.choice([1, 3]))

    def skip(self) -> None:
        self._request("skip")

    def mark(self) -> None:
        self._request("mark")

    def switch(self) -> None:
        """Off, or on."""
        process = self.random.choice([*self.stage.catalog.processes])
        on = self.random.random() < 0.5
        policy = {"catch_up": self.random.choice(["all", "latest", "none"])} if on else {}
        self.stage.request("switch", process, reason="by chance", on=on, **policy)

    def reprocess(self) -> None:
        self._request("reprocess")

    def backfill(self) -> None:
        """A new one, or something is done to one that goes on."""
        going_on = Reading(self.stage.store, self.stage.catalog).backfills
        if going_on and self.random.random() < 0.7:
            found = going_on[self.random.choice([*going_on])]
            what = self.random.choice(["pause", "resume", "resume", "cancel"])
            self.stage.request("backfill", found.process, change=what, id=found.id)
            return
        process = self.random.choice([*self.stage.catalog.processes])
        calendar = self.stage.catalog.processes[process].calendar
        first = self.stage.catalog.spans[process][0]
        last = calendar.containing(self.stage.clock.now()).start
        intervals = [*calendar.between(first, last)][:40]
        if intervals and not built_on_itself(self.stage.catalog, process):
            bounds = Ranges.of((process, interval) for interval in intervals).bounds[process]
            options: dict[str, Any] = {"targets": [*bounds], "total": len(intervals), "force": True}
            self.stage.request("backfill", process, reason="by chance", **options)

    def _request(self, action: str) -> None:
        process = self.random.choice([*self.stage.catalog.processes])
        calendar = self.stage.catalog.processes[process].calendar
        interval = calendar.containing(BEGIN + timedelta(hours=self.random.randrange(-24, 48)))
        if self.stage.catalog.exists(process, interval):
            self.stage.request(action, process, interval.label, reason="by chance")
