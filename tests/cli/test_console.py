"""The console as a program: real processes, a real port, a real browser's way in by hand."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.certificates import make_certificates

Wait = Callable[..., Any]
ANY_PORT = "127.0.0.1:0"
PASSWORD = "seven purple tractors"


#: What a scheduler does first.
REGISTER = """
from pathlib import Path
from synergy.app import register, store_of
from synergy.project import open_project
project = open_project(Path("."))
register(project, store_of(project, create=True))
"""


@pytest.fixture
def worked(fresh: Any) -> Any:
    """A project that a scheduler has looked at."""
    fresh.write("settings.py", f'CONSOLE = "{ANY_PORT}"\n')
    subprocess.run(
        [sys.executable, "-c", REGISTER], cwd=fresh.folder, env=fresh.environment(), check=True
    )
    return fresh


def add_user(project: Any, name: str, role: str) -> None:
    done = subprocess.run(
        [*project.command, "console", "users", "add", name, "--role", role],
        cwd=project.folder,
        env=project.environment(),
        input=PASSWORD + "\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done
    assert done.stdout == f"{name} may log in as {role}\n"


class Visit:
    """Goes to a console as a browser does."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        self.parts = urllib.parse.urlsplit(url)
        self.context = context
        self.cookie = ""

    def ask(self, method: str, path: str, body: str = "", **more: str) -> tuple[int, Any, str]:
        host, port = self.parts.hostname or "", self.parts.port or 0
        connection: http.client.HTTPConnection = (
            http.client.HTTPConnection(host, port, timeout=10)
            if self.context is None
            else http.client.HTTPSConnection(host, port, timeout=10, context=self.context)
        )
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if method == "POST":
            headers["Origin"] = f"{self.parts.scheme}://{self.parts.netloc}"
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        connection.request(method, path, body or None, {**headers, **more})
        answer = connection.getresponse()
        text = answer.read().decode()
        if cookie := answer.headers.get("Set-Cookie"):
            self.cookie = cookie.partition(";")[0]
        connection.close()
        return answer.status, answer.headers, text


def test_a_console_starts_is_found_opened_and_stopped(worked: Any) -> None:
    said = worked.ok("start", "console").splitlines()
    assert re.fullmatch(r"console started, process \d+, log .*console\.log", said[0])
    link = re.fullmatch(r"console {4}(http://127\.0\.0\.1:\d+/)enter\?key=\S+ {2}\(.*", said[1])
    assert link is not None
    url = link[1]
    assert worked.ok("query").splitlines()[-1] == f"console at {url}"
    told = {each["program"]: each for each in worked.json("query")}
    assert told["console"]["url"] == url
    opened = worked.json("console")
    assert opened["url"] == url
    visit = Visit(url)
    key = urllib.parse.urlsplit(opened["open"]).query
    assert visit.ask("GET", "/")[0] == 303
    assert visit.ask("POST", "/enter", key)[0] == 303
    status, headers, text = visit.ask("GET", "/timetable")
    assert status == 200
    assert "hello_daily" in text
    assert "Server" not in headers
    again = worked.run("start", "console")
    assert again.returncode == 4
    assert "console runs already" in again.stderr
    begun = time.monotonic()
    os.kill(worked.pids()["console"], signal.SIGTERM)
    while worked.processes():
        time.sleep(0.01)
    assert time.monotonic() - begun < 1.0
    assert worked.run("console").returncode == 3
    assert not (worked.folder / ".synergy/console/address").exists()


def test_a_killed_console_harms_nothing(worked: Any, wait: Wait) -> None:
    worked.ok("start", "console")
    pid = worked.pids()["console"]
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not psutil.pid_exists(pid))
    assert worked.run("console").returncode == 3
    worked.ok("start", "console")
    assert worked.json("console")["url"].startswith("http://127.0.0.1:")
    worked.ok("stop", "console")


