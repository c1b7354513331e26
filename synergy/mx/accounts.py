"""Users, tokens of the API, and links that open the console once: in files of the project.

The console's user in the database can write requests and nothing else, so its accounts are not
there: they are in ``.synergy/console/``, readable for their owner only, and changed by the
command line, which the console notices with the next request.

Nothing is kept by which one could log in: passwords are hashed slowly, tokens and links, which are
random, quickly.  Whoever has no account is told so as slowly as who has the wrong password.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from synergy.errors import BadInput, Conflict, NotFound
from synergy.mx import passwords
from synergy.mx.files import Document
from synergy.mx.roles import ROLES, Role
from synergy.records import from_micros, to_micros

#: What users and tokens may be called.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
#: How long a link opens the console that has no accounts.
LINK_LIFE = timedelta(minutes=15)
#: How long a token lasts if nothing else was said, and at most.
TOKEN_LIFE, LONGEST_LIFE = timedelta(days=90), timedelta(days=366)
#: Marks a token of ours, so that one is found where it was left by mistake.
TOKEN_MARK = "syn"


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in."""

    name: str
    role: Role
    password: str
    #: Changes with whatever is to end the sessions of the account.
    stamp: str
    disabled: bool
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """What a program may use in the place of a password."""

    name: str
    role: Role
    digest: str
    made_at: datetime
    expires_at: datetime


