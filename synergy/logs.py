"""Logs of programs: a line for each decision, or for many alike; to a rotating file or stderr.

Records carry ``extra={"action": …}`` so that tests and users match on the action, not on prose.
"""

import logging
import logging.handlers
import sys
import time
from pathlib import Path

#: A program's log file is rotated at this size, and so many old ones are kept (CAPABILITIES 183).
ROTATE_BYTES = 2_000_000
ROTATE_KEEP = 10


class _Lines(logging.Formatter):
    """``2026-11-20T17:30:00.123Z INFO dispatched  text``"""

    def format(self, record: logging.LogRecord) -> str:
        record.action = getattr(record, "action", record.name)
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        seconds = super().formatTime(record, "%Y-%m-%dT%H:%M:%S")
        return f"{seconds}.{int(record.msecs):03d}Z"


def logger(name: str) -> logging.Logger:
    """The logger of a program or part."""
    return logging.getLogger(f"synergy.{name}")


def log_to(path: Path | None, level: int = logging.INFO) -> None:
    """Send all of synergy's logs to a rotating file, or to stderr."""
    handler: logging.Handler
    if path is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=ROTATE_BYTES, backupCount=ROTATE_KEEP, encoding="utf-8"
        )
    formatter = _Lines("%(asctime)s %(levelname)-7s %(action)-12s %(message)s")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger("synergy")
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False
