"""The console as a WSGI application: gate, route, handler, answer; and what handlers share."""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as NoSuchPage
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.wrappers import Request, Response

from synergy import errors
from synergy.core.model import Request as Filed
from synergy.logs import logger
from synergy.mx import passwords
from synergy.mx.accounts import Accounts
from synergy.mx.addresses import Address, Transport, names_allowed, refuse_openness
from synergy.mx.audit import Audit
from synergy.mx.files import secret_of
from synergy.mx.gate import HEADERS, SAFE, STRICT_TRANSPORT, Gate, check_role
from synergy.mx.living import Living, ReadCatalog
from synergy.mx.rendering import NAVIGATION, Shell, Templates
from synergy.mx.roles import Role
from synergy.mx.routes import Call, Route
from synergy.mx.sessions import NOBODY, Sessions, Throttle
from synergy.mx.views.shell import Heartbeat, heartbeat
from synergy.ports import Clock, Store
from synergy.schemas import misshapes

#: Which status says what went wrong with a request.
_STATUS: Sequence[tuple[type[errors.SynergyError], int, str]] = (
    (errors.BadInput, 400, "bad input"),
    (errors.NotFound, 404, "not found"),
    (errors.Conflict, 409, "conflict"),
    (errors.Unreachable, 503, "unreachable"),
    (errors.TimedOut, 504, "timed out"),
    (errors.SynergyError, 500, "failed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a console works with."""

    #: What the project is called on its pages.
    name: str
    #: Of synergy.
    version: str
    box: str
    address: Address
    transport: Transport = field(default_factory=Transport)
    #: Host names by which it may be called besides its own.
    hosts: tuple[str, ...] = ()
    #: Where its accounts, its secret and its audit are.
    folder: Path
    #: Where the attempts' logs are.
    log_dir: Path
    open_store: Callable[[], Store]
    read_catalog: ReadCatalog
    clock: Clock
    #: Wakes the scheduler after a request was filed.
    ring: Callable[[], None]


class Console:
    """Answers requests.  `open` its accounts first; `close` it at the end."""

    def __init__(self, setting: Setting, routes: Sequence[Route]) -> None:
        self.setting = setting
        self.routes = routes
        now = setting.clock.now
        self.accounts = Accounts(setting.folder)
        passwords.nobodys()  # now, so that nobody's first login takes longer than another's
        self.secret = secret_of(setting.folder)
        self.sessions = Sessions(setting.folder, self.accounts, now)
        self.throttle = Throttle(now)
        self.audit = Audit(setting.folder, self.secret)
        self.living = Living(setting.open_store, setting.read_catalog, setting.clock)
        self.templates = Templates()
        # Cookies do not know ports: two consoles of one machine have different ones.
        mark = hashlib.sha256(self.secret).hexdigest()[:8]
        private = setting.transport.private
        self.gate = Gate(
            hosts=names_allowed(setting.address, setting.hosts),
            accounts=self.accounts,
            sessions=self.sessions,
            secret=self.secret,
            private=private,
            cookie=f"__Host-synergy-{mark}" if private else f"synergy-{mark}",
        )
        self._by_name = {route.name: route for route in routes}
        self._map = Map(
            [
                Rule(route.path, endpoint=route.name, methods=route.methods, merge_slashes=False)
                for route in routes
            ],
            strict_slashes=False,
            merge_slashes=False,
        )

    def check(self) -> None:
        """That it may listen where it is told to.

        Raises:
            BadInput: with all that is missing for it.
        """
        refuse_openness(self.setting.address, self.setting.transport, self.accounts.exist())

    def close(self) -> None:
        """Let go of the store."""
        self.living.close()

    # for handlers

    def page(
        self, call: Call, template: str, view: object, *, status: int = 200, title: str = ""
    ) -> Response:
        """A page of HTML."""
        text = self.templates.page(self._shell(call), template, view, title)
        return Response(text, status, content_type="text/html; charset=utf-8")

    def _shell(self, call: Call) -> Shell:
        """What stands around every page."""
        living, role = self.living, call.visitor.role
        beat, seq = Heartbeat("gone", ""), 0
        if role is not Role.NOBODY:
            try:
                with living.picture() as picture:
                    beat, seq = heartbeat(picture.lease, call.now), picture.seq
            except errors.NotFound:
                beat = Heartbeat("gone", "no scheduler has ever run")
            except errors.SynergyError:
                beat = Heartbeat("gone", "the store has not answered yet")
        return Shell(
            name=self.setting.name,
            path=call.request.path,
            navigation=[(href, text) for href, text, least in NAVIGATION if role >= least],
            who=call.visitor.name,
            role=role.word,
            may_act=role >= Role.OPERATOR,
            form_token=call.form_token,
            heartbeat=beat,
            seq=seq,
            now=call.now,
            away_since=living.away_since if role is not Role.NOBODY else None,
            trouble=living.trouble,
        )

    def data(self, value: Any, status: int = 200, etag: str = "") -> Response:
        """An answer of the API."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        answer = Response(text, status, content_type="application/json")
        if etag:
            answer.set_etag(etag)
        return answer

    def note(
        self, call: Call, action: str, result: str, details: Mapping[str, object] | None = None
    ) -> None:
        """Write down what somebody does or tried; before it takes effect."""
        who = call.visitor.name or "nobody"
        self.audit.record(call.now, who, call.address, action, result, details)

    def file(self, call: Call, request: Filed) -> None:
        """File a request of an operator: the one way in which the console changes anything."""
        self.note(
            call,
            request.action,
            "filed",
            {
                "request": request.id,
                "process": request.process,
                "starts": [start.isoformat() for start in request.starts],
                "reason": request.reason,
                **({"of": request.of} if request.of else {}),
            },
        )
        self.living.ask(lambda store: store.file_request(request))
        self.setting.ring()

    # WSGI

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        answer = self.answered(request)
        return answer(environ, start_response)

    def answered(self, request: Request) -> Response:
        """The answer to a request, whatever happens."""
        number = secrets.token_hex(4)
        try:
            answer = self._answer(request, number)
        except Exception as error:
            answer = self._failure(request, number, error)
        if answer.status_code == 200 and answer.get_etag()[0]:
            answer = answer.make_conditional(request)
        for name, value in HEADERS.items():
            answer.headers.setdefault(name, value)
        if self.gate.private:
            answer.headers["Strict-Transport-Security"] = STRICT_TRANSPORT
        return answer

    def _answer(self, request: Request, number: str) -> Response:
        gate = self.gate
        gate.check_host(request)
        gate.check_size(request)
        route, path = self._route(request)
        visitor = gate.visitor(request)
        if route is None:
            if visitor is NOBODY:  # what there is, is nobody's business either
                return self._login_first(request, _is_api(request))
            raise path
        if route.role > visitor.role and visitor is NOBODY:
            return self._login_first(request, route.kind == "api")
        call = Call(
            request=request,
            path=path,
            visitor=visitor,
            address=request.remote_addr or "",
            now=self.setting.clock.now(),
            id=number,
            form_token=gate.form_token(visitor),
        )
        try:
            check_role(visitor, route)
            if request.method not in SAFE and not visitor.token:
                gate.check_origin(request)
                if visitor is not NOBODY:
                    gate.check_form(request, visitor)
        except HTTPException as error:
            if visitor is not NOBODY:
                self.note(call, route.name, "refused", {"why": error.description or ""})
            raise
        body = gate.body(request, route)
        if route.takes:
            faults = misshapes(route.takes, body)
            if faults:
                raise errors.BadInput(
                    "what was sent cannot be used:",
                    [f"{f.place}: {f.what}" if f.place else f.what for f in faults],
                )
            call = _with_body(call, body)
        return route.answer(self, call)

    def _route(self, request: Request) -> tuple[Route | None, Any]:
        """The route and the parts of its path; or none, and what is raised then."""
        adapter = self._map.bind_to_environ(request.environ)
        try:
            name, path = adapter.match()
            return self._by_name[name], path
        except RequestRedirect:
            return None, NoSuchPage()
        except HTTPException as error:
            return None, error

    def _login_first(self, request: Request, api: bool) -> Response:
        if api or request.method not in SAFE:
            answer = self._problem(401, "unauthorized", "log in, or send a token", "")
            answer.headers["WWW-Authenticate"] = 'Bearer realm="synergy"'
            return answer
        where = request.full_path.rstrip("?")
        return self.redirect("/login", next=where if where != "/" else "")

    def redirect(self, path: str, **query: str) -> Response:
        """See another page of this console."""
        words = urlencode({name: value for name, value in query.items() if value})
        answer = Response("", 303)
        answer.headers["Location"] = f"{path}?{words}" if words else path
        answer.autocorrect_location_header = False
        return answer

    def _failure(self, request: Request, number: str, error: Exception) -> Response:
        """The answer to a request that came to nothing: a sentence and a number, no more."""
        status, title, detail = 500, "failed", "something went wrong here; the log says what"
        headers: Mapping[str, str] = {}
        if isinstance(error, HTTPException):
            status = error.code or 500
            title, detail = error.name.lower(), error.description or ""
            if isinstance(error, MethodNotAllowed) and error.valid_methods:
                headers = {"Allow": ", ".join(sorted(error.valid_methods))}
            if retry := getattr(error, "retry_after", None):
                headers = {"Retry-After": str(retry)}
        elif isinstance(error, errors.SynergyError):
            status, title = next(
                (code, word) for kind, code, word in _STATUS if isinstance(error, kind)
            )
            detail = str(error)
        else:
            logger("console").error(
                "request %s failed", number, exc_info=error, extra={"action": "failed"}
            )
        answer = (
            self._problem(status, title, detail, number)
            if _is_api(request) or _wants_json(request)
            else self._error_page(status, title, detail, number)
        )
        answer.headers.update(headers)
        return answer

    def _problem(self, status: int, title: str, detail: str, number: str) -> Response:
        """RFC 9457."""
        told: dict[str, object] = {"type": "about:blank", "title": title, "status": status}
        told |= {"detail": detail, **({"instance": f"urn:request:{number}"} if number else {})}
        return Response(
            json.dumps(told, ensure_ascii=False), status, content_type="application/problem+json"
        )

    def _error_page(self, status: int, title: str, detail: str, number: str) -> Response:
        text = self.templates.error(self.setting.name, status, title, detail, number)
        return Response(text, status, content_type="text/html; charset=utf-8")


def _with_body(call: Call, body: Any) -> Call:
    return replace(call, body=body)


def _is_api(request: Request) -> bool:
    return request.path.startswith("/api/")


def _wants_json(request: Request) -> bool:
    best = request.accept_mimetypes.best_match(["text/html", "application/json"])
    return best == "application/json" and "text/html" not in request.accept_mimetypes.values()
