"""The checks of the project, behind ``launch.py test``: lint, types, tests, each in a line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
#: What is ours among the arguments; with these no server is brought up.
WITHOUT_SERVERS = ("--quick", "--embedded-only")
#: Processes among which the tests are divided, a class or the functions of a module at a time: many
#: of them wait for programs, silent networks or servers that come back.
SHARES = min(4, os.cpu_count() or 1)


def main(argv: Sequence[str]) -> int:
    """Run everything, even after a failure; return the worst exit code.

    Brings up MongoDB and RabbitMQ for the tests that need them (``launch.py services``), says
    before what it installs for that, and takes down what it brought up. ``--embedded-only``
    refrains from it; ``--quick`` too, and leaves out the tests marked slow. Servers that the
    environment names are used in any case. Every other argument goes to pytest. Without
    any such the tests run side by side, on as many processes as there are processors, up to four;
    ``-n 0`` has all of them run one after the other. The last line printed is pytest's own closing
    line.
    """
    if {"-h", "--help"} & {*argv}:
        print(f"{__doc__}\n\n{main.__doc__}")
        return 0
    options = [argument for argument in argv if argument not in WITHOUT_SERVERS]
    options = options or ["-n", str(SHARES), "--dist", "loadscope"]
    if "--quick" in argv:
        options = ["-m", "not slow", *options]
    use_test_data(os.environ)
    codes = [step("ruff", "check", "."), step("mypy")]
    # The tests come last: their closing line says how the whole went.
    if {*WITHOUT_SERVERS} & {*argv}:
        os.environ["SYNERGY_TEST_SERVERS"] = "none"
        return max(*codes, tests(options))
    with servers(os.environ) as code:
        return max(*codes, code, tests(options))


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


@contextmanager
def servers(environment: MutableMapping[str, str]) -> Iterator[int]:
    """Real servers while the tests run, named to them in the environment; 1 where CI lacks one."""
    # A polite end reaches the `finally` below.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()
    before = standing()
    for name, source in services("up", "--dry-run").items():
        if source.startswith("to be installed"):
            print(f"services: {name} is {source}", flush=True)
    try:
        found = services("up")
        for one in found["servers"]:
            environment[one["variable"]] = one["url"]
        for one in found["missing"]:
            environment[f"{one['variable']}_MISSING"] = one["why"]
            print(f"services: the tests with {one['name']} go without: {one['why']}")
        code = 1 if found["missing"] and environment.get("CI") else 0
        announce("services", code, began)
        yield code
    finally:
        if ours := sorted(standing() - before):
            services("down", *ours, quiet=True)


def standing() -> set[str]:
    """The servers that were started here, by this run or another."""
    found = services("status")["servers"]
    return {one["name"] for one in found if one["state"] in ("running", "broken")}


def services(*words: str, quiet: bool = False) -> Any:
    """What ``launch.py services`` answers; what it is doing is shown as it goes, unless `quiet`."""
    done = subprocess.run(
        [sys.executable, "-m", "synergy.cli", "services", *words, "--json"],
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
    )
    if not done.stdout:
        sys.stderr.buffer.write(done.stderr or b"")
        sys.exit(exit_code(done.returncode))
    return json.loads(done.stdout)


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
