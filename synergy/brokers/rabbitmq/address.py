"""What the URL of a RabbitMQ server says.

amqp://USER:PASSWORD@HOST:PORT/VHOST?OPTION=VALUE&…     port 5672
amqps://…                                               the same over TLS, port 5671

prefix=NAME         what all our exchanges and queues there begin with (synergy)
queues=quorum       replicated, on servers that are a cluster, and safe on any (the default)
queues=classic      kept by one server, and quicker where that is all there is
heartbeat=SECONDS   after twice so long without a sign a connection is given up (30)
cafile=FILE         amqps: who may have signed the server's certificate (the system's)
certfile=, keyfile= amqps: our own certificate and its key
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from synergy.errors import BadInput
from synergy.urls import masked

FORM: Final = "amqp://USER:PASSWORD@HOST:PORT/VHOST"

_OPTIONS: Final = ("prefix", "queues", "heartbeat", "cafile", "certfile", "keyfile")
_OF_TLS: Final = ("cafile", "certfile", "keyfile")
_PREFIX = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}")
#: Below, a busy machine loses connections that are well (RELIABILITY F10).
_LEAST_HEARTBEAT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the server is, who we are there, and how our things are called."""

    host: str
    port: int
    user: str
    password: str
    vhost: str
    prefix: str
    #: "quorum" or "classic".
    queues: str
    #: Seconds.
    heartbeat: int
    #: For ``amqps``, with the files that were named loaded.
    tls: ssl.SSLContext | None
    #: The URL to show.
    shown: str


def address_of(url: str) -> Address:
    """What the URL says.

    Raises:
        BadInput: it says something else than the above, or names files that cannot be used.
    """
    shown = masked(url)

    def fault(what: str) -> BadInput:
        return BadInput(f"{shown!r}: {what}; the form is {FORM}")

    try:
        parts = urlsplit(url)
        port = parts.port
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise fault(str(error)) from error
    options = dict(given)
    if not parts.hostname:
        raise fault("it names no host")
    if parts.fragment:
        raise fault("it has a # that is not written as %23")
    for name in options:
        if name not in _OPTIONS:
            raise fault(f"there is no option {name!r}, only {', '.join(_OPTIONS)}")
    tls = parts.scheme == "amqps"
    if not tls and (useless := [name for name in _OF_TLS if name in options]):
        raise fault(f"{useless[0]} is an option of amqps://")
    prefix = options.get("prefix", "synergy")
    if not _PREFIX.fullmatch(prefix):
        raise fault(f"prefix {prefix!r} is not made of at most 40 letters, digits, and _.-")
    queues = options.get("queues", "quorum")
    if queues not in ("quorum", "classic"):
        raise fault(f"queues are quorum or classic, not {queues!r}")
    heartbeat = options.get("heartbeat", "30")
    if not re.fullmatch(r"\d{1,4}", heartbeat) or int(heartbeat) < _LEAST_HEARTBEAT:
        raise fault(f"heartbeat {heartbeat!r} is no number of at least {_LEAST_HEARTBEAT} seconds")
    vhost = unquote(parts.path[1:])
    if "/" in parts.path[1:]:
        raise fault("a / within the name of the vhost is written as %2F")
    return Address(
        host=parts.hostname,
        port=port or (5671 if tls else 5672),
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        vhost=vhost or "/",
        prefix=prefix,
        queues=queues,
        heartbeat=int(heartbeat),
        tls=_context(shown, options) if tls else None,
        shown=shown,
    )


def _context(shown: str, options: Mapping[str, str]) -> ssl.SSLContext:
    """Checks the server's certificate and its name; TLS 1.2 at least."""
    cafile, certfile, keyfile = (options.get(name) for name in _OF_TLS)
    if keyfile and not certfile:
        raise BadInput(f"{shown!r}: keyfile is of use only together with certfile")
    try:
        context = ssl.create_default_context(cafile=cafile)
    except OSError as error:
        raise BadInput(f"{shown!r}: cafile {cafile!r} cannot be used: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certfile:
        try:
            # A key that asks for a password must not make a program wait at a terminal.
            context.load_cert_chain(certfile, keyfile, password="")
        except OSError as error:
            named = f"certfile {certfile!r}" + (f" with keyfile {keyfile!r}" if keyfile else "")
            raise BadInput(f"{shown!r}: {named} cannot be used: {error}") from error
    return context
