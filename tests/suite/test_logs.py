"""Lines of access logs, by hand-made tables."""

from datetime import UTC, datetime

import pytest

from db.logs import LINE_LIMIT, ROOT, Record, is_continuation, parse, site_of

_MIDNIGHT = int(datetime(2024, 5, 12, tzinfo=UTC).timestamp())


def test_a_combined_line_is_a_record() -> None:
    line = (
        b'192.0.2.7 - frank [12/May/2024:00:00:17 +0000] "GET /shop/a?b=c HTTP/1.1" 200 123 '
        b'"https://example.org/" "curl/8.7.1"'
    )
    assert parse(line) == Record(
        "192.0.2.7", _MIDNIGHT + 17, "GET /shop/a?b=c HTTP/1.1", 200, 123, "curl/8.7.1"
    )


@pytest.mark.parametrize(
    ("rest", "size", "agent"),
    [
        (b"200 5", 5, ""),
        (b"304 -", 0, ""),
        (b'200 5 "-" "Mozilla/5.0 (cut of', 5, "Mozilla/5.0 (cut of"),
        (b'200 5 "-"', 5, ""),
        (b'200 5 "-" "-"', 5, "-"),
        (rb'200 5 "a \"quoted\" page" "an \"odd\" agent"', 5, r"an \"odd\" agent"),
        (b'200 5 "-" "caf\xc3\xa9"', 5, "café"),
        (b'200 5 "-" "\xff\x00"', 5, "\\xff\\x00"),
        (b"200 5\r", 5, ""),
    ],
)
def test_what_follows_the_request(rest: bytes, size: int, agent: str) -> None:
    record = parse(b'::1 - - [12/May/2024:00:00:00 +0000] "GET / HTTP/1.0" ' + rest)
    assert record is not None
    assert (record.size, record.agent) == (size, agent)


@pytest.mark.parametrize(
    ("written", "ahead"),
    [
        (b"12/May/2024:02:00:00 +0200", 0),
        (b"11/May/2024:20:00:00 -0400", 0),
        (b"12/May/2024:05:30:00 +0530", 0),
        (b"12/May/2024:00:00:00 +0000", 0),
        (b"12/May/2024:00:00:00 -0030", 30 * 60),
    ],
)
def test_utc_is_the_time_minus_its_offset(written: bytes, ahead: int) -> None:
    record = parse(b"h - - [" + written + b'] "GET / HTTP/1.0" 200 1')
    assert record is not None
    assert record.time == _MIDNIGHT + ahead


def test_quotes_inside_a_request_stay_inside() -> None:
    record = parse(b'h - - [12/May/2024:00:00:00 +0000] "GET /a"b" 404 5 HTTP/1.0" 200 1 "-" "x"')
    assert record is not None
    assert (record.request, record.status, record.size) == ('GET /a"b" 404 5 HTTP/1.0', 200, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"hello",
        b'h - - [12/May/2024:00:00:00 +0000] "GET / HTTP/1.0" 200',
        b'h - - [12/May/2024:00:00:00 +0000] "GET / HTTP/1.0" 200 12x',
        b'h - - [12/May/2024:00:00:00 +0000] "GET / HTTP/1.0" 20 1',
        b'h - - [31/Feb/2024:00:00:00 +0000] "GET / HTTP/1.0" 200 1',
        b'h - - [12/Mai/2024:00:00:00 +0000] "GET / HTTP/1.0" 200 1',
        b'h - - [12/May/2024:24:00:00 +0000] "GET / HTTP/1.0" 200 1',
        b'h - - [12/May/2024:23:60:00 +0000] "GET / HTTP/1.0" 200 1',
        b'h - - [12/May/2024:23:00:60 +0000] "GET / HTTP/1.0" 200 1',
        b'h - - [12/May/2024:00:00:00] "GET / HTTP/1.0" 200 1',
        b'h - - [12/May/2024:00:00:00 +0000] "GET / HTTP/1.0" 200 1' + b"9" * 30,
        b'\x00\x00h - [12/May/2024:00:00:00 +0000] "GET / HTTP/1.0" 200 1',
        bytes(range(256)).replace(b"\n", b""),
        b'  "curl/7.54.0"',
    ],
)
def test_what_is_malformed(line: bytes) -> None:
    assert parse(line) is None
    assert not is_continuation(line)


def test_a_severed_agent_is_a_continuation() -> None:
    assert parse(b' "curl/7.54.0"') is None
    assert is_continuation(b' "curl/7.54.0"')


def test_a_line_is_read_up_to_the_limit() -> None:
    around = b'h - - [12/May/2024:00:00:00 +0000] "GET /%s HTTP/1.0" 200 1'
    fitting = around % (b"a" * (LINE_LIMIT - len(around) + 2))
    assert len(fitting) == LINE_LIMIT
    assert parse(fitting) is not None
    assert parse(fitting.replace(b"GET /", b"GET /a")) is None


@pytest.mark.parametrize(
    ("request_line", "segment", "site"),
    [
        ("GET /shop/a HTTP/1.1", 1, "shop"),
        ("GET /erddap/TableDAP/x.csv?a/b HTTP/1.1", 2, "tabledap"),
        ("GET /erddap HTTP/1.1", 2, ROOT),
        ("GET /erddap/ HTTP/1.1", 2, ROOT),
        ("GET / HTTP/1.1", 1, ROOT),
        ("GET /?q=/a/b HTTP/1.1", 1, ROOT),
        ("GET /ews/%20/ HTTP/1.1", 2, "%20"),
        ("GET /frontend_dev.php/$ HTTP/1.1", 2, "$"),
        ("GET https://example.org/shop/a HTTP/1.1", 1, "shop"),
        ("CONNECT example.org:443 HTTP/1.1", 1, ROOT),
        ("OPTIONS * HTTP/1.0", 1, ROOT),
        ("GET //shop HTTP/1.1", 1, ROOT),
        ("GET /shop", 1, "shop"),
        ("\\x16\\x03\\x01", 1, ROOT),
        ("", 1, ROOT),
        ("-", 1, ROOT),
    ],
)
def test_the_site_of_a_request(request_line: str, segment: int, site: str) -> None:
    assert site_of(request_line, segment) == site
