"""What every store decides alike: who may write, what a claim makes of a unit, what is news.

Pure.  A store finds out what stands, asks these, and writes, so that memory, SQLite and others
cannot disagree about the contract.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from synergy.core.model import Claim, Fence, Job, Lease, Transition, Unit, UnitWrite
from synergy.core.states import UnitInput, UnitState, next_unit_state

#: The states in which a worker holds a unit, so that its lease can be renewed.
HELD = frozenset({UnitState.CLAIMED, UnitState.IN_PROGRESS})


def job_is_active(job: Job) -> bool:
    """Whether the scheduler must know it: not terminal, or held by a request."""
    return not job.state.terminal or bool(job.holds)


def fence_lets_pass(fence: Fence, standing: Fence) -> bool:
    """Whether a write conditional on `fence` may replace a unit that stands as `standing`.

    `standing` carries the stored lease; it is compared only where `fence` names one.
    """
    return (
        fence.state == standing.state
        and fence.attempt == standing.attempt
        and fence.owner == standing.owner
        and (fence.lease_until is None or fence.lease_until == standing.lease_until)
    )


def may_replace(standing: Fence | None, version: int, write: UnitWrite) -> bool:
    """Whether `write` passes where a unit stands as `standing`, with its lease, in `version`.

    None stands for no unit, which only an insert passes.
    """
    if standing is None or write.expected is None:
        return standing is None and write.expected is None
    # A unit that was claimed and handed back passes the fence of who saw it before (same state,
    # attempt and owner); its version must not go back, or the feed would number one twice.
    return fence_lets_pass(write.expected, standing) and write.unit.version >= version


def taken(unit: Unit, claim: Claim, applied: UnitInput) -> Unit:
    """The unit as the claim leaves it: `applied` starts it or claims it ahead of its start."""
    return unit.moved(
        next_unit_state(unit.state, applied),
        claim.now,
        owner=claim.owner,
        lease_until=claim.lease_until,
        started_at=claim.now if applied is UnitInput.START else unit.started_at,
    )


def news(transitions: Iterable[Transition], version: int) -> list[Transition]:
    """The transitions that a document of this stored version did not have yet."""
    return [transition for transition in transitions if transition.version > version]


def lease_after(held: Lease | None, owner: str, now: datetime, until: datetime) -> Lease:
    """The lease after `owner` asked for it: its own, or untouched while another's runs."""
    if held is None:
        return Lease(owner=owner, epoch=1, until=until, since=now)
    if held.owner == owner:
        return replace(held, until=until)
    if held.until > now:
        return held
    return Lease(owner=owner, epoch=held.epoch + 1, until=until, since=now)
