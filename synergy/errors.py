"""The errors that synergy raises, by whose fault they are, with the exit code of each.

SynergyError
├── BadInput         the user's context, arguments or files: exit 2, every problem at once
├── NotFound         no such process, interval, unit or program: exit 3
├── Conflict         already running, outdated plan, newer schema: exit 4
├── Unreachable      the store or broker does not answer or cannot be written: exit 5
└── TimedOut         waited as long as was asked: exit 6
"""

from collections.abc import Sequence


class SynergyError(Exception):
    """Base of all: the message says what, where, and what would be accepted."""

    #: Exit code of a command that ends with it (DESIGN §8.8).
    exit_code = 1


class BadInput(SynergyError):
    """What the user gave cannot be used; `problems` lists everything that is wrong with it."""

    exit_code = 2

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__("\n".join([message, *(f"  - {problem}" for problem in problems)]))
        self.problems = tuple(problems)


class NotFound(SynergyError):
    """Nothing of that name is known here."""

    exit_code = 3


class Conflict(SynergyError):
    """What was asked contradicts what stands."""

    exit_code = 4


class NewerSchema(Conflict):
    """The store was written by a newer version; it is left untouched."""


class Unreachable(SynergyError):
    """The store or broker does not answer, or cannot be written just now; nothing was lost."""

    exit_code = 5


class TimedOut(SynergyError):
    """What was waited for did not happen in time."""

    exit_code = 6
