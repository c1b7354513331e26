"""The server: who sends slowly or nothing does not stay."""

import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

from synergy.mx import server as server_module
from synergy.mx.addresses import Address
from synergy.mx.server import Server

from .conftest import Build


@pytest.fixture
def server(build: Build, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One that is at work, and impatient."""
    monkeypatch.setattr(server_module, "SILENCE", 1)
    monkeypatch.setattr(server_module, "CLEANING", 1)
    server = Server(build(address=Address("127.0.0.1", 0)).console)
    serving = threading.Thread(target=server._serve, daemon=True)
    serving.start()
    yield server
    server.close()


def lived(server: Server, sent: bytes, drop: bytes) -> float:
    """Seconds until the server has closed a connection on which bytes are dropped one by one."""
    begun = time.monotonic()
    with socket.create_connection((server.address.host, server.address.port)) as connection:
        connection.settimeout(0.2)
        connection.sendall(sent)
        while time.monotonic() < begun + 15:
            try:
                if drop:
                    connection.sendall(drop)
                if connection.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    return time.monotonic() - begun


@pytest.mark.parametrize(
    ("sent", "drop"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ", b"x"),
        (b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n", b"x"),
    ],
    ids=["nothing", "half", "header by bytes", "body by bytes"],
)
def test_who_is_slow_does_not_stay(server: Server, sent: bytes, drop: bytes) -> None:
    assert lived(server, sent, drop) < 10
    with urllib.request.urlopen(f"{server.url}livez", timeout=10) as answer:
        assert answer.status == 200
        assert answer.headers["Server"] is None


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: x\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["long header", "long path", "large body", "unknown encoding", "no request"],
)
def test_what_makes_no_sense_is_answered_shortly(server: Server, text: bytes) -> None:
    place = (server.address.host, server.address.port)
    with socket.create_connection(place, timeout=10) as connection:
        connection.sendall(text)
        answer = connection.recv(65_536)
    assert answer[:9] == b"HTTP/1.1 " or answer[:9] == b"HTTP/1.0 "
    assert answer[9:10] in (b"4", b"5")
    assert b"waitress" not in answer.lower()
    assert b"Traceback" not in answer
