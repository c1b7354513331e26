"""The illustration suite in one process, on a virtual clock; arguments: LOG… BROKER REPORT.

The working directory is the project, and its ``.synergy/demo.json`` says what it is to do.  The
store is memory; with a broker every unit is claimed because it was brought.
"""

import importlib
import select
import sys
from collections.abc import Iterable
from contextlib import ExitStack, closing
from datetime import datetime

import context
import settings
from synergy import Work
from synergy.app import names_of
from synergy.brokers import open_broker
from synergy.core.model import Unit
from synergy.core.states import UnitState
from synergy.ports import Consumer
from synergy.testing.stage import Stage, finds_nothing, processes
from workers import report, stream

#: Seconds that a broker may take to bring what was published.
PATIENCE = 30.0


def main(logs: list[str], url: str, to: str) -> None:
    """Work the whole timetable, and write the report."""
    stream.read_files(settings.TRAFFIC_DB, logs, settings.SITE_SEGMENT, complete=True)
    broker = open_broker(url)
    with ExitStack() as stack:
        publisher = None if broker is None else stack.enter_context(closing(broker)).publisher()
        # New Year's Day after: no interval is open any more, its year neither.
        until = datetime.fromisoformat(settings.SITE_UNTIL)
        stage = Stage(
            context.context,
            until.replace(year=until.year + 1, month=1, day=1),
            measure=lambda source, interval: stream.keys(interval),
            publisher=publisher,
        )
        if broker is None:
            stage.work(work)
        else:
            names = names_of(stage.catalog)
            broker.declare(names)
            consumer = stack.enter_context(closing(broker.consume(names, 256)))
            work_what_is_brought(stage, consumer)
        left = [unit.key for unit in stage.store.active_units()]
        assert not left, f"{len(left)} were never worked, such as {left[:3]}"
    report.write(to, report.report(settings.TRAFFIC_DB))


def work_what_is_brought(stage: Stage, consumer: Consumer) -> None:
    """Nothing is looked for in the store."""
    while stage.store.active_units():
        readable, _, _ = select.select([consumer], [], [], PATIENCE)
        assert readable, f"nothing came: {consumer.trouble or 'and it is well'}"
        deliveries = consumer.receive()
        claimed = stage.claim(keys=[delivery.unit.key for delivery in deliveries])
        consumer.acknowledge(deliveries)
        report_all(stage, claimed)


def report_all(stage: Stage, units: Iterable[Unit]) -> None:
    """Work them."""
    for unit in units:
        assert stage.report(unit, work), unit.key


def work(unit: Unit, now: datetime) -> Unit:
    """What the slot of a worker does: call what the process names."""
    assert unit.task.entry is not None
    module, _, name = unit.task.entry.partition(":")
    result = getattr(importlib.import_module(module), name)(Work.of(unit))
    return finds_nothing(unit, now) if result.state is UnitState.NOOP else processes(unit, now)


if __name__ == "__main__":
    *LOGS, BROKER, REPORT = sys.argv[1:]
    main(LOGS, BROKER, REPORT)
