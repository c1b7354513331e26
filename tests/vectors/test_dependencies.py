"""Recorded rules of who may run: freeruns that are due, jobs whose dependency is met."""

from synergy.core.context import Context, freerun, hourly, tree
from synergy.testing.stage import Stage, fails, processes
from tests.vectors.recorded import Case, each


@each("chroniker", "is_due")
def test_a_freerun_is_due_when_recorded_so(case: Case) -> None:
    given = case["given"]
    stage = Stage(Context(freerun("f", at="every 10", run="w:f")), at="2026-11-20T00:59:55Z")
    stage.until("2026-11-20T01:00:00Z")
    (unit,) = stage.claim()
    if not given["running"]:
        assert stage.report(unit)
    # Late enough for the next firing, early enough for the lease.
    stage.until(f"2026-11-20T01:00:{'12' if given['next_run'] == 'past' else '05'}Z")
    if given["force_run"]:
        stage.request("trigger", "f")
    case.compare(bool(stage.requested), case["expected"])


OWN = "2026-11-20T01"
#: Up to which hour the needed process has run, by how its next run compares with our own hour.
LAST_RUN = {"before": "2026-11-19T23", "same": "2026-11-20T00", "after": "2026-11-20T01"}


@each("chroniker", "dependency_met")
def test_a_dependency_is_met_when_recorded_so(case: Case) -> None:
    given = case["given"]
    span = {"start": "2026-11-19T22", "until": "2026-11-20T03", "lag": 0}
    stage = Stage(
        Context(
            tree("n", [hourly("needed", run="w:f", max_attempts=1)], **span),
            tree("t", [hourly("own", run="w:f", after="needed")], **span),
        ),
        at="2026-11-20T04:00Z",
    )
    last = LAST_RUN[given["needed_job_next_run_vs_own"]]
    while stage.state("needed", last) == "in_progress":
        (unit,) = stage.claim(limit=1, only="needed")
        ok = unit.interval.label != last or given["needed_job_last_run_ok"]
        assert stage.report(unit, processes if ok else fails)
    if given["needed_job_running"]:
        (unit,) = stage.claim(limit=1, only="needed")
        assert unit.interval.start == stage.interval("needed", last).end
    case.compare(stage.state("own", OWN) == "in_progress", case["expected"])
