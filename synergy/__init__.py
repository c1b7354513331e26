"""synergy: an interval-first workflow engine.

The names below are what a project's ``context.py`` and its workers use.
"""

from synergy.core.context import (
    Context,
    daily,
    freerun,
    hourly,
    last,
    minutely,
    monthly,
    offset,
    previous,
    program,
    quarterly,
    tree,
    weekly,
    yearly,
)
from synergy.worker.work import GiveUp, Result, Retry, Work, noop, processed

__version__ = "0.1.0"

__all__ = [
    "Context",
    "GiveUp",
    "Result",
    "Retry",
    "Work",
    "daily",
    "freerun",
    "hourly",
    "last",
    "minutely",
    "monthly",
    "noop",
    "offset",
    "previous",
    "processed",
    "program",
    "quarterly",
    "tree",
    "weekly",
    "yearly",
]
