"""What there is to ask for, as a table: the console answers nothing that is not in it.

The matrix of who may what, the OpenAPI document and the tests of safety are made of it, so that a
new route is tested before anybody has looked at it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from werkzeug.wrappers import Request, Response

from synergy.errors import BadInput
from synergy.mx.roles import Role
from synergy.mx.sessions import Visitor

_PART = re.compile(r"<(?:[^:>]+:)?(\w+)>")

#: How a route speaks: HTML for people, JSON for programs, or a file.
Kind = Literal["page", "api", "file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that passed the gate, for its handler."""

    request: Request
    #: Parts of the path.
    path: Mapping[str, str]
    visitor: Visitor
    #: Where it comes from.
    address: str
    now: datetime
    #: Names this request in the log and in the answer.
    id: str
    #: What the forms of this visitor carry.
    form_token: str
    #: The JSON that was sent, its shape checked by the route's schema; None without.
    body: Any = None

    def query(self, name: str) -> str:
        """A parameter of the address; empty without."""
        return self.request.args.get(name, "").strip()

    def number(self, name: str, without: int) -> int:
        """A number in the address.

        Raises:
            BadInput: it is none.
        """
        text = self.query(name)
        if not text:
            return without
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise BadInput(f"{name} {text!r} is not a number")
        return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One address and what happens there."""

    name: str
    #: As Werkzeug writes it: ``/t/<process>/<path:label>``.
    path: str
    role: Role
    #: What answers; the console is handed to it, of which nothing is known here.
    answer: Callable[[Any, Call], Response]
    #: GET brings HEAD with it, and changes nothing.
    methods: tuple[str, ...] = ("GET",)
    kind: Kind = "page"
    #: What it is for, in a line.
    summary: str = ""
    #: Parameters of the address, each with what it means.
    query: Mapping[str, str] = field(default_factory=dict)
    #: Name of the JSON schema of what is sent.
    takes: str = ""
    #: JSON schema of the answer.
    gives: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The path as people and OpenAPI write it: ``/t/{process}/{label}``."""
        return _PART.sub(r"{\1}", self.path)

    @property
    def parts(self) -> list[str]:
        """Names of what varies in the path."""
        return _PART.findall(self.path)

    @property
    def changes(self) -> bool:
        """Whether it may change anything."""
        return "POST" in self.methods