class Accounts:
    """The accounts of one project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._accounts = Document(folder / "accounts.json")
        self._link = Document(folder / "link.json")

    def exist(self) -> bool:
        """Whether anybody has an account, or any program a token."""
        content = self._accounts.read()
        return bool(content.get("users") or content.get("tokens"))

    # users

    def users(self) -> dict[str, User]:
        """All of them by name."""
        found: Mapping[str, Any] = self._accounts.read().get("users", {})
        return {name: _user(name, document) for name, document in sorted(found.items())}

    def add_user(self, name: str, role: str, password: str, now: datetime) -> None:
        """Make an account.

        Raises:
            BadInput: naming all that is wrong with name, role and password.
            Conflict: the name is taken.
        """
        _refuse(f"no account {name!r} was made:", _faults(name, role, password))
        with self._accounts.changing() as content:
            users = content.setdefault("users", {})
            if name in users:
                raise Conflict(f"there is a user {name} already; users list shows all")
            users[name] = {
                "role": role,
                "password": passwords.hashed(password),
                "stamp": secrets.token_hex(8),
                "disabled": False,
                "made_at": to_micros(now),
            }

    def change_password(self, name: str, password: str) -> None:
        """Give the account another password; its sessions end."""
        _refuse(f"the password of {name} stays:", passwords.faults_of(password, name))
        self._change(name, {"password": passwords.hashed(password)})

    def change_role(self, name: str, role: str) -> None:
        """Give the account another role; its sessions end."""
        _refuse(f"the role of {name} stays:", _role_faults(role))
        self._change(name, {"role": role})

    def switch(self, name: str, on: bool) -> None:
        """Let the user log in, or not any more: then also the sessions end."""
        self._change(name, {"disabled": not on})

    def remove_user(self, name: str) -> None:
        """Forget the account; its sessions end."""
        with self._accounts.changing() as content:
            if content.get("users", {}).pop(name, None) is None:
                raise NotFound(_no("user", name, self.users()))

    def _change(self, name: str, changes: Mapping[str, Any]) -> None:
        with self._accounts.changing() as content:
            found = content.get("users", {}).get(name)
            if found is None:
                raise NotFound(_no("user", name, self.users()))
            found.update(changes, stamp=secrets.token_hex(8))

    def login(self, name: str, password: str) -> User | None:
        """The user who has this password; None takes as long, for whatever reason."""
        user = self.users().get(name)
        right = passwords.fits(user.password if user else passwords.nobodys(), password)
        return user if user is not None and right and not user.disabled else None

    # tokens

    def tokens(self) -> dict[str, Token]:
        """All of them by name, the expired ones too."""
        found: Mapping[str, Any] = self._accounts.read().get("tokens", {})
        return {name: _token(name, document) for name, document in sorted(found.items())}

    def add_token(self, name: str, role: str, now: datetime, life: timedelta | None = None) -> str:
        """Make a token; what is returned is shown once and kept nowhere.

        Raises:
            BadInput: naming all that is wrong.
            Conflict: the name is taken.
        """
        life = TOKEN_LIFE if life is None else life
        faults = [*_name_faults(name), *_role_faults(role)]
        if not timedelta(0) < life <= LONGEST_LIFE:
            days = LONGEST_LIFE.days
            faults.append(f"it would last {life.days} days; accepted are 1 to {days}")
        _refuse(f"no token {name!r} was made:", faults)
        secret = secrets.token_urlsafe(32)
        with self._accounts.changing() as content:
            tokens = content.setdefault("tokens", {})
            if name in tokens:
                raise Conflict(f"there is a token {name} already; tokens remove {name} ends it")
            tokens[name] = {
                "role": role,
                "digest": _digest(secret),
                "made_at": to_micros(now),
                "expires_at": to_micros(now + life),
            }
        return f"{TOKEN_MARK}_{secret}"

    def remove_token(self, name: str) -> None:
        """End a token at once."""
        with self._accounts.changing() as content:
            if content.get("tokens", {}).pop(name, None) is None:
                raise NotFound(_no("token", name, self.tokens()))

    def bearer(self, text: str, now: datetime) -> Token | None:
        """Whose token this is; None where it is nobody's, or has expired."""
        mark, _, secret = text.partition("_")
        digest, found = _digest(secret), None
        for token in self.tokens().values():  # all of them, so that the time tells nothing
            if hmac.compare_digest(token.digest, digest) and mark == TOKEN_MARK:
                found = token
        return found if found is not None and found.expires_at > now else None

    # links

    def new_link(self, now: datetime) -> str:
        """The key of a link that opens the console once, for as long as there are no accounts;
        the one before it opens nothing any more."""
        key = secrets.token_urlsafe(32)
        with self._link.changing() as content:
            content.clear()
            content.update(digest=_digest(key), until=to_micros(now + LINK_LIFE))
        return key

    def use_link(self, key: str, now: datetime) -> bool:
        """Whether the link opens the console; it does so once."""
        with self._link.changing() as content:
            opens = (
                hmac.compare_digest(str(content.get("digest", "")), _digest(key))
                and from_micros(content["until"]) > now
                and not self.exist()
            )
            if opens:
                content.clear()
        return opens


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _user(name: str, document: Mapping[str, Any]) -> User:
    return User(
        name,
        ROLES[document["role"]],
        document["password"],
        document["stamp"],
        document["disabled"],
        from_micros(document["made_at"]),
    )


def _token(name: str, document: Mapping[str, Any]) -> Token:
    return Token(
        name,
        ROLES[document["role"]],
        document["digest"],
        from_micros(document["made_at"]),
        from_micros(document["expires_at"]),
    )


def _faults(name: str, role: str, password: str) -> list[str]:
    return [
        *_name_faults(name),
        *_role_faults(role),
        *(f"the password: {fault}" for fault in passwords.faults_of(password, name)),
    ]


def _name_faults(name: str) -> list[str]:
    if NAME.fullmatch(name):
        return []
    return ["a name has 1 to 64 letters, digits, '.', '_', '-' and '@', the first one no sign"]


def _role_faults(role: str) -> list[str]:
    return [] if role in ROLES else [f"there is no role {role!r}; there are {', '.join(ROLES)}"]


def _refuse(message: str, faults: list[str] | Any) -> None:
    if faults:
        raise BadInput(message, list(faults))


def _no(what: str, name: str, known: Mapping[str, object]) -> str:
    return f"there is no {what} {name!r}; there {_are(known)}"


def _are(known: Mapping[str, object]) -> str:
    return f"are {', '.join(known)}" if known else "is none"
