"""Invented visitors: the same again each time, and marked as invented."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db.intake import read_file
from db.logs import parse, site_of
from db.traffic import Traffic
from workers.generate import NAME, OWNERS, SITES, Visitors, lines

_START = datetime(2024, 5, 12, 6, tzinfo=UTC)
_DAY = timedelta(days=1)


def test_a_day_is_the_same_however_it_is_asked_for() -> None:
    whole = list(lines(_START, _START + _DAY))
    cuts = [_START, _START + timedelta(minutes=90), _START + timedelta(hours=7, seconds=1)]
    parts = [
        line
        for begin, end in zip(cuts, [*cuts[1:], _START + _DAY], strict=True)
        for line in lines(begin, end)
    ]
    assert parts == whole
    assert list(lines(_START, _START + _DAY, seed=2)) != whole


def test_every_line_is_a_record_of_an_example_address_in_order() -> None:
    records = [parse(line.encode().rstrip(b"\n")) for line in lines(_START, _START + _DAY)]
    found = [record for record in records if record is not None]
    assert len(found) == len(records) > 1000
    times = [record.time for record in found]
    assert times == sorted(times)
    assert {record.address.rpartition(".")[0] for record in found} == {
        "192.0.2",
        "198.51.100",
        "203.0.113",
    }
    assert {site_of(record.request, 1) for record in found} == set(SITES)
    assert set(OWNERS) < set(SITES)


def test_visits_run_over_the_hour() -> None:
    near = timedelta(minutes=3)
    over = 0
    for hour in (_START + timedelta(hours=number) for number in range(24)):
        before = {(line.split()[0], line[-60:]) for line in lines(hour - near, hour)}
        after = {(line.split()[0], line[-60:]) for line in lines(hour, hour + near)}
        over += len(before & after)
    assert over > 5


@pytest.mark.parametrize("severed", [0, 1, 50])
def test_a_log_is_continued_after_a_crash(tmp_path: Path, severed: int) -> None:
    log = tmp_path / NAME
    first = Visitors(log, _START)
    first.write_until(_START + timedelta(hours=1))
    first.write_until(_START + timedelta(hours=2))
    content = log.read_bytes()
    log.write_bytes(content[: len(content) - severed])
    again = Visitors(log, _START)
    again.write_until(_START + timedelta(hours=3))
    assert again.write_until(_START + timedelta(hours=3)) == 0
    assert log.read_text() == "".join(lines(_START, _START + timedelta(hours=3)))


def test_two_writers_write_every_line_once(tmp_path: Path) -> None:
    log = tmp_path / NAME
    writers = [Visitors(log, _START), Visitors(log, _START)]
    for minute in range(0, 120, 7):
        writers[minute % 2].write_until(_START + timedelta(minutes=minute))
        writers[0].write_until(_START + timedelta(minutes=minute - 3))
    writers[1].write_until(_START + timedelta(hours=2))
    assert log.read_text() == "".join(lines(_START, _START + timedelta(hours=2)))


def test_a_note_says_that_it_is_generated(tmp_path: Path) -> None:
    Visitors(tmp_path / NAME, _START).write_until(_START + timedelta(minutes=1))
    assert "generated" in NAME
    assert "no real person" in (tmp_path / f"{NAME}.README").read_text()


def test_a_log_that_is_written_while_it_is_read_counts_once(
    traffic: Traffic, tmp_path: Path, dump: Callable[[Traffic], dict[str, object]]
) -> None:
    log = tmp_path / NAME
    visitors = Visitors(log, _START)
    written = read = 0
    for minute in range(0, 181, 20):
        written += visitors.write_until(_START + timedelta(minutes=minute))
        read += read_file(traffic, log).records
    assert written == read
    assert dump(traffic)["counters"] == (written, written, 0, 0)
