"""What stands around every measurement: its options, the head of its report, and the environments
of the peers.

A measurement is a table of figures: name → function, whose docstring is told with what it found.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from synergy import __version__
from synergy.errors import SynergyError

#: Measures one thing by the options of its verb; what it found, ready for JSON.
Figure = Callable[[argparse.Namespace], dict[str, Any]]


def options(parser: argparse.ArgumentParser, figures: Iterable[str]) -> None:
    """The options of every measurement; `figures` are the names of what it can tell."""
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument(
        "--only", choices=[*figures], metavar="FIGURE", help=f"only one of {', '.join(figures)}"
    )


def peers_option(parser: argparse.ArgumentParser) -> None:
    """The option of measurements that install others."""
    parser.add_argument(
        "--peers",
        metavar="DIR",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "synergy-bench",
        help="where the others are installed; in the user's cache",
    )


def positive(text: str) -> int:
    """An option's value that must be 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1 is needed")
    return number


def head(bench: str) -> dict[str, Any]:
    """How a report begins: what was measured, and on what."""
    return {
        "bench": bench,
        "versions": {"synergy": __version__, "python": platform.python_version()},
        "machine": machine(),
    }


def measured(args: argparse.Namespace, figures: Mapping[str, Figure]) -> dict[str, Any]:
    """The figures that are asked for, each with what it is."""
    return {
        name: {"what": " ".join((figure.__doc__ or "").split()), **figure(args)}
        for name, figure in figures.items()
        if args.only in (None, name)
    }


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
    }


def median(numbers: Iterable[float]) -> float:
    """The middle one; of an even count, between the two in the middle."""
    return statistics.median(numbers)


def spread(seconds: Iterable[float]) -> dict[str, float]:
    """The middle and the worst but one in a hundred, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50": round(median(ordered) * 1000, 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 3),
    }


def peer_python(folder: Path, *requirements: str, otherwise: str) -> Path:
    """The interpreter of a virtual environment that has these; made where there is none.

    `otherwise` tells what to do where they cannot be installed.

    Raises:
        SynergyError: they cannot be installed.
    """
    wanted = " ".join(requirements)
    home = folder / f"{'+'.join(requirements)}-python{platform.python_version()}"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        print(f"installing {wanted} in {home} …", file=sys.stderr, flush=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-input", *requirements]
        try:
            venv.create(home, with_pip=True, clear=True)
            subprocess.run(pip, check=True, stdout=sys.stderr)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SynergyError(
                f"{wanted} cannot be installed in {home}: {error}; {otherwise}"
            ) from error
        (home / "ready").touch()
    return python
