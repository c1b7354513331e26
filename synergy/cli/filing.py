"""Files a request, rings the scheduler, waits for its answer.

Operators only ever insert requests; the scheduler alone carries them out and moves them.
"""

import getpass
import secrets
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


def new_request(action: str, process: str, starts: tuple[datetime, ...], **more: Any) -> Request:
    """A request of whoever types, as of now."""
    return Request(
        id=secrets.token_hex(4),
        action=action,
        process=process,
        starts=starts,
        filed_at=SystemClock().now(),
        actor=_actor(),
        **more,
    )


def carried_out(
    project: Project, reading: Reading, request: Request, wait: float, output: Output
) -> Request | None:
    """File it and wait; the request as answered, None (after saying so) with no scheduler alive.

    Raises:
        Conflict: it was refused.
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
            _say_filed(request, absent, output)
            return None
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
    if answered.state == "refused":
        raise Conflict(f"refused: {answered.answer.get('why')}")
    return answered


def stored(reading: Reading, request: Request) -> Request:
    """Insert it as planned: nothing comes of it until it is applied."""
    planned = replace(request, state="planned")
    reading.store.file_request(planned)
    return planned


def _say_filed(request: Request, absent: str, output: Output) -> None:
    if output.json:
        output.data({"id": request.id, "state": "filed", "scheduler": absent, "touched": []})
    else:
        output.line(
            f"filed as {request.id}; {absent}: it is carried out when one starts, {command('up')}"
        )


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
