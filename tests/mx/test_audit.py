"""The audit: whatever is changed in it afterwards is found."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synergy.mx.audit import Audit

from .conftest import START

SECRET = b"s" * 32


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Ten records."""
    audit = Audit(tmp_path, SECRET)
    for number in range(10):
        audit.record(START, "maria", "127.0.0.1", "skip", "filed", {"request": f"r{number}"})
    return audit


def test_what_was_written_is_there(audit: Audit) -> None:
    verdict = audit.verify()
    assert (verdict.count, verdict.problems) == (10, ())
    assert [line["request"] for line in audit.newest(3)] == ["r9", "r8", "r7"]
    assert verdict.last == audit.newest(1)[0]["mac"]


def edited(lines: list[str]) -> list[str]:
    return [lines[0].replace("maria", "mario"), *lines[1:]]


def removed(lines: list[str]) -> list[str]:
    return [*lines[:4], *lines[5:]]


def reordered(lines: list[str]) -> list[str]:
    return [lines[1], lines[0], *lines[2:]]


def cut_off(lines: list[str]) -> list[str]:
    return lines[:-1]


def emptied(lines: list[str]) -> list[str]:
    return []


def doubled(lines: list[str]) -> list[str]:
    return [*lines, lines[-1]]


def forged(lines: list[str]) -> list[str]:
    return [*lines, json.dumps({"n": 11, "who": "maria", "mac": "0" * 64})]


def no_record(lines: list[str]) -> list[str]:
    return [*lines[:3], "{", *lines[4:]]


@pytest.mark.parametrize(
    "change", [edited, removed, reordered, cut_off, emptied, doubled, forged, no_record]
)
def test_a_change_is_found(audit: Audit, change: Callable[[list[str]], list[str]]) -> None:
    lines = audit.path.read_text().splitlines()
    audit.path.write_text("".join(f"{line}\n" for line in change(lines)))
    assert audit.verify().problems


def test_a_removed_file_is_found_also_after_more_was_written(audit: Audit) -> None:
    audit.path.unlink()
    audit.record(START, "maria", "127.0.0.1", "skip", "filed")
    assert audit.verify().problems


def test_who_has_not_the_secret_cannot_write(audit: Audit, tmp_path: Path) -> None:
    Audit(tmp_path, b"x" * 32).record(START, "maria", "127.0.0.1", "skip", "filed")
    assert audit.verify().problems == ("line 11 is not what was written there",)


def test_a_power_cut_harms_nothing(audit: Audit) -> None:
    with open(audit.path, "a") as file:
        file.write('{"n": 11, "at": "20')  # its writer was never told that it is there
    audit.record(START, "maria", "127.0.0.1", "skip", "filed")
    assert audit.verify() == audit.verify()
    assert (audit.verify().count, audit.verify().problems) == (11, ())


def test_a_kill_between_line_and_head_harms_nothing(audit: Audit, tmp_path: Path) -> None:
    head = (tmp_path / "audit.head").read_text()
    audit.record(START, "maria", "127.0.0.1", "skip", "filed")
    (tmp_path / "audit.head").write_text(head)
    audit.record(START, "maria", "127.0.0.1", "skip", "filed")
    assert (audit.verify().count, audit.verify().problems) == (12, ())


def test_several_write_at_once(tmp_path: Path) -> None:
    def write(number: int) -> None:
        Audit(tmp_path, SECRET).record(START, f"u{number}", "::1", "login", "done")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(60)))
    verdict = Audit(tmp_path, SECRET).verify()
    assert (verdict.count, verdict.problems) == (60, ())


def test_a_line_is_one_line_whatever_is_in_it(audit: Audit) -> None:
    audit.record(START, "a\nb\r\x1b[31m", "::1", "login", "refused", {"user": "x" * 10_000})
    assert len(audit.path.read_text().splitlines()) == 11
    assert len(audit.newest(1)[0]["user"]) == 500
    assert "\x1b" not in audit.path.read_text()
