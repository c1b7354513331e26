"""Many seeds through the world; a failing one is shrunk and told.

::

    python -m synergy.testing.trials --seeds 20000          # seeds 0 to 19999
    python -m synergy.testing.trials --seed 133             # one again: shrunk, with its story

Exit code 0: no violation; 1: there was one, and the command that replays it was printed.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from synergy.garbage import seldom_collected
from synergy.testing.cases import Case, case_of
from synergy.testing.invariants import Violation
from synergy.testing.world import World

#: Seeds that a process lives through before it takes others.
_AT_ONCE = 25

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke the promise, with no more faults and requests than that needs."""

    case: Case
    #: The faults that are needed, by id.
    faults: frozenset[str]
    violation: Violation

    def story(self) -> list[str]:
        """What happened, line by line."""
        world = World(self.case, self.faults, recording=True)
        found = world.run()
        return [*_surroundings(self.case), *world.story, f"{found}"]


class Trial(NamedTuple):
    """What is counted of one seed."""

    seed: int
    faults: int
    transitions: int
    #: Seconds that it lived through.
    virtual: float
    #: What was broken, in words; empty where nothing was.
    violation: str


def trial(seed: int) -> tuple[World, Violation | None]:
    """Live through one seed."""
    world = World(case_of(seed))
    return world, world.run()


def failure_of(seed: int) -> Failure | None:
    """Live through one seed; where it fails, find out what of it is needed for that.

    The same invariant must break, not the same write: what remains is often another, simpler way.
    """
    world, violation = trial(seed)
    if violation is None:
        return None
    case = world.case

    def breaks(case: Case, faults: frozenset[str]) -> bool:
        found = World(case, faults).run()
        return found is not None and found.invariant == violation.invariant

    faults = [fault.id for fault in world.faults]
    if not breaks(case, frozenset(faults)):
        return Failure(case, frozenset(faults), violation)
    requests = list(case.requests)
    requests = _fewest(
        requests, lambda some: breaks(replace(case, requests=tuple(some)), frozenset(faults))
    )
    case = replace(case, requests=tuple(requests))
    faults = _fewest(faults, lambda some: breaks(case, frozenset(some)))
    for simpler in _simpler(case):
        if breaks(simpler, frozenset(faults)):
            case = simpler
            break
    found = World(case, frozenset(faults)).run()
    assert found is not None
    return Failure(case, frozenset(faults), found)


def _fewest(items: list[Item], breaks: Callable[[Sequence[Item]], bool]) -> list[Item]:
    """Leave out halves, quarters, … single ones, as long as it breaks without them."""
    size = max(len(items) // 2, 1)
    while items:
        place = 0
        while place < len(items):
            fewer = items[:place] + items[place + size :]
            if breaks(fewer):
                items = fewer
            else:
                place += size
        if size == 1:
            return items
        size = max(size // 2, 1)
    return items


def _simpler(case: Case) -> list[Case]:
    """The same with less around it, the simplest first."""
    calm = replace(case, lost_rings=0.0, switches=0.0)
    return [replace(calm, workers=1), calm, replace(case, lost_rings=0.0)]


def _surroundings(case: Case) -> list[str]:
    lines = [
        f"seed {case.seed}: {case.schedulers} schedulers"
        + (", each believing to lead" if case.leaseless else "")
        + f", {case.workers} workers of {case.slots} slots, from {case.begin:%Y-%m-%d %H:%M} UTC",
    ]
    for process in case.catalog.processes.values():
        after = ", ".join(
            f"{each.process}[{each.offset}]" + (f"×{each.window}" if each.window else "")
            for each in process.after
        )
        lines.append(
            f"  {process.name}: {process.calendar}, {process.machine}, blocking {process.blocking},"
            f" on failure {process.on_failure}" + (f", after {after}" if after else "")
        )
    return lines


def main(arguments: Sequence[str]) -> int:
    """Run seeds; print what they show."""
    parser = argparse.ArgumentParser(prog="python -m synergy.testing.trials", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--seed", type=int, help="this one only, with its story")
    parser.add_argument(
        "--processes",
        type=int,
        default=os.cpu_count() or 1,
        help="how many seeds at once (default: one for each processor)",
    )
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        return _one(given.seed)
    return _many(range(given.first, given.first + given.seeds), given.processes, given.json)


def _one(seed: int) -> int:
    failure = failure_of(seed)
    if failure is None:
        world = World(case_of(seed), recording=True)
        world.run()
        print("\n".join([*_surroundings(world.case), *world.story]))
        print(f"seed {seed}: kept, through {len(world.faults)} faults")
        return 0
    print("\n".join(failure.story()))
    return 1


def _counted(seed: int) -> Trial:
    world, violation = trial(seed)
    virtual = (world.now - world.case.begin).total_seconds()
    told = "" if violation is None else str(violation)
    return Trial(seed, len(world.faults), world.transitions, virtual, told)


def _trials(seeds: range, processes: int) -> Iterator[Trial]:
    """Live through all of them, several at once; in their order."""
    with seldom_collected():
        if processes <= 1 or len(seeds) <= _AT_ONCE:
            yield from map(_counted, seeds)
            return
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            yield from pool.imap(_counted, seeds, _AT_ONCE)


def _many(seeds: range, processes: int, as_json: bool) -> int:
    begun = time.perf_counter()
    faults = transitions = 0
    virtual = 0.0
    broken: list[int] = []
    for lived in _trials(seeds, processes):
        faults += lived.faults
        transitions += lived.transitions
        virtual += lived.virtual
        if lived.violation:
            broken.append(lived.seed)
            print(f"seed {lived.seed}: {lived.violation}", file=sys.stderr)
            replay = f"python -m synergy.testing.trials --seed {lived.seed}"
            print(f"  the story: {replay}", file=sys.stderr)
    took = time.perf_counter() - begun
    summary = {
        "seeds": len(seeds),
        "violations": len(broken),
        "faults": faults,
        "transitions": transitions,
        "seconds": round(took, 1),
        "seeds_per_second": round(len(seeds) / took, 1),
        "virtual_per_real": round(virtual / took),
        "broken": broken,
    }
    if as_json:
        print(json.dumps(summary))
    else:
        print(
            f"{len(seeds)} seeds, {len(broken)} violations, through {faults} faults and "
            f"{transitions} transitions; {len(seeds) / took:.0f} seeds/s, "
            f"{virtual / took:,.0f} times as fast as the time they lived through"
        )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
