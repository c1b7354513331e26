"""All figures as one JSON document; equal data gives equal bytes.

::

    {"lines": …, "malformed": …, "continuation": …,
     "hourly": {"2024-05-12T00": {"requests": …, "bytes": …, "visits": …, "status": {"2xx": …},
                                  "browsers": {…}, "systems": {…}}, …},
     "daily": …, "monthly": …, "yearly": …,
     "by_site":   {granularity: {site:   {label: {…}}}},
     "by_client": {granularity: {client: {label: {…}}}}}

`bytes` are those sent; `visits` those that started in the interval (`db.sessions`), of an interval
as a whole the sum over its sites. An interval without requests is not in it.
"""

import json
import os
from os import PathLike
from pathlib import Path
from typing import Any

from db import figures
from db.figures import Figures, Of
from db.traffic import Traffic

_SITE_LEVELS = ("hourly", "daily", "monthly", "yearly")
_CLIENT_LEVELS = ("daily", "monthly", "yearly")


def report(db_path: str | PathLike[str]) -> dict[str, Any]:
    """The report of what has been counted up to now."""
    with Traffic(db_path) as traffic, traffic.reading() as db:
        lines, malformed, continuation = db.execute(
            "SELECT coalesce(sum(lines), 0), coalesce(sum(malformed), 0),"
            " coalesce(sum(continuation), 0) FROM files"
        ).fetchone()
        sites = figures.everything(db, Of.SITE)
        clients = figures.everything(db, Of.CLIENT)
    totals: dict[str, dict[str, Figures]] = {level: {} for level in _SITE_LEVELS}
    for level, label, _, its in sites:
        of_interval = totals.setdefault(level, {}).setdefault(label, Figures())
        of_interval += its
    return {
        "lines": lines,
        "malformed": malformed,
        "continuation": continuation,
        **{
            level: {label: its.document() for label, its in labels.items()}
            for level, labels in totals.items()
        },
        "by_site": _by_name(sites, _SITE_LEVELS),
        "by_client": _by_name(clients, _CLIENT_LEVELS),
    }


def write(path: str | PathLike[str], document: dict[str, Any]) -> None:
    """Write a report as a whole or not at all, its keys in order."""
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, sort_keys=True, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _by_name(
    rows: list[tuple[str, str, str, Figures]], levels: tuple[str, ...]
) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {level: {} for level in levels}
    for level, label, name, its in rows:
        found.setdefault(level, {}).setdefault(name, {})[label] = its.document()
    return found
