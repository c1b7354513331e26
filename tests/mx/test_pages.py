"""What the pages say, read from their HTML; and the API."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from synergy import Context, freerun, hourly, tree
from synergy.capture import attempt_log_path
from synergy.core.model import Request
from synergy.mx.roles import Role
from synergy.mx.table import API
from synergy.testing.stage import fails, processes

from .conftest import FAILED, FIRED, Browser, Build, House

VOID = {"meta", "link", "input", "img", "rect", "br"}


class Page(HTMLParser):
    """A page as a tree of which one may ask for texts; complains of what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [
            found
            for name, found in self.tags
            if name == tag and attributes.items() <= found.items()
        ]


@pytest.fixture
def browser(house: House) -> Browser:
    return house.browser(Role.OPERATOR)


def page(browser: Browser, path: str) -> Page:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return Page(answer.get_data(as_text=True))


PATHS = [
    *("/", "/timetable", "/timetable?level=day", "/timetable?level=week", "/timetable?level=month"),
    *("/timetable?level=year", "/processes", "/processes/site_hourly", "/requests", "/boxes"),
    *("/freeruns", "/freeruns/sweep"),
    *(f"/t/site_hourly/{FAILED}", "/t/site_monthly/2026-11", "/t/site_hourly/2026-11-21T16"),
    *("/search?q=none", "/processes/site_daily?from=2026-11-18&to=2026-11-19"),
]


@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_sound_and_can_be_used_without_eyes(browser: Browser, path: str) -> None:
    found = page(browser, path)
    assert [tag for tag, _ in found.tags].count("h1") == 1
    assert found.all("html", lang="en")
    assert found.all("main", id="main")
    assert found.all("a", href="#main")  # the skip link
    labels = {label.get("for") for label in found.all("label")}
    for field in found.all("input"):
        hidden = field.get("type") == "hidden"
        assert hidden or field.get("id") in labels or len(labels) > 1
    for heading in found.all("th"):
        assert "scope" in heading
    for image in found.all("img"):
        assert "alt" in image
    for link in found.all("a"):
        assert link["href"].startswith(("/", "#"))
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", PATHS)
def test_every_link_leads_somewhere(browser: Browser, path: str) -> None:
    for link in {link["href"] for link in page(browser, path).all("a")}:
        if link.startswith("/") and not link.startswith("/audit"):
            assert browser.get(link).status_code in (200, 303), link


def test_now_says_what_is_wrong_and_what_it_holds_up(browser: Browser) -> None:
    text = page(browser, "/").text
    assert f"site_hourly {FAILED}" in text
    assert "it failed" in text
    assert "1 site_daily, 1 site_monthly, 1 client_daily" in text
    assert "No unit is at work." in text


def test_now_says_what_runs(house: House) -> None:
    house.stage.advance(hours=1)
    house.stage.claim(limit=1)
    house.pass_by(seconds=90)
    text = page(house.browser(Role.VIEWER), "/").text
    assert "site_hourly 2026-11-20T15" in text
    assert "1 min 30 s" in text


def test_the_timetable_shows_states_by_sign_and_by_word(browser: Browser) -> None:
    found = page(browser, "/timetable?level=hour&from=2026-11-20&to=2026-11-20")
    cells = {
        cell["href"]: cell for cell in found.all("a") if cell.get("class", "").startswith("cell")
    }
    assert len(found.all("th", scope="col")) == 24 + 1 + 2  # hours, the corner, the day list
    failed = cells[f"/t/site_hourly/{FAILED}"]
    assert "s-failed" in failed["class"]
    assert failed["title"].startswith(f"site_hourly {FAILED}; failed")
    assert "s-processed" in cells["/t/site_hourly/2026-11-20T06"]["class"]
    assert "s-not_due" in cells["/t/site_hourly/2026-11-20T16"]["class"]
    assert "✕ failed 1" in found.text
    spans = [cell for cell in found.all("td") if cell.get("colspan") == "24"]
    assert len(spans) == 3  # the days and the month


