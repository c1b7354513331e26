"""Files a request, rings the scheduler, waits for its answer.

Operators only ever insert requests; the scheduler alone carries them out and moves them.
"""

import argparse
import getpass
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from synergy.app import bell_of
from synergy.cli.output import Output, command
from synergy.clock import SystemClock
from synergy.core.model import Request
from synergy.errors import Conflict, TimedOut
from synergy.explanation import scheduler_absent
from synergy.project import Project
from synergy.reading import Reading

#: Seconds that it is waited for an answer, where nothing else is said.
WAIT = 10.0


def filing_options(parser: argparse.ArgumentParser, kept_with: str) -> None:
    """What every verb takes that files a request."""
    parser.add_argument("--reason", default="", metavar="TEXT", help=f"why; kept with {kept_with}")
    parser.add_argument(
        "--wait",
        type=float,
        default=WAIT,
        metavar="SECONDS",
        help=f"how long to wait for the scheduler's answer ({WAIT:g})",
    )


def new_request(action: str, process: str, starts: Sequence[datetime] = (), **more: Any) -> Request:
    """A request of whoever types, as of now."""
    return Request(
        id=secrets.token_hex(4),
        action=action,
        process=process,
        starts=tuple(starts),
        filed_at=SystemClock().now(),
        actor=_actor(),
        **more,
    )


def filed(project: Project, reading: Reading, request: Request, wait: float) -> Request | str:
    """File it and wait until it is answered; that no scheduler is there to do so, where none is.

    Raises:
        TimedOut: a scheduler is alive, and has not answered.
    """
    clock = SystemClock()
    bell = bell_of(project)
    listener = bell.listen("operator")
    try:
        reading.store.file_request(request)
        bell.ring("scheduler")
        absent = scheduler_absent(reading, clock.now())
        if absent:
            return absent
        answered = reading.store.read_request(request.id)
        until = clock.monotonic() + wait
        while answered is None or answered.state == "filed":
            if clock.monotonic() > until:
                raise TimedOut(
                    f"filed as {request.id}, but the scheduler has not answered within "
                    f"{wait:g} s; it will be carried out once. "
                    f"See who leads: {command('status')}"
                )
            listener.wait(0.1)
            answered = reading.store.read_request(request.id)
    finally:
        listener.close()
    return answered


def carried_out(
    project: Project, reading: Reading, request: Request, wait: float, output: Output
) -> Request | None:
    """File it and wait; the request as answered, None (after saying so) with no scheduler alive.

    Raises:
        Conflict: it was refused.
        TimedOut: a scheduler is alive, and has not answered.
    """
    answered = filed(project, reading, request, wait)
    if isinstance(answered, str):
        if output.json:
            output.data({"id": request.id, "state": "filed", "scheduler": answered, "touched": []})
        else:
            tell_filed(request, answered, output)
        return None
    if answered.state == "refused":
        raise Conflict(refusal(answered))
    return answered


def refusal(answered: Request) -> str:
    """Why it was not carried out."""
    return f"refused: {answered.answer.get('why')}"


def tell_filed(request: Request, absent: str, output: Output) -> None:
    """That it waits for a scheduler."""
    output.line(
        f"filed as {request.id}; {absent}: it is carried out when one starts, {command('up')}"
    )


def stored(reading: Reading, request: Request) -> Request:
    """Insert it as planned: nothing comes of it until it is applied."""
    planned = replace(request, state="planned")
    reading.store.file_request(planned)
    return planned


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
