"""HTML: the templates, which escape whatever they are given and know no undefined names."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from synergy.mx.gate import FORM_FIELD
from synergy.mx.roles import Role
from synergy.mx.views.shell import Heartbeat
from synergy.mx.words import ago, clock, number, printed

#: The pages that can be reached from everywhere: address, name, and the least role.
NAVIGATION: Final = (
    ("/", "Now", Role.VIEWER),
    ("/timetable", "Timetable", Role.VIEWER),
    ("/processes", "Processes", Role.VIEWER),
    ("/freeruns", "Freeruns", Role.VIEWER),
    ("/requests", "Requests", Role.VIEWER),
    ("/boxes", "Boxes", Role.VIEWER),
    ("/audit", "Audit", Role.ADMIN),
)
#: Files that pages are made with, and their types; nothing else is ever read from the disk.
STATIC: Final[Mapping[str, str]] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Static:
    """A file as it is sent."""

    content: bytes
    type: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """What stands around every page."""

    #: Of the project.
    name: str
    path: str
    navigation: Sequence[tuple[str, str]]
    #: Who looks; empty for nobody.
    who: str
    role: str
    may_act: bool
    form_token: str
    heartbeat: Heartbeat
    #: Number of the last change that is shown.
    seq: int
    now: datetime
    #: Since when the store does not answer, and what it said.
    away_since: datetime | None
    trouble: str


class Templates:
    """The templates and files of the console, read once."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("synergy.mx"),
            autoescape=True,
            finalize=_harmless,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["number"] = number
        self.static = {name: _static(name, kind) for name, kind in STATIC.items()}
        self._environment.globals.update(
            static={name: f"/static/{name}?v={file.version}" for name, file in self.static.items()},
            form_field=FORM_FIELD,
        )

    def page(self, shell: Shell, template: str, view: object, title: str) -> str:
        """A page in its shell."""
        now, away = shell.now, shell.away_since
        return self._environment.get_template(template).render(
            {item.name: getattr(shell, item.name) for item in fields(shell)},
            view=view,
            title=title,
            now_text=f"{clock(now)} UTC",
            away=f"{clock(away)} UTC ({ago(away, now)})" if away is not None else "",
        )

    def error(self, name: str, status: int, title: str, detail: str, number: str) -> str:
        """A page that says what went wrong; it needs nothing but this."""
        return self._environment.get_template("error.html").render(
            name=name, status=status, title=title, detail=detail, number=number
        )


def _harmless(value: object) -> object:
    """What is shown of a text that is not ours: nothing in it steers a terminal or the direction
    of reading; escaping follows."""
    return printed(value) if type(value) is str else value


def _static(name: str, kind: str) -> Static:
    content = resources.files("synergy.mx").joinpath("static", name).read_bytes()
    return Static(content, kind, hashlib.sha256(content).hexdigest()[:12])
