"""What must hold for every route, also for those that nobody has thought of yet: all of it is made
of the table."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from werkzeug.routing import Map

from synergy.mx.gate import HEADERS, MOST_BYTES, local_path
from synergy.mx.roles import Role
from synergy.mx.routes import Route
from synergy.mx.table import API, ROUTES

from .conftest import FAILED, FIRED, HOST, ORIGIN, Browser, Build, House

NAMES = [route.name for route in ROUTES]
#: Something that exists, for each part of a path.
PARTS = {
    "process": "site_hourly",
    "freerun": "sweep",
    "firing": FIRED,
    "label": FAILED,
    "action": "reprocess",
    "id": "r1",
    "file": "console.css",
}
#: What is asked for besides.
QUERIES = {"api_intervals": "?process=site_hourly", "api_changes": "?after=0"}
FORMS: dict[str, dict[str, str]] = {
    "act": {"reason": "its source is back", "planned": '{"site_hourly": [0, 9999999999]}'}
}
BODIES: dict[str, dict[str, Any]] = {
    "api_file_request": {
        "action": "reprocess",
        "process": "site_hourly",
        "intervals": [FAILED],
        "reason": "its source is back",
    }
}
#: Who may use which route: the table of the table.  A new route is entered here, on purpose.
MATRIX = {
    Role.NOBODY: {
        *("login", "log_in", "enter", "come_in", "static", "livez", "readyz", "metrics"),
    },
    Role.VIEWER: {
        *("now", "timetable", "interval", "log", "processes", "process", "requests", "request"),
        *("boxes", "search", "logout", "freeruns", "freerun", "firing_log"),
        *("api_status", "api_processes", "api_intervals", "api_interval", "api_why", "api_jobs"),
        *("api_requests", "api_request", "api_boxes", "api_changes", "api_openapi"),
        "api_why_freerun",
    },
    Role.OPERATOR: {"plan", "act", "fire", "api_file_request"},
    Role.ADMIN: {"audit"},
}


def path_of(route: Route) -> str:
    return re.sub(r"<(?:[^:>]+:)?(\w+)>", lambda part: PARTS[part[1]], route.path) + QUERIES.get(
        route.name, ""
    )


def ask(browser: Browser, route: Route, **more: Any) -> Any:
    """As its own page or program would."""
    if "POST" not in route.methods:
        return browser.get(path_of(route), **more)
    if route.takes:
        headers = {"Origin": ORIGIN, "X-Form-Token": browser.form_token()}
        headers.update(more.pop("headers", {}))
        body = json.dumps(BODIES[route.name])
        return browser.open(
            path_of(route),
            "POST",
            data=body,
            content_type=more.pop("content_type", "application/json"),
            headers=headers,
            **more,
        )
    return browser.post(path_of(route), FORMS.get(route.name), **more)


def by_name(name: str) -> Route:
    return next(route for route in ROUTES if route.name == name)


def test_every_route_has_its_place_in_the_matrix() -> None:
    told = {name: role for role, names in MATRIX.items() for name in names}
    assert {route.name: route.role for route in ROUTES} == told


def test_routes_have_names_of_their_own_and_the_console_answers_nothing_else(house: House) -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert isinstance(house.console._map, Map)
    assert {rule.endpoint for rule in house.console._map.iter_rules()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_role_may_what_the_matrix_says(house: House, name: str) -> None:
    route = by_name(name)
    house.stage.request("reprocess", "site_hourly", FAILED)  # r1
    for role in Role:
        status = ask(house.browser(role), route).status_code
        if role < route.role:
            expected = {403} if role is not Role.NOBODY else {303, 401}
        elif name in ("log_in", "come_in"):  # nothing right was sent
            expected = {403}
        else:
            expected = {200, 202, 303}
        assert status in expected, (role, status)


def test_nobody_learns_anything_by_any_method(house: House) -> None:
    house.browser(Role.VIEWER)  # there are accounts
    nobody = house.browser(Role.NOBODY)
    paths = [path_of(route) for route in ROUTES if route.role is not Role.NOBODY]
    for path in (*paths, "/none", "/api/v1/none"):
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE"):
            answer = nobody.open(path, method)
            assert answer.status_code in (303, 401, 403), (path, method, answer.status_code)
            assert "site_daily" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("name", NAMES)
def test_looking_changes_nothing(house: House, name: str) -> None:
    house.stage.request("reprocess", "site_hourly", FAILED)  # r1
    browser, route = house.browser(Role.ADMIN), by_name(name)
    before = house.digest()
    for method in ("GET", "HEAD", "OPTIONS"):
        answer = browser.open(path_of(route), method)
        assert answer.status_code < 500, (method, answer.status_code)
        if not route.changes and method != "OPTIONS":
            assert answer.status_code in (200, 303)
    house.console.living.look()
    assert house.digest() == before
    assert not house.rings


OTHER_SITES: list[dict[str, str]] = [
    {"Origin": "", "Sec-Fetch-Site": ""},
    {"Origin": "null"},
    {"Origin": "https://evil.example"},
    {"Origin": ORIGIN + ".evil.example"},
    {"Origin": "https://" + HOST},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("name", [route.name for route in ROUTES if route.changes])
def test_another_sites_page_changes_nothing(house: House, name: str) -> None:
    browser, route = house.browser(Role.ADMIN), by_name(name)
    body = {**FORMS.get(name, {}), "form_token": browser.form_token()}
    before = house.digest()
    for other in OTHER_SITES:
        sent = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin", **other}
        headers = {key: value for key, value in sent.items() if value}
        answer = browser.open(path_of(route), "POST", data=body, headers=headers)
        assert answer.status_code == 403, other
    assert house.digest() == before


@pytest.mark.parametrize(
    "name",
    [route.name for route in ROUTES if route.changes and route.role is not Role.NOBODY],
)
@pytest.mark.parametrize("token", ["", "0" * 64, "another's"])
def test_a_form_of_another_session_is_refused(house: House, name: str, token: str) -> None:
    if token == "another's":
        token = house.browser(Role.VIEWER).form_token()
    browser, route = house.browser(Role.ADMIN), by_name(name)
    before = house.digest()
    if route.takes:
        answer = ask(browser, route, headers={"X-Form-Token": token})
    else:
        answer = browser.post(path_of(route), {**FORMS.get(name, {}), "form_token": token})
    assert answer.status_code == 403
    assert house.digest() == before
    last = house.console.audit.newest(1)[0]
    assert (last["who"], last["action"], last["result"]) == ("admin", name, "refused")


@pytest.mark.parametrize("name", NAMES)
def test_every_answer_has_the_headers(house: House, name: str) -> None:
    for role in Role:
        answer = ask(house.browser(role), by_name(name))
        for header, value in HEADERS.items():
            if name == "static" and header == "Cache-Control":
                continue
            assert answer.headers[header] == value, header
        assert "Server" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "unsafe-inline" not in answer.headers["Content-Security-Policy"]
        assert "Strict-Transport-Security" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example:8080", "", "localhost@x"]
)
def test_it_answers_to_its_own_names_only(house: House, host: str) -> None:
    answer = house.browser(Role.ADMIN).get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert "site" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "LOCALHOST:1", "[::1]:8080"])
def test_it_answers_to_all_names_of_loopback(house: House, host: str) -> None:
    assert house.browser(Role.ADMIN).get("/", headers={"Host": host}).status_code == 200


def test_a_large_body_is_refused(house: House) -> None:
    browser = house.browser(Role.ADMIN)
    large = browser.post(f"/t/site_hourly/{FAILED}/reprocess", {"reason": "x" * MOST_BYTES})
    assert large.status_code == 413
    text = json.dumps({**BODIES["api_file_request"], "reason": "x" * MOST_BYTES})
    answer = browser.open("/api/v1/requests", "POST", data=text, content_type="application/json")
    assert answer.status_code == 413


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_the_api_takes_json_only(house: House, kind: str) -> None:
    browser = house.browser(Role.OPERATOR)
    answer = ask(browser, by_name("api_file_request"), content_type=kind)
    assert answer.status_code == 415
    assert answer.mimetype == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "no JSON"),
        ("[" * 100 + "]" * 100, "nests deeper"),
        ('{"action": {"$ne": null}, "process": "site_hourly"}', "is none of reprocess"),
        ('{"action": "reprocess", "process": {"$ne": null}}', "is not a text"),
        ('{"action": "reprocess", "process": "site_hourly", "more": 1}', 'there is no "more"'),
        ('{"action": "drop", "process": "site_hourly"}', "is none of reprocess"),
        ('{"action": "reprocess", "process": "site_hourly"}', "it names no interval"),
        ("[]", "is not an object"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused_in_words(
    house: House, body: str, said: str
) -> None:
    browser = house.browser(Role.OPERATOR)
    headers = {"Origin": ORIGIN, "X-Form-Token": browser.form_token()}
    before = house.digest()
    answer = browser.open(
        "/api/v1/requests", "POST", data=body, content_type="application/json", headers=headers
    )
    assert answer.status_code == 400
    assert said in json.loads(answer.data)["detail"]
    assert house.digest() == before


@pytest.mark.parametrize("route", API, ids=lambda route: route.name)
def test_the_api_knows_no_callback(house: House, route: Route) -> None:
    if route.changes:
        return
    house.stage.request("reprocess", "site_hourly", FAILED)  # r1
    mark = "&" if "?" in path_of(route) else "?"
    answer = house.browser(Role.VIEWER).get(f"{path_of(route)}{mark}callback=alert&format=js")
    assert answer.mimetype == "application/json"
    assert not answer.get_data(as_text=True).startswith("alert")


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "password"])
def test_a_token_in_an_address_is_refused(house: House, name: str) -> None:
    token = house.console.accounts.add_token("ci", "viewer", house.now)
    answer = house.browser(Role.NOBODY).get(f"/api/v1/status?{name}={token}")
    assert answer.status_code == 400
    assert token not in answer.get_data(as_text=True)


def test_a_token_needs_no_form_and_has_its_role(house: House) -> None:
    route = by_name("api_file_request")
    for role, expected in (("viewer", 403), ("operator", 202)):
        token = house.console.accounts.add_token(role, role, house.now)
        answer = house.browser(Role.NOBODY).open(
            path_of(route),
            "POST",
            json=BODIES[route.name],
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == expected
    assert house.stage.store.open_requests()[0].actor == "token:operator"
    assert house.rings == ["scheduler"]


def test_a_token_ends(house: House) -> None:
    accounts = house.console.accounts
    token = accounts.add_token("ci", "viewer", house.now)
    headers = {"Authorization": f"Bearer {token}"}
    nobody = house.browser(Role.NOBODY)
    assert nobody.get("/api/v1/status", headers=headers).status_code == 200
    house.pass_by(days=91)
    assert nobody.get("/api/v1/status", headers=headers).status_code == 401
    house.pass_by(days=-91)
    accounts.remove_token("ci")
    assert nobody.get("/api/v1/status", headers=headers).status_code == 401
    assert token.removeprefix("syn_") not in (house.folder / "console/accounts.json").read_text()


@pytest.mark.parametrize(
    "text",
    [
        *("", "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example"),
        *("https://evil.example", "http:evil.example", "javascript:alert(1)", "evil.example"),
        *("/\t/evil.example", "/\n/evil.example", " //evil.example", "/é", "/\x00"),
    ],
)
def test_nobody_is_sent_to_another_site(text: str) -> None:
    assert local_path(text) == "/"


@pytest.mark.parametrize("text", ["/", "/timetable?level=day&from=2026-11-20", "/t/a/2026-11-20"])
def test_one_is_sent_back_to_where_one_wanted(text: str) -> None:
    assert local_path(text) == text


# what is not ours is text


class Elements(HTMLParser):
    """All elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}${7*7}<%= 7*7 %>",
    "javascript:alert(1)",
    "\x1b[31mred\x1b]8;;http://evil.example\x07link",
    "\u202egpj.exe",
    "'; DROP TABLE jobs; --",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_jobs_and_people_say_is_never_markup(build: Build, text: str) -> None:
    house = build()
    stage = house.stage

    def worker(unit: Any, now: Any) -> Any:
        from synergy.core import recovery

        return recovery.after_failure(unit, now, text)

    stage.work(worker)
    stage.request("reprocess", "site_hourly", FAILED, reason=text)
    log = house.folder / "logs/site_hourly" / FAILED / "g1.r0.a1.log"
    log.parent.mkdir(parents=True)
    log.write_text(text)
    browser = house.browser(Role.ADMIN)
    house.console.living.look()
    clean = Elements(house.browser(Role.ADMIN).get("/boxes").get_data(as_text=True)).found
    tags = {tag for tag, _ in clean} | {"progress", "pre", "svg", "rect", "ol", "dl", "dt", "dd"}
    tags |= {"div", "strong", "small", "label", "select", "option", "code", "table", "caption"}
    tags |= {"thead", "tbody", "tr", "th", "td", "h2", "h3", "time", "section", "ul", "li"}
    for path in (
        "/",
        f"/t/site_hourly/{FAILED}",
        f"/t/site_hourly/{FAILED}/log",
        f"/t/site_hourly/{FAILED}/log?generation=1",
        "/requests",
        "/requests/r1",
        f"/search?q={text.encode().hex()}",
    ):
        page = browser.get(path)
        assert page.status_code == 200, path
        shown = page.get_data(as_text=True)
        for tag, attributes in Elements(shown).found:
            assert tag in tags, (path, tag)
            assert not any(name.startswith("on") or name == "style" for name in attributes)
            assert not (attributes.get("href") or "").startswith(("javascript", "http"))
        assert shown.count("<script") == 1  # ours
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    found = browser.get("/search", query_string={"q": text}).get_data(as_text=True)
    assert {tag for tag, _ in Elements(found).found} <= tags


def test_templates_and_scripts_have_nothing_that_the_policy_would_stop() -> None:
    from pathlib import Path

    import synergy.mx

    folder = Path(synergy.mx.__file__).parent
    for template in (folder / "templates").glob("*.html"):
        text = template.read_text("utf-8")
        assert not re.search(r"\son\w+=|\sstyle=|\|\s*safe|<script(?![^>]*src=)", text), template
    for script in (folder / "static").glob("*.js"):
        text = script.read_text("utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|Function\(", text)


def test_a_defect_is_told_as_a_number(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(house.console.living, "picture", broken)
    browser = house.browser(Role.VIEWER)
    for path, kind in (("/timetable", "text/html"), ("/api/v1/status", "application/problem+json")):
        answer = browser.get(path)
        text = answer.get_data(as_text=True)
        assert answer.status_code == 500
        assert answer.mimetype == kind
        assert "secret" not in text
        assert "Traceback" not in text
        assert "something went wrong here" in text
