"""``bench``: measures this machine, and prints what it found as one JSON object."""

import argparse
import importlib
from collections.abc import Mapping

from synergy.cli.output import Output
from synergy.cli.parts import add_part
from synergy.project import Project

#: What can be measured → its module, and what it tells.  A module has ``arguments(parser)`` and
#: ``measure(args)``, which returns the object.
MEASURES: Mapping[str, tuple[str, str]] = {
    "core": ("synergy.bench.core", "the engine alone: speed, memory, start; a peer beside it"),
    "answers": ("synergy.bench.answers", "why an interval stands so, with a million behind it"),
    "console": ("synergy.bench.console", "pages with a long history behind them, and watchers"),
    "units": ("synergy.bench.units", "units end to end by real programs, on the servers named"),
    "backfill": ("synergy.bench.backfill", "what a backfill costs the live work beside it"),
    "broker": ("synergy.bench.broker", "a broker alone: publish, consume, one hop"),
    "forecast": ("synergy.bench.foresight", "how often forecasts come true, in simulated pasts"),
    "peers": ("synergy.bench.peers", "the same beside other queues of tasks, in turns"),
}


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """A verb of its own for each thing that can be measured."""
    parts = parser.add_subparsers(dest="what", metavar="|".join(MEASURES), required=True)
    for name, (module, summary) in MEASURES.items():
        importlib.import_module(module).arguments(add_part(parts, name, summary))


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Measure, and print it."""
    module, _ = MEASURES[args.what]
    output.data(importlib.import_module(module).measure(args))
    return 0
