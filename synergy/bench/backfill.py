"""What a backfill costs the live work beside it, and whether it stalls: real programs on one store.

Live processes fall due one after another, all through the minute.  A backfill of the hours of the
past goes on beside them in every other round, and is paused in those between; so both kinds of
rounds see the same machine.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from synergy.bench.frame import head, positive, spread
from synergy.bench.place import servers_of, shown
from synergy.bench.yard import BEGIN, Yard, yard
from synergy.clock import SystemClock
from synergy.core.backfills import backfills_of
from synergy.core.model import Json, Request, Unit

#: Of each round so many seconds are left out at its beginning: what was at work may end.
SETTLING = 1.0

_CONTEXT = """\
from synergy import Context, daily, hourly, minutely, monthly, program, tree, yearly

past = tree(
    "past",
    [
        hourly("hour", run="nothing:nothing", catch_up="none"),
        daily("day", run="nothing:nothing", catch_up="none"),
        monthly("month", run="nothing:nothing", catch_up="none"),
        yearly("year", run="nothing:nothing", catch_up="none"),
    ],
    start="{begin}",
    until="{until}",
    lag=0,
)
live = [
    tree(
        f"live-{{number}}",
        [minutely(f"live-{{number}}", run="nothing:nothing", lag=number * 60 / {live})],
        start="{now}",
    )
    for number in range({live})
]
context = Context(past, *live, program("worker-1", slots={slots}))
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument(
        "--n", type=positive, default=50_000, metavar="N", help="intervals of the backfill; 50000"
    )
    parser.add_argument("--slots", type=positive, default=4, metavar="N", help="of the worker; 4")
    parser.add_argument(
        "--live", type=positive, default=300, metavar="N", help="fresh intervals a minute; 300"
    )
    parser.add_argument(
        "--rounds", type=positive, default=4, metavar="N", help="without and with it, each; 4"
    )
    parser.add_argument(
        "--seconds", type=positive, default=20, metavar="N", help="that a round lasts; 20"
    )
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it works")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from when fresh intervals were due to when a worker had claimed them, without
    and with the backfill; and the longest time in which nothing of the backfill ended."""
    if args.small:
        args.n, args.live, args.rounds, args.seconds = 500, 60, 1, 4
    until = BEGIN + timedelta(hours=args.n)
    with yard(*servers_of(args), until, slots=args.slots) as made:
        context = _CONTEXT.format(
            begin=BEGIN.isoformat(),
            until=until.isoformat(),
            now=(datetime.now(UTC) - timedelta(minutes=2)).isoformat(),
            live=args.live,
            slots=args.slots,
        )
        (made.place.folder / "context.py").write_text(context)
        with made.programs():
            made.wait_for("hour", args.n)
            backfill = _Backfill(made, args.n, until)
            rounds = [*_rounds(backfill, args.rounds, args.seconds)]
            backfill.change("cancel")
        found = _told(made, args, rounds, until)
        found["backfill"] |= {"intervals": args.n, "begun_in": round(backfill.begun_in, 3)}
    return {**head("backfill"), **shown(args), **found}


@dataclass(frozen=True, slots=True)
class _Round:
    """A stretch of time, and whether the backfill went on in it."""

    filling: bool
    begin: datetime
    end: datetime

    def has(self, instant: datetime | None) -> bool:
        return instant is not None and self.begin <= instant < self.end


class _Backfill:
    """The backfill, as an operator has it in hand."""

    def __init__(self, made: Yard, number: int, until: datetime) -> None:
        self.made = made
        self._requests = 0
        bounds: list[Json] = [int(BEGIN.timestamp()), int(until.timestamp())]
        begun = time.monotonic()
        self.id = self._file({"targets": bounds, "total": number})
        self.made.wait_until(lambda: self._state() == "running", "the backfill has not begun", 0.05)
        #: Seconds until all that is built on it was held.
        self.begun_in = time.monotonic() - begun

    def change(self, how: str) -> None:
        """Pause it, let it go on, or end it; it may be over by itself."""
        self._file({"change": how, "id": self.id})

    def _file(self, options: Mapping[str, Json]) -> str:
        self._requests += 1
        request = Request(
            id=f"bench-{self._requests}",
            action="backfill",
            process="hour",
            starts=(),
            filed_at=SystemClock().now(),
            options=options,
        )
        self.made.file(request)
        unanswered = f"{request.id} has no answer"
        self.made.wait_until(lambda: self._is_answered(request.id), unanswered, 0.01)
        return request.id

    def _is_answered(self, request: str) -> bool:
        found = self.made.store.read_request(request)
        return found is not None and found.state != "filed"

    def _state(self) -> str:
        return backfills_of(self.made.store.read_documents("backfills"))[self.id].state


def _rounds(backfill: _Backfill, number: int, seconds: float) -> Iterator[_Round]:
    for _ in range(number):
        for filling in (False, True):
            backfill.change("resume" if filling else "pause")
            time.sleep(SETTLING)
            begin = datetime.now(UTC)
            time.sleep(seconds)
            yield _Round(filling, begin, datetime.now(UTC))


def _told(
    made: Yard, args: argparse.Namespace, rounds: list[_Round], until: datetime
) -> dict[str, Any]:
    """What the units say of it."""
    waits: dict[bool, list[float]] = {False: [], True: []}
    for number in range(args.live):
        for unit in _units(made, f"live-{number}", datetime.now(UTC)):
            due = unit.interval.end + timedelta(seconds=number * 60 / args.live)
            for each in rounds:
                if each.has(due) and unit.started_at is not None:
                    waits[each.filling].append((unit.started_at - due).total_seconds())
    ended = [unit.finished_at for unit in _units(made, "hour", until) if unit.finished_at]
    filled = [sorted(filter(each.has, ended)) for each in rounds if each.filling]
    gaps = [(after - before).total_seconds() for some in filled for before, after in pairwise(some)]
    without, beside = spread(waits[False]), spread(waits[True])
    return {
        "rounds": args.rounds,
        "seconds": args.seconds,
        "slots": args.slots,
        "fresh": {"without": len(waits[False]), "with": len(waits[True])},
        "due_to_claimed_ms": {"without": without, "with": beside},
        "rise": {name: round(beside[name] / without[name] - 1, 3) for name in without},
        "backfill": {
            "ended": sum(map(len, filled)),
            "per_second": round(sum(map(len, filled)) / (args.rounds * args.seconds), 1),
            "longest_gap_ms": round(max(gaps, default=0.0) * 1000, 1),
        },
    }


def _units(made: Yard, process: str, end: datetime) -> Iterator[Unit]:
    """The deciding units of a process."""
    jobs = made.store.jobs_between(process, BEGIN, end)
    keys = [job.unit for job in jobs if job.unit is not None]
    for first in range(0, len(keys), 1000):
        yield from made.store.read_units(keys[first : first + 1000], history=False).values()
