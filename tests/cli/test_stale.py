"""What is out of date, or of an earlier generation, is told in words and in JSON."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synergy.app import save_context
from synergy.cli import main
from synergy.core.context import Context, daily, hourly, to_document, tree
from synergy.stores import open_store
from synergy.testing.stage import Stage, processes_with

CONTEXT = Context(
    tree(
        "t",
        [daily("d", run="w:f"), hourly("h", run="w:f")],
        start="2026-11-18",
        until="2026-11-20",
        lag=0,
    )
)


class Told:
    """A store on which everything was played, and what the command line says of it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.url = f"sqlite:///{folder}/store.db"
        store = open_store(self.url)
        assert save_context(store, to_document(CONTEXT), 0)
        self.stage = Stage(CONTEXT, at="2026-11-20T01:00Z", store=store)
        self.stage.work(processes_with("as ever"))

    def __call__(self, *words: str) -> str:
        self.stage.store.fold(10_000)
        assert main([*words, "--store", self.url], self.folder) == 0
        return self.capsys.readouterr().out

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Told]:
    made = Told(tmp_path, capsys)
    with contextlib.closing(made.stage.store):
        yield made


def test_a_marked_one_is_told_from_one_that_is_made_anew(told: Told) -> None:
    told.stage.request("mark", "h", "2026-11-18T07", reason="it grew")
    told.stage.request("reprocess", "h", "2026-11-19T07")
    lines = [line.split(None, 2) for line in told("jobs", "--stale").splitlines()]
    assert [(line[0], line[1]) for line in lines[1:]] == [
        ("d", "2026-11-18"),
        ("d", "2026-11-19"),
        ("h", "2026-11-18T07"),
        ("h", "2026-11-19T07"),
    ]
    assert "processed (marked stale)" in lines[1][2]
    assert lines[1][2].endswith("mark r1: it grew")
    assert "embryo (stale)" in lines[2][2]
    found = {job["interval"]: job for job in told.json("jobs", "d")}
    assert [found[day]["stale"] for day in found] == [True, True]
    assert [found[day]["marked"] for day in found] == [True, False]
    status = {entry["process"]: entry for entry in told.json("status")["processes"]}
    counts = [status["h"][kind] for kind in ("stale", "anew", "marked")]
    assert counts == [2, 1, 1]
    assert "1 being made anew, 1 marked" in told("status")


def test_a_result_of_an_earlier_generation_is_told(told: Told) -> None:
    told.stage.request("reprocess", "h", "2026-11-18T07")
    told.stage.work(processes_with("as ever"))
    day, hour = told("jobs", "d", "2026-11-18"), told("jobs", "h", "2026-11-18T07")
    assert day.splitlines()[1].endswith("kept from generation 1")
    assert hour.splitlines()[1].endswith("unchanged since generation 1")
    assert [job["result"] for job in told.json("jobs", "d")] == [1, 1]
    told.stage.request("reprocess", "h", "2026-11-18T07")
    told.stage.work(processes_with("something new"))
    assert "generation 1" not in told("jobs", "d", "2026-11-18")
    assert [job["result"] for job in told.json("jobs", "d")] == [3, 1]


def test_of_one_interval_the_fingerprint_is_told_and_what_it_was_made_from(told: Told) -> None:
    told.stage.request("reprocess", "h", "2026-11-18T07")
    told.stage.work(processes_with("something new"))
    lines = told("jobs", "d", "2026-11-18").splitlines()
    assert lines[2:] == ["fingerprint  something new", 'consumed  {"h@2026-11-18T07": 2}']
    [job] = told.json("jobs", "d", "2026-11-18")
    assert job["fingerprint"] == "something new"
    assert job["consumed"] == {"h@2026-11-18T07": 2}
    assert "fingerprint" not in told.json("jobs", "d")[0], "of one alone: it is read for that"


def test_one_of_which_nothing_is_written_has_no_details(told: Told) -> None:
    stage = Stage(CONTEXT, at="2026-11-20T01:00Z")
    assert stage.job("d", "2026-11-18").version == 0
    told.stage.store.prune_jobs("d", stage.interval("d", "2026-11-19").start)
    [job] = told.json("jobs", "d", "2026-11-18")
    assert job["state"] == "processed"
    assert "fingerprint" not in job
