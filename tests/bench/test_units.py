"""`bench units` measures what it says; how fast this machine is, no test asks."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from synergy.bench.units import FIGURES, arguments, measure
from synergy.errors import SynergyError
from tests import servers


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for server in ("--store", "--broker"):
        parser.add_argument(server)
    arguments(parser)
    return parser.parse_args(argv)


def told(tmp_path: Path, *argv: str) -> Any:
    return measure(parsed("--small", "--store", f"sqlite:///{tmp_path}/bench.db", *argv))


def test_units_are_measured_end_to_end(tmp_path: Path) -> None:
    report = told(tmp_path)
    assert report["broker"] == "none"
    figures = report["figures"]
    assert set(figures) == set(FIGURES)
    for name in ("batched", "serial", "serial_four"):
        assert figures[name]["units"] == 48 + 2 + 1 + 1
        assert figures[name]["per_second"] > 0
        assert set(figures[name]["processor_seconds"]) == {"scheduler", "worker"}
        assert all(used > 0 for used in figures[name]["processor_microseconds_per_unit"].values())
    assert 0 < figures["parent"]["claimed_ms"]["p50"] <= figures["parent"]["claimed_ms"]["p99"]
    assert figures["parent"]["claimed_ms"]["p50"] < figures["parent"]["started_ms"]["p50"]
    assert figures["start"]["unfinished"] == 10 * 4, "an hour of each tree, and above it"
    assert list(tmp_path.iterdir()) == [], "what was measured on is gone"


def test_a_profile_names_the_functions_of_both_programs(tmp_path: Path) -> None:
    profile = told(tmp_path, "--only", "batched", "--profile")["figures"]["batched"]["profile"]
    assert set(profile) == {"scheduler", "worker-1"}
    for rows in profile.values():
        assert any("select" in row["function"] for row in rows), "they wait, more than anything"


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("--store", "memory://"),
        ("--store", "somewhere"),
        ("--broker", "memory://"),
        ("--broker", "somewhere"),
        ("--broker", "amqp://127.0.0.1:1/"),
    ],
)
def test_servers_that_the_programs_cannot_work_with_are_refused_at_once(
    server: str, url: str
) -> None:
    with pytest.raises(SynergyError, match=url):
        measure(parsed("--small", server, url))


def test_servers_are_told_apart_by_what_they_cost() -> None:
    asked = parsed("--small", "--only", "batched", "--store", servers.mongodb())
    asked.broker = servers.rabbitmq()
    found = measure(asked)["figures"]["batched"]
    assert found["units"] == 48 + 2 + 1 + 1
    programs = {"scheduler", "worker"}
    # Whether the servers run here, and may be seen, is not for this test to say.
    assert programs <= set(found["processor_seconds"]) <= programs | {"mongodb", "rabbitmq"}
