"""Reading log files once: copies, growth, rotation, damage, and readers that are killed."""

import gzip
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from db import intake
from db.intake import read_file, read_files
from db.logs import LINE_LIMIT
from db.traffic import NewerSchema, Traffic

Dump = Callable[[Traffic], dict[str, Any]]
Line = Callable[..., bytes]

_ROOT = Path(__file__).resolve().parents[2]
_TOTALS = (16275, 10479, 0, 5796)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, logs: list[Path], dump: Dump) -> dict[str, Any]:
    """What the nine real files hold, read once in order."""
    with Traffic(tmp_path_factory.mktemp("whole") / "traffic.db") as traffic:
        read_files(traffic, logs, segment=2)
        found = dump(traffic)
    assert found["counters"] == _TOTALS
    return found


def test_the_order_of_files_and_doubled_files_do_not_matter(
    traffic: Traffic, logs: list[Path], dump: Dump, whole: dict[str, Any]
) -> None:
    twice = random.Random(1).sample(logs * 2, len(logs) * 2)
    read_files(traffic, twice, segment=2, complete=True)
    assert dump(traffic) == whole


def test_gzip_copies_count_once_whatever_they_are_called(
    traffic: Traffic, logs: list[Path], tmp_path: Path, dump: Dump, whole: dict[str, Any]
) -> None:
    copies = []
    for number, log in enumerate(logs):
        copy = tmp_path / f"copy{number}"
        copy.write_bytes(gzip.compress(log.read_bytes(), 1))
        copies.append(copy)
    read_files(traffic, [*copies[:5], *logs, *copies[5:]], segment=2)
    assert dump(traffic) == whole


def test_links_to_a_file_count_once(
    traffic: Traffic, logs: list[Path], tmp_path: Path, dump: Dump, whole: dict[str, Any]
) -> None:
    link = tmp_path / "link.log"
    link.symlink_to(logs[0])
    readings = read_files(traffic, [link, *logs], segment=2)
    assert readings[1].lines == 0
    assert dump(traffic) == whole


def test_progress_goes_up_to_the_bytes_of_all_files(traffic: Traffic, logs: list[Path]) -> None:
    seen: list[tuple[int, int, str]] = []
    read_files(traffic, logs, progress=lambda *step: seen.append(step), chunk=1 << 16)
    total = sum(log.stat().st_size for log in logs)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[-1] == (total, total, logs[-1].name)


def test_an_unfinished_line_waits_for_its_newline(
    traffic: Traffic, tmp_path: Path, line: Line
) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(line("10:00:00") + line("10:00:01")[:-30])
    assert read_file(traffic, log).lines == 1
    assert read_file(traffic, log).lines == 0
    log.write_bytes(line("10:00:00") + line("10:00:01"))
    assert read_file(traffic, log).records == 1


def test_the_last_line_of_a_complete_file_needs_no_newline(
    traffic: Traffic, tmp_path: Path, line: Line
) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(line("10:00:00") + line("10:00:01")[:-1])
    assert read_file(traffic, log, complete=True).records == 2
    assert read_file(traffic, log, complete=True).lines == 0
    assert read_file(traffic, log).lines == 0


def test_a_complete_file_that_grows_after_all_has_its_last_line_read_anew(
    traffic: Traffic, tmp_path: Path, line: Line, dump: Dump
) -> None:
    log = tmp_path / "access.log"
    content = line("10:00:00") + line("10:00:01")
    log.write_bytes(content[:-40])
    assert read_file(traffic, log, complete=True).lines == 2
    log.write_bytes(content)
    assert read_file(traffic, log).lines == 0
    assert dump(traffic)["counters"] == (2, 2, 0, 0)
    assert [visit[-1] for visit in dump(traffic)["sessions"]] == [2]


def test_the_true_end_of_a_gzip_ends_its_last_line(
    traffic: Traffic, tmp_path: Path, line: Line
) -> None:
    log = tmp_path / "access.log.gz"
    log.write_bytes(gzip.compress(line("10:00:00") + line("10:00:01")[:-1]))
    assert read_file(traffic, log).records == 2


