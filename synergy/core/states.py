"""The four job machines and the machine of a unit of work, as tables.

Everything that affects which state may follow which lives here.  A machine is
``{(state, input): state}``; a pair that is not listed is an error, raised as `IllegalTransition`.
The diagrams of the documentation are generated from these tables (DESIGN §4).
"""

from collections.abc import Mapping
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is."""

    __hash__ = str.__hash__  # tables are looked up all the time: not by way of the name

    #: Waiting; nothing is requested.  Also what an interval is that nobody has touched yet.
    EMBRYO = "embryo"
    #: A unit is at work, perhaps provisionally (the interval is still open).
    IN_PROGRESS = "in_progress"
    #: The interval has closed and its final unit is at work.
    FINAL_RUN = "final_run"
    #: Finished with a result.
    PROCESSED = "processed"
    #: Finished; there was nothing to do.
    NOOP = "noop"
    #: Finished without a result: given up by an operator, by policy, or for want of inputs.
    SKIPPED = "skipped"
    #: Given up after its attempts.  Holds its parents and dependents until reprocessed or skipped.
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        """Whether parents and dependents may build on it."""
        return self in FINISHED

    @property
    def terminal(self) -> bool:
        """Whether only an operator's request can move it."""
        return self in TERMINAL

    @property
    def at_work(self) -> bool:
        """Whether a unit of work may be out for it."""
        return self in AT_WORK


AT_WORK = frozenset({JobState.IN_PROGRESS, JobState.FINAL_RUN})
FINISHED = frozenset({JobState.PROCESSED, JobState.NOOP, JobState.SKIPPED})
TERMINAL = FINISHED | {JobState.FAILED}


class JobInput(StrEnum):
    """What is applied to a job."""

    __hash__ = str.__hash__

    #: A provisional unit, or the one unit of a discrete job or freerun, is requested.
    RUN = "run"
    #: The final unit of a closed interval is requested.
    RUN_FINAL = "run final"
    #: A provisional unit ended, however it ended; the interval is still open.
    PROVISIONAL_END = "provisional end"
    #: The deciding unit ended with a result.
    UNIT_PROCESSED = "unit processed"
    #: The deciding unit found nothing to do.
    UNIT_NOOP = "unit noop"
    #: The deciding unit was given up and the process holds on failure.
    UNIT_GIVEN_UP = "unit given up"
    #: An operator, the policy ``on_failure="skip"`` or skipped inputs give the job up.
    SKIP = "skip"
    #: All inputs came back unchanged, or its reopening is withdrawn: the standing result is kept.
    KEEP_PROCESSED = "keep processed"
    #: As above, the standing result being that there was nothing to do.
    KEEP_NOOP = "keep noop"
    #: Its reopening is withdrawn before anything came of it: it is given up again.
    KEEP_SKIPPED = "keep skipped"
    #: As above: it has failed again.
    KEEP_FAILED = "keep failed"
    #: A reprocess opens a new generation.
    REOPEN = "reopen"
    #: Nothing can be decided about it: deciding fails each time (protocol D12).
    PARK = "park"


class UnitState(StrEnum):
    """Where a unit of work is."""

    __hash__ = str.__hash__

    #: To be worked now, or after a back-off.
    REQUESTED = "requested"
    #: Held by a worker ahead of its start, perhaps started a moment ago.  Handing it back keeps the
    #: attempt number; losing it opens the next attempt, and counts no failure.
    CLAIMED = "claimed"
    #: Started; losing it opens the next attempt.
    IN_PROGRESS = "in_progress"
    #: Done.
    PROCESSED = "processed"
    #: Nothing to do.
    NOOP = "noop"
    #: Given up, with the reason.
    INVALID = "invalid"
    #: Withdrawn.
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        """Whether nothing can move it any more."""
        return self in UNIT_TERMINAL


UNIT_TERMINAL = frozenset(
    {UnitState.PROCESSED, UnitState.NOOP, UnitState.INVALID, UnitState.CANCELED}
)


class UnitInput(StrEnum):
    """What is applied to a unit."""

    __hash__ = str.__hash__

    #: A worker takes it ahead of its start.
    CLAIM = "claim"
    #: A worker takes it and starts it at once, or starts what it had claimed.
    START = "start"
    #: Given back unharmed, or lost with its worker or its lease; to be worked again.
    RETURN = "return"
    #: The worker finished it.
    PROCESS = "process"
    #: The worker found nothing to do.
    FIND_NOTHING = "find nothing"
    #: Its attempts are used up, or the worker gave up.
    GIVE_UP = "give up"
    #: Its generation was reopened or skipped.
    CANCEL = "cancel"


class IllegalTransition(Exception):
    """A machine was given an input that its present state does not take: a defect of ours."""


_J, _I = JobState, JobInput

