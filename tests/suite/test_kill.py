"""Whatever is killed, whenever: the report is the same, nothing is lost or counted twice.

The whole demonstration runs on the real access log, with programs and slot children killed by
SIGKILL at random moments.  The seed is printed; ``SYNERGY_KILLS`` sets how many kills are made.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

REPO = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("SYNERGY_KILLS", "50"))
#: Kills in one run of the demonstration, which lasts two seconds when left alone.
KILLS_PER_RUN = 5
#: Seconds that a run with all its kills may take: leases last 15 s where no one notices at once.
PATIENCE = 90.0

pytestmark = pytest.mark.slow


def a_project(folder: Path) -> Path:
    """The illustration suite in a folder of its own."""
    folder.mkdir(parents=True)
    for name in ("context.py", "settings.py"):
        shutil.copy(REPO / name, folder / name)
    for name in ("workers", "db"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def command(project: Path, logs: list[Path], clients: Path, report: Path) -> list[str]:
    """The command line of the demonstration."""
    return [
        *(sys.executable, "-m", "synergy.cli", "demo", "--input", *map(str, logs)),
        *("--site-segment", "2", "--clients", str(clients)),
        *("--exit-when-done", "--report", str(report)),
    ]


def victims(project: Path) -> list[psutil.Process]:
    """The scheduler, the worker, and everything below the worker."""
    found = []
    for file in project.glob(".synergy/*/run/*.pid"):
        if file.stem == "supervisor":
            continue  # the demonstration itself
        try:
            program = psutil.Process(int(file.read_text().partition("\n")[0]))
            found += [program, *program.children(recursive=True)]
        except (psutil.Error, ValueError, OSError):
            continue
    return found


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory, truth: dict) -> Path:
    path = tmp_path_factory.mktemp("clients") / "clients.json"
    path.write_text(json.dumps(truth["site_owner"]["map"]))
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, logs: list[Path], clients: Path) -> bytes:
    """The report of a run in which nothing is killed."""
    project = a_project(tmp_path_factory.mktemp("calm") / "project")
    report = project / "out.json"
    subprocess.run(
        command(project, logs, clients, report), cwd=project, check=True, capture_output=True
    )
    return report.read_bytes()


@pytest.mark.parametrize("run", range(-(-KILLS // KILLS_PER_RUN)))
def test_kills_at_random_moments_change_nothing(
    run: int, tmp_path: Path, logs: list[Path], clients: Path, undisturbed: bytes
) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    dice = random.Random(seed)
    project = a_project(tmp_path / "project")
    report = project / "out.json"
    story = []
    demo = subprocess.Popen(
        command(project, logs, clients, report),
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    begun = time.monotonic()
    try:
        kills = 0
        while kills < KILLS_PER_RUN and demo.poll() is None:
            time.sleep(dice.uniform(0.02, 0.8))
            alive = victims(project)
            if alive:
                victim = dice.choice(alive)
                story.append(f"{time.monotonic() - begun:.2f} s: {victim}")
                os.kill(victim.pid, signal.SIGKILL)
                kills += 1
            assert time.monotonic() - begun < PATIENCE
        said = demo.communicate(timeout=PATIENCE)[1].decode()
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.wait()
    told = f"seed {seed}, killed {story}, it said:\n{said}"
    assert demo.returncode == 0, told
    assert report.read_bytes() == undisturbed, told
    jobs = json.loads(
        subprocess.run(
            [sys.executable, "-m", "synergy.cli", "jobs", "--json"],
            cwd=project,
            check=True,
            capture_output=True,
        ).stdout
    )
    assert len(jobs) == 247, told
    assert {job["state"] for job in jobs} <= {"processed", "noop"}, told
    assert {job["generation"] for job in jobs} == {1}, told
