"""Looking at a timetable and changing it: jobs, why, status, log, reprocess, skip, trigger."""

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

Wait = Callable[..., Any]

FIELDS = [
    "process",
    "interval",
    "start",
    "end",
    "state",
    "generation",
    "attempts",
    "stale",
    "marked",
    "result",
]
FAILING = "2024-05-13T07"


def test_there_is_one_job_for_every_interval_with_exactly_these_fields(running: Any) -> None:
    jobs = running.json("jobs", "hour")
    assert [*jobs[0]] == FIELDS
    start = datetime(2024, 5, 12, tzinfo=UTC)
    hours = [start + timedelta(hours=n) for n in range(120)]
    assert [job["interval"] for job in jobs] == [f"{hour:%Y-%m-%dT%H}" for hour in hours]
    assert jobs[0] | {"generation": 1} == {
        "process": "hour",
        "interval": "2024-05-12T00",
        "start": "2024-05-12T00:00:00Z",
        "end": "2024-05-12T01:00:00Z",
        "state": "processed",
        "generation": 1,
        "attempts": 1,
        "stale": False,
        "marked": False,
        "result": 1,
    }


def test_jobs_are_picked_by_interval_range_and_state(running: Any) -> None:
    assert [*running.jobs("hour", "2024-05-12T03")] == ["hour@2024-05-12T03"]
    assert [*running.jobs("hour", "2024051203")] == ["hour@2024-05-12T03"], "the old ten digits"
    picked = running.jobs("hour", "2024-05-12T22..2024-05-13T01")
    assert [key[-2:] for key in picked] == ["22", "23", "00", "01"]
    assert [*running.jobs("hour", "--state", "failed")] == [f"hour@{FAILING}"]
    assert running.json("jobs", "--stale", "hour", "2024-05-12T00") == []


def test_people_see_aligned_columns_with_signs_and_the_failed_ones(running: Any) -> None:
    done = running.run("jobs", "hour")
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["process", "interval", "state", "generation", "attempts"]
    at = heading.index("state")
    assert {row[at] for row in rows} == {"✓", "✕"}
    assert len(rows) == 61, "the newest sixty and the failed one"
    assert "RuntimeError: told to fail" not in heading
    assert "120 jobs: 119 processed, 1 failed" in done.stderr
    assert "--all" in done.stderr
    assert "\x1b" not in done.stdout, "no colours in a pipe"


