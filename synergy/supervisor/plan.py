"""When a program is started, stopped and given a rest.  Pure: the clock is an argument.

    ┌─ started ──────────────▶ runs ── not wanted ──▶ stopping ── grace over ──▶ killed
    │                           │                        │                         │
    └── after a wait ◀── ended by itself            ended: nothing remembered ◀────┘

A program that ends without having been asked is started again: at once when it had run well, else
after a wait that doubles each time.  When it has ended `many` times `within` so many seconds it is
marked as a crash loop, and tried once in the longest wait only, until it has run for as long as
that window.  Times are monotonic seconds.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How patient a supervisor is; all in seconds but `many`."""

    #: A program that ran so long is started again at once.
    well: float = 10.0
    #: Wait before the second start in a row, and the longest.
    first_wait: float = 1.0
    longest_wait: float = 60.0
    #: So many ends within so long are a crash loop.
    many: int = 5
    within: float = 30.0
    #: How long a program may take to end when it is asked to, before its tree is killed.
    grace: float = 30.0


class Step(StrEnum):
    """What is to be done for a program now."""

    NOTHING = "nothing"
    START = "start"
    #: Ask it to end.
    STOP = "stop"
    #: Kill it and all below it.
    KILL = "kill"


class Standing(StrEnum):
    """Where a program stands, as people are told."""

    RUNNING = "running"
    STOPPING = "stopping"
    WAITING = "waiting"
    CRASH_LOOP = "crash_loop"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a supervisor remembers of one program."""

    #: Since when it runs; None: it does not.
    since: float | None = None
    #: When it was asked to end, and whether it was killed then.
    asked: float | None = None
    killed: bool = False
    #: The last ends that nobody asked for, as far as they count.
    ends: tuple[float, ...] = ()
    #: How many of them followed one another without a good run between.
    failures: int = 0
    #: It is not started before.
    again_at: float = -math.inf
    #: Whether it is in a crash loop.
    marked: bool = False
    #: How often it was started after such an end.
    restarts: int = 0


#: A program that was never seen.
UNKNOWN = Course()


def decide(course: Course, wanted: bool, now: float, rules: Rules) -> Step:
    """What is to be done now."""
    if course.since is None:
        return Step.START if wanted and now >= course.again_at else Step.NOTHING
    if course.asked is None:
        return Step.NOTHING if wanted else Step.STOP
    if not course.killed and now >= course.asked + rules.grace:
        return Step.KILL
    return Step.NOTHING


def wake_at(course: Course, wanted: bool, rules: Rules) -> float:
    """When `decide` may say something else although nothing happens; maybe past, maybe never."""
    if course.since is None:
        return course.again_at if wanted else math.inf
    if course.asked is not None and not course.killed:
        return course.asked + rules.grace
    return math.inf


def begun(course: Course, now: float) -> Course:
    """It was started, or found running."""
    return replace(course, since=now, restarts=course.restarts + (course.failures > 0))


def asked(course: Course, now: float) -> Course:
    """It was asked to end."""
    return replace(course, asked=now)


def killed(course: Course) -> Course:
    """It was killed, as it had not ended in time."""
    return replace(course, killed=True)


def ended(course: Course, now: float, rules: Rules) -> Course:
    """It has ended, or could not be started."""
    if course.asked is not None:
        return Course(restarts=course.restarts)
    ran = 0.0 if course.since is None else now - course.since
    failures = 1 if ran >= rules.well else course.failures + 1
    ends = (*(end for end in course.ends if now - end < rules.within), now)[-rules.many :]
    marked = len(ends) >= rules.many or (course.marked and ran < rules.within)
    return replace(
        course,
        since=None,
        ends=ends,
        failures=failures,
        marked=marked,
        again_at=now + (rules.longest_wait if marked else _wait(failures, rules)),
    )


def forgiven(course: Course) -> Course:
    """Somebody has done something about it: it may be tried at once."""
    if course.since is not None:
        return course
    return Course(restarts=course.restarts)


def standing(course: Course, wanted: bool, now: float, rules: Rules) -> Standing:
    """Where it stands."""
    if course.asked is not None and course.since is not None:
        return Standing.STOPPING
    looping = course.marked and (course.since is None or now - course.since < rules.within)
    if wanted and looping:
        return Standing.CRASH_LOOP
    if course.since is not None:
        return Standing.RUNNING
    return Standing.WAITING if wanted else Standing.STOPPED


def _wait(failures: int, rules: Rules) -> float:
    """None after a good run, then doubling."""
    if failures <= 1:
        return 0.0
    return min(rules.first_wait * 2.0 ** min(failures - 2, 32), rules.longest_wait)
