"""``simulate``: what it prints, for people and for programs, and what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synergy.cli import main
from synergy.errors import BadInput
from synergy.testing.scenario import parse, read

ROOT = Path(__file__).resolve().parent.parent.parent

SCENARIO: dict[str, Any] = {
    "description": "A day of 25 hours, one of which nobody can make.",
    "zone": "Europe/Berlin",
    "clock": "2026-10-25T00:00:00+02:00",
    "until": "2026-10-26T12:00:00+01:00",
    "processes": [
        {"name": "day", "granularity": "daily"},
        {"name": "hour", "granularity": "hourly"},
        {"name": "copy", "granularity": "daily", "after": ["day"]},
    ],
    "trees": [
        {"name": "tree", "processes": ["day", "hour"]},
        {"name": "copies", "processes": ["copy"]},
    ],
    "default": {"duration": 10, "outcome": "processed"},
    "outcomes": [
        {"process": "hour", "interval": "2026-10-25T05", "attempt": 1, "outcome": "lost"},
        {"process": "hour", "interval": "2026-10-25T07", "outcome": "failed", "reason": 'say "no"'},
        {"process": "hour", "interval": "2026-10-25T02+01:00", "outcome": "noop"},
    ],
    "requests": [
        {
            "at": "2026-10-26T01:00:00+01:00",
            "action": "skip",
            "process": "hour",
            "interval": "2026-10-25T07",
        }
    ],
}

#: A way to run the command in this process: exit code, stdout, stderr.
Simulate = Callable[..., tuple[int, str, str]]


@pytest.fixture
def simulate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Simulate:
    """Runs it in a folder without a project, on a scenario."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(scenario: Any, *words: str) -> tuple[int, str, str]:
        text = scenario if isinstance(scenario, str) else json.dumps(scenario)
        (tmp_path / "scenario.json").write_text(text, "utf-8")
        code = main(["simulate", "scenario.json", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_programs_get_a_line_for_each_transition(simulate: Simulate) -> None:
    code, out, err = simulate(SCENARIO, "--json")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[0] == {
        "at": "2026-10-24T23:05:00Z",
        "kind": "job",
        "process": "hour",
        "interval": "2026-10-25T00",
        "generation": 1,
        "from": "embryo",
        "to": "in_progress",
        "reason": "",
    }
    assert lines[1] == {
        "at": "2026-10-24T23:05:00Z",
        "kind": "unit",
        "unit": "hour@2026-10-25T00#1",
        "attempt": 1,
        "from": "requested",
        "to": "in_progress",
    }
    assert lines[-1] == {
        "kind": "summary",
        "jobs": {"embryo": 3, "processed": 36, "noop": 1, "skipped": 1},
        "units": 38,
        "violations": 0,
    }
    failed = next(line for line in lines if line.get("to") == "failed")
    assert failed["reason"] == 'attempt 3 (the last of 3): say "no"'
    assert [line["at"] for line in lines[:-1]] == sorted(line["at"] for line in lines[:-1])


def test_people_get_a_story(simulate: Simulate) -> None:
    code, out, _ = simulate(SCENARIO)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["time", "(Europe/Berlin)", "process", "interval"]
    for line in (
        "2026-10-25 02:05:10+0200  hour     2026-10-25T01        ✓ processed",
        "2026-10-25 02:05:10+0100  hour     2026-10-25T02+02:00  ✓ processed",
        "2026-10-25 03:05:10       hour     2026-10-25T02+01:00  ○ noop",
        "2026-10-25 06:05:20       hour     2026-10-25T05        ↻ requested    attempt 1: "
        "its worker worker-1 was lost (lease ran out)",
        "2026-10-25 06:05:20       hour     2026-10-25T05        ▶ in_progress  attempt 2",
        "2026-10-26 01:00:00       hour     2026-10-25T07        – skipped      skip r1",
        "2026-10-26 01:00:10       copy     2026-10-25           ▶ in_progress",
    ):
        assert line in lines
    assert lines[-2:] == [
        "38 units in 41 attempts; jobs whose interval has begun: "
        "3 embryo, 36 processed, 1 noop, 1 skipped.",
        "Nothing that was due is left over.",
    ]


def test_the_story_ends_with_what_waits_and_why(simulate: Simulate) -> None:
    _, out, _ = simulate({**SCENARIO, "requests": []})
    assert out.splitlines()[-3:] == [
        "Due, and not finished in the end:",
        "  day 2026-10-25 is embryo: child hour 2026-10-25T07 is failed",
        "  copy 2026-10-25 is embryo: dependency day 2026-10-25 is embryo",
    ]


def test_a_request_that_changes_nothing_is_told_of(simulate: Simulate) -> None:
    early = {**SCENARIO["requests"][0], "at": SCENARIO["clock"], "action": "reprocess"}
    code, out, err = simulate({**SCENARIO, "requests": [early, *SCENARIO["requests"]]}, "--json")
    assert code == 0
    assert err == (
        "request r1 (reprocess hour 2026-10-25T07 at 2026-10-24T22:00:00Z) changed nothing\n"
    )
    assert json.loads(out.splitlines()[-1])["jobs"]["skipped"] == 1


def test_a_switch_that_changes_nothing_is_told_of_and_one_that_does_is_in_the_story(
    simulate: Simulate,
) -> None:
    at = {"at": "2026-10-26T00:30:00Z", "process": "copy", "reason": "too soon"}
    later = {"at": "2026-10-26T02:00:00Z", "process": "copy"}
    requests = [{**at, "action": "off"}, {**later, "action": "on"}, {**later, "action": "on"}]
    code, out, err = simulate({**SCENARIO, "requests": [*SCENARIO["requests"], *requests]})
    assert code == 0
    assert err == "request r4 (on copy at 2026-10-26T02:00:00Z) changed nothing\n"
    told = [line for line in out.splitlines() if "⏻" in line]
    assert [line.split()[2:] for line in told] == [
        ["copy", "⏻", "off", "too", "soon"],
        ["copy", "⏻", "on"],
    ]


def test_a_story_of_nothing(simulate: Simulate) -> None:
    code, out, _ = simulate({**SCENARIO, "until": SCENARIO["clock"], "requests": []})
    assert (code, out.splitlines()[0]) == (
        0,
        "0 units in 0 attempts; jobs whose interval has begun: none.",
    )


def test_the_same_scenario_gives_the_same_bytes_whatever_the_hashes(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(6)]
    measured = {"granularity": "hourly", "machine": "recomputing", "every": "every 1200"}
    scenario = {
        "clock": "2026-01-01T00:00Z",
        "until": "2026-01-02T02:00Z",
        "workers": 3,
        "pools": {"db": 2},
        "processes": [{"name": name, "pool": "db", **measured} for name in names],
        "trees": [{"name": f"of_{name}", "processes": [name]} for name in names],
        "outcomes": [{"process": "p3", "attempt": 1, "outcome": "failed"}],
        "requests": [
            {"at": "2026-01-01T03:10Z", "action": "off", "process": "p1"},
            {"at": "2026-01-01T09:10Z", "action": "on", "process": "p1", "catch_up": "latest"},
        ],
    }
    (tmp_path / "scenario.json").write_text(json.dumps(scenario))
    seen = set()
    for seed in ("1", "2", "3"):
        done = subprocess.run(
            [sys.executable, "-m", "synergy.cli", "simulate", "scenario.json", "--json"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        )
        assert done.stdout.count(b"\n") > 1000
        seen.add(done.stdout)
    assert len(seen) == 1


# ---- what is refused


def edited(**given: Any) -> dict[str, Any]:
    return {**SCENARIO, **given}


def with_process(**given: Any) -> dict[str, Any]:
    day, *others = SCENARIO["processes"]
    return edited(processes=[{**day, **given}, *others])


def with_outcome(**given: Any) -> dict[str, Any]:
    return edited(outcomes=[{"process": "hour", **given}])


def switched(action: str, **given: Any) -> dict[str, Any]:
    named = {"at": SCENARIO["clock"], "action": action, "process": "day", **given}
    return edited(requests=[named])


def with_request(**given: Any) -> dict[str, Any]:
    return edited(requests=[{**SCENARIO["requests"][0], **given}])


BAD: list[tuple[Any, str]] = [
    ([], "[] is not an object"),
    (edited(colour="red"), 'there is no "colour" here; there are description, zone, clock'),
    ({"clock": "2026-01-01T00:00Z"}, '"processes" is missing'),
    (edited(clock=5), "clock: 5 is not a text"),
    (edited(clock="2026-10-25"), "clock: '2026-10-25' has no offset"),
    (edited(clock="today"), "clock: 'today' is no instant"),
    (edited(until="9999-12-31T23:59-23:00"), "until: '9999-12-31T23:59-23:00' lies beyond"),
    (edited(until="2026-10-24T00:00Z"), "until: '2026-10-24T00:00Z' lies before clock"),
    (edited(zone="Europe/Nowhere"), "zone: the zone 'Europe/Nowhere' is unknown"),
    (edited(workers=0), "workers: 0 is less than 1"),
    (edited(workers=1.5), "workers: 1.5 is not a whole number or null"),
    (edited(default={"outcome": "done"}), 'default.outcome: "done" is none of processed, noop'),
    (edited(default={"duration": -1}), "default.duration: -1 is less than 0"),
    (edited(default={"duration": 1e12}), "default.duration: 1000000000000.0 is more than"),
    (edited(processes="day"), 'processes: "day" is not a list'),
    (edited(processes=[]), "processes: it has 0 parts; at least 1 wanted"),
    (edited(processes=[5]), "processes[0]: 5 is not an object"),
    (edited(processes=[{"name": "day"}]), 'process "day": granularity None is none of minutely'),
    (with_process(granularity="dayly"), """processes[0] process "day": granularity 'dayly' is"""),
    (with_process(run="a:b"), 'processes[0]: there is no "run" here'),
    (with_process(name="a day"), 'processes[0] process "a day": a name is made of letters'),
    (with_process(machine="lazy"), """processes[0] process "day": machine 'lazy' is none of"""),
    (with_process(blocking="all"), """processes[0] process "day": blocking 'all' is none of"""),
    (with_process(on_failure="x"), """processes[0] process "day": on_failure 'x' is none of"""),
    (with_process(grouping=2), "daily intervals cannot be grouped"),
    (with_process(lag="soon"), "lag 'soon' is not a number of seconds"),
    (with_process(backoff=-1), "backoff -1 is not a number of seconds"),
    (with_process(time_limit=0), "time_limit 0 lets nothing run"),
    (with_process(pool="db"), "pool 'db' is none that pools names; known are"),
    (edited(pools={"db": 0}), 'pools pool "db": limit 0 is not a whole number from 1 up'),
    (edited(pools={"a b": 1}), 'pools pool "a b": a name is made of letters'),
    (edited(pools=["db"]), 'pools: ["db"] is not an object'),
    (with_process(catch_up="some"), "catch_up 'some' is none of all, latest, none"),
    (with_process(max_attempts=0), "max_attempts 0 is not a whole number from 1 up"),
    (with_process(parallel=0), "parallel 0 is not a whole number from 1 up"),
    (with_process(every="now and then"), "trigger 'now and then' names no kind of trigger"),
    (with_process(after=["moon"]), 'processes[0] process "day": "moon" is no registered process'),
    (with_process(after="hour"), 'processes[0].after: "hour" is not a list'),
    (with_process(after=[7]), "processes[0].after[0]: 7 is not a text or an object"),
    (with_process(after=[{"offset": -1}]), 'processes[0].after[0]: "process" is missing'),
    (with_process(after=[{"process": "day", "offset": 1}]), "it cannot wait for a later"),
    (with_process(after=["copy"]), "it waits for itself"),
    (with_process(name="hour"), 'processes[1] process "hour": the name is taken already'),
    (edited(trees=[{"name": "tree", "processes": ["day", "hour"]}]), '"copy": no tree has it'),
    (edited(trees=[{"name": "tree", "processes": ["moon"]}]), 'trees[0]: "moon" is none of the'),
    (edited(trees=[{"name": "tree", "processes": []}]), "it has no processes"),
    (edited(trees=[*SCENARIO["trees"], SCENARIO["trees"][1]]), 'trees[2]: "copy" is listed in'),
    (edited(trees=[{**SCENARIO["trees"][0], "zone": "x"}]), "zone 'x' is unknown"),
    (edited(trees=[{**SCENARIO["trees"][0], "start": "x"}]), 'there is no "start" here'),
    (
        edited(trees=[{"name": "tree", "processes": ["day", "hour", "copy"]}]),
        'daily "day" and daily "copy" are of one granularity',
    ),
    (with_outcome(process="moon"), 'outcomes[0].process: "moon" is none of the processes'),
    (with_outcome(interval="2026-10"), "outcomes[0].interval: '2026-10' is no interval"),
    (with_outcome(interval="2026-10-25T02"), "'2026-10-25T02' happens twice in Europe/Berlin"),
    (with_outcome(interval="2026-10-24T23"), "lies before the first of hour, 2026-10-25T00"),
    (with_outcome(attempt=0), "outcomes[0].attempt: 0 is less than 1"),
    (with_outcome(outcome="lose"), 'outcomes[0].outcome: "lose" is none of'),
    (with_outcome(duration="1"), 'outcomes[0].duration: "1" is not a number'),
    (edited(outcomes=[SCENARIO["outcomes"][0]] * 2), "outcomes[1]: the outcome of these attempts"),
    (with_request(at="2026-10-26"), "requests[0].at: '2026-10-26' has no offset"),
    (with_request(at="2027-01-01T00:00Z"), "is not from clock to until"),
    (with_request(action="repeat"), 'requests[0].action: "repeat" is none of reprocess, skip'),
    (with_request(action=["off"]), 'requests[0].action: ["off"] is none of reprocess, skip, off'),
    (with_request(action="off"), "requests[0].interval: a process is switched as a whole"),
    (with_request(catch_up="all"), 'requests[0].catch_up: only "on" takes it'),
    (switched("off", catch_up="all"), 'requests[0].catch_up: only "on" takes it'),
    (switched("on", catch_up="some"), "requests[0].catch_up: 'some' is none of all, latest, none"),
    (switched("on", process="moon"), 'requests[0].process: "moon" is none of the processes'),
    (with_request(process="moon"), 'requests[0].process: "moon" is none of the processes'),
    (with_request(interval="7"), "requests[0].interval: '7' is no interval of the hourly"),
    (edited(requests=[{}]), 'requests[0]: "at" is missing'),
]


@pytest.mark.parametrize(("document", "told"), BAD, ids=[told for _, told in BAD])
def test_a_bad_scenario_is_refused_with_the_place(document: Any, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(document)
    assert any(told in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "scenario.json:1:2 is no JSON: "),
        ('{"clock": NaN}', "scenario.json is no JSON: NaN is no number"),
        ("[" * 100_000, "scenario.json is no JSON: "),
        ('{"zone": "UTC", "zone": "UTC"}', '"zone" is said twice in one object'),
    ],
)
def test_what_is_no_json_is_refused(text: str, told: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text, "scenario.json")
    assert told in str(caught.value)


def test_all_problems_are_told_at_once_and_nothing_is_played(simulate: Simulate) -> None:
    day, hour, copy = SCENARIO["processes"]
    bad = {
        **SCENARIO,
        "colour": "red",
        "processes": [{**day, "grouping": 5}, {**hour, "lag": -1}, {**copy, "after": ["moon"]}],
        "outcomes": [
            {"process": "hour", "interval": "never", "outcome": "lost"},
            {"process": "sun", "outcome": "gone"},
        ],
        "requests": [{**SCENARIO["requests"][0], "at": "noon"}],
    }
    code, out, err = simulate(bad, "--json")
    assert (code, out) == (2, "")
    first, *problems = err.splitlines()
    assert first == "scenario.json cannot be played:"
    for told in (
        'there is no "colour"',
        'outcomes[1].outcome: "gone"',
        'process "day": daily intervals cannot be grouped',
        'process "hour": lag -1',
        'process "copy": "moon"',
        "outcomes[0].interval: 'never'",
        'outcomes[1].process: "sun"',
        "requests[0].at: 'noon'",
    ):
        assert sum(told in problem for problem in problems) == 1, (told, problems)
    assert len(problems) == 8


def test_a_recomputing_process_needs_no_source_in_a_scenario(simulate: Simulate) -> None:
    code, out, _ = simulate(with_process(machine="recomputing", every="every 7200"))
    assert code == 0
    assert "provisional run 2" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "what is to be played?"),
        (["nowhere.json"], "nowhere.json cannot be read: No such file"),
        (["x.json", "--workers", "2"], "--workers: only with --context"),
        (["--context", "."], "--context needs --from and --until"),
        (["--context", "nowhere"], "nowhere is neither a context.py nor its folder"),
        (["--context", ".", "--from", "noon"], "'noon' is no instant"),
        (["--workers", "none"], "none is no number of slots"),
        (["--duration", "nan"], "nan is no number of seconds"),
    ],
)
def test_bad_usage_is_refused(
    words: list[str],
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["simulate", *words]) == 2
    assert told in capsys.readouterr().err