def test_the_timetable_rolls_up_what_is_finer(browser: Browser) -> None:
    found = page(browser, "/timetable?level=day&from=2026-11-18&to=2026-11-20&tree=site")
    rolled = [cell for cell in found.all("a") if "many" in cell.get("class", "")]
    assert [cell["title"] for cell in rolled] == [
        "site_hourly 2026-11-18: 24 processed",
        "site_hourly 2026-11-19: 24 processed",
        "site_hourly 2026-11-20: 1 failed, 14 processed, 9 not_due",
    ]
    assert "client_daily" not in found.text


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/timetable?level=century", "there is no level 'century'; there are hour, day"),
        ("/timetable?from=tomorrow", "'tomorrow' is no day; accepted are such as 2026-11-20"),
        ("/timetable?from=2026-11-20&to=2026-11-01", "ends (2026-11-01) before it begins"),
        ("/timetable?tree=none", "there is no tree 'none'; there are site, client"),
        ("/t/site_hourly/2026-11", "is no interval of the hourly calendar of UTC"),
        ("/t/site_hourly/2026-11-20T07/log?from=x", "from 'x' is not a number"),
    ],
)
def test_what_cannot_be_shown_is_told_in_a_sentence(browser: Browser, path: str, said: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 400
    assert said in Page(answer.get_data(as_text=True)).text


@pytest.mark.parametrize(
    "path", ["/t/none/2026", "/t/site_hourly/2026-11-01T00", "/processes/none", "/requests/none"]
)
def test_what_is_not_there_is_not_found(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code == 404


def test_an_interval_tells_why_and_what_may_be_done(browser: Browser) -> None:
    text = page(browser, f"/t/site_hourly/{FAILED}").text
    assert "given up: attempt 1 (the last of 1): it failed" in text
    assert "Reprocess…" in text
    assert "Skip…" in text
    assert "site_daily 2026-11-20" in text
    waiting = page(browser, "/t/site_daily/2026-11-20").text
    assert "14 of 24 finished: 1 failed, 14 processed, 9 not_due" in waiting


def test_a_viewer_is_told_that_he_may_look(house: House) -> None:
    found = page(house.browser(Role.VIEWER), f"/t/site_hourly/{FAILED}")
    assert "Your role is viewer: it may look." in found.text
    assert [form["action"] for form in found.all("form", method="post")] == ["/logout"]


def ask_for(browser: Browser, path: str, **more: str) -> Any:
    """Look at what an action would do, and send the form that is shown there."""
    found = page(browser, path)
    form = {
        field["name"]: field.get("value", "")
        for field in found.all("input")
        if field["name"] not in ("q", "form_token")
    }
    return browser.post(path, {**form, "reason": "its source is back", **more})


RERUN = f"/t/site_hourly/{FAILED}/reprocess"


def test_a_plan_says_what_would_change(house: House, browser: Browser) -> None:
    before = house.digest()
    text = page(browser, RERUN).text
    assert "This would change 1 interval: 1 site_hourly . Nothing has changed yet." in text
    assert "Reprocess 1 interval" in text
    house.stage.request("skip", "site_hourly", FAILED)
    house.pass_by(seconds=1)  # what is shown is no older
    assert "Nothing would change." in page(browser, RERUN.replace("reprocess", "skip")).text
    assert house.digest() != before
    before = house.digest()
    text = page(browser, "/t/site_daily/2026-11-19/reprocess").text
    assert "2 intervals: 1 site_daily, 1 client_daily" in text
    assert house.digest() == before


def test_a_backfill_that_is_planned_is_shown_as_one(house: House, browser: Browser) -> None:
    start = int(house.stage.interval("site_hourly", FAILED).start.timestamp())
    house.stage.file(
        Request(
            id="fill",
            action="backfill",
            process="site_hourly",
            starts=(),
            filed_at=house.stage.clock.now(),
            options={"targets": [start, start + 7200], "total": 2},
            state="planned",
        )
    )
    house.stage.request("backfill", "site_hourly", change="pause", id="fill")
    listed = page(browser, "/requests").text
    labels = "2 from 2026-11-20 07:00 to 2026-11-20 09:00"
    assert f"backfill site_hourly {labels} planned" in listed
    assert "backfill site_hourly pause fill refused" in listed
    text = page(browser, "/requests/fill").text
    assert "planned; nothing comes of it until it is applied" in text
    assert labels in text


def test_an_action_is_filed_written_down_and_carried_out(house: House, browser: Browser) -> None:
    answer = ask_for(browser, RERUN, reason=" its source \n is back")
    assert answer.status_code == 303
    filed = house.stage.store.open_requests()[0]
    assert (filed.action, filed.process, filed.actor) == ("reprocess", "site_hourly", "operator")
    assert filed.reason == "its source is back"
    assert filed.options["changes"] == 1
    assert answer.headers["Location"] == f"/requests/{filed.id}"
    assert house.rings == ["scheduler"]
    last = house.console.audit.newest(1)[0]
    assert (last["who"], last["action"], last["request"]) == ("operator", "reprocess", filed.id)
    waiting = page(browser, f"/requests/{filed.id}").text
    assert "filed; the scheduler has not answered yet" in waiting
    house.stage.settle()
    text = page(browser, f"/requests/{filed.id}").text
    assert "done" in text
    assert f"site_hourly {FAILED}" in text


def test_an_action_without_a_reason_is_refused(house: House, browser: Browser) -> None:
    answer = ask_for(browser, RERUN, reason=" ")
    assert answer.status_code == 400
    assert "it has no reason" in answer.get_data(as_text=True)
    assert house.stage.store.open_requests() == []


@pytest.mark.parametrize("planned", ["", "{}", "[]", "{", '{"site_hourly": [1e999, 2]}', "null"])
def test_what_was_not_looked_at_is_not_done(house: House, browser: Browser, planned: str) -> None:
    answer = ask_for(browser, RERUN, planned=planned)
    assert answer.status_code == 409
    text = Page(answer.get_data(as_text=True)).text
    assert "This would change 1 interval" in text
    assert "look at what it would do first" in text or "would change too by now" in text
    assert house.stage.store.open_requests() == []


def test_many_intervals_are_meant_when_their_number_is_typed(
    house: House, browser: Browser
) -> None:
    path = "/t/site_monthly/2026-11/skip"
    count = re.search(r"This would change (\d+) intervals", page(browser, path).text)
    assert count is not None
    assert int(count[1]) > 100
    refused = ask_for(browser, path, count="7")
    assert refused.status_code == 409
    assert "type that number" in refused.get_data(as_text=True)
    assert ask_for(browser, path, count=count[1]).status_code == 303


def test_nothing_happens_that_cannot_be_written_down(
    house: House, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(house.console.audit, "record", full)
    assert ask_for(browser, RERUN).status_code == 500
    assert house.stage.store.open_requests() == []


def test_a_freerun_tells_when_it_fires_and_how_its_firings_came_out(
    house: House, browser: Browser
) -> None:
    text = page(browser, "/freeruns").text
    assert "sweep every 3600 2026-11-20 16:00 (in 30 min)" in text
    assert f"{FIRED[:10]} 15:30 (0 ms ago) ● processed" in text
    text = page(browser, "/freeruns/sweep").text
    assert "2026-11-20 17:00 (in 1 h 30 min)" in text
    house.stage.request("switch", "sweep", reason="the disk is full", on=False)
    house.pass_by(seconds=1)
    assert "off" in page(browser, "/freeruns").text
    text = page(browser, "/freeruns/sweep").text
    assert "sweep is switched off since 2026-11-20 15:30:00 UTC" in text
    assert "the disk is full" in text
    assert "17:00" not in text
    assert browser.get("/freeruns/swep").status_code == 404
    assert browser.get("/freeruns/sweep/2026-11-20T15:31:00Z/log").status_code == 404


def test_a_freerun_is_run_now_and_its_log_is_read(house: House, browser: Browser) -> None:
    house.pass_by(minutes=5)
    answer = browser.post("/freeruns/sweep/fire", {"reason": "  to see  "})
    assert answer.status_code == 303
    filed = house.stage.store.open_requests()[0]
    assert (filed.action, filed.process, filed.reason) == ("trigger", "sweep", "to see")
    house.stage.settle()
    house.stage.work(processes)
    touched = page(browser, answer.headers["Location"])
    (link,) = [link["href"] for link in touched.all("a") if link["href"].endswith("/log")]
    assert link == "/freeruns/sweep/2026-11-20T15:35:00Z/log"
    assert "left no log on box box-1" in page(browser, link).text
    log = attempt_log_path(house.folder / "logs", "sweep", "2026-11-20T15:35:00Z", 1, 0, 1)
    log.parent.mkdir(parents=True)
    log.write_bytes(b"swept <b>7</b> files\n")
    assert "swept <b>7</b> files" in page(browser, link).text
    assert link in [found["href"] for found in page(browser, "/freeruns/sweep").all("a")]


def test_a_log_is_read_window_by_window(house: House, browser: Browser) -> None:
    log = house.folder / "logs/site_hourly" / FAILED / "g1.r0.a1.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"".join(b"line %06d\n" % number for number in range(20_000)))
    path = f"/t/site_hourly/{FAILED}/log"
    last = page(browser, path)
    assert "line 019999" in last.text
    assert "line 000000" not in last.text
    assert "of 240,000" in last.text
    first = page(browser, f"{path}?from=0")
    assert "line 000000" in first.text
    following = next(link["href"] for link in first.all("a", rel="next"))
    assert "line 005462" in page(browser, following).text
    assert "line 019999" in page(browser, f"/t/site_hourly/{FAILED}").text  # its end
    assert browser.get(f"{path}?attempt=9").status_code == 404


def test_a_log_that_leads_elsewhere_is_not_read(house: House, browser: Browser) -> None:
    (house.folder / "secret").write_text("the secret")
    log = house.folder / "logs/site_hourly" / FAILED / "g1.r0.a1.log"
    log.parent.mkdir(parents=True)
    log.symlink_to(house.folder / "secret")
    for path in (f"/t/site_hourly/{FAILED}/log", f"/t/site_hourly/{FAILED}"):
        assert "the secret" not in browser.get(path).get_data(as_text=True)


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../accounts.json", "/static/..%2f..%2fsecret", "/static/%2e%2e/secret"),
        *("/static/console.css%00", "/static//etc/passwd", "/static/templates/shell.html"),
        *("/t/..%2f..%2fetc/passwd/log", "/t/site_hourly/..%2f..%2fsecret/log"),
        "/t/site_hourly/%2e%2e%2f%2e%2e%2fsecret/log",
    ],
)
def test_no_path_leads_out(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code in (400, 404)


@pytest.mark.parametrize("text", ["site_hourly", "site_hourly 2026-11-20T07", "hourly"])
def test_search_goes_there(browser: Browser, text: str) -> None:
    answer = browser.get("/search", query_string={"q": text})
    assert answer.status_code == 303
    assert browser.get(answer.headers["Location"]).status_code == 200


def test_files_are_kept_by_browsers_and_pages_are_not(browser: Browser) -> None:
    sheet = page(browser, "/").all("link", rel="stylesheet")[0]["href"]
    answer = browser.get(sheet)
    assert "immutable" in answer.headers["Cache-Control"]
    again = browser.get(sheet, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert browser.get("/").headers["Cache-Control"] == "no-store"


# the API


def test_the_document_describes_what_is_there(browser: Browser) -> None:
    document = browser.get("/api/v1/openapi.json").json
    assert document["openapi"] == "3.1.0"
    described = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert described == {
        (method, re.sub(r"<(?:path:)?(\w+)>", r"{\1}", route.path))
        for route in API
        for method in route.methods
    }
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("route", API, ids=lambda route: route.name)
def test_answers_are_as_described(house: House, route: Any) -> None:
    if route.changes:
        return
    house.stage.request("reprocess", "site_hourly", FAILED, reason="x")  # r1
    path = route.path.replace("<process>", "site_hourly").replace("<path:label>", FAILED)
    path = path.replace("<id>", "r1").replace("<freerun>", "sweep")
    query = {"api_intervals": "?process=site_hourly", "api_changes": "?after=0"}
    answer = house.browser(Role.VIEWER).get(path + query.get(route.name, ""))
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    if route.gives:
        Draft202012Validator(dict(route.gives)).validate(answer.json)


def test_intervals_come_page_by_page_and_each_once(browser: Browser) -> None:
    path = "/api/v1/intervals?process=site_hourly&from=2026-11-19T20&to=2026-11-20T05&limit=4"
    labels, after = [], ""
    while True:
        answer = browser.get(f"{path}&after={after}" if after else path).json
        labels += [item["interval"] for item in answer["items"]]
        after = answer["next"]
        if after is None:
            break
    assert labels == [
        *(f"2026-11-19T{hour}" for hour in range(20, 24)),
        *(f"2026-11-20T0{hour}" for hour in range(6)),
    ]
    failed = browser.get("/api/v1/intervals?process=site_hourly&state=failed").json
    assert [item["interval"] for item in failed["items"]] == [FAILED]


def test_changes_are_told_from_a_number_on(house: House, browser: Browser) -> None:
    seq = browser.get("/api/v1/status").json["seq"]
    path = f"/api/v1/changes?after={seq}"
    nothing = browser.get(path)
    assert nothing.json == {"seq": seq, "changes": [], "more": False}
    again = browser.get(path, headers={"If-None-Match": nothing.headers["ETag"]})
    assert again.status_code == 304
    house.stage.advance(hours=1)
    house.stage.work(fails)
    browser = house.browser(Role.VIEWER)  # the other's session has ended meanwhile
    news = browser.get(path, headers={"If-None-Match": nothing.headers["ETag"]}).json
    assert {change["process"] for change in news["changes"]} >= {"site_hourly"}
    numbers = [change["seq"] for change in news["changes"]]
    assert numbers == [*range(seq + 1, news["seq"] + 1)]
    assert browser.get(f"/api/v1/changes?after={news['seq'] + 5}").status_code == 410
    house.stage.store.prune_feed(seq + 2)
    assert browser.get(path).status_code == 410


def test_asking_twice_with_one_key_is_asking_once(house: House) -> None:
    token = house.console.accounts.add_token("ci", "operator", house.now)
    body = {
        "action": "skip",
        "process": "site_hourly",
        "intervals": [FAILED],
        "reason": "its source is gone",
    }
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "4711"}
    nobody = house.browser(Role.NOBODY)
    first = nobody.open("/api/v1/requests", "POST", json=body, headers=headers)
    house.stage.settle()
    second = nobody.open("/api/v1/requests", "POST", json=body, headers=headers)
    assert first.status_code == second.status_code == 202
    assert first.json["id"] == second.json["id"]
    assert second.json["state"] == "done"
    assert len(house.stage.store.last_requests(10)) == 2  # and the one of the fixture
    other = {**body, "intervals": ["2026-11-20T08"]}
    assert nobody.open("/api/v1/requests", "POST", json=other, headers=headers).status_code == 400


def test_what_is_wrong_with_a_request_is_told_all_at_once(house: House) -> None:
    token = house.console.accounts.add_token("ci", "operator", house.now)
    answer = house.browser(Role.NOBODY).open(
        "/api/v1/requests",
        "POST",
        json={"action": "skip", "process": "sweep", "intervals": ["2026"]},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 400
    assert answer.json["detail"].splitlines()[1:] == [
        "  - sweep is a freerun, it can only be triggered",
        "  - sweep is a freerun, it has no intervals",
        "  - it has no reason; say why, it is kept with every job that it touches",
    ]


def test_a_firing_in_the_way_of_an_interval_leads_to_its_freerun(
    build: Build,
) -> None:
    context = Context(
        tree("t", [hourly("hour", run="w:f", pool="db")], start="2026-11-20T15:00", lag=0),
        freerun("sweep", run="w:f", at="every 1800", pool="db"),
        pools={"db": 1},
    )
    house = build(context, at="2026-11-20T15:10Z")
    house.stage.until("2026-11-20T16:05Z")
    text = house.browser(Role.VIEWER).get("/t/hour/2026-11-20T15").get_data(as_text=True)
    assert '<a href="/freeruns/sweep">sweep <span class="label">2026-11-20T15:30:00Z</span>' in text
    text = page(house.browser(Role.VIEWER), "/freeruns/sweep").text
    assert "a worker" in text  # why that one waits
    answer = house.browser(Role.VIEWER).get("/api/v1/intervals/hour/2026-11-20T15/why").json
    assert [link["process"] for link in answer["chain"]] == ["sweep", "hour"]


def test_the_api_tells_why_of_a_freerun(house: House) -> None:
    browser = house.browser(Role.VIEWER)
    answer = browser.get("/api/v1/freeruns/sweep/why").json
    assert (answer["process"], answer["interval"]) == ("sweep", FIRED)
    assert answer["root"]["cause"] == "ended"
    unknown = browser.get("/api/v1/freeruns/sweeep/why")
    assert unknown.status_code == 404
    assert "known are sweep" in unknown.json["detail"]


def test_figures_have_no_label_for_an_interval(house: House) -> None:
    text = house.browser(Role.NOBODY).get("/metrics").get_data(as_text=True)
    assert 'synergy_jobs{process="site_hourly",state="failed"} 1.0' in text
    assert "2026-11" not in text
    labels = set(re.findall(r"(\w+)=\"", text))
    assert labels == {"process", "state"}


def test_a_console_before_the_first_scheduler_says_so(build: Build) -> None:
    house = build()
    house.stage.store.save_document("catalog", "catalog", None, None)
    browser = house.browser(Role.ADMIN)
    answer = browser.get("/")
    assert answer.status_code == 404
    assert "no scheduler has ever worked on the store" in answer.get_data(as_text=True)
    assert browser.get("/audit").status_code == 200
    assert json.loads(browser.get("/readyz").data) == {"ready": False}
