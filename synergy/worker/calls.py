"""Calls a user's worker and turns whatever it does into an answer: plain data, never an exception.

Runs in the slot.  What has to be read by a person (a traceback, a warning) goes to stderr, which
is the attempt's log; the answer carries one sentence.
"""

import inspect
import reprlib
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from synergy.core.recovery import REASON_LIMIT
from synergy.core.states import UnitState
from synergy.worker.entries import BadEntry, load_entry
from synergy.worker.work import LEGAL_ANSWERS, GiveUp, Result, Retry, Work, noop, processed

#: As `synergy.worker.outcomes.of_answer` reads it: "verdict" and what belongs to it.
Answer = dict[str, Any]


def call(entry: str, work: Work) -> Answer:
    """What the worker that `entry` names makes of this work."""
    return _called(entry, work, work, answer_to)


def call_together(entry: str, works: Sequence[Work]) -> Answer:
    """What it makes of several works in one call; with "others" where they did not come out alike.

    What it raises is the answer for all of them.
    """
    return _called(entry, works[0], works, lambda result: answer_to_all(result, len(works)))


def _called(
    entry: str, first: Work, given: Work | Sequence[Work], answered: Callable[[object], Answer]
) -> Answer:
    try:
        worker = load_entry(entry)
        made: Any = worker(**first.arguments) if inspect.isclass(worker) else worker
        return answered(made(given))
    except Retry as retry:
        after = None if retry.after is None else retry.after.total_seconds()
        return {"verdict": "retry", "reason": short(retry.reason), "after": after}
    except GiveUp as error:
        return {"verdict": "give up", "reason": short(error.reason)}
    except BadEntry as error:
        complain(error.__cause__ or error)
        return failure(f"{entry} {error}")
    except SystemExit as error:
        complain(error)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        return {**failure(f"its worker called sys.exit({reprlib.repr(error.code)})"), "exit": code}
    except BaseException as error:
        complain(error)
        return failure(describe(error))


def answer_to(result: object) -> Answer:
    """The answer to what a worker returned."""
    if result is None:
        say(
            "warning: the worker returned None, taken for processed(); return processed() to say so"
        )
        return {"verdict": "processed"}
    if isinstance(result, Result) and result.state is UnitState.PROCESSED:
        # Once more, since nothing keeps a worker from making a Result by itself.
        checked = processed(result.count, result.fingerprint)
        count, fingerprint = checked.count, checked.fingerprint
        return {"verdict": "processed", "count": count, "fingerprint": fingerprint}
    if isinstance(result, Result) and result.state is UnitState.NOOP:
        return {"verdict": "noop", "reason": short(noop(result.reason).reason)}
    if inspect.iscoroutine(result):
        result.close()  # or Python would warn that nobody awaited it
    reason = f"its worker returned {look_of(result)}; {LEGAL_ANSWERS}"
    say(reason)
    return failure(reason)


def answer_to_all(result: object, count: int) -> Answer:
    """The answer to what a worker returned that was handed so many works."""
    if not isinstance(result, list | tuple):
        return answer_to(result)
    if len(result) != count:
        reason = (
            f"its worker returned {len(result)} results for {count} intervals: "
            "one result is for all of them, and of several each is for one, in their order"
        )
        say(reason)
        return failure(reason)
    answers = [answer_to(each) for each in result]
    wrong = [answer for answer in answers if answer["verdict"] == "failed"]
    return wrong[0] if wrong else {**answers[0], "others": answers[1:]}


def failure(reason: str) -> Answer:
    """The answer of an attempt that failed."""
    return {"verdict": "failed", "reason": short(reason)}


def describe(error: BaseException) -> str:
    """``KeyError: 'colour'``; also where the error itself is broken."""
    name = type(error).__qualname__
    try:
        text = str(error)
    except BaseException:
        return f"{name} (whose text cannot be shown)"
    return f"{name}: {text}" if text else name


def complain(error: BaseException) -> None:
    """Print the traceback, without our own frame."""
    trace = error.__traceback__
    try:
        traceback.print_exception(type(error), error, trace.tb_next if trace else None)
    except BaseException:
        say(f"{type(error).__qualname__}, whose traceback cannot be shown")


def say(text: str) -> None:
    """A line of ours in the attempt's log; lost if the worker broke its stderr."""
    try:
        print(f"synergy: {text}", file=sys.stderr)
    except BaseException:
        return


def short(text: str) -> str:
    """What fits into the unit's document; the log has the whole."""
    return text if len(text) <= REASON_LIMIT else text[: REASON_LIMIT - 1] + "…"


def look_of(thing: object) -> str:
    """``[1, 2, 3] (a list)``."""
    try:
        shown = reprlib.repr(thing)
    except BaseException:
        shown = "something that cannot be shown"
    return f"{shown} ({type(thing).__qualname__})"


def environment_of(unit_key: str, work: Work) -> Mapping[str, str]:
    """What an attempt finds in its environment (RELIABILITY §1)."""
    return {
        "SYNERGY_UNIT": unit_key,
        "SYNERGY_GENERATION": str(work.generation),
        "SYNERGY_ATTEMPT": str(work.attempt),
        "SYNERGY_FENCE": work.fence,
        "SYNERGY_PROCESS": work.process,
        "SYNERGY_INTERVAL": work.interval.label,
        "SYNERGY_START": work.interval.start.isoformat(),
        "SYNERGY_END": work.interval.end.isoformat(),
    }
