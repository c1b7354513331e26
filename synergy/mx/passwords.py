"""Passwords: how they are kept, and which are refused."""

import secrets
import unicodedata
from collections.abc import Sequence
from functools import cache
from string import digits, punctuation

from werkzeug.security import check_password_hash, generate_password_hash

#: scrypt with a salt per user: 32 MB and some 100 ms for each guess.
METHOD = "scrypt:32768:8:1"
#: Characters of a password, at least and at most.
SHORTEST, LONGEST = 12, 256
#: Characters of it that differ, at least.
VARIED = 5

_WORDS = """
password passwort passwd pass qwerty qwertz azerty asdfgh asdf zxcvbn yxcvbn letmein welcome
admin administrator root user guest login master monkey dragon football baseball basketball
soccer hockey iloveyou love sunshine princess superman batman shadow michael jordan jessica
ashley charlie daniel thomas george andrew joshua hunter ranger killer trustno secret changeme
change default test testing temp system server database internet computer windows google
facebook starwars pokemon whatever nothing hello freedom summer winter spring autumn monday
friday january december synergy scheduler console rabbitmq mongodb correct horse battery staple
my the is this you me new one two abc abcd abcdef abcdefgh qwe asd zxc qaz wsx edc uiop hjkl
your not very long strong company work office
"""
#: What the passwords that people choose most are made of; one is refused that is nothing but such
#: words, digits and signs.
COMMON_WORDS = frozenset(_WORDS.split())
_SIGNS = digits + punctuation + " "
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
)


def faults_of(password: str, name: str) -> Sequence[str]:
    """Why a password is refused for this account; empty where it may be used."""
    found = []
    if len(password) < SHORTEST:
        found.append(f"it has {len(password)} characters; at least {SHORTEST} are wanted")
    if len(password) > LONGEST:
        found.append(f"it has {len(password)} characters; at most {LONGEST} are taken")
    if found:
        return found
    plain = password.lower()
    if len(set(plain)) < VARIED:
        found.append(f"it has {len(set(plain))} different characters; at least {VARIED} are wanted")
    elif _is_row(plain.strip(punctuation)) or _is_common(plain, name.lower()):
        found.append("it is one of those that are tried first; take several words of your own")
    return found


def hashed(password: str) -> str:
    """As it is kept."""
    return generate_password_hash(_normal(password), METHOD)


def fits(stored: str, password: str) -> bool:
    """Whether it is that password; takes as long for a wrong one."""
    return check_password_hash(stored, _normal(password[: LONGEST + 1]))


@cache
def nobodys() -> str:
    """What is compared with where there is no such user, so that it takes as long."""
    return hashed(secrets.token_hex(16))


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _is_row(plain: str) -> bool:
    """Whether it is a way along the keyboard, the alphabet or the digits, perhaps said twice."""
    for row in _ROWS:
        for way in (row * 3, row[::-1] * 3):
            if plain in way:
                return True
    return any(
        len(plain) % size == 0 and plain == plain[:size] * (len(plain) // size)
        for size in range(1, len(plain) // 2 + 1)
    )


def _is_common(plain: str, name: str) -> bool:
    """Whether nothing but common words, digits and signs is in it."""
    # What is appended stands for itself, and only what is within for a letter.
    letters = plain.strip(_SIGNS).translate(str.maketrans("013457@$!", "oieastasi"))
    return any(_falls_apart(text, name) for text in (plain, letters))


def _falls_apart(text: str, name: str) -> bool:
    words = COMMON_WORDS | ({name} if name else set())
    runs = "".join(character if character.isalpha() else " " for character in text).split()
    return all(_made_of(run, words) for run in runs)


def _made_of(run: str, words: frozenset[str]) -> bool:
    """Whether the letters are a chain of these words."""
    reached = {0}
    for end in range(1, len(run) + 1):
        if any(run[start:end] in words for start in reached if end - start <= 16):
            reached.add(end)
    return len(run) in reached
