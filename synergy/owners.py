"""Names of programs at work: what stands in a lease and in the units that a worker holds.

A name tells which process it is, on which box, and so whether it still lives: its process id alone
would not, for the system gives that to others.
"""

import os
import re
import secrets
import socket
from dataclasses import dataclass

from synergy.programs import Identity, alive, identity_of


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a name means."""

    program: str
    #: The id of the box.
    box: str
    #: The name of the host, which is what tells whether the process could be one of ours.
    host: str
    process: Identity


def new_owner(program: str, box: str) -> str:
    """A name for this process that no other ever had, and that tells whether it still lives."""
    me = identity_of(os.getpid())
    assert me is not None
    host = socket.gethostname()
    place = host if box == host else f"{box}/{host}"
    return f"{program}@{place}:{me.pid}:{me.created}:{me.boot}:{secrets.token_hex(4)}"


def owner_of(name: str) -> Owner | None:
    """Who bears this name, or the token of a claim made of it; None for what is no such name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    process = Identity(int(found["pid"]), float(found["created"]), found["boot"])
    return Owner(found["program"], found["box"] or found["host"], found["host"], process)


def departed(name: str) -> bool:
    """Whether it was a process of this host and has ended.

    False says nothing: of other hosts it cannot be told from here.
    """
    owner = owner_of(name)
    return owner is not None and owner.host == socket.gethostname() and not alive(owner.process)


_NAME = re.compile(
    r"(?P<program>[^@]+)@(?:(?P<box>[^@/]+)/)?(?P<host>[^@/]+):(?P<pid>\d+):(?P<created>[\d.]+):"
    r"(?P<boot>[\w-]*):\w+(/\d+)?"
)
