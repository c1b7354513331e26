"""The table of routes: everything that the console answers, and who may ask for it."""

from collections.abc import Mapping
from typing import Any, Final

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from synergy.mx import api, entrance, freeruns, screens
from synergy.mx.console import Console
from synergy.mx.metrics import metrics
from synergy.mx.roles import Role
from synergy.mx.routes import Call, Route

_PAGED: Mapping[str, str] = {"limit": "how many at most, 1 to 1000 (100)"}


def static(console: Console, call: Call) -> Response:
    """One of the files that pages are made with."""
    file = console.templates.static.get(call.path["file"])
    if file is None:
        raise NotFound
    answer = Response(file.content, content_type=file.type)
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    answer.set_etag(file.version)
    return answer


def _object(**parts: Any) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in parts.items()},
        "required": [*parts],
    }


def _items(**parts: Any) -> Mapping[str, Any]:
    whole = {"type": "array", "items": {"type": "object"}}
    return {
        "type": "object",
        "properties": {"items": whole, **{name: {"type": kind} for name, kind in parts.items()}},
        "required": ["items", *parts],
    }


_MAYBE = ["string", "null"]
_INTERVAL = {
    "process": "string",
    "interval": "string",
    "start": "string",
    "end": "string",
    "state": "string",
    "generation": "integer",
    "attempts": "integer",
    "stale": "boolean",
}
_REQUEST = {
    "id": "string",
    "action": "string",
    "process": "string",
    "starts": "array",
    "state": "string",
    "actor": "string",
    "reason": "string",
    "filed_at": "string",
    "answered_at": _MAYBE,
    "answer": "object",
}

PAGES: Final = (
    Route(name="now", path="/", role=Role.VIEWER, answer=screens.now_page),
    Route(name="timetable", path="/timetable", role=Role.VIEWER, answer=screens.timetable_page),
    Route(
        name="interval",
        path="/t/<process>/<path:label>",
        role=Role.VIEWER,
        answer=screens.interval_page,
    ),
    Route(
        name="log", path="/t/<process>/<path:label>/log", role=Role.VIEWER, answer=screens.log_page
    ),
    Route(
        name="plan",
        path="/t/<process>/<path:label>/<any(reprocess, skip, unskip):action>",
        role=Role.OPERATOR,
        answer=screens.plan_page,
    ),
    Route(
        name="act",
        path="/t/<process>/<path:label>/<any(reprocess, skip, unskip, trigger):action>",
        role=Role.OPERATOR,
        answer=screens.act,
        methods=("POST",),
    ),
    Route(name="processes", path="/processes", role=Role.VIEWER, answer=screens.processes_page),
    Route(
        name="process",
        path="/processes/<process>",
        role=Role.VIEWER,
        answer=screens.process_page,
    ),
    Route(name="freeruns", path="/freeruns", role=Role.VIEWER, answer=freeruns.freeruns_page),
    Route(
        name="freerun", path="/freeruns/<freerun>", role=Role.VIEWER, answer=freeruns.freerun_page
    ),
    Route(
        name="fire",
        path="/freeruns/<freerun>/fire",
        role=Role.OPERATOR,
        answer=freeruns.fire,
        methods=("POST",),
    ),
    Route(
        name="firing_log",
        path="/freeruns/<freerun>/<firing>/log",
        role=Role.VIEWER,
        answer=freeruns.firing_log_page,
    ),
    Route(name="requests", path="/requests", role=Role.VIEWER, answer=screens.requests_page),
    Route(name="request", path="/requests/<id>", role=Role.VIEWER, answer=screens.request_page),
    Route(name="boxes", path="/boxes", role=Role.VIEWER, answer=screens.boxes_page),
    Route(name="audit", path="/audit", role=Role.ADMIN, answer=screens.audit_page),
    Route(name="search", path="/search", role=Role.VIEWER, answer=screens.search),
    Route(name="login", path="/login", role=Role.NOBODY, answer=entrance.login_page),
    Route(
        name="log_in",
        path="/login",
        role=Role.NOBODY,
        answer=entrance.login,
        methods=("POST",),
    ),
    Route(name="enter", path="/enter", role=Role.NOBODY, answer=entrance.enter_page),
    Route(
        name="come_in",
        path="/enter",
        role=Role.NOBODY,
        answer=entrance.enter,
        methods=("POST",),
    ),
    Route(
        name="logout",
        path="/logout",
        role=Role.VIEWER,
        answer=entrance.logout,
        methods=("POST",),
    ),
    Route(name="static", path="/static/<file>", role=Role.NOBODY, answer=static, kind="file"),
    Route(
        name="livez",
        path="/livez",
        role=Role.NOBODY,
        answer=api.livez,
        kind="file",
        summary="whether the console answers",
    ),
    Route(
        name="readyz",
        path="/readyz",
        role=Role.NOBODY,
        answer=api.readyz,
        kind="file",
        summary="whether the store answers too",
    ),
    Route(
        name="metrics",
        path="/metrics",
        role=Role.NOBODY,  # on loopback; else it wants a token
        answer=metrics,
        kind="file",
        summary="figures for Prometheus",
    ),
)

