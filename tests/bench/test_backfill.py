"""`bench backfill` measures what it says; how fast this machine is, no test asks."""

import argparse
from pathlib import Path

from synergy.bench.backfill import arguments, measure


def test_fresh_intervals_are_measured_without_and_with_a_backfill(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    for server in ("--store", "--broker"):
        parser.add_argument(server)
    arguments(parser)
    report = measure(parser.parse_args(["--small", "--store", f"sqlite:///{tmp_path}/bench.db"]))
    assert report["fresh"]["without"] > 0
    assert report["fresh"]["with"] > 0
    for waited in report["due_to_claimed_ms"].values():
        assert 0 < waited["p50"] <= waited["p99"]
    assert set(report["rise"]) == {"p50", "p99"}
    assert report["backfill"]["intervals"] == 500
    assert report["backfill"]["ended"] > 0
    assert report["backfill"]["longest_gap_ms"] > 0
    assert list(tmp_path.iterdir()) == [], "what was measured on is gone"
