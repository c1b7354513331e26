"""The checks of the project, behind ``launch.py test``: lint, types, tests, each in a line."""

import os
import subprocess
import sys
import time
from collections.abc import MutableMapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str]) -> int:
    """Run everything, even after a failure; return the worst exit code.

    ``--quick`` leaves out the tests marked slow; every other argument goes to pytest. The last line
    printed is pytest's own closing line.
    """
    if {"-h", "--help"} & {*argv}:
        print(f"{__doc__}\n\n{main.__doc__}")
        return 0
    options = [argument for argument in argv if argument != "--quick"]
    if len(options) < len(argv):
        options = ["-m", "not slow", *options]
    use_test_data(os.environ)
    # The tests come last: their closing line says how the whole went.
    codes = [step("ruff", "check", "."), step("mypy"), tests(options)]
    return max(codes)


def use_test_data(environment: MutableMapping[str, str]) -> None:
    """Default ``SYNERGY_TEST_DATA`` to the folder beside the checkout, where there is one."""
    beside = PROJECT.parent / "shared"
    if beside.is_dir():
        environment.setdefault("SYNERGY_TEST_DATA", str(beside))


def step(tool: str, *arguments: str) -> int:
    """Run one checker; one line when it is content, its output above that line when not."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", tool, *arguments],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    code = exit_code(done.returncode)
    if code:
        sys.stdout.buffer.write(done.stdout)
    announce(tool, code, began)
    return code


def tests(options: Sequence[str]) -> int:
    """Run pytest, shown as it goes; it announces itself, so that its closing line is the last."""
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    sys.stdout.flush()
    command = [sys.executable, "-m", "pytest", *colour, *options]
    return exit_code(subprocess.run(command, cwd=PROJECT).returncode)


def exit_code(status: int) -> int:
    """A process's status as a shell would give it: 128 + signal for a death by signal."""
    return status if status >= 0 else 128 - status


def announce(tool: str, code: int, began: float) -> None:
    outcome = "ok" if code == 0 else f"failed, exit {code}"
    sys.stdout.flush()
    sys.stdout.buffer.write(f"{tool}: {outcome} ({time.monotonic() - began:.1f} s)\n".encode())
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