def test_the_supervisor_keeps_a_console_that_the_settings_name(worked: Any, wait: Wait) -> None:
    with _up(worked) as up:
        wait(lambda: worked.run("console").returncode == 0)
        first = worked.pids()["console"]
        os.kill(first, signal.SIGKILL)
        wait(lambda: worked.pids().get("console", first) != first)
        wait(lambda: worked.run("console").returncode == 0)
        up.send_signal(signal.SIGINT)
        _, said = up.communicate(timeout=30)
    assert worked.processes() == []
    assert "to open it: ./launch.py console" in said


def _up(project: Any) -> Any:
    return subprocess.Popen(
        [*project.command, "up"],
        cwd=project.folder,
        env=project.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_only_loopback_listens(worked: Any) -> None:
    worked.ok("start", "console")
    pid = worked.pids()["console"]
    listening = [
        each.laddr.ip for each in psutil.Process(pid).net_connections("inet") if not each.raddr
    ]
    assert listening == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("account", "tls", "said"),
    [
        (False, "", ["it has no account: ./launch.py console users add", "it has no TLS"]),
        (True, "", ["it has no TLS: name CONSOLE_CERTIFICATE and CONSOLE_KEY"]),
        (False, "proxy", ["it has no account"]),
        (False, "certificate", ["it has no account"]),
        (True, "missing", ["CONSOLE_CERTIFICATE '", "none.pem' is no file"]),
    ],
)
def test_an_open_door_is_refused_with_the_cure(
    worked: Any, account: bool, tls: str, said: list[str]
) -> None:
    if account:
        add_user(worked, "maria", "admin")
    more = {
        "": {},
        "proxy": {"SYNERGY_CONSOLE_PROXY": "127.0.0.1"},
        "certificate": {"SYNERGY_CONSOLE_CERTIFICATE": str(Path(__file__))},
        "missing": {"SYNERGY_CONSOLE_CERTIFICATE": "none.pem"},
    }[tls]
    for words in (["start", "console"], ["start", "console", "--console"]):
        done = worked.run(*words, SYNERGY_CONSOLE="0.0.0.0:0", **more)
        assert done.returncode == 2, done
        for part in said:
            assert part in done.stderr
        assert "Traceback" not in done.stderr
    assert worked.processes() == []


def test_with_an_account_and_a_proxy_it_listens_everywhere(worked: Any) -> None:
    add_user(worked, "maria", "admin")
    settings = {
        "SYNERGY_CONSOLE": "0.0.0.0:0",
        "SYNERGY_CONSOLE_PROXY": "127.0.0.1",
        "SYNERGY_CONSOLE_HOSTS": "console.example",
    }
    assert worked.run("start", "console", **settings).returncode == 0
    visit = Visit(worked.json("console")["url"])
    assert visit.ask("GET", "/livez")[0] == 400  # by no name of its own
    status, headers, _ = visit.ask("GET", "/login", Host="console.example")
    assert status == 200
    assert headers["Strict-Transport-Security"]
    form = urllib.parse.urlencode({"user": "maria", "password": PASSWORD})
    told = {"Host": "console.example", "Origin": "https://console.example"}
    told["X-Forwarded-For"] = "192.0.2.7"
    status, headers, _ = visit.ask("POST", "/login", form, **told)
    assert status == 303
    assert headers["Set-Cookie"].startswith("__Host-synergy-")
    assert "Secure" in headers["Set-Cookie"]
    audit = (worked.folder / ".synergy/console/audit.jsonl").read_text().splitlines()
    assert json.loads(audit[-1])["from"] == "192.0.2.7"