def test_a_gzip_of_several_members_is_read_through(
    traffic: Traffic, tmp_path: Path, line: Line
) -> None:
    log = tmp_path / "access.log.gz"
    log.write_bytes(gzip.compress(line("10:00:00")) + gzip.compress(line("10:00:01")) + b"\0" * 100)
    reading = read_file(traffic, log)
    assert (reading.records, reading.notes) == (2, [])


def test_a_truncated_gzip_ends_with_what_could_be_read_and_says_so(
    traffic: Traffic, tmp_path: Path, logs: list[Path], dump: Dump
) -> None:
    content = logs[0].read_bytes()
    packed = gzip.compress(content)
    log = tmp_path / "access.log.gz"
    log.write_bytes(packed[: len(packed) // 2])
    reading = read_file(traffic, log, segment=2, complete=True)
    assert 100 < reading.lines < 906
    assert "truncated" in reading.notes[0]
    assert "severed last line" in reading.notes[0]
    (note,) = traffic.db.execute("SELECT note FROM files").fetchone()
    assert note == reading.notes[0]

    # The rest arrives: it is the same file, read on from there.
    log.write_bytes(packed)
    assert read_file(traffic, log, segment=2).lines == 906 - reading.lines
    assert traffic.db.execute("SELECT ending, note FROM files").fetchall() == [("complete", "")]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: packed[:-5] + b"\xff" + packed[-4:],
        lambda packed: packed[:2000] + b"\xff" * 50 + packed[2050:],
        lambda packed: packed + b"this is not a gzip",
        lambda packed: packed[:12],
        lambda packed: packed[:2],
    ],
)
def test_a_damaged_gzip_says_so(
    traffic: Traffic, tmp_path: Path, logs: list[Path], spoil: Callable[[bytes], bytes]
) -> None:
    log = tmp_path / "access.log.gz"
    log.write_bytes(spoil(gzip.compress(logs[0].read_bytes())))
    reading = read_file(traffic, log, segment=2)
    assert any("damaged" in note or "truncated" in note for note in reading.notes)
    assert reading.lines <= 2000
    assert len(traffic.db.execute("SELECT * FROM files WHERE note <> ''").fetchall()) == 1


def test_malformed_lines_are_counted_and_kept_aside(
    traffic: Traffic, tmp_path: Path, line: Line
) -> None:
    log = tmp_path / "access.log"
    odd = [
        b"\n",
        bytes(range(256)).replace(b"\n", b"") + b"\n",
        b"\0" * 500 + b"\n",
        b' "curl/7.54.0"\n',
        b"hello \xf0\x9f\x98\x80\n",
    ]
    log.write_bytes(b"".join(piece for bad in odd for piece in (bad, line("10:00:00"))))
    reading = read_file(traffic, log)
    assert (reading.lines, reading.records, reading.malformed, reading.continuation) == (
        10,
        5,
        4,
        1,
    )
    kept = traffic.db.execute(
        "SELECT offset, text, reason FROM rejected ORDER BY offset"
    ).fetchall()
    assert [offset for offset, _, _ in kept][:2] == [0, len(odd[0] + line("10:00:00"))]
    assert kept[-1][1] == "hello 😀"
    assert all(len(text) <= 4 * 500 for _, text, _ in kept)


