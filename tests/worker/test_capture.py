"""What a command printed, kept within a limit and never mixed."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergy.capture import (
    LEAST_LIMIT,
    Capture,
    attempt_log_path,
    head_size,
    read_log,
    ring_path,
    ring_size,
    safe_name,
)

PROJECT = Path(__file__).resolve().parents[2]
LIMIT = 1000
HEAD = head_size(LIMIT)
RING = ring_size(LIMIT)


def kept(text: bytes, limit: int) -> bytes:
    """What a log of this limit holds of a text."""
    head, ring = head_size(limit), ring_size(limit)
    if len(text) <= head + ring:
        return text
    left_out = len(text) - head - ring
    return text[:head] + f"\n… {left_out:,} bytes left out …\n".encode() + text[-ring:]


SIZES = [0, 1, HEAD, HEAD + 1, HEAD + RING, HEAD + RING + 1, 123_456, 10**6]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1, 7, 400, 10**6])
def test_the_beginning_and_the_end_are_kept(tmp_path: Path, size: int, step: int) -> None:
    if size // step > 20_000:
        step = 7 * size // 20_000
    text = random.Random(size).randbytes(size)
    path = tmp_path / "log"
    with Capture(path, LIMIT) as log:
        for at in range(0, size, step):
            log.write(text[at : at + step])
        assert read_log(path) == kept(text, LIMIT), "while it is open"
        assert log.total == size
    assert path.read_bytes() == kept(text, LIMIT)
    assert path.stat().st_size <= LIMIT
    assert not ring_path(path).exists()


def test_the_note_tells_what_is_left_out(tmp_path: Path) -> None:
    with Capture(tmp_path / "log", LIMIT) as log:
        log.write(b"x" * (HEAD + RING + 123_456))
    assert "\n… 123,456 bytes left out …\n" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("offset", "limit"),
    [(0, 10), (495, 10), (500, 600), (-10, 5), (-5000, 20), (990, 50), (5000, 1)],
)
def test_a_part_is_read_alike_before_and_after_the_fold(
    tmp_path: Path, offset: int, limit: int
) -> None:
    text = random.Random(1).randbytes(5000)
    whole = kept(text, LIMIT)
    start = max(len(whole) + offset, 0) if offset < 0 else offset
    with Capture(tmp_path / "log", LIMIT) as log:
        log.write(text)
        assert read_log(tmp_path / "log", offset, limit) == whole[start : start + limit]
    assert read_log(tmp_path / "log", offset, limit) == whole[start : start + limit]


def test_a_kill_leaves_beginning_and_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    source = f"""
import os, sys; sys.path.insert(0, {str(PROJECT)!r})
from pathlib import Path
from synergy.capture import Capture
log = Capture(Path(sys.argv[1]), {LIMIT}).open()
for number in range(5000): log.write(b"line %04d\\n" % number)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", source, str(path)])
    assert done.returncode == -signal.SIGKILL
    text = read_log(path)
    assert text.startswith(b"line 0000\n")
    assert text.endswith(b"line 4999\n")
    assert path.read_bytes()[:HEAD] == text[:HEAD]


def test_an_existing_log_is_set_aside_and_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    first = Capture(path, LIMIT).open()
    first.write(b"a" * 2000)
    second = Capture(path, LIMIT).open()
    second.write(b"b" * 2000)
    first.write(b"A")
    first.close()
    assert read_log(path) == kept(b"b" * 2000, LIMIT)
    second.close()
    assert path.read_bytes() == kept(b"b" * 2000, LIMIT)
    assert read_log(tmp_path / "log.1") == kept(b"a" * 2000 + b"A", LIMIT)


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "log"
    before = os.umask(0)
    try:
        with Capture(path, LIMIT) as log:
            log.write(b"x" * 2000)
            assert ring_path(path).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="no /dev/full")
def test_a_full_disk_costs_the_log_and_not_the_run(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ring_path(path).symlink_to("/dev/full")
    with Capture(path, LIMIT) as log:
        log.write(b"x" * (HEAD + 10))
        assert log.trouble is not None
        log.write(b"y" * 10)
        assert log.total == HEAD + 20
    assert path.read_bytes() == b"x" * HEAD


def test_closing_twice_is_harmless_and_writing_after_is_a_mistake(tmp_path: Path) -> None:
    log = Capture(tmp_path / "log", LIMIT).open()
    log.close()
    log.close()
    with pytest.raises(ValueError):
        log.write(b"x")


def test_a_limit_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        Capture(Path("log"), LEAST_LIMIT - 1)


# ---- where it stands


def test_an_attempts_path_is_readable() -> None:
    path = attempt_log_path(Path("logs"), "site_hourly", "2026-10-25T02+02:00/PT3H", 3, 1, 2)
    assert path == Path("logs/site_hourly/2026-10-25T02+02%3A00%2FPT3H/g3.r1.a2.log")


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "../../etc/passwd", "/etc", "a/b", "a\0b", ".hidden", "x" * 5000, "\udcff"],
)
def test_no_text_leads_outside(text: str) -> None:
    root = Path("/srv/logs")
    path = attempt_log_path(root, text, text, 1, 1, 1)
    assert len(path.relative_to(root).parts) == 3
    assert os.path.normpath(path) == str(path)
    assert all(len(os.fsencode(part)) < 255 and "\0" not in part for part in path.parts)


@given(st.text(), st.text())
def test_different_texts_have_different_names(one: str, other: str) -> None:
    assert (safe_name(one) == safe_name(other)) == (one == other)
    assert "/" not in safe_name(one)
    assert safe_name(one) not in ("", ".", "..")
