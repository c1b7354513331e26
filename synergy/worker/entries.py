"""Finds what ``run="package.module:name"`` names.

``python -m synergy.worker.entries FOLDER ENTRY…`` tries them in a process of its own and prints, as
one line of JSON, which cannot be used and why.
"""

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any


class BadEntry(Exception):
    """The entry does not import, or is nothing that can be called."""


def load_entry(entry: str) -> Callable[..., Any]:
    """The function or class that ``package.module:name`` names.

    Raises:
        BadEntry: the cause is what the import raised, where it did.
    """
    module_name, _, name = entry.partition(":")
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:  # a user's module may raise anything, SystemExit too
        raise BadEntry(f"does not import: {error!r}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise BadEntry(f"names nothing that can be called in {module.__file__}")
    return found  # type: ignore[no-any-return]


def main(folder: str, *entries: str) -> None:
    """Try them all; print those that fail."""
    sys.path.insert(0, folder)
    failed = {}
    for entry in entries:
        try:
            load_entry(entry)
        except BadEntry as error:
            failed[entry] = str(error)
    sys.stdout.flush()
    print("\n" + json.dumps(failed))


if __name__ == "__main__":
    main(*sys.argv[1:])