# ---- a project's own timetable


def test_a_new_project_is_played(fresh: Any) -> None:
    listed = fresh.json("list")
    assert [process["process"] for process in listed["processes"]] == [
        "hello_daily",
        "hello_hourly",
    ]
    start = next(
        line.split('"')[1]
        for line in (fresh.folder / "context.py").read_text().splitlines()
        if line.strip().startswith("start=")
    )
    span = ["--from", f"{start}T00:00Z", "--until", f"{start}T23:59:59Z"]
    words = ["simulate", "--context", "context.py", *span, "--duration", "60"]
    out = fresh.ok(*words, "--json")
    last = json.loads(out.splitlines()[-1])
    assert last["jobs"] == {"embryo": 2, "processed": 23}
    assert fresh.ok(*words, "--json") == out
    story = fresh.ok(*words, "--fail", f"hello_hourly@{start}T05")
    assert "told to fail" in story
    assert "1 failed" in story
    refused = fresh.run(*words, "--fail", f"hello_hourly@{start}")
    assert (refused.returncode, refused.stdout) == (2, "")


def test_the_projects_freeruns_programs_and_sources_are_played(fresh: Any) -> None:
    fresh.write(
        "context.py",
        """
from synergy import Context, freerun, hourly, program, tree

hours = tree(
    "hours",
    [hourly("hour", run="a.b:c", machine="recomputing", source="events", every="every 1200")],
    start="2024-05-12",
    lag=0,
)
context = Context(
    hours,
    freerun("ping", command=["true"], at="every 600"),
    freerun("idle", command=["true"], at="every 3600"),
    program("worker", slots=1, processes=["hour", "ping"]),
    sources={"events": "workers.nowhere:keys"},
)
""",
    )
    span = ["--from", "2024-05-12T00:00Z", "--until", "2024-05-12T01:30:00Z"]
    lines = [
        json.loads(line)
        for line in fresh.ok("simulate", "--context", "context.py", *span, "--json").splitlines()
    ]
    ended = [line["unit"] for line in lines if line["kind"] == "unit" and line["to"] == "processed"]
    assert ended[:4] == [
        "hour@2024-05-12T00#1.1",
        "ping@2024-05-12T00:10:00Z#1",
        "hour@2024-05-12T00#1.2",  # one slot: the older interval goes first
        "ping@2024-05-12T00:20:00Z#1",
    ]
    assert not any(unit.startswith("idle@") for unit in ended)
    everyone = fresh.ok("simulate", "--context", ".", *span, "--json", "--workers", "3")
    assert '"unit":"idle@2024-05-12T01:00:00Z#1","attempt":1,"from":"in_progress"' in everyone


def test_a_bad_context_is_told_of_completely(fresh: Any) -> None:
    fresh.write(
        "context.py",
        """
from synergy import Context, daily, hourly, tree

context = Context(
    tree("t", [daily("day", run="x:y", machine="lazy"), hourly("hour", run="x:y", lag=-1)])
)
""",
    )
    span = ["--from", "2024-05-12T00:00Z", "--until", "2024-05-12T01:30:00Z"]
    done = fresh.run("simulate", "--context", "context.py", *span)
    assert (done.returncode, done.stdout) == (2, "")
    assert "machine 'lazy'" in done.stderr
    assert "lag -1" in done.stderr


def test_our_own_context_is_played_from_anywhere(fresh: Any) -> None:
    span = ["--from", "2024-05-12T00:00Z", "--until", "2024-05-12T01:05:00Z"]
    out = fresh.ok("simulate", "--context", str(ROOT / "context.py"), *span, "--json")
    assert '"unit":"host_hourly@2024-05-12T00#1","attempt":1,"from":"in_progress"' in out
    assert '"hello_hourly' not in out
