"""Real servers in tests: which there are, what happens where one is missing, a place for each test.

The environment names them; ``launch.py test`` brings them up and sets it, by hand it is done with
``eval "$(./launch.py services up)"``.  A test asks for what it needs.  Without it the test is
skipped with a reason, and with `CI` set it fails::

    def test_something() -> None:
        url = servers.mongodb()            # or mongodb_set(), rabbitmq()
        database = servers.fresh_name()    # nobody else's: a database, or a prefix of queues
"""

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from synergy.services.kinds import KINDS
from synergy.services.sources import find_programs

#: Set to ``none`` by ``launch.py test --quick`` and ``--embedded-only``: no server is wanted.
WANTED = "SYNERGY_TEST_SERVERS"


def mongodb() -> str:
    """URL of a standalone MongoDB."""
    return _url("SYNERGY_TEST_MONGODB")


def mongodb_set() -> str:
    """URL of a MongoDB replica set."""
    return _url("SYNERGY_TEST_MONGODB_SET")


def rabbitmq() -> str:
    """URL of a RabbitMQ, of a user with the administrator tag and all rights on the vhost."""
    return _url("SYNERGY_TEST_RABBITMQ")


def program(name: str) -> Path:
    """``mongod`` or ``rabbitmq-server``, for a test that starts its own."""
    if path := find_programs().get(name):
        return Path(path)
    raise _lacking(next(kind.variable for kind in KINDS if kind.program == name), f"no {name} here")


def fresh_name(test: str = "test") -> str:
    """A name that nobody used yet: for a database, or before the names of queues and exchanges."""
    return f"synergy-{test}-{secrets.token_hex(6)}"


def with_database(url: str, name: str) -> str:
    """A MongoDB URL with this database, its options kept."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))


def _url(variable: str) -> str:
    url = os.environ.get(variable)
    if url:
        return url
    raise _lacking(variable, f"{variable} is not set")


def _lacking(variable: str, lack: str) -> BaseException:
    """How a test ends that lacks its server."""
    if os.environ.get(WANTED) == "none":
        return pytest.skip.Exception(f"left out, as all tests with servers: {lack}")
    why = os.environ.get(f"{variable}_MISSING") or "launch.py test sees to it where it can"
    outcome = pytest.fail if os.environ.get("CI") else pytest.skip
    return outcome.Exception(f"{lack}: {why}")