def test_only_the_first_of_many_malformed_lines_are_kept(traffic: Traffic, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(b"nonsense\n" * (intake.REJECTED_LIMIT + 500))
    assert read_file(traffic, log).malformed == intake.REJECTED_LIMIT + 500
    assert traffic.db.execute("SELECT count(*) FROM rejected").fetchone() == (1000,)


@pytest.mark.parametrize("length", [1_000_000, LINE_LIMIT + 1, 3 * LINE_LIMIT])
@pytest.mark.parametrize("chunk", [1 << 14, 1 << 19])
def test_a_very_long_line_disturbs_no_other(
    traffic: Traffic, tmp_path: Path, line: Line, length: int, chunk: int
) -> None:
    log = tmp_path / "access.log"
    long = line("10:00:01", "/shop/" + "a" * length)
    log.write_bytes(line("10:00:00") + long + line("10:00:02"))
    reading = read_file(traffic, log, chunk=chunk)
    malformed = length > LINE_LIMIT
    assert (reading.lines, reading.malformed) == (3, int(malformed))
    log.write_bytes(log.read_bytes() + line("10:00:03"))
    assert read_file(traffic, log, chunk=chunk).records == 1
    copy = tmp_path / "copy.gz"
    copy.write_bytes(gzip.compress(log.read_bytes()))
    assert read_file(traffic, copy, chunk=chunk).lines == 0


def test_a_rotated_log_is_read_on_under_both_names(
    traffic: Traffic, tmp_path: Path, line: Line, dump: Dump
) -> None:
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    log.write_bytes(line("10:00:00"))
    read_file(traffic, log)
    log.write_bytes(line("10:00:00") + line("10:00:01"))
    log.rename(rotated)
    log.write_bytes(line("11:00:00"))
    first, second = read_files(traffic, [log, rotated])
    assert (first.lines, second.lines) == (1, 1)
    assert "rotated or truncated" in first.notes[0]
    assert second.notes == []
    assert dump(traffic)["counters"] == (3, 3, 0, 0)


def test_a_log_truncated_in_place_is_noticed(
    traffic: Traffic, tmp_path: Path, line: Line, dump: Dump
) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(line("10:00:00") * 200)
    read_file(traffic, log)
    log.write_bytes(line("10:00:00"))
    reading = read_file(traffic, log)
    assert "shorter" in reading.notes[0]
    log.write_bytes(line("12:00:00"))
    reading = read_file(traffic, log)
    assert "rotated or truncated" in reading.notes[0]
    assert dump(traffic)["counters"] == (201, 201, 0, 0)


def test_two_files_that_begin_alike_are_two_once_they_differ(
    traffic: Traffic, tmp_path: Path, line: Line, dump: Dump
) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    first.write_bytes(line("10:00:00"))
    second.write_bytes(line("10:00:00") + line("10:00:02"))
    read_files(traffic, [first, second])
    first.write_bytes(line("10:00:00") + line("10:00:01"))
    read_files(traffic, [first, second])
    assert dump(traffic)["counters"] == (4, 4, 0, 0)


def test_files_that_differ_only_in_the_middle_are_two(
    traffic: Traffic, tmp_path: Path, line: Line, dump: Dump
) -> None:
    # Long runs of equal lines at both ends, as logs that a publisher has cut up may have them.
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    same = b' "curl/7.54.0"\n' * 1000
    first.write_bytes(same + line("10:00:00") + same)
    second.write_bytes(same + line("10:00:01") + same)
    read_files(traffic, [first, second])
    assert dump(traffic)["counters"] == (4002, 2, 0, 4000)


def test_missing_files_are_named_and_unreadable_ones_raise_after_the_others(
    traffic: Traffic, tmp_path: Path, line: Line
) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(line("10:00:00"))
    missing, found = read_files(traffic, [tmp_path / "nowhere.log", log])
    assert (missing.missing, found.lines) == (True, 1)
    log.write_bytes(line("10:00:00") * 2)
    with pytest.raises(IsADirectoryError):
        read_files(traffic, [tmp_path, log])
    assert traffic.db.execute("SELECT count(*) FROM events").fetchone() == (2,)


def test_a_database_of_a_newer_schema_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "traffic.db"
    with Traffic(path) as traffic:
        traffic.db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(NewerSchema, match="schema 99"), Traffic(path):
        pass
    assert path.read_bytes() == before


_PIECES = st.sampled_from(
    [
        b'192.0.2.1 - - [12/May/2024:10:00:00 +0000] "GET /a/ HTTP/1.1" 200 123 "-" "x"\n',
        b'192.0.2.1 - - [12/May/2024:10:40:00 +0000] "GET /a/ HTTP/1.1" 200 45\n',
        b'192.0.2.1 - - [12/May/2024:10:20:00 +0000] "GET /a/ HTTP/1.1" 200 6 "-" "x"\n',
        b'192.0.2.2 - - [12/May/2024:23:59:00 +0000] "GET /b/ HTTP/1.1" 404 - "-" "y"\n',
        b' "curl/7.54.0"\n',
        b"\n",
        b"\0binary\xff\n",
        b"z" * 70 + b"\n",
    ]
)
_STEPS = st.lists(
    st.tuples(
        st.integers(0, 2000),  # how much of the log is there
        st.sampled_from(["plain", "gzip", "severed gzip", "other path"]),
        st.booleans(),  # said to be complete
        st.sampled_from([7, 64, 300, 5000]),  # bytes per transaction
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(_PIECES, max_size=20), ended=st.booleans(), steps=_STEPS)
def test_however_a_growing_log_is_cut_it_gives_the_same(
    folders: Callable[[], AbstractContextManager[str]],
    dump: Dump,
    pieces: list[bytes],
    ended: bool,
    steps: list[tuple[int, str, bool, int]],
) -> None:
    content = b"".join(pieces) if ended else b"".join(pieces)[:-1]
    with folders() as folder, pytest.MonkeyPatch.context() as patch:
        plain, packed, other = (Path(folder, name) for name in ("a.log", "a.gz", "b.log"))
        plain.write_bytes(content)
        patch.setattr(intake, "BLOCK", 32)  # so that a short log has many blocks
        with Traffic(Path(folder, "once.db")) as traffic:
            read_file(traffic, plain, complete=True)
            expected = dump(traffic)
        with Traffic(Path(folder, "often.db")) as traffic:
            # The files only grow, as logs do.
            cuts = sorted(min(cut, len(content)) for cut, *_ in steps)
            for (_, form, complete, chunk), cut in zip(steps, cuts, strict=True):
                part = content[:cut]
                match form:
                    case "plain":
                        path = plain
                        plain.write_bytes(part)
                    case "other path":
                        path = other
                        other.write_bytes(part)
                    case _:
                        path = packed
                        whole = gzip.compress(part, 1)
                        packed.write_bytes(whole if form == "gzip" else whole[:-9])
                read_file(traffic, path, complete=complete, chunk=chunk)
            plain.write_bytes(content)
            read_file(traffic, plain, complete=True)
            assert dump(traffic) == expected


def test_a_log_that_grows_byte_by_byte(
    traffic: Traffic, tmp_path: Path, dump: Dump, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BLOCK", 16)
    log = tmp_path / "access.log"
    content = line("10:00:00") + b' "severed"\n' + line("10:30:00", agent="")
    for end in range(len(content) + 1):
        log.write_bytes(content[:end])
        read_file(traffic, log, complete=end % 3 == 0)
    assert dump(traffic)["counters"] == (3, 2, 0, 1)
    assert len(dump(traffic)["sessions"]) == 2


def test_readers_at_the_same_time_count_nothing_twice(
    tmp_path: Path, logs: list[Path], dump: Dump, whole: dict[str, Any]
) -> None:
    copies = []
    for number, log in enumerate(logs):
        copy = tmp_path / f"copy{number}.log"
        os.symlink(log, copy)
        copies.append(copy)
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def read(paths: list[Path]) -> None:
        try:
            with Traffic(tmp_path / "traffic.db") as traffic:
                barrier.wait()
                read_files(traffic, paths, segment=2, complete=True, chunk=1 << 15)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=read, args=(paths,))
        for paths in (logs, copies, logs[::-1], copies[::-1])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Traffic(tmp_path / "traffic.db") as traffic:
        assert dump(traffic) == whole


_READER = """
import sys
sys.path.insert(0, sys.argv[1])
from db.intake import read_files
from db.traffic import Traffic
with Traffic(sys.argv[2]) as traffic:
    print("reading", flush=True)
    read_files(traffic, sys.argv[3:], segment=2, complete=True, chunk=1024)
print("done", flush=True)
"""


def test_a_reader_killed_at_any_moment_loses_and_doubles_nothing(
    tmp_path: Path, logs: list[Path], dump: Dump, whole: dict[str, Any]
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    path = tmp_path / "traffic.db"
    states = set()
    for _ in range(20):
        files = [str(log) for log in dice.sample(logs, len(logs))]
        command = [sys.executable, "-c", _READER, str(_ROOT), str(path), *files]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reading\n"
            try:
                reader.wait(dice.uniform(0, 0.06))
            except subprocess.TimeoutExpired:
                reader.send_signal(signal.SIGKILL)
        with Traffic(path) as traffic:
            states.add(dump(traffic)["counters"])
    assert len(states) > 3, "the kills did not hit the middle of the reading"
    with Traffic(path) as traffic:
        read_files(traffic, logs, segment=2, complete=True)
        assert dump(traffic) == whole
        assert traffic.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