API: Final = (
    Route(
        name="api_status",
        path="/api/v1/status",
        role=Role.VIEWER,
        answer=api.status,
        kind="api",
        summary="Who leads, how far each process is, what is open",
        gives=_object(
            scheduler="object",
            store="object",
            seq="integer",
            processes="array",
            freeruns="array",
            held_units="integer",
            requests="integer",
        ),
    ),
    Route(
        name="api_processes",
        path="/api/v1/processes",
        role=Role.VIEWER,
        answer=api.processes,
        kind="api",
        summary="How far each process is",
        gives=_items(),
    ),
    Route(
        name="api_intervals",
        path="/api/v1/intervals",
        role=Role.VIEWER,
        answer=api.intervals,
        kind="api",
        summary="The intervals of a process, ascending, a page at a time",
        query={
            "process": "which process",
            "from": "label of the first",
            "to": "label of the last",
            "state": "only those in this state; may be given several times",
            "after": "the `next` of the page before",
            **_PAGED,
        },
        gives=_items(next=_MAYBE, seq="integer"),
    ),
    Route(
        name="api_interval",
        path="/api/v1/intervals/<process>/<path:label>",
        role=Role.VIEWER,
        answer=api.one_interval,
        kind="api",
        summary="An interval, what it waits for, and its units",
        gives=_object(
            **_INTERVAL, due="string", version="integer", units="array", transitions="array"
        ),
    ),
    Route(
        name="api_why",
        path="/api/v1/intervals/<process>/<path:label>/why",
        role=Role.VIEWER,
        answer=api.why,
        kind="api",
        summary="What an interval waits for, the root of it first",
        gives=_object(process="string", interval="string", chain="array"),
    ),
    Route(
        name="api_why_freerun",
        path="/api/v1/freeruns/<freerun>/why",
        role=Role.VIEWER,
        answer=api.why_freerun,
        kind="api",
        summary="Why a freerun runs, waits, or did not run, and when it fires next",
        gives=_object(process="string", interval="string", chain="array"),
    ),
    Route(
        name="api_jobs",
        path="/api/v1/jobs",
        role=Role.VIEWER,
        answer=api.jobs,
        kind="api",
        summary="The jobs that are under way, and those that failed lately",
        query={"after": "the `next` of the page before", **_PAGED},
        gives=_items(next=_MAYBE, seq="integer"),
    ),
    Route(
        name="api_requests",
        path="/api/v1/requests",
        role=Role.VIEWER,
        answer=api.requests,
        kind="api",
        summary="The latest requests, newest first",
        query=_PAGED,
        gives=_items(),
    ),
    Route(
        name="api_file_request",
        path="/api/v1/requests",
        role=Role.OPERATOR,
        answer=api.file_request,
        methods=("POST",),
        kind="api",
        summary="File a request; with the header Idempotency-Key, twice is once",
        takes="request",
        gives=_object(**_REQUEST),
    ),
    Route(
        name="api_request",
        path="/api/v1/requests/<id>",
        role=Role.VIEWER,
        answer=api.one_request,
        kind="api",
        summary="A request, and what it did",
        gives=_object(**_REQUEST),
    ),
    Route(
        name="api_boxes",
        path="/api/v1/boxes",
        role=Role.VIEWER,
        answer=api.boxes,
        kind="api",
        summary="Every box that was ever seen, and what it runs",
        gives=_items(),
    ),
    Route(
        name="api_changes",
        path="/api/v1/changes",
        role=Role.VIEWER,
        answer=api.changes,
        kind="api",
        summary="What has moved since a number; 304: nothing, 410: read anew",
        query={"after": "number of the last change that is known", **_PAGED},
        gives=_object(seq="integer", changes="array", more="boolean"),
    ),
    Route(
        name="api_openapi",
        path="/api/v1/openapi.json",
        role=Role.VIEWER,
        answer=api.openapi,
        kind="api",
        summary="This API, described",
    ),
)

ROUTES: Final = (*PAGES, *API)
