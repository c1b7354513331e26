"""The worker program as tests start it: `program.py` with its settings as one JSON object."""

import json
import logging
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from synergy.brokers import open_broker
from synergy.clock import SystemClock
from synergy.presence import WorkerRecord
from synergy.stores import open_bell, open_store
from synergy.worker.shell import Times, run_worker


def main() -> int:
    settings = json.loads(sys.argv[1])
    broker = open_broker(settings.get("broker", "none"))
    logging.basicConfig(level=logging.INFO, format="%(action)s %(message)s")
    lease = settings.get("lease", 15.0)
    return run_worker(
        open_store(settings["url"]),
        open_bell(settings["url"]),
        SystemClock(),
        worker_id=settings["worker_id"],
        slots=settings.get("slots", 1),
        project=Path(settings["project"]),
        log_dir=Path(settings["log_dir"]),
        processes=settings.get("processes"),
        grace=timedelta(seconds=settings.get("grace", 20)),
        log=logging.getLogger("worker"),
        times=Times(
            lease=timedelta(seconds=lease),
            renewal=timedelta(seconds=lease / 3),
            margin=timedelta(seconds=lease / 15),
        ),
        record=_record(settings) if settings.get("told") else None,
        consumer=None if broker is None else broker.consume(settings["processes"], 256),
    )


def _record(settings: dict[str, Any]) -> WorkerRecord:
    listed = settings.get("processes")
    return WorkerRecord(
        owner=settings["worker_id"],
        program="worker",
        box="box",
        slots=settings.get("slots", 1),
        processes=None if listed is None else frozenset(listed),
        busy=0,
        seen_at=SystemClock().now(),
    )


if __name__ == "__main__":
    sys.exit(main())
