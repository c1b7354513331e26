"""Lets generated visitors come in while the demonstration runs."""

from datetime import UTC, datetime

import settings
from synergy import Result, Work, noop, processed
from workers.generate import Visitors


def write(work: Work) -> Result:
    """Append to the generated log what happened up to now."""
    start = datetime.fromisoformat(str(settings.SITE_START))
    written = Visitors(settings.LOG_FILES[0], start).write_until(datetime.now(UTC))
    return processed(count=written) if written else noop("nobody came")
