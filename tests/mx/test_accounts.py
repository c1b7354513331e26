"""Accounts, tokens, links and sessions: what they are kept as, and when they end."""

import json
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from synergy.errors import BadInput, Conflict, NotFound
from synergy.mx import passwords
from synergy.mx.accounts import Accounts
from synergy.mx.files import secret_of
from synergy.mx.roles import Role
from synergy.mx.sessions import Sessions, Throttle

from .conftest import PASSWORD, START, Browser, House


@pytest.mark.parametrize(
    "password",
    [
        *("short", "elevenchars", "aaaaaaaaaaaa", "abababababab", "123456789012", "password1234"),
        *("P@ssw0rd!2026", "qwertyuiop[]", "qwertyuiopas", "abcdefghijkl", "zyxwvutsrqpo"),
        *("letmeinletmein", "iloveyou1234", "welcome2welcome", "administrator1", "maria-maria-1"),
        *("summer2026!!!!", "1qaz2wsx3edc", "monkeydragon99", "x" * 257, "synergy-synergy"),
        "correct horse battery staple",
    ],
)
def test_a_password_that_is_tried_first_is_refused(password: str) -> None:
    assert passwords.faults_of(password, "maria")


@pytest.mark.parametrize(
    "password",
    ["seven purple tractors", "gh7-Kd02-pqLz", "Überraschung am Teich", "wjx kqv bnm tpl"],
)
def test_other_passwords_are_taken(password: str) -> None:
    assert passwords.faults_of(password, "maria") == []


def test_an_account_is_told_all_that_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as told:
        Accounts(tmp_path).add_user("../x", "root", "short", START)
    assert len(told.value.problems) == 3
    assert not Accounts(tmp_path).exist()


def test_nothing_is_kept_by_which_one_could_log_in(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / "console")
    accounts.add_user("maria", "admin", PASSWORD, START)
    token = accounts.add_token("ci", "viewer", START)
    key = accounts.new_link(START)
    kept = "".join(path.read_text() for path in (tmp_path / "console").iterdir())
    assert PASSWORD not in kept
    assert token.removeprefix("syn_") not in kept
    assert key not in kept
    assert "scrypt:32768:8:1$" in kept
    for path in (tmp_path / "console").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((tmp_path / "console").stat().st_mode) == 0o700


def test_an_account_lives_and_ends(tmp_path: Path) -> None:
    accounts, elsewhere = Accounts(tmp_path), Accounts(tmp_path)
    accounts.add_user("maria", "viewer", PASSWORD, START)
    with pytest.raises(Conflict):
        elsewhere.add_user("maria", "admin", PASSWORD, START)
    found = elsewhere.login("maria", PASSWORD)
    assert found is not None
    assert found.role is Role.VIEWER
    assert elsewhere.login("maria", PASSWORD + "!") is None
    assert elsewhere.login("mario", PASSWORD) is None
    accounts.switch("maria", False)
    assert elsewhere.login("maria", PASSWORD) is None
    accounts.remove_user("maria")
    assert elsewhere.users() == {}
    with pytest.raises(NotFound, match="there is none"):
        accounts.change_role("maria", "admin")


def test_who_has_no_account_is_compared_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def fits(stored: str, password: str) -> bool:
        compared.append(stored)
        return False

    monkeypatch.setattr(passwords, "fits", fits)
    accounts = Accounts(tmp_path)
    accounts.login("nobody", PASSWORD)
    assert [stored.split("$")[0] for stored in compared] == ["scrypt:32768:8:1"]


def test_two_installations_have_two_secrets(tmp_path: Path) -> None:
    assert secret_of(tmp_path / "a") != secret_of(tmp_path / "b")
    assert secret_of(tmp_path / "a") == secret_of(tmp_path / "a")
    assert len(secret_of(tmp_path / "a")) == 32


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "accounts.json").write_text('{"users": ')
    with pytest.raises(BadInput, match=r"is damaged .* restore it from a backup"):
        Accounts(tmp_path).users()


def test_changes_from_several_sides_are_all_kept(tmp_path: Path) -> None:
    def add(number: int) -> None:
        Accounts(tmp_path).add_token(f"t{number}", "viewer", START)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert len(Accounts(tmp_path).tokens()) == 40


# links


def test_a_link_opens_once_and_not_for_long(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path)
    key = accounts.new_link(START)
    assert not accounts.use_link("x", START)
    assert accounts.use_link(key, START + timedelta(minutes=14))
    assert not accounts.use_link(key, START)
    late = accounts.new_link(START)
    assert not accounts.use_link(late, START + timedelta(minutes=15))
    before, after = accounts.new_link(START), accounts.new_link(START)
    assert not accounts.use_link(before, START)
    accounts.add_token("ci", "viewer", START)
    assert not accounts.use_link(after, START)  # there are accounts now


def test_a_link_leads_into_a_console_without_accounts(house: House) -> None:
    nobody = house.browser(Role.NOBODY)
    assert nobody.get("/").headers["Location"] == "/login"
    assert "./launch.py console" in nobody.get("/login").get_data(as_text=True)
    key = house.console.accounts.new_link(house.now)
    for _ in range(2):  # looking uses nothing up
        assert nobody.get(f"/enter?key={key}").status_code == 200
    answer = nobody.post("/enter", {"key": key})
    assert answer.headers["Location"] == "/"
    cookie = re.match(r"synergy-\w{8}=([\w-]{43});", answer.headers["Set-Cookie"])
    assert cookie is not None
    local = Browser(house, cookie[1])
    assert local.get("/audit").status_code == 200
    assert nobody.post("/enter", {"key": key}).status_code == 403
    house.console.accounts.add_token("ci", "viewer", house.now)
    assert local.get("/").status_code == 303  # who has an account logs in


