"""What stands before every handler, in one place: nobody can forget it for a new route.

A request passes in this order: the name it was called by, its size, who asks, whether that is
enough, and for whatever may change something also that it comes from a page of ours.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    RequestEntityTooLarge,
    TooManyRequests,
    Unauthorized,
    UnsupportedMediaType,
)
from werkzeug.wrappers import Request

from synergy.errors import BadInput
from synergy.mx.accounts import Accounts
from synergy.mx.roles import Role
from synergy.mx.routes import Route
from synergy.mx.sessions import NOBODY, Sessions, Visitor, form_token

#: Bytes of a body, at most; and how deep JSON may nest.
MOST_BYTES, DEEPEST = 1_000_000, 32
#: Methods that change nothing.
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
#: Field of a form, and header of a script, with the token of the session.
FORM_FIELD, FORM_HEADER = "form_token", "X-Form-Token"
#: Names under which tokens are put into addresses, where they would end up in logs.
IN_ADDRESS = ("token", "access_token", "api_key", "apikey", "authorization", "password")

#: Of every answer.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
#: Of every answer that came over TLS.
STRICT_TRANSPORT = "max-age=31536000"


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets requests through, or raises what they are answered with."""

    #: Host names without port, lower case.
    hosts: frozenset[str]
    accounts: Accounts
    sessions: Sessions
    secret: bytes
    #: Whether there is TLS on the way.
    private: bool
    cookie: str

    def check_host(self, request: Request) -> None:
        """That it was called by one of its names (DNS rebinding)."""
        host = request.environ.get("HTTP_HOST", "")
        name = host.rpartition(":")[0] if _has_port(host) else host
        if name.lower().rstrip(".") not in self.hosts:
            raise BadRequest(
                "this console does not answer to that host name; name it in CONSOLE_HOSTS"
            )

    def check_size(self, request: Request) -> None:
        """That its body is no larger than anything that makes sense."""
        request.max_content_length = MOST_BYTES
        request.max_form_memory_size = MOST_BYTES
        request.max_form_parts = 100
        if (request.content_length or 0) > MOST_BYTES:
            raise RequestEntityTooLarge(f"a body has at most {MOST_BYTES} bytes")

    def visitor(self, request: Request) -> Visitor:
        """Who asks: by a token, else by the cookie."""
        for name in IN_ADDRESS:
            if name in request.args:
                raise BadRequest(
                    f"an address must not carry {name!r}: it would be kept in logs; "
                    "send the header Authorization: Bearer TOKEN"
                )
        header = request.headers.get("Authorization")
        if header is not None:
            scheme, _, text = header.partition(" ")
            token = (
                self.accounts.bearer(text.strip(), self.sessions.now())
                if scheme.lower() == "bearer"
                else None
            )
            if token is None:
                raise Unauthorized("that token is unknown or has expired")
            return Visitor(f"token:{token.name}", token.role, token=True)
        value = request.cookies.get(self.cookie)
        return self.sessions.find(value) if value else NOBODY

    def check_origin(self, request: Request) -> None:
        """That what may change something was sent by a page of ours."""
        site = request.headers.get("Sec-Fetch-Site")
        origin = request.headers.get("Origin")
        if site is None and origin is None:
            raise Forbidden("the request does not say which page it comes from")
        if site is not None and site != "same-origin":
            raise Forbidden("the request comes from a page of another site")
        if origin is not None:
            scheme = "https" if self.private else request.scheme
            if origin.lower() != f"{scheme}://{request.environ.get('HTTP_HOST', '')}".lower():
                raise Forbidden("the request comes from a page of another site")

    def check_form(self, request: Request, visitor: Visitor) -> None:
        """That it carries what only pages of this session know."""
        sent = request.headers.get(FORM_HEADER) or request.form.get(FORM_FIELD, "")
        if not secrets.compare_digest(sent.encode(), self.form_token(visitor).encode()):
            raise Forbidden(
                "the form is not of this session, which may have ended meanwhile; load it again"
            )

    def form_token(self, visitor: Visitor) -> str:
        """What the forms of a visitor carry."""
        return form_token(self.secret, visitor.session)

    def body(self, request: Request, route: Route) -> Any:
        """The JSON that was sent; None where the route takes none."""
        if not route.takes:
            return None
        if request.mimetype != "application/json":
            raise UnsupportedMediaType("what is sent here is application/json")
        try:
            body = request.get_json()
            depth = _depth(body, DEEPEST)
        except (BadRequest, RecursionError, ValueError):
            raise BadRequest("what was sent is no JSON") from None
        if depth > DEEPEST:
            raise BadRequest(f"what was sent nests deeper than {DEEPEST}")
        return body


def check_role(visitor: Visitor, route: Route) -> None:
    """That this visitor may use the route."""
    if visitor.role >= route.role:
        return
    if visitor.role is Role.NOBODY:
        raise Unauthorized("log in first")
    raise Forbidden(f"{route.name} needs the role {route.role.word}; yours is {visitor.role.word}")


def too_often(seconds: float) -> HTTPException:
    """What is said to who tried too often."""
    error = TooManyRequests(f"too many failed logins; try again in {max(1, round(seconds))} s")
    error.retry_after = max(1, round(seconds))
    return error


def local_path(text: str) -> str:
    """The path of this console that somebody is to be sent to; ``/`` for whatever is not one."""
    plain = text.isascii() and text.isprintable() and "\\" not in text
    if not plain or not text.startswith("/") or text.startswith("//"):
        return "/"
    return text


def problems_of(error: BadInput) -> Iterable[str]:
    """All that is wrong, one by one."""
    return error.problems


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.endswith("]") and ":" in host


def _depth(value: Any, limit: int) -> int:
    """How deep it nests; not deeper than needed to know that it is too deep."""
    if limit < 0 or not isinstance(value, dict | list):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(part, limit - 1) for part in parts), default=0)
