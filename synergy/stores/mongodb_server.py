"""The connection to a MongoDB server or replica set: its address, its patience, its failures.

* Writes are answered when they would survive: by a majority of the set and its journals, or by the
  journal of the one server.  An address that asks for less is refused.
* A call that meets a failure which may pass (no primary, a lost connection) is made again until
  its time is over, and then is `Unreachable`.  So whatever is asked here must be harmless when it
  is done twice; who wrote is told by the mark of the write, never by the answer alone.
* What the driver raises is told as one sentence with the address, its password masked, and the
  cure.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pymongo
from pymongo import MongoClient, ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DocumentTooLarge,
    InvalidName,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern

from synergy.errors import BadInput, Conflict, SynergyError, Unreachable
from synergy.logs import logger
from synergy.urls import masked

Document = dict[str, Any]
Answer = TypeVar("Answer")

DEFAULT_DATABASE = "synergy"

#: Seconds in which a call is answered or `Unreachable`; ``serverSelectionTimeoutMS`` in the
#: address sets another time.  Short of a worker's lease, so that it learns in time that it cannot
#: renew; who waits for longer, as the programs do, asks again.
PATIENCE_SECONDS = 5.0
#: The same for what goes over all documents: indexes, upgrades, pruning.
LONG_PATIENCE_SECONDS = 600.0
#: How often servers are looked at while all is well.
HEARTBEAT_MS = 2000
#: Wait before the next try: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5

#: Documents that the server sends at once if they are not too large; its own choice is 101.
LARGE_BATCH = 5000

DUPLICATE_KEY = 11000

#: What an address may not set, as every answer is to mean the same everywhere.
_FIXED = {
    "w": 'writes are answered by the majority; leave out "w"',
    "journal": 'writes are answered from the journal; leave out "journal"',
    "fsync": 'writes are answered from the journal; leave out "fsync"',
    "readPreference": 'decisions rest on what the primary says; leave out "readPreference"',
}
_AS_WE_DO = {"w": "majority", "journal": True, "readPreference": "primary"}

# Codes of servers that stop, step down, elect, or ran out of time: the next try may go well.
_PASSING = frozenset(
    {6, 7, 50, 64, 75, 89, 91, 134, 189, 202, 262, 9001, 10107, 11600, 11602, 13435, 13436}
)
_WRONG_PASSWORD = frozenset({11, 18, 8000})
_NOT_ALLOWED = 13

#: The first versions without CVE-2025-14847: until then anybody who reaches the port reads what
#: the server left in its memory, without a password.
_SOUND = {
    (8, 2): (8, 2, 3),
    (8, 0): (8, 0, 17),
    (7, 0): (7, 0, 28),
    (6, 0): (6, 0, 27),
    (5, 0): (5, 0, 32),
    (4, 4): (4, 4, 30),
}

#: Where in the library's source an error was met, which helps nobody.
_IN_OPENSSL = re.compile(r" ?\(_ssl\.c:\d+\)")
#: What is said of a server that takes a connection and does not go on.
_CLOSED = ("connection closed", "Connection reset")

_log = logger("store")


class Server:
    """One database of a server; may be used from several threads, not across a fork."""

    def __init__(self, url: str) -> None:
        """Read the address; nothing is asked of the server yet.

        Raises:
            BadInput: it is no address, or asks for less than every answer promises.
        """
        self.shown = masked(url)
        self._pid = os.getpid()
        try:
            parsed = parse_uri(url, validate=True, warn=False)
            name = parsed["database"] or DEFAULT_DATABASE
            if parsed["collection"]:
                raise InvalidName(f"{name}.{parsed['collection']} is no name of a database")
            self._refuse_less(parsed["options"])
            waits = parsed["options"].get("serverSelectionTimeoutMS")
            self._over_tls = bool(parsed["options"].get("tls"))
            self.patience = PATIENCE_SECONDS if waits is None else max(0.1, waits)
            ours: dict[str, Any] = {
                "appName": "synergy",
                # Servers are looked at again as soon as somebody waits for one, not only when
                # they have something to say, which may be longer than our patience.
                "serverMonitoringMode": "poll",
                "heartbeatFrequencyMS": HEARTBEAT_MS,
                "serverSelectionTimeoutMS": int(self.patience * 1000),
            }
            self._client: MongoClient[Document] = MongoClient(
                url,
                tz_aware=True,
                connect=False,
                **{name: value for name, value in ours.items() if name not in parsed["options"]},
            )
            self._database: Database[Document] = self._client.get_database(
                name,
                read_preference=ReadPreference.PRIMARY,
                read_concern=ReadConcern("local"),
                write_concern=WriteConcern(w="majority", j=True),
            )
        except (PyMongoError, ValueError) as error:
            raise BadInput(
                f"{self.shown} is not the address of a MongoDB store: {error}"
            ) from error
        except OSError as error:  # a certificate that cannot be read
            raise BadInput(
                f"{self.shown} names a file that cannot be read: {error}; "
                "see tlsCAFile and tlsCertificateKeyFile"
            ) from error

    def _refuse_less(self, options: Mapping[str, Any]) -> None:
        for name, advice in _FIXED.items():
            if name in options and options[name] != _AS_WE_DO.get(name):
                raise BadInput(f"{self.shown} lowers what the store promises: {advice}")

    def collection(self, name: str) -> Collection[Document]:
        """A collection of the store."""
        return self._database.get_collection(name)

    def command(self, command: Mapping[str, Any]) -> Document:
        """Run a command on the database."""
        answer: Document = self.answered(lambda: self._database.command(dict(command)))
        return answer

    @property
    def name(self) -> str:
        """Of the database."""
        return self._database.name

    def answered(self, ask: Callable[[], Answer], patience: float | None = None) -> Answer:
        """What `ask` returns, asked again after failures that may pass.

        `ask` may be done in part, or as a whole, each time.

        Raises:
            Unreachable: the time was over, or asking again cannot help.
            Conflict: the server is too old.
        """
        if self._pid != os.getpid():
            raise RuntimeError(f"the store {self.shown} was opened before a fork; open it anew")
        limit = self.patience if patience is None else patience
        pause, deadline = FIRST_PAUSE, time.monotonic() + limit
        while True:
            try:
                with pymongo.timeout(max(0.01, deadline - time.monotonic())):
                    return ask()
            except PyMongoError as error:
                if not may_pass(error) or time.monotonic() + pause > deadline:
                    raise self.trouble(error) from error
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def close(self) -> None:
        """Close the connections; twice is harmless."""
        if self._pid == os.getpid():
            self._client.close()

    def trouble(self, error: PyMongoError) -> SynergyError:
        """What is wrong, in one sentence with the cure."""
        text = str(error)
        for rest in (" (configured timeouts", ", Timeout:", ", full error:"):
            text = text.partition(rest)[0]
        text = _IN_OPENSSL.sub("", text).rstrip(".")
        if _is_tls(text):
            return Unreachable(
                f"the store {self.shown} cannot be reached over TLS: {text}; see that both sides "
                "use it, and that tlsCAFile names the authority that signed the server's "
                "certificate"
            )
        if isinstance(error, ConfigurationError):  # a version that the driver does not speak with
            return Conflict(
                f"the store {self.shown} is of a version that does not do: {text}; "
                f"MongoDB {_OLDEST} or newer is needed"
            )
        if isinstance(error, DocumentTooLarge):
            return Unreachable(f"the store {self.shown} cannot take a document so large: {text}")
        code = error.code if isinstance(error, OperationFailure) else None
        if code in _WRONG_PASSWORD:
            return Unreachable(
                f"the store {self.shown} refuses this user: {text}; see the name, the password "
                "and authSource in the address"
            )
        if code == _NOT_ALLOWED:
            return Unreachable(
                f"the store {self.shown} does not let this user do that: {text}; "
                "`db roles` names the roles that each program needs"
            )
        if isinstance(error, ConnectionFailure) and any(each in text for each in _CLOSED):
            # With TLS 1.3 a client learns only so that its certificate is refused or missed.
            cure = (
                "that it accepts our certificate (tlsCertificateKeyFile)"
                if self._over_tls
                else "whether it wants TLS (tls=true)"
            )
            return Unreachable(
                f"the store {self.shown} closes the connection: {text}; see that it runs, that "
                f"the address is right, and {cure}"
            )
        if isinstance(error, OperationFailure) and not may_pass(error):
            return Unreachable(f"the store {self.shown} does not work: {text}")
        return Unreachable(
            f"the store {self.shown} does not answer: {text}; see that it runs, that this box "
            "reaches it, and that the address is right"
        )

    def say_what_it_lacks(self) -> None:
        """A line of the log for what cannot be helped from here (RELIABILITY F28, F29)."""
        offer = {"hello": 1, "compression": ["zlib"]}
        greeting = self.answered(lambda: self._client.admin.command(offer))
        build = self.answered(lambda: self._client.admin.command("buildInfo"))
        version = tuple(build["versionArray"][:3])
        sound = _SOUND.get(version[:2])
        leaks = version < (8, 3) and (sound is None or version < sound)
        if leaks and "zlib" in greeting.get("compression", ()):
            _log.warning(
                "%s runs MongoDB %s, which is open to CVE-2025-14847: upgrade it, or start it "
                "with --networkMessageCompressors disabled",
                self.shown,
                build["version"],
                extra={"action": "store"},
            )
        if "setName" not in greeting:
            _log.info(
                "%s is a single server: it is right, and away while that server is",
                self.shown,
                extra={"action": "store"},
            )


_OLDEST = "4.4"


def place_in_words(url: str) -> str:
    """The servers and the database that the address names: alike for all users and options.

    Raises:
        BadInput: it is no address.
    """
    address, _, _ = url.partition("?")
    hosts, _, name = address.partition("://")[2].rpartition("@")[2].partition("/")
    if not hosts:
        raise BadInput(f"{masked(url)} is not the address of a MongoDB store: it names no server")
    return f"{','.join(sorted(hosts.lower().split(',')))}/{name or DEFAULT_DATABASE}"


def may_pass(error: PyMongoError) -> bool:
    """Whether the same may go well a moment later."""
    if isinstance(error, ConfigurationError):
        return False
    if isinstance(error, ConnectionFailure) or error.timeout:
        return True
    if isinstance(error, BulkWriteError):
        passing = _PASSING | {DUPLICATE_KEY}  # which is an answer, beside those that are none
        return all(each["code"] in passing for each in _faults(error))
    if isinstance(error, OperationFailure):
        return error.code in _PASSING or error.has_error_label("RetryableWriteError")
    return False


def refused_as_known(error: BulkWriteError) -> bool:
    """Whether nothing else happened than that documents to be inserted were there."""
    return all(each["code"] == DUPLICATE_KEY for each in _faults(error))


def _faults(error: BulkWriteError) -> list[Mapping[str, Any]]:
    details: Mapping[str, Any] = error.details
    return [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]


def _is_tls(text: str) -> bool:
    return "SSL" in text or "certificate" in text or "TLS" in text
