"""Recorded units that are old, lost or given up: what becomes of them as time passes."""

from datetime import timedelta

from synergy.core import recovery
from synergy.core.context import Context, hourly, tree
from synergy.testing.stage import Stage, fails
from tests.vectors.recorded import Case, each

HOUR = "2026-11-20T00"
UNIT = f"p@{HOUR}#1"


def one_hour(**options: object) -> Stage:
    """A job whose unit is requested."""
    process = hourly("p", run="w:f", **options)
    return Stage(
        Context(tree("t", [process], start=HOUR, until="2026-11-20T01", lag=0)),
        at="2026-11-20T01:00Z",
    )


def bring(stage: Stage, state: str) -> None:
    """Bring the unit into a state as it is brought there in practice."""
    match state:
        case "invalid":
            (unit,) = stage.claim()
            stage.report(unit, fails)
        case "in_progress":
            stage.claim()
        case "canceled":
            stage.request("skip", "p", HOUR)
    found = stage.unit(UNIT)
    assert found is not None
    assert found.state == state


@each("synergy_garbage_collector")
def test_an_old_unit_is_treated_as_recorded(case: Case) -> None:
    given, then = case["given"], dict(case["then"])
    candidates = given["candidates"]
    state = (candidates[0]["unit_state"] if candidates else given["stored_state"])[6:]
    stage = one_hour(max_attempts=1)
    bring(stage, state)
    before, job = stage.unit(UNIT), stage.job("p", HOUR)
    assert before is not None
    ages = [candidate["created_hours_ago"] for candidate in candidates]
    submitted = [candidate["submitted_hours_ago"] for candidate in candidates]
    stage.advance(hours=max([*ages, *submitted], default=0))
    stage.restart()
    after = stage.unit(UNIT)
    assert after is not None
    again = [unit for unit in stage.requested if unit.attempt > before.attempt]
    ours = {
        "queue_length": len(again),
        "canceled": int(after.state == "canceled" != before.state),
        "republished": after.attempt - before.attempt,
        "status_messages": stage.job("p", HOUR).version - job.version,
        "unit_states": [f"state_{after.state}"] if candidates else [],
    }
    case.compare(ours, then)


@each("chroniker", "is_stale")
def test_a_run_without_a_sign_of_life_is_stale_as_recorded(case: Case) -> None:
    given = case["given"]
    stage = one_hour()
    if given["running"]:
        stage.claim()
    # Never heard of means: started just now.
    silent = (given["heartbeat_minutes_ago"] or 0) / given["limit_minutes"]
    stage.advance(seconds=silent * recovery.LEASE / timedelta(seconds=1))
    after = stage.unit(UNIT)
    assert after is not None
    lost = after.attempt == 2 and after.state == "requested"
    assert lost != (after.attempt == 1)
    case.compare(lost, case["expected"])
