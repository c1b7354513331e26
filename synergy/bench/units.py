"""What a unit of work costs, end to end: a scheduler and workers on a store, perhaps with a broker.

They are real programs, and every transition is durable: ``synchronous=FULL`` on SQLite, journaled
and by a majority on MongoDB.  The units call a Python function that does nothing.
"""

import argparse
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from synergy.bench.core import MIXED, History
from synergy.bench.frame import Figure, head, measured, median, options, positive, spread
from synergy.bench.place import fresh, servers_of, shown
from synergy.bench.yard import BEGIN, catch_up, yard
from synergy.clock import SystemClock
from synergy.core.model import Request

#: Units of a measurement that is only to show that it works.
_SMALL = 50


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--n", type=positive, default=20_000, metavar="N", help="about so many units; 20000"
    )
    parser.add_argument("--slots", type=positive, default=1, metavar="N", help="of the worker; 1")
    parser.add_argument(
        "--profile", action="store_true", help="tell where both programs spend their time"
    )
    options(parser, FIGURES)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures, or the one that is asked for."""
    return {**head("units"), **shown(args), "figures": measured(args, FIGURES)}


def batched(args: argparse.Namespace) -> dict[str, Any]:
    """A past of hours, days, months and years is caught up, as quick units are by default: claimed
    ahead, reported together.

    From the first unit made by the scheduler to the last result applied to its job.
    """
    return catch_up(
        *servers_of(args),
        _SMALL if args.small else args.n,
        slots=args.slots,
        profile=args.profile,
    )


def serial(args: argparse.Namespace) -> dict[str, Any]:
    """The same by one worker with one slot, without claiming ahead: each unit is durably claimed
    just before it starts."""
    return _serial(args, workers=1)


def serial_four(args: argparse.Namespace) -> dict[str, Any]:
    """The same by four such workers."""
    return _serial(args, workers=4)


def parent(args: argparse.Namespace) -> dict[str, Any]:
    """On an otherwise idle system one hour is run again and again: milliseconds from its end to
    the claim of its day (claimed: from when the worker knew that the hour was done to when it asked
    for the day, by the stored transitions), and from the end of the hour's function to the
    beginning of the day's (started: by the functions' own clock)."""
    runs, days = (3, 1) if args.small else (200, 10)
    until = BEGIN + timedelta(days=days)
    claimed, started = [], []
    with yard(*servers_of(args), until, levels=2, function="stamped", slots=args.slots) as made:  # noqa: SIM117
        with made.programs():
            made.wait_for("day", days)
            for number in range(runs):
                day = BEGIN + timedelta(days=number % days)
                made.times.write_text("")
                asked = Request(
                    id=f"bench-{number}",
                    action="reprocess",
                    process="hour",
                    starts=(day + timedelta(hours=number % 24),),
                    filed_at=SystemClock().now(),
                )
                made.file(asked)
                generation = 2 + number // days
                above = made.unit_when_over(f"day@{day:%Y-%m-%d}#{generation}")
                below = made.unit_of(f"hour@{day:%Y-%m-%d}T{number % 24:02}")
                assert above.started_at is not None
                assert below.finished_at is not None
                claimed.append((above.started_at - below.finished_at).total_seconds())
                first, last = made.stamps()
                started.append(last - first)
                time.sleep(0.02)  # it is idle again
    return {"runs": runs, "claimed_ms": spread(claimed), "started_ms": spread(started)}


def start(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds from opening the store until the engine has decided what to do first; what stands in
    the store is that of the figure of this name of ``bench core``, the mixed one."""
    with fresh(*servers_of(args)) as place:
        history = History(place.store, 2_000 if args.small else 1_000_000, MIXED)
        return {
            "finished": history.finished,
            "unfinished": history.unfinished,
            "seconds": round(median(history.start() for _ in range(3)), 3),
        }


FIGURES: Mapping[str, Figure] = {
    "batched": batched,
    "serial": serial,
    "serial_four": serial_four,
    "parent": parent,
    "start": start,
}


def _serial(args: argparse.Namespace, workers: int) -> dict[str, Any]:
    # One by one they are slower by an order of magnitude.
    units = _SMALL if args.small else max(1, args.n // 5)
    return catch_up(*servers_of(args), units, workers=workers, ahead=False, profile=args.profile)
