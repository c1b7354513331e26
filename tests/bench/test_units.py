"""`bench units` measures what it says; how fast this machine is, no test asks."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from synergy.bench.units import FIGURES, arguments, measure
from synergy.errors import SynergyError


def told(tmp_path: Path, *argv: str) -> Any:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store")
    arguments(parser)
    store = f"sqlite:///{tmp_path}/bench.db"
    return measure(parser.parse_args(["--small", "--no-peers", "--store", store, *argv]))


def test_units_are_measured_end_to_end(tmp_path: Path) -> None:
    figures = told(tmp_path)["figures"]
    assert set(figures) == set(FIGURES) - {"peers"}
    for name in ("batched", "serial"):
        assert figures[name]["units"] == 48 + 2 + 1 + 1
        assert figures[name]["per_second"] > 0
        assert all(seconds > 0 for seconds in figures[name]["processor_seconds"].values())
    assert 0 < figures["parent"]["claimed_ms"]["p50"] <= figures["parent"]["claimed_ms"]["p99"]
    assert figures["parent"]["claimed_ms"]["p50"] < figures["parent"]["started_ms"]["p50"]
    assert list(tmp_path.iterdir()) == [], "what was measured on is gone"


def test_a_profile_names_the_functions_of_both_programs(tmp_path: Path) -> None:
    profile = told(tmp_path, "--only", "batched", "--profile")["figures"]["batched"]["profile"]
    assert set(profile) == {"scheduler", "worker"}
    assert any("sqlite.py" in row["function"] for row in profile["worker"])


def test_another_store_than_sqlite_is_refused(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store")
    arguments(parser)
    with pytest.raises(SynergyError, match="not on memory"):
        measure(parser.parse_args(["--small", "--no-peers", "--store", "memory://"]))
