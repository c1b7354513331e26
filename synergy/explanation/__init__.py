"""Why intervals and firings stand as they do: what holds them, the root of that first, and what
happens next.

Pure functions over a `Reading` and an instant, which ask what the scheduler asks.
"""

from synergy.explanation.causes import Cause, Hint, Link
from synergy.explanation.walk import (
    Behind,
    Explanation,
    explain,
    explain_freerun,
    scheduler_absent,
)

__all__ = [
    "Behind",
    "Cause",
    "Explanation",
    "Hint",
    "Link",
    "explain",
    "explain_freerun",
    "scheduler_absent",
]
