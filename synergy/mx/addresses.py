"""Where the console listens, and when it may: everywhere but on loopback only with an account and
TLS."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synergy.errors import BadInput

#: Where it listens when nothing else was said.
DEFAULT = "127.0.0.1:8080"
#: Names by which a browser on this machine calls it.
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; port 0: any that is free."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(text: str) -> Address:
    """``127.0.0.1:8080``, ``[::1]:8080``, ``:8080`` or ``8080`` as an address.

    Raises:
        BadInput: it is none.
    """
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise BadInput(
            f"CONSOLE {text!r} is no address to listen on; accepted are HOST:PORT such as "
            f"{DEFAULT}, port 0 for any that is free"
        )
    if any(character.isspace() or character in "/?#@" for character in host):
        raise BadInput(f"CONSOLE {text!r}: {host!r} is no host; accepted are such as {DEFAULT}")
    return Address(host, int(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """How the way to the browser is kept private."""

    #: Certificate chain and key, PEM; None without TLS of its own.
    certificate: Path | None = None
    key: Path | None = None
    #: Address of the proxy that does TLS before the console, the only one whose word on who asks
    #: is taken; empty without one.
    proxy: str = ""

    @property
    def private(self) -> bool:
        """Whether there is TLS on the way."""
        return self.certificate is not None or bool(self.proxy)


def refuse_openness(address: Address, transport: Transport, has_accounts: bool) -> None:
    """Anybody could reach it: then there are accounts, and nothing is said in the clear.

    Raises:
        BadInput: with all that is missing, each with its cure.
    """
    problems = []
    reached = not address.loopback or bool(transport.proxy)
    if reached and not has_accounts:
        problems.append(
            "it has no account: ./launch.py console users add NAME --role admin makes one"
        )
    if not address.loopback and not transport.private:
        problems.append(
            "it has no TLS: name CONSOLE_CERTIFICATE and CONSOLE_KEY in settings.py, or, "
            "behind a proxy that does TLS, CONSOLE_PROXY (that proxy's address)"
        )
    for name, path in (
        ("CONSOLE_CERTIFICATE", transport.certificate),
        ("CONSOLE_KEY", transport.key),
    ):
        if path is not None and not path.is_file():
            problems.append(f"{name} {str(path)!r} is no file")
    if problems and reached:
        without = "" if address.loopback else f"; on 127.0.0.1:{address.port} it needs none of this"
        raise BadInput(
            f"the console does not listen on {address}, which other machines would reach{without}:",
            problems,
        )
    if problems:
        raise BadInput("the console cannot be started:", problems)


def names_allowed(address: Address, named: Sequence[str]) -> frozenset[str]:
    """The host names by which it may be called (without the port): no other site's name leads
    here, whatever a name server says of it."""
    own = [] if address.host in ("0.0.0.0", "::") else [_bracketed(address.host)]
    local = LOCAL_NAMES if address.loopback else ()
    return frozenset(name.lower() for name in (*own, *local, *named))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
