"""`bench console` measures what it says; how fast this machine is, no test asks."""

import argparse
from typing import Any

from synergy.bench.console import WATCHERS, arguments, measure


def measured(figure: str) -> Any:
    parser = argparse.ArgumentParser()
    arguments(parser)
    args = parser.parse_args(["--small", "--runs", "1", "--only", figure])
    return measure(args)["figures"][figure]


def test_every_kind_of_page_is_asked_for() -> None:
    found = measured("pages")
    assert found["finished"] > 4000
    assert {"/", "/processes", "/freeruns", "/api/v1/status"} <= found["pages"].keys()
    for path, page in found["pages"].items():
        assert page["milliseconds"] > 0, path
        assert page["bytes"] > page["compressed_bytes"] > 0, path


def test_watchers_bring_their_page_again_when_something_happens() -> None:
    found = measured("watchers")
    assert found["quiet"]["looks"] >= WATCHERS
    assert found["quiet"]["pages"] == 0
    assert found["busy"]["pages"] > 0
    assert found["busy"]["share_of_a_core"] > 0
