"""`bench` prints what it measured; how fast this machine is, no test asks."""

from typing import Any

import pytest

from synergy.bench.core import FIGURES
from synergy.cli.bench import MEASURES


def test_the_core_is_measured_and_told_as_one_object(fresh: Any) -> None:
    told = fresh.json("bench", "core", "--small", "--no-peers", "--runs", "1")
    assert told["bench"] == "core"
    assert set(told["versions"]) == {"synergy", "python"}
    assert told["machine"]["cpus"] >= 1
    assert told["runs"] == 1
    figures = told["figures"]
    assert set(figures) == set(FIGURES) - {"peers"}
    assert figures["engine"]["tree"]["finished"] == 365 * 24 + 365 + 12 + 1
    assert figures["engine"]["flat"]["finished"] == 365 * 24
    assert figures["memory"]["bytes_per_interval"].keys() == {"uniform", "mixed"}
    assert figures["start"]["mixed"]["unfinished"] == 10 * 4, "an hour of each tree, and above it"
    assert figures["flatness"]["uniform"]["microseconds_by_years"].keys() == {"1", "2"}
    assert figures["year"]["day"]["units"] == 24 + 1 + 1 + 1


def test_one_figure_may_be_asked_for(fresh: Any) -> None:
    told = fresh.json("bench", "core", "--small", "--runs", "1", "--only", "memory")
    assert set(told["figures"]) == {"memory"}


def test_answers_are_measured(fresh: Any) -> None:
    told = fresh.json("bench", "answers", "--small", "--runs", "1")
    for figure in ("why", "past"):
        assert set(told["figures"][figure]) == {"what", "uniform", "mixed"}
        found = told["figures"][figure]["mixed"]
        assert found["unfinished"] == 40
        assert found["processor_milliseconds"] > 0


def test_what_can_be_measured_is_named_when_it_is_forgotten(fresh: Any) -> None:
    done = fresh.run("bench")
    assert done.returncode == 2
    assert "core" in done.stderr


def test_a_peer_that_cannot_be_installed_is_told_of_with_the_way_round(fresh: Any) -> None:
    (fresh.folder / "taken").write_text("no folder")
    done = fresh.run("bench", "core", "--small", "--only", "peers", "--peers", "taken")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--no-peers" in done.stderr


def test_no_runs_measure_nothing(fresh: Any) -> None:
    assert fresh.run("bench", "core", "--small", "--runs", "0").returncode == 2


@pytest.mark.parametrize("what", MEASURES)
def test_servers_may_be_named_behind_whatever_is_measured(fresh: Any, what: str) -> None:
    done = fresh.run("bench", what, "--store", "sqlite:///x.db", "--broker", "none", "--help")
    assert (done.returncode, done.stderr) == (0, "")
