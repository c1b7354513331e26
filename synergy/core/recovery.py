"""What becomes of an attempt that failed, was lost, or was given back.

Pure, and used by both sides: the worker that reports its own failure, and the scheduler that
finds a lease run out.  A unit is given up visibly, with its reason, never silently (I10).
"""

import random
from datetime import datetime, timedelta

from synergy.core.batches import may_be_shared
from synergy.core.model import Unit
from synergy.core.states import UnitInput, UnitState, next_unit_state

#: A lease not renewed for so long is lost (RELIABILITY §1: 15 s on an unsupervised box).
LEASE = timedelta(seconds=15)
#: Nobody holds a unit for longer without renewing.  A lease that ends later was written by a wrong
#: clock.
LONGEST_LEASE = timedelta(hours=1)
#: Workers renew three times within a lease.
RENEWAL = timedelta(seconds=5)
#: A worker that could not renew stops its command this long before the lease ends, so that
#: nobody else starts it while it still runs (D4; River's rule).
LEASE_MARGIN = timedelta(seconds=1)
#: The back-off never grows beyond this.
LONGEST_BACKOFF = timedelta(hours=1)
#: No worker may ask for a longer wait.  What is to wait much longer was written by a wrong clock.
LONGEST_WAIT = timedelta(days=366)
#: Evidence kept in the document; the whole of it is in the attempt's log.
REASON_LIMIT = 2000


def backoff_after(failures: int, first: timedelta) -> timedelta:
    """Wait after the nth failure: `first`, doubled with each further one, at most an hour."""
    doublings = min(max(failures - 1, 0), 32)  # from a microsecond to more than the longest
    return min(min(first, LONGEST_BACKOFF) * (1 << doublings), LONGEST_BACKOFF)


def jitter(seed: str, wait: timedelta) -> timedelta:
    """Up to a tenth more, the same for the same seed: spreads a herd without randomness."""
    return wait * random.Random(seed).random() * 0.1


def wait_after(key: str, attempt: int, failures: int, first: timedelta) -> timedelta:
    """The wait of a unit after an attempt, the nth that failed, unless its worker names one; one
    that does not count is waited after as after the first."""
    wait = backoff_after(max(failures, 1), first)
    return wait + jitter(f"{key}!{attempt}", wait)


def after_failure(
    unit: Unit, now: datetime, reason: str, retry_after: timedelta | None = None
) -> Unit:
    """The unit after its attempt failed or was lost: requested again after a back-off, or invalid.

    `retry_after` replaces the back-off where the worker named one.  An attempt that may have been
    one call with others counts against none of them: the next one each makes alone.
    """
    counts = not may_be_shared(unit)
    failures = unit.failures + counts
    if counts and failures >= unit.task.max_attempts:
        return given_up(unit, now, f"attempt {unit.attempt} (the last of {failures}): {reason}")
    wait = retry_after
    if wait is None:
        wait = wait_after(unit.key, unit.attempt, failures, unit.task.backoff)
    return unit.moved(
        next_unit_state(unit.state, UnitInput.RETURN),
        now,
        _short(f"attempt {unit.attempt}: {reason}"),
        attempt=unit.attempt + 1,
        failures=failures,
        not_before=now + wait,
        owner=None,
        lease_until=None,
        progress=None,
    )


def given_up(unit: Unit, now: datetime, reason: str) -> Unit:
    """The unit after its worker, or its policy, gave it up for good."""
    return unit.moved(
        next_unit_state(unit.state, UnitInput.GIVE_UP),
        now,
        _short(reason),
        failures=unit.failures + 1,
        finished_at=now,
        owner=None,
        lease_until=None,
    )


def handed_back(unit: Unit, now: datetime, reason: str) -> Unit:
    """The unit after its worker gave it back unharmed: at once, and not counted as a failure.

    A started attempt is numbered on, so that whatever of it may still run is fenced off.
    """
    return _returned(unit, now, reason, started=unit.state is UnitState.IN_PROGRESS)


def after_lost_lease(unit: Unit, now: datetime, how: str = "lease ran out") -> Unit:
    """The unit after its worker was lost: gone, paused or cut off.

    One that was claimed ahead may have been started, or not: so its attempt is numbered on, which
    fences off whatever may still run of it and keeps the logs apart, but no failure is counted.
    Nobody is wronged by that.  A unit that kills its whole worker goes free once, together with
    the innocent ones that were claimed with it; from its second attempt on it is claimed only
    when it starts, so that from then on each loss is counted and is its own.
    """
    if unit.state is UnitState.CLAIMED:
        reason = f"its worker {unit.owner}, which may have started it, was lost ({how})"
        return _returned(unit, now, reason, started=True)
    return after_failure(
        unit, now, f"its worker {unit.owner} was lost ({how})", retry_after=timedelta(0)
    )


def _returned(unit: Unit, now: datetime, reason: str, *, started: bool) -> Unit:
    return unit.moved(
        next_unit_state(unit.state, UnitInput.RETURN),
        now,
        reason,
        attempt=unit.attempt + started,
        not_before=None,
        owner=None,
        lease_until=None,
        progress=None,
    )


def canceled(unit: Unit, now: datetime, reason: str) -> Unit:
    """The unit withdrawn."""
    return unit.moved(next_unit_state(unit.state, UnitInput.CANCEL), now, reason, finished_at=now)


def _short(reason: str) -> str:
    return reason if len(reason) <= REASON_LIMIT else reason[: REASON_LIMIT - 1] + "…"
