"""How an attempt came out, and what its unit becomes by it: tables, no IO.

Whatever ended the attempt (an answer of the slot, an exit code, a signal, our own kill) is one
`Outcome`; `unit_after` turns it into the unit's next document, by the rules of `core.recovery`.
"""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from synergy.core.batches import may_be_shared
from synergy.core.model import Unit
from synergy.core.recovery import LONGEST_WAIT, REASON_LIMIT, after_failure, given_up, handed_back
from synergy.core.states import UnitInput, UnitState, next_unit_state
from synergy.worker.work import Progress


class Verdict(StrEnum):
    """In which way an attempt ended."""

    #: The worker made a result.
    PROCESSED = "processed"
    #: The worker found nothing to do.
    NOOP = "noop"
    #: The worker asked to be called again.
    RETRY = "retry"
    #: The worker said that repeating is useless.
    GIVE_UP = "give up"
    #: An exception, a wrong answer, an exit code, a signal, a limit.
    FAILED = "failed"
    #: Stopped unharmed, for a reason that is not its own.
    HANDED_BACK = "handed back"
    #: Stopped because the unit had become somebody else's, or nobody's: nothing is reported.
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one attempt."""

    verdict: Verdict
    reason: str = ""
    count: int | None = None
    fingerprint: str | None = None
    #: The wait that the worker asked for with `Retry`.
    after: timedelta | None = None


def failed(reason: str) -> Outcome:
    """The attempt failed, for a reason in words."""
    return Outcome(Verdict.FAILED, reason)


def of_answer(answer: Mapping[str, Any]) -> Outcome:
    """What a slot said of its attempt; `ValueError` when it makes no sense."""
    try:
        verdict = Verdict(answer["verdict"])
        after = answer.get("after")
        wait = None if after is None else min(timedelta(seconds=float(after)), LONGEST_WAIT)
        count = answer.get("count")
        fingerprint = answer.get("fingerprint")
        outcome = Outcome(
            verdict=verdict,
            reason=str(answer.get("reason", "")),
            count=None if count is None else int(count),
            fingerprint=None if fingerprint is None else str(fingerprint),
            after=wait,
        )
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not an answer of a slot: {error!r}") from error
    if verdict not in _SPOKEN:
        raise ValueError(f"a slot does not answer {verdict.value!r}")
    return outcome


def others_of(answer: Mapping[str, Any], count: int) -> tuple[Outcome, ...]:
    """What a slot said of those behind the first of a call for so many."""
    told = answer["others"]
    if not isinstance(told, list) or len(told) != count - 1:
        raise ValueError(f"not an answer for {count} units of one call")
    return tuple(of_answer(each) for each in told)


def progress_of(said: Any) -> Progress:
    """How far a slot says that its attempt was; `ValueError` when it makes no sense."""
    try:
        done, total, text = said
        return float(done), None if total is None else float(total), str(text)
    except TypeError as error:
        raise ValueError(f"not the progress of an attempt: {error!r}") from error


_SPOKEN = frozenset(
    {Verdict.PROCESSED, Verdict.NOOP, Verdict.RETRY, Verdict.GIVE_UP, Verdict.FAILED}
)


def of_exit(code: int, noop_codes: Sequence[int]) -> Outcome:
    """How a command's exit code counts (F45): 0 and `noop_codes` are finished, all else failed."""
    if code in noop_codes:
        return Outcome(Verdict.NOOP, f"exit code {code}" if code else "")
    if code == 0:
        return Outcome(Verdict.PROCESSED)
    return failed(exit_reason(code))


def exit_reason(code: int) -> str:
    """``exit code 3``; ``killed by SIGSEGV`` for the negative codes of ``subprocess``."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (not by synergy; out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def limit_reason(limit: timedelta) -> str:
    """``time limit of 30 s exceeded``."""
    return f"time limit of {limit.total_seconds():g} s exceeded"


def begun(unit: Unit, at: datetime) -> Unit:
    """The document of a held unit whose attempt was started at this time."""
    if unit.state is UnitState.IN_PROGRESS:
        return unit  # it was, when it was claimed
    return unit.moved(next_unit_state(unit.state, UnitInput.START), at, started_at=at)


def unit_after(
    unit: Unit, outcome: Outcome, now: datetime, progress: Progress | None = None
) -> Unit:
    """The document that the unit becomes; not for `SUPERSEDED`, which writes nothing."""
    match outcome.verdict:
        case Verdict.PROCESSED:
            return _finished(unit, UnitInput.PROCESS, outcome, now, progress)
        case Verdict.NOOP:
            return _finished(unit, UnitInput.FIND_NOTHING, outcome, now, progress)
        case Verdict.RETRY:
            reason = outcome.reason or "its worker asked to be called again"
            return after_failure(unit, now, reason, retry_after=outcome.after)
        case Verdict.GIVE_UP:
            reason = outcome.reason or "its worker gave up without saying why"
            unit = replace(unit, progress=progress)
            if may_be_shared(unit):  # which of them is hopeless is not known
                return after_failure(unit, now, f"gave up: {reason}")
            return given_up(unit, now, f"attempt {unit.attempt} gave up: {reason}")
        case Verdict.FAILED:
            return after_failure(replace(unit, progress=progress), now, outcome.reason)
        case Verdict.HANDED_BACK:
            return handed_back(unit, now, outcome.reason)
        case _:
            raise ValueError(f"nothing is written of an attempt that was {outcome.verdict.value}")


def _finished(
    unit: Unit, applied: UnitInput, outcome: Outcome, now: datetime, progress: Progress | None
) -> Unit:
    """Done: the owner stays in the document, as the one who did it."""
    return unit.moved(
        next_unit_state(unit.state, applied),
        now,
        outcome.reason[:REASON_LIMIT],
        count=outcome.count,
        fingerprint=outcome.fingerprint,
        finished_at=now,
        lease_until=None,
        progress=progress,
    )
