"""``check`` says what a changed context does to existing intervals; a start refuses some of it."""

from collections.abc import Callable
from typing import Any

CONTEXT = """
from synergy import Context, daily, hourly, tree

site = tree(
    "site",
    [daily("day", run="workers.hello:count"), hourly("hour", run="workers.hello:greet")],
    start="{start}",
    until="2024-05-14",
    lag=0,
)
context = Context(site{more})
"""


def write(project: Any, start: str, more: str = "") -> None:
    project.write("context.py", CONTEXT.format(start=start, more=more))


def done(project: Any) -> Callable[[], bool]:
    return lambda: {job["state"] for job in project.json("jobs")} == {"processed"}


def test_a_start_that_is_moved_is_told_refused_and_accepted(fresh: Any, wait: Any) -> None:
    write(fresh, "2024-05-12")
    first = fresh.run("check")
    assert (first.returncode, first.stdout) == (0, "")
    assert "changes nothing for what is recorded" in first.stderr
    for name in ("scheduler", "worker"):
        fresh.ok("start", name)
    wait(done(fresh), "two days")
    fresh.ok("stop", "scheduler")

    write(fresh, "2024-05-13")
    told = fresh.run("check")
    assert told.returncode == 4
    accept = 'Context(…, accept=["tree site starts 2024-05-13T00:00Z"])'
    assert told.stdout.splitlines() == [
        "✕ tree site: starts 2024-05-13T00:00Z, not 2024-05-12T00:00Z",
        "    1 interval of day, 24 intervals of hour that were recorded there "
        "would be out of sight",
        f"    if that is meant: {accept}",
    ]
    assert told.stderr == "refused, as it is: 1 change; nothing was written\n"
    as_json = fresh.run("check", "--json")
    assert as_json.returncode == 4
    assert '"accept": "tree site starts 2024-05-13T00:00Z"' in as_json.stdout
    refused = fresh.run("start", "scheduler")
    assert refused.returncode == 4
    assert "the context contradicts what is in the store" in refused.stderr
    assert accept in refused.stderr
    assert len(fresh.jobs("day")) == 2, "nothing was changed"

    write(fresh, "2024-05-13", ', accept=["tree site starts 2024-05-13T00:00Z"]')
    assert fresh.run("check").returncode == 0
    assert "not taken over yet" in fresh.run("list").stderr
    started = fresh.run("start", "scheduler")
    assert started.returncode == 0
    assert "changed: tree site: starts 2024-05-13T00:00Z, not 2024-05-12" in started.stderr
    wait(lambda: len(fresh.jobs("day")) == 1, "the shorter span")
    assert fresh.run("list").stderr == ""
    log = fresh.folder / ".synergy" / "logs" / "scheduler.log"
    assert "as accepted, 1 interval of day" in log.read_text()
    fresh.ok("stop", "scheduler")

    write(fresh, "2024-05-12")
    back = fresh.ok("check")
    assert "nothing falls due by that" in back, "what was left out is recorded still"
    fresh.ok("start", "scheduler")
    wait(lambda: len(fresh.jobs("day")) == 2, "the whole span")
    assert {job["generation"] for job in fresh.json("jobs")} == {1}


def test_what_is_wrong_with_a_context_is_bad_input(fresh: Any) -> None:
    write(fresh, "2024-05-12", ", accept=7")
    told = fresh.run("check")
    assert told.returncode == 2
    assert "Context(accept=…): 7 is no text" in told.stderr
    assert "Traceback" not in told.stderr