def test_it_speaks_tls_itself(worked: Any, tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    make_certificates(folder)
    add_user(worked, "maria", "admin")
    settings = {
        "SYNERGY_CONSOLE": "0.0.0.0:0",
        "SYNERGY_CONSOLE_HOSTS": "localhost",
        "SYNERGY_CONSOLE_CERTIFICATE": str(folder / "server.pem"),
        "SYNERGY_CONSOLE_KEY": str(folder / "server.key"),
    }
    assert worked.run("start", "console", **settings).returncode == 0
    port = urllib.parse.urlsplit(worked.json("console")["url"]).port
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    visit = Visit(f"https://localhost:{port}", context)
    status, headers, _ = visit.ask("GET", "/login")
    assert status == 200
    assert headers["Strict-Transport-Security"]
    form = urllib.parse.urlencode({"user": "maria", "password": PASSWORD})
    assert visit.ask("POST", "/login", form)[0] == 303
    assert visit.cookie.startswith("__Host-synergy-")
    found: list[int] = []

    def look() -> None:
        for _ in range(15):
            status, _, text = visit.ask("GET", "/timetable")
            assert text.endswith("</html>")
            found.append(status)

    several = [threading.Thread(target=look) for _ in range(4)]
    for each in several:
        each.start()
    with socket.create_connection(("127.0.0.1", port)) as plain:  # not TLS at all
        plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert not plain.recv(100).startswith(b"HTTP")
    for each in several:
        each.join()
    assert found == [200] * 60
    old = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert Visit(f"https://localhost:{port}", old).ask("GET", "/livez")[0] == 200


def test_silent_and_slow_visitors_do_not_keep_others_out(worked: Any) -> None:
    worked.ok("start", "console")
    url = worked.json("console")["url"]
    port = urllib.parse.urlsplit(url).port
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    for place, each in enumerate(silent):
        if place % 2:
            each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
    begun = time.monotonic()
    assert Visit(url).ask("GET", "/livez")[0] == 200
    assert time.monotonic() - begun < 2
    for each in silent:
        each.close()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["console", "users"], 2, "say what to do; there are list, add, remove"),
        (["console", "users", "drop"], 2, "there is no 'drop'; there are list, add"),
        (["console", "users", "add"], 2, "console users add takes a NAME"),
        (["console", "users", "add", "maria"], 2, "takes --role viewer, operator or admin"),
        (["console", "users", "remove", "maria"], 3, "there is no user 'maria'; there is none"),
        (["console", "tokens", "remove", "ci"], 3, "there is no token 'ci'; there is none"),
        (["console", "audit", "verify", "x"], 2, "takes no name"),
        (["console"], 3, "no console runs here; start one: ./launch.py start console"),
    ],
)
def test_mistakes_at_the_accounts_are_told(
    fresh: Any, words: list[str], code: int, said: str
) -> None:
    done = fresh.run(*words)
    assert done.returncode == code, done
    assert said in done.stderr


def test_accounts_by_the_command_line(fresh: Any) -> None:
    add_user(fresh, "maria", "operator")
    assert fresh.json("console", "users", "list") == [
        {"user": "maria", "role": "operator", "on": True}
    ]
    assert fresh.ok("console", "users", "role", "maria", "--role", "admin").startswith("maria is")
    assert "switched off" in fresh.ok("console", "users", "off", "maria")
    token = fresh.json("console", "tokens", "add", "ci", "--role", "viewer", "--days", "7")
    assert re.fullmatch(r"syn_[\w-]{43}", token["secret"])
    assert [each["token"] for each in fresh.json("console", "tokens", "list")] == ["ci"]
    fresh.ok("console", "tokens", "remove", "ci")
    verdict = fresh.json("console", "audit", "verify")
    assert (verdict["records"], verdict["problems"]) == (5, [])
    path = fresh.folder / ".synergy/console/audit.jsonl"
    path.write_text(path.read_text().replace("maria", "mario"))
    done = fresh.run("console", "audit", "verify")
    assert done.returncode == 1
    assert "line 1 is not what was written there" in done.stderr


def test_a_weak_password_is_refused_in_words(fresh: Any) -> None:
    done = subprocess.run(
        [*fresh.command, "console", "users", "add", "maria", "--role", "admin"],
        cwd=fresh.folder,
        env=fresh.environment(),
        input="password1234\n",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "it is one of those that are tried first" in done.stderr
    assert not (fresh.folder / ".synergy/console/accounts.json").exists()


def test_the_command_line_does_not_load_what_only_the_console_needs(fresh: Any) -> None:
    code = (
        "import sys; from synergy.cli import main; main(['query']); "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=fresh.folder,
        env=fresh.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"werkzeug", "jinja2", "waitress", "prometheus_client"}