#: What every machine shares: leaving a terminal state needs a reprocess (invariant I2).
_EVERY_JOB: Mapping[tuple[JobState, JobInput], JobState] = {
    (_J.EMBRYO, _I.SKIP): _J.SKIPPED,
    (_J.EMBRYO, _I.KEEP_PROCESSED): _J.PROCESSED,
    (_J.EMBRYO, _I.KEEP_NOOP): _J.NOOP,
    (_J.EMBRYO, _I.KEEP_SKIPPED): _J.SKIPPED,
    (_J.EMBRYO, _I.KEEP_FAILED): _J.FAILED,
    (_J.EMBRYO, _I.REOPEN): _J.EMBRYO,
    (_J.EMBRYO, _I.PARK): _J.FAILED,
    (_J.IN_PROGRESS, _I.SKIP): _J.SKIPPED,
    (_J.IN_PROGRESS, _I.REOPEN): _J.EMBRYO,
    (_J.IN_PROGRESS, _I.PARK): _J.FAILED,
    (_J.PROCESSED, _I.REOPEN): _J.EMBRYO,
    (_J.NOOP, _I.REOPEN): _J.EMBRYO,
    (_J.SKIPPED, _I.REOPEN): _J.EMBRYO,
    (_J.FAILED, _I.REOPEN): _J.EMBRYO,
    (_J.FAILED, _I.SKIP): _J.SKIPPED,
}

#: One run, after the interval closed.
DISCRETE: Mapping[tuple[JobState, JobInput], JobState] = {
    **_EVERY_JOB,
    (_J.EMBRYO, _I.RUN): _J.IN_PROGRESS,
    (_J.IN_PROGRESS, _I.UNIT_PROCESSED): _J.PROCESSED,
    (_J.IN_PROGRESS, _I.UNIT_NOOP): _J.NOOP,
    (_J.IN_PROGRESS, _I.UNIT_GIVEN_UP): _J.FAILED,
}

#: Provisional runs over the open interval, then a final run.
CONTINUOUS: Mapping[tuple[JobState, JobInput], JobState] = {
    **_EVERY_JOB,
    (_J.EMBRYO, _I.RUN): _J.IN_PROGRESS,
    (_J.EMBRYO, _I.RUN_FINAL): _J.FINAL_RUN,
    (_J.IN_PROGRESS, _I.PROVISIONAL_END): _J.IN_PROGRESS,
    (_J.IN_PROGRESS, _I.RUN): _J.IN_PROGRESS,
    (_J.IN_PROGRESS, _I.RUN_FINAL): _J.FINAL_RUN,
    (_J.FINAL_RUN, _I.UNIT_PROCESSED): _J.PROCESSED,
    (_J.FINAL_RUN, _I.UNIT_NOOP): _J.NOOP,
    (_J.FINAL_RUN, _I.UNIT_GIVEN_UP): _J.FAILED,
    (_J.FINAL_RUN, _I.SKIP): _J.SKIPPED,
    (_J.FINAL_RUN, _I.REOPEN): _J.EMBRYO,
    (_J.FINAL_RUN, _I.PARK): _J.FAILED,
}

#: As continuous; the data boundaries are measured anew before each run.
RECOMPUTING = CONTINUOUS

#: Fired by a trigger, without a tree: one run for each firing.
FREERUN = DISCRETE

JOB_MACHINES: Mapping[str, Mapping[tuple[JobState, JobInput], JobState]] = {
    "discrete": DISCRETE,
    "continuous": CONTINUOUS,
    "recomputing": RECOMPUTING,
    "freerun": FREERUN,
}

_U, _V = UnitState, UnitInput

UNIT_MACHINE: Mapping[tuple[UnitState, UnitInput], UnitState] = {
    (_U.REQUESTED, _V.CLAIM): _U.CLAIMED,
    (_U.REQUESTED, _V.START): _U.IN_PROGRESS,
    (_U.REQUESTED, _V.CANCEL): _U.CANCELED,
    (_U.CLAIMED, _V.START): _U.IN_PROGRESS,
    (_U.CLAIMED, _V.RETURN): _U.REQUESTED,
    (_U.CLAIMED, _V.CANCEL): _U.CANCELED,
    (_U.IN_PROGRESS, _V.RETURN): _U.REQUESTED,
    (_U.IN_PROGRESS, _V.PROCESS): _U.PROCESSED,
    (_U.IN_PROGRESS, _V.FIND_NOTHING): _U.NOOP,
    (_U.IN_PROGRESS, _V.GIVE_UP): _U.INVALID,
    (_U.IN_PROGRESS, _V.CANCEL): _U.CANCELED,
}


def next_job_state(machine: str, state: JobState, applied: JobInput) -> JobState:
    """The state that follows, or `IllegalTransition`."""
    try:
        return JOB_MACHINES[machine][state, applied]
    except KeyError:
        raise IllegalTransition(
            f"the {machine} machine cannot take {applied.value!r} in state {state.value}"
        ) from None


def next_unit_state(state: UnitState, applied: UnitInput) -> UnitState:
    """The state that follows, or `IllegalTransition`."""
    try:
        return UNIT_MACHINE[state, applied]
    except KeyError:
        raise IllegalTransition(
            f"a unit cannot take {applied.value!r} in state {state.value}"
        ) from None
