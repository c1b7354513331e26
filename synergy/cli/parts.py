"""Verbs within a verb: ``bench core``, ``process off``."""

import argparse
from typing import Any


def add_part(parts: Any, name: str, summary: str) -> argparse.ArgumentParser:
    """The parser of one of them, with what every verb takes: it may stand behind these too."""
    part: argparse.ArgumentParser = parts.add_parser(name, help=summary, description=summary)
    part.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    for server in ("--store", "--broker"):
        part.add_argument(server, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return part