# sessions


@pytest.fixture
def maria(house: House) -> Browser:
    """Logged in as a viewer, with a password."""
    house.console.accounts.add_user("maria", "viewer", PASSWORD, house.now)
    return log_in(house)


def log_in(house: House, password: str = PASSWORD, **more: Any) -> Browser:
    answer = house.browser(Role.NOBODY).post("/login", {"user": "maria", "password": password})
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return Browser(house, answer.headers["Set-Cookie"].partition("=")[2].partition(";")[0])


def inside(browser: Browser) -> bool:
    return browser.get("/requests").status_code == 200


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(house: House) -> None:
    house.console.accounts.add_user("maria", "viewer", PASSWORD, house.now)
    answer = house.browser(Role.NOBODY).post("/login", {"user": "maria", "password": PASSWORD})
    parts = {part.strip() for part in answer.headers["Set-Cookie"].split(";")[1:]}
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= parts
    assert "Secure" not in parts  # http on loopback
    assert not any(part.startswith("Domain") for part in parts)


def test_a_session_ends_after_half_an_hour_of_silence(house: House, maria: Browser) -> None:
    for _ in range(5):
        house.pass_by(minutes=29)
        assert inside(maria)
    house.pass_by(minutes=31)
    assert not inside(maria)


def test_a_session_ends_after_twelve_hours(house: House, maria: Browser) -> None:
    for _ in range(24 * 2 - 1):
        house.pass_by(minutes=15)
        assert inside(maria)
    house.pass_by(minutes=16)
    assert not inside(maria)


@pytest.mark.parametrize("what", ["password", "role", "off", "removed"])
def test_a_session_ends_with_what_changes_its_account(
    house: House, maria: Browser, what: str
) -> None:
    other = log_in(house)
    elsewhere = Accounts(house.console.setting.folder)  # the command line
    assert inside(maria)
    match what:
        case "password":
            elsewhere.change_password("maria", "another purple tractor")
        case "role":
            elsewhere.change_role("maria", "admin")
        case "off":
            elsewhere.switch("maria", False)
        case _:
            elsewhere.remove_user("maria")
            elsewhere.add_user("maria", "viewer", PASSWORD, house.now)
    assert not inside(maria)
    assert not inside(other)


def test_a_logout_ends_one_session(house: House, maria: Browser) -> None:
    other = log_in(house)
    assert maria.post("/logout").headers["Location"] == "/login"
    assert not inside(maria)
    assert inside(other)


def test_a_login_takes_another_session(house: House, maria: Browser) -> None:
    answer = maria.post("/login", {"user": "maria", "password": PASSWORD})
    assert answer.status_code == 303
    assert maria.cookie not in answer.headers["Set-Cookie"]
    assert not inside(maria)


def test_sessions_outlive_the_console_and_are_kept_as_hashes(house: House, maria: Browser) -> None:
    console = house.console
    kept = (console.setting.folder / "sessions.json").read_text()
    assert maria.cookie not in kept
    again = Sessions(console.setting.folder, console.accounts, console.setting.clock.now)
    assert again.find(maria.cookie).name == "maria"


def test_who_fails_often_waits(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(passwords, "fits", lambda stored, password: bool(tried.append(password)))
    house.console.accounts.add_user("maria", "viewer", PASSWORD, house.now)
    nobody = house.browser(Role.NOBODY)
    for number in range(1000):
        answer = nobody.post("/login", {"user": "maria", "password": f"guess {number}"})
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert len(tried) <= 10
    waited = 0
    while nobody.post("/login", {"user": "maria", "password": "x"}).status_code == 429:
        house.pass_by(seconds=1)
        waited += 1
    assert 1 <= waited <= 3


def test_waits_grow_to_a_quarter_of_an_hour() -> None:
    now = [START]
    throttle = Throttle(lambda: now[0])
    waits = []
    for _ in range(20):
        throttle.failed("user:maria")
        waits.append(throttle.wait("user:maria", "address:x").total_seconds())
    assert waits[:4] == [0, 0, 0, 0]
    assert waits[4:9] == [2, 4, 8, 16, 32]
    assert waits[-1] == 900
    assert throttle.wait("user:other") == timedelta(0)
    throttle.succeeded("user:maria")
    assert throttle.wait("user:maria") == timedelta(0)


def test_every_login_and_refusal_is_written_down(house: House) -> None:
    house.console.accounts.add_user("maria", "viewer", PASSWORD, house.now)
    nobody = house.browser(Role.NOBODY)
    nobody.post("/login", {"user": "maria", "password": "wrong"})
    maria = log_in(house)
    maria.post("/t/site_hourly/2026-11-20T07/skip", {"reason": "x"})
    maria.get("/audit")
    maria.post("/logout")
    told = [
        (line["who"], line["action"], line["result"])
        for line in reversed(house.console.audit.newest(100))
    ]
    assert told == [
        ("nobody", "login", "refused"),
        ("nobody", "login", "done"),
        ("maria", "act", "refused"),
        ("maria", "audit", "refused"),
        ("maria", "logout", "done"),
    ]
    assert house.console.audit.verify().problems == ()
    assert PASSWORD not in json.dumps(house.console.audit.newest(100))
