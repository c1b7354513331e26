"""The real programs of a measurement."""

import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from synergy.bench.place import LEVELS
from synergy.bench.yard import BEGIN, hours_for, yard
from synergy.core.intervals import Calendar, Granularity
from synergy.errors import SynergyError


@pytest.mark.parametrize("units", [1, 50, 20_000, 100_000])
def test_about_so_many_units_are_made(units: int) -> None:
    until = BEGIN + timedelta(hours=hours_for(units))
    levels = (Granularity.HOURLY, Granularity.DAILY, Granularity.MONTHLY, Granularity.YEARLY)
    made = sum(sum(1 for _ in Calendar(level).between(BEGIN, until)) for level in levels)
    assert abs(made - units) <= 4 + units / 1000
    assert len(levels) == len(LEVELS)


def test_a_program_that_ends_early_ends_the_measurement(tmp_path: Path) -> None:
    until = BEGIN + timedelta(hours=24)
    with yard(f"sqlite:///{tmp_path}/units.db", None, until) as made, made.programs():
        made.wait_for("year", 1)
        os.kill(made.running["scheduler"], signal.SIGKILL)
        with pytest.raises(SynergyError, match="the scheduler has ended"):
            made.wait_for("year", 2)
