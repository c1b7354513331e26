"""Random installations under random faults keep the promise; what finds that out works itself."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from synergy.core.late import ACTOR
from synergy.testing.cases import (
    KINDS_OF_SEEDS,
    WITH_BACKFILLS,
    WITH_BATCHES,
    WITH_LATE,
    WITH_PLANNED_BACKFILLS,
    WITH_PLANS,
    case_of,
)
from synergy.testing.trials import failure_of, main, trial
from synergy.testing.world import World
from tests.world.mutants import MUTANTS

REPO = Path(__file__).resolve().parents[2]
#: Seeds that are lived through; `SYNERGY_SEEDS=20000` for a thorough look.
SEEDS = int(os.environ.get("SYNERGY_SEEDS", "1000"))
BLOCKS = 20


#: The seeds in parts of a second or so; a quarter as many with pools, late data, and plans.
PARTS = [
    range(first + part * SEEDS // BLOCKS, first + (part + 1) * SEEDS // BLOCKS)
    for first, parts in ((0, BLOCKS), *((each, BLOCKS // 4) for each in KINDS_OF_SEEDS))
    for part in range(parts)
]


@pytest.mark.parametrize("seeds", PARTS, ids=lambda seeds: f"{seeds.start}-{seeds.stop}")
def test_the_promise_is_kept(seeds: range) -> None:
    broken = {seed: str(violation) for seed in seeds if (violation := trial(seed)[1]) is not None}
    assert not broken, f"the story: python -m synergy.testing.trials --seed {next(iter(broken))}"


def test_plans_are_applied_refused_and_taken_back() -> None:
    """Else the blocks above would show little."""
    told: Counter[str] = Counter()
    for seed in range(WITH_PLANS, WITH_PLANS + 150):
        for request in trial(seed)[0].store.last_requests(1000):
            told[f"{request.action} {request.state}"] += 1
            told[f"{request.action} with effect"] += bool(request.answer.get("touched"))
            told["outdated"] += "outdated" in str(request.answer.get("why", ""))
    for what, least in {
        "apply with effect": 30,
        "withdraw with effect": 10,
        "unskip with effect": 3,
        "apply refused": 30,
        "withdraw refused": 20,
        "outdated": 2,
    }.items():
        assert told[what] >= least, told


def test_backfills_that_are_planned_are_applied_refused_and_taken_back() -> None:
    """Else the blocks above would show little."""
    told: Counter[str] = Counter()
    for seed in range(WITH_PLANNED_BACKFILLS, WITH_PLANNED_BACKFILLS + 50):
        requests = {each.id: each for each in trial(seed)[0].store.last_requests(1000)}
        for request in requests.values():
            if request.of and requests[request.of].action == "backfill":
                told[f"{request.action} {request.state}"] += 1
                told[f"{request.action} with effect"] += "backfill" in request.answer
    assert told["apply with effect"] == told["apply done"], told
    assert told["withdraw done"] > told["withdraw with effect"], "some were not applied"
    for what in ("apply done", "apply refused", "withdraw with effect", "withdraw refused"):
        assert told[what] >= 5, told


def test_late_data_is_noticed_and_what_is_marked_is_reopened() -> None:
    """Else the blocks above would show little."""
    told: Counter[str] = Counter()
    for seed in range(WITH_LATE, WITH_LATE + 150):
        store = trial(seed)[0].store
        told.update(each.action for each in store.last_requests(1000) if each.actor == ACTOR)
        marked: set[str] = set()
        for entry in store.feed(0, 1 << 30):
            if entry.transition.outdated:
                marked.add(entry.key)
                told["ended on a mark"] += entry.transition.before != entry.transition.after
            elif entry.key in marked:
                told["lost its mark"] += 1
                marked.discard(entry.key)
    for what in ("reprocess", "mark", "ended on a mark", "lost its mark"):
        assert told[what] >= 5, told


def test_everything_that_can_happen_happens() -> None:
    """Else the blocks above would show little."""
    faults: Counter[str] = Counter()
    moves: Counter[tuple[str, str]] = Counter()
    reopened = kept = 0
    for seed in range(120):
        world, _ = trial(seed)
        faults.update(fault.kind for fault in world.faults)
        for entry in world.store.feed(0, 1 << 30):
            made = entry.transition
            moves[made.before, made.after] += 1
            reopened += entry.kind == "job" and made.generation > 1
            kept += made.reason.startswith("kept")
    assert min(faults[kind] for kind in ("kill", "pause", "error", "clock")) > 50, faults
    assert min(faults[kind] for kind in ("lost", "doubled", "late")) > 30, faults
    for kind in ("away", "purged", "reversed", "disconnected"):
        assert faults[kind] > 20, faults
    for move in [
        ("requested", "claimed"),
        ("claimed", "in_progress"),
        ("claimed", "requested"),
        ("in_progress", "requested"),
        ("in_progress", "invalid"),
        ("requested", "canceled"),
        ("in_progress", "canceled"),
        ("final_run", "processed"),
        ("in_progress", "failed"),
        ("embryo", "skipped"),
    ]:
        assert moves[move] > 0, move
    assert reopened > 100
    assert kept > 5


def test_there_are_calls_for_several_intervals_and_some_are_killed() -> None:
    """Else the blocks above would show little."""
    sizes: Counter[int] = Counter()
    killed = 0
    for seed in range(WITH_BATCHES, WITH_BATCHES + 60):
        story = World(case_of(seed), recording=True)
        assert story.run() is None
        calls = [line for line in story.story if " calls for " in line]
        sizes.update(int(line.rpartition(" calls for ")[2].split()[0]) for line in calls)
        killed += sum("kills a call" in line for line in story.story)
    assert sizes[2] > 20, sizes
    assert sum(count for size, count in sizes.items() if size > 2) > 10, sizes
    assert killed > 0


def test_a_connection_that_was_closed_while_it_was_gone_does_not_come_back() -> None:
    """Its worker, which had stopped taking offers, was woken for ever by it."""
    assert trial(4654)[1] is None


def stories(seed: int, hash_seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "synergy.testing.trials", "--seed", f"{seed}"],
        cwd=REPO,
        env={**os.environ, "PYTHONHASHSEED": f"{hash_seed}", "PYTHONPATH": f"{REPO}"},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize("seed", [3, 12, 40, WITH_BACKFILLS + 69])
def test_a_seed_tells_the_same_story_in_every_process(seed: int) -> None:
    first = stories(seed, 1)
    assert f"seed {seed}: kept, through" in first
    assert first == stories(seed, 2)


def test_a_failing_seed_is_shrunk_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    mutant = next(
        each for each in MUTANTS if each.name == "a lost attempt is repeated under its number"
    )
    with mutant.applied():
        seed = next(seed for seed in mutant.seeds if trial(seed)[1] is not None)
        world, violation = trial(seed)
        failure = failure_of(seed)
        assert main(["--seed", f"{seed}"]) == 1
        assert main(["--seeds", "1", "--first", f"{seed}"]) == 1
    assert violation is not None
    assert failure is not None
    assert failure.violation.invariant == violation.invariant
    assert len(failure.faults) <= len(world.faults)
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0].startswith(f"seed {seed}: ")
    assert f"{failure.violation}" in lines
    assert sum("✗" in line for line in lines) == len(failure.faults)
    assert f"python -m synergy.testing.trials --seed {seed}" in told.err


def test_several_seeds_at_once_show_what_they_show_one_by_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = []
    for processes in "12":
        assert main(["--seeds", "60", "--processes", processes, "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out))
    for name in ("seeds", "violations", "faults", "transitions"):
        assert told[0][name] == told[1][name]


def test_less_is_left_out_than_would_change_the_rest() -> None:
    """A fault that is left out changes nothing before it."""
    seed = next(seed for seed in range(100) if len(trial(seed)[0].faults) > 5)
    world = World(case_of(seed))
    world.run()
    kept = [fault.id for fault in world.faults[:-1]]
    again = World(case_of(seed), frozenset(kept))
    again.run()
    assert [fault.id for fault in again.faults][: len(kept)] == kept
