"""Who is logged in, and who tried too often.

A session is a random number of 256 bits in a cookie, of which the console keeps the hash.  It ends
after half an hour without a request, after twelve hours, at the logout, and at once with whatever
changes the account: its password, its role, its being there.
"""

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path

from synergy.mx.accounts import Accounts, User
from synergy.mx.files import Document
from synergy.mx.roles import Role
from synergy.records import from_micros, to_micros

#: A session ends so long after its last request, and after its login.
IDLE, ABSOLUTE = timedelta(minutes=30), timedelta(hours=12)
#: How old what is written of the last request may be.
WRITTEN_EVERY = timedelta(minutes=1)
#: Sessions that are kept; beyond them the oldest ends.
MOST_SESSIONS = 1000
#: Who came by a link, to a console without accounts.
BY_LINK = "local"


@dataclass(slots=True)
class _Session:
    user: str
    #: Of the account when it logged in; empty for who came by a link.
    stamp: str
    begun: int
    seen: int


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks."""

    name: str
    role: Role
    #: Hash of the session; empty for a token and for nobody.
    session: str = ""
    #: Whether it came with a token, which no browser sends by itself.
    token: bool = False


NOBODY = Visitor("", Role.NOBODY)


class Sessions:
    """The sessions of one console; of one program, and of several threads."""

    def __init__(self, folder: Path, accounts: Accounts, now: Callable[[], datetime]) -> None:
        self._accounts = accounts
        self.now = now
        self._document = Document(folder / "sessions.json")
        self._guard = threading.Lock()
        self._written = to_micros(now())
        self._sessions = {
            digest: _Session(**content) for digest, content in self._document.read().items()
        }

    def begin(self, user: User | None) -> str:
        """Log a user in, or who came by a link; the cookie's value."""
        value = secrets.token_urlsafe(32)
        now = to_micros(self.now())
        name, stamp = (user.name, user.stamp) if user is not None else (BY_LINK, "")
        with self._guard:
            self._sessions[_digest(value)] = _Session(name, stamp, now, now)
            self._write()
        return value

    def find(self, value: str) -> Visitor:
        """Who has this cookie; nobody where the session is none, or has ended."""
        digest, now = _digest(value), self.now()
        with self._guard:
            session = self._sessions.get(digest)
            if session is None:
                return NOBODY
            role = self._role(session)
            if role is Role.NOBODY or _ended(session, now):
                del self._sessions[digest]
                self._write()
                return NOBODY
            session.seen = to_micros(now)
            if session.seen - self._written > WRITTEN_EVERY / timedelta(microseconds=1):
                self._write()
        return Visitor(session.user, role, digest)

    def end(self, digest: str) -> None:
        """Log out."""
        with self._guard:
            if self._sessions.pop(digest, None) is not None:
                self._write()

    def _role(self, session: _Session) -> Role:
        """What the account may now; nobody's where it is not the account that logged in."""
        if not session.stamp:
            return Role.NOBODY if self._accounts.exist() else Role.ADMIN
        user = self._accounts.users().get(session.user)
        if user is None or user.disabled or user.stamp != session.stamp:
            return Role.NOBODY
        return user.role

    def _write(self) -> None:
        now = self.now()
        kept = sorted(
            (
                (digest, session)
                for digest, session in self._sessions.items()
                if not _ended(session, now)
            ),
            key=lambda each: each[1].seen,
        )[-MOST_SESSIONS:]
        self._sessions = dict(kept)
        self._written = to_micros(now)
        with self._document.changing() as content:
            content.clear()
            content.update({digest: asdict(session) for digest, session in kept})


def form_token(secret: bytes, session: str) -> str:
    """What the forms of a session carry, so that no other site can send them."""
    return hmac.new(secret, f"form:{session}".encode(), hashlib.sha256).hexdigest()


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _ended(session: _Session, now: datetime) -> bool:
    return (
        now - from_micros(session.seen) > IDLE
        or now - from_micros(session.begun) > ABSOLUTE
        or session.seen > to_micros(now + ABSOLUTE)  # the clock was wrong then, or is now
    )


#: Failures in a row that cost nothing; each further one doubles the wait.
FREE_TRIES = 5
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=2), timedelta(minutes=15)
#: Names and addresses that are remembered.
MOST_REMEMBERED = 10_000


class Throttle:
    """Tries that failed, by account and by address: who fails often waits, longer each time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self._guard = threading.Lock()
        self._failed: dict[str, tuple[int, datetime]] = {}

    def wait(self, *keys: str) -> timedelta:
        """How long none of these may try again; zero when all may."""
        now = self.now()
        with self._guard:
            return max((self._until(key, now) - now for key in keys), default=timedelta(0))

    def failed(self, *keys: str) -> None:
        """Count a failure of each."""
        now = self.now()
        with self._guard:
            for key in keys:
                count, _ = self._failed.pop(key, (0, now))
                self._failed[key] = count + 1, now
            while len(self._failed) > MOST_REMEMBERED:
                del self._failed[next(iter(self._failed))]

    def succeeded(self, *keys: str) -> None:
        """Forget their failures."""
        with self._guard:
            for key in keys:
                self._failed.pop(key, None)

    def _until(self, key: str, now: datetime) -> datetime:
        """When this may be tried again."""
        count, last = self._failed.get(key, (0, now))
        over = count - FREE_TRIES
        if over < 0:
            return now
        wait: timedelta = min(FIRST_WAIT * 2.0 ** min(over, 20), LONGEST_WAIT)
        return last + wait