def test_colours_are_for_who_wants_them(running: Any) -> None:
    assert "\x1b[" in running.run("jobs", "day", FORCE_COLOR="1", TERM="xterm").stdout
    plain = running.run("jobs", "day", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm").stdout
    assert "\x1b[3" not in plain


def test_a_reader_that_stops_reading_is_no_error(running: Any) -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" jobs --all | head -1; echo "${PIPESTATUS[0]}"', "_", *running.command],
        cwd=running.folder,
        env=running.environment(),
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[1:] == ["0"]
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_why_names_the_root_first_then_what_happens_next(running: Any) -> None:
    told = running.json("why", "copy", "2024-05-13")
    assert [(link["process"], link["state"]) for link in told["chain"]] == [
        ("hour", "failed"),
        ("day", "embryo"),
        ("copy", "embryo"),
    ]
    root = told["root"]
    assert root == told["chain"][0]
    assert root["interval"] == FAILING
    assert "RuntimeError: told to fail" in root["text"]
    assert (root["cause"], root["next"]) == ("given_up", "nothing by itself")
    assert root["hints"][0] == {
        "command": f"reprocess hour {FAILING}",
        "purpose": "when its cause is cured",
    }
    assert root["at"] is None, "nothing happens by itself"
    assert told["chain"][1]["waits_for"] == [
        {"kind": "child", "process": "hour", "interval": FAILING, "state": "failed"}
    ]
    assert told["scheduler"] == "alive"
    assert told["behind"]["intervals"] == 0
    waiting = running.json("why", "hour", FAILING)["behind"]
    assert waiting == {
        "intervals": 2,
        "processes": {"day": 1, "copy": 1},
        "since": "2024-05-14T00:00:00Z",
        "complete": True,
    }
    lines = running.ok("why", "copy", "2024-05-13").splitlines()
    assert lines[0].startswith(f"hour {FAILING}  ✕ failed")
    assert any(line.startswith("└─ day 2024-05-13") for line in lines)
    assert "no scheduler" not in lines[-1]


def test_why_says_when_the_next_attempt_starts(running: Any) -> None:
    told = running.json("why", "late", "2024-05-12")
    assert "not there yet" in told["root"]["text"]
    at = datetime.fromisoformat(told["root"]["at"])
    assert timedelta(minutes=50) < at - datetime.now(UTC) < timedelta(minutes=70)
    assert "next: attempt 2 of 3 starts, in 59 min" in running.ok("why", "late", "2024-05-12")


def test_why_answers_for_a_past_moment(running: Any) -> None:
    now = datetime.now(UTC)
    told = running.json("why", "day", "2024-05-13", "--at", now.isoformat())
    assert [link["cause"] for link in told["chain"]] == ["given_up", "inputs"]
    told = running.json("why", "day", "2024-05-12", "--at", "2024-05-12T07:30")
    assert (told["at"], told["root"]["cause"]) == ("2024-05-12T07:30:00Z", "open")
    assert running.ok("why", "day", "2024-05-12", "--at", "2024-05-12").startswith(
        "as it stood at 2024-05-12 00:00 UTC\n"
    )


def test_why_tells_when_a_freerun_fires_and_why_it_did_not(running: Any) -> None:
    told = running.json("why", "ping", "2031-01-01")
    assert (told["process"], told["root"]["cause"]) == ("ping", "future")
    assert told["root"]["at"] == "2031-01-01T00:00:00Z"
    lines = running.ok("why", "ping", "2031-01-01").splitlines()
    assert lines[0].startswith("ping 2031-01-01T00:00:00Z  · embryo")
    assert lines[1] == "   its time has not come; its trigger: cron 0 0 1 1 *"
    early = running.json("why", "ping", "2024-01-01")
    assert early["root"]["cause"] == "missed"
    now = running.json("why", "ping")
    assert now["upcoming"] is None or now["upcoming"]["cause"] == "future"


def test_why_of_what_has_ended_says_so(running: Any) -> None:
    told = running.json("why", "hour", "2024-05-12T00")
    assert [link["state"] for link in told["chain"]] == ["processed"]
    assert told["root"]["text"].startswith("it has ended ")
    assert told["root"]["next"] == ""


def test_status_says_who_leads_and_how_far_each_process_is(running: Any) -> None:
    told = running.json("status")
    assert told["scheduler"]["alive"] is True
    of = {entry["process"]: entry for entry in told["processes"]}
    assert of["hour"]["finished_until"] == "2024-05-13T07:00:00Z"
    assert (of["hour"]["failed"], of["day"]["failed"]) == (1, 0)
    workers = told["workers"]
    assert [(each["program"], each["slots"], each["silent"]) for each in workers] == [
        ("worker", 2, False)
    ]
    assert workers[0]["processes"] is None
    text = running.ok("status")
    assert f"worker on {workers[0]['box']} (0 of 2 at work)" in text
    assert f"process {running.pids()['scheduler']}" in text
    assert "finished until (UTC)" in text
    assert "jobs --state failed" in text


def test_the_log_of_each_attempt_is_kept(running: Any) -> None:
    latest = running.run("log", "hour", FAILING)
    assert f"at hour@{FAILING}#1 attempt 2" in latest.stdout
    assert "RuntimeError: told to fail" in latest.stdout
    assert "attempt 2 of 2" in latest.stderr
    first = running.json("log", "hour", FAILING, "--attempt", "1")
    assert first["attempt"] == 1
    assert first["unit"] == f"hour@{FAILING}#1"
    assert "attempt 1" in first["log"]
    assert running.run("log", "hour", FAILING, "--attempt", "9").returncode == 3
    assert running.run("log", "day", "2024-05-13").returncode == 3, "it has not run yet"


def test_reprocess_of_one_hour_brings_its_day_and_its_dependents_up_to_date(
    running: Any, wait: Wait
) -> None:
    done = running.json("reprocess", "hour", "2024051407", "--reason", "late data")
    assert done["state"] == "done"
    assert {(item["process"], item["generation"]) for item in done["touched"]} == {
        ("hour", 2),
        ("day", 2),
        ("copy", 2),
    }
    up_to_date(running, wait, "2024-05-14", 2)


def test_a_reprocessed_range_runs_its_day_once(running: Any, wait: Wait) -> None:
    told = running.ok("reprocess", "hour", "2024-05-12T00..2024-05-12T23")
    assert "hour 24 intervals, 2024-05-12T00 to 2024-05-12T23  processed → embryo" in told
    up_to_date(running, wait, "2024-05-12", 2)
    assert {job["generation"] for job in running.json("jobs", "hour", "2024-05-12T05")} == {2}


def up_to_date(project: Any, wait: Wait, day: str, generation: int) -> None:
    """The day and what depends on it has been made anew, in this generation."""
    for process in ("day", "copy"):
        job = wait(
            lambda name=process: (
                next(
                    job
                    for job in project.json("jobs", name, day)
                    if job["state"] == "processed" and job["generation"] >= generation
                )
                if not project.json("jobs", name, day)[0]["stale"]
                else None
            ),
            f"{process} {day}",
        )
        assert (job["generation"], job["attempts"], job["stale"]) == (generation, 1, False)


def test_above_a_hundred_intervals_it_wants_a_yes(running: Any) -> None:
    asked = running.run("reprocess", "hour", "2024-05-12T00..2024-05-16T23")
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert "intervals" in asked.stderr
    generations = {job["generation"] for job in running.json("jobs", "hour", "2024-05-16T05")}
    assert generations == {1}, "nothing was done"


def test_skip_gives_up_an_hour_and_reopens_nothing(running: Any, wait: Wait) -> None:
    running.write("fail-hour-2024-05-15T03", "")
    running.ok("reprocess", "hour", "2024-05-15T03")
    wait(lambda: running.jobs("hour", "2024-05-15T03", "--state", "failed"), "the failure")
    told = running.ok("skip", "hour", "2024-05-15T03", "--reason", "no data that night")
    assert "hour 2024-05-15T03  failed → skipped" in told
    wait(lambda: running.jobs("day", "2024-05-15", "--state", "processed"), "the day")
    again = running.ok("skip", "hour", "2024-05-15T03")
    assert "nothing to skip" in again


def test_trigger_fires_a_freerun_and_its_output_is_kept(running: Any, wait: Wait) -> None:
    touched = running.json("trigger", "ping")["touched"]
    assert [item["process"] for item in touched] == ["ping"]
    label = touched[0]["interval"]
    wait(lambda: running.jobs("ping")[f"ping@{label}"]["state"] == "processed", "the firing")
    assert running.ok("log", "ping") == "pong\n"
    assert running.ok("log", "ping", running.json("why", "ping")["interval"]) == "pong\n"
    assert running.run("log", "ping", "2031-01-01").returncode == 3, "it has not fired yet"


def test_trigger_ends_a_back_off(running: Any, wait: Wait) -> None:
    before = running.jobs("late")["late@2024-05-12"]["attempts"]
    running.ok("trigger", "late", "2024-05-12")
    wait(lambda: running.jobs("late")["late@2024-05-12"]["attempts"] > before, "the next attempt")


#: What is typed, the exit code, and a part of what is said.
WRONG = [
    (["jobs", "huor"], 3, "did you mean hour"),
    (["why", "hour", "2031-01-01T00"], 3, "spans from 2024-05-12 00:00 until 2024-05-17 00:00"),
    (["why", "hour", "2024-05-12"], 2, "such as 2026-11-20T12"),
    (["why", "day", "2024051207"], 2, "such as 2026-11-20"),
    (["why", "ping", "2024-05-12"], 3, "the next after that is 2025-01-01T00:00:00Z"),
    (["why", "ping", "monday"], 2, "such as 2026-11-20T17:30 (UTC)"),
    (["why", "ping", "--at", "2026-01-01"], 2, "why ping 2026-01-01"),
    (["why", "day"], 2, "name the interval"),
    (["why", "day", "2024-05-12", "--at", "noon"], 2, "such as 2026-11-20T17:30 (UTC)"),
    (["why", "day", "2024-05-12", "--at", "2924-05-12"], 2, "lies in the future"),
    (["jobs", "hour", "2024-05-13T00..2024-05-12T00"], 2, "before it begins"),
    (["jobs", "hour", "2024-05-13T00.."], 2, "FROM..TO"),
    (["jobs", "--state", "done"], 2, "choose from"),
    (["reprocess", "ping", "2024-05-12"], 2, "trigger ping"),
    (["reprocess", "hour"], 2, "required: INTERVAL"),
    (["trigger", "hour"], 2, "name the interval"),
    (["trigger", "ping", "2024-05-12"], 2, "no intervals"),
    (["trigger", "hour", "2024-05-12T00"], 4, "reprocess"),
    (["log", "hour"], 2, "name the interval"),
    (["log", "hour", "2024-05-12T00", "--attempt", "0"], 2, "from 1 up"),
    (["start", "wroker"], 3, "known are scheduler, worker"),
    (["stop", "wroker"], 3, "running are scheduler, worker"),
    (["joobs"], 2, "did you mean jobs"),
    (["db"], 2, "required"),
    (["db", "migrat"], 2, "migrate"),
    (["init", "."], 4, "not an empty folder"),
    (["init", "/dev/null/x"], 2, "cannot be written"),
    (["jobs", "--store", "nonsense"], 2, "sqlite:///"),
    (["start", "worker", "--store", "memory://"], 4, "runs already"),
]


@pytest.fixture(scope="module")
def answers(running: Any) -> dict[tuple[str, ...], subprocess.CompletedProcess[str]]:
    """What each of them answers; asked side by side, since most of it is Python's own start."""
    typed = [tuple(words) for words, _, _ in WRONG]
    with ThreadPoolExecutor(4) as pool:
        done = pool.map(lambda words: running.run(*words, "--json"), typed)
        return dict(zip(typed, done, strict=True))


@pytest.mark.parametrize(("words", "code", "said"), WRONG, ids=lambda value: str(value))
def test_what_is_wrong_is_said_with_what_would_be_right(
    answers: Any, words: list[str], code: int, said: str
) -> None:
    done = answers[tuple(words)]
    assert (done.returncode, done.stdout) == (code, ""), done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_options_may_stand_before_the_verb(running: Any) -> None:
    store = running.json("status")["store"]
    done = running.run("--json", "--store", store, "jobs", "day")
    assert len(json.loads(done.stdout)) == 5
