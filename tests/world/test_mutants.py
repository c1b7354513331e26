"""The simulation notices each omission of the protocol (RELIABILITY §6.3, R-A4).

The seeds of each mutant are the ones among which it is noticed first, when all are lived through
from 0 on; `SYNERGY_MUTANT_SEEDS=4000` lives through all of them.
"""

import os

import pytest

from synergy.testing.trials import trial
from tests.world.mutants import MUTANTS, Mutant

#: So many seeds from 0 on, in place of those that are known to notice it.
ALL = int(os.environ.get("SYNERGY_MUTANT_SEEDS", "0"))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_an_omission_is_noticed(mutant: Mutant) -> None:
    with mutant.applied():
        noticed = [
            violation.invariant
            for seed in (range(ALL) if ALL else mutant.seeds)
            if (violation := trial(seed)[1]) is not None
        ]
    # That the program crashes would be noticed without any invariant.
    assert {*noticed} - {"crash"}


def test_without_an_omission_the_same_seeds_keep_the_promise() -> None:
    """Else the mutants above would die of something else."""
    for seed in {seed for mutant in MUTANTS for seed in mutant.seeds}:
        assert trial(seed)[1] is None, seed
