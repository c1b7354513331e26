"""Which boxes may do something: names of boxes, or patterns as shells have them, such as ``db-*``.

No pattern at all admits every box.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

#: Of what the id of a box is made: what host names are made of, and the underscore.
BOX_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: A name, or one with ``*``, ``?`` and ``[…]`` in it.
_PATTERN = re.compile(r"(?:[A-Za-z0-9_.*?-]|\[!?[A-Za-z0-9_.-]+\])+")
_WILD = frozenset("*?[")


def is_pattern(text: str) -> bool:
    """Whether a box could bear a name of this form."""
    return _PATTERN.fullmatch(text) is not None


def admits(patterns: Sequence[str], box: str) -> bool:
    """Whether a box of this name is meant."""
    return not patterns or any(fnmatchcase(box, pattern) for pattern in patterns)


def may_meet(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether some box may be meant by both; False only where it is certain that there is none."""
    if not one or not other:
        return True
    names = [name for name in one if _is_name(name)], [name for name in other if _is_name(name)]
    if any(admits(other, name) for name in names[0]) or any(admits(one, n) for n in names[1]):
        return True
    return len(names[0]) < len(one) and len(names[1]) < len(other)


def _is_name(pattern: str) -> bool:
    return _WILD.isdisjoint(pattern)
