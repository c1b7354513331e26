"""What the workers take from the project's settings: read afresh at each call.

Workers run in long-lived slots; asking each time costs nothing and lets `demo --heal` act at once.
Tests hand a `Configuration` of their own to the worker functions.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The settings of the suite."""

    #: The suite's SQLite file.
    traffic_db: str
    #: Access logs that the stream worker reads, unless its arguments name others.
    log_files: Sequence[str] = ()
    #: Number of the path segment that names the site, from 1.
    site_segment: int = 1
    #: JSON object, site to client; None while there are no clients.
    clients_file: str | None = None
    #: A file whose content is the label of the hour that fails on purpose; absent = none does.
    fail_file: str | None = None
    #: That label itself, where it does not come from a file.
    fail_label: str | None = None

    def fail_hour(self) -> str | None:
        """The label of the hour that has to fail on purpose, as of now."""
        if self.fail_file is not None:
            try:
                return Path(self.fail_file).read_text(encoding="utf-8").strip() or None
            except FileNotFoundError:
                return self.fail_label
        return self.fail_label


def load() -> Configuration:
    """The configuration of the project that this process works for."""
    # By name and only now: the tests of the workers bring their own and have no settings module.
    settings = importlib.import_module("settings")
    return Configuration(
        traffic_db=settings.TRAFFIC_DB,
        log_files=tuple(settings.LOG_FILES),
        site_segment=settings.SITE_SEGMENT,
        clients_file=settings.CLIENTS_FILE,
        fail_file=getattr(settings, "FAIL_FILE", None),
        fail_label=getattr(settings, "FAIL_HOUR", None),
    )
