"""How operators have switched a process or freerun: a value, and the document that it is stored as.

What is off is not dispatched, and what waits for it waits.  A switch remembers the requests that
it obeyed, so that one that is executed twice changes nothing the second time.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from synergy.core.model import REQUESTS_REMEMBERED, Documents, Json
from synergy.core.values import dataclass

#: How the reason of a job begins that was skipped for that.
NOT_CAUGHT_UP = "not caught up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Missed intervals that are to be recorded as skipped."""

    #: "latest" or "none".
    policy: str
    #: Those that were due by then.
    until: datetime
    #: Of each such job, behind `NOT_CAUGHT_UP`.
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """How a process or freerun stands; without one it is on."""

    on: bool
    #: When it was switched so, by whom and why.
    since: datetime
    actor: str = ""
    reason: str = ""
    #: What is still to be recorded before it goes on.
    recording: Recording | None = None
    #: Requests that it has obeyed.
    requests: tuple[str, ...] = ()
    #: Of the stored document; 0: none is stored.
    version: int = 0

    def obeying(self, request: str, **changes: Any) -> "Switch":
        """As a request leaves it."""
        remembered = (*self.requests, request)[-REQUESTS_REMEMBERED:]
        return replace(self, requests=remembered, **changes)

    def content(self) -> dict[str, Json]:
        """As a plain document; instants in microseconds since 1970."""
        recording = self.recording
        return {
            "on": self.on,
            "since": _micros(self.since),
            "actor": self.actor,
            "reason": self.reason,
            "recording": None
            if recording is None
            else {
                "policy": recording.policy,
                "until": _micros(recording.until),
                "reason": recording.reason,
            },
            "requests": list(self.requests),
        }

    @classmethod
    def of_content(cls, version: int, content: Mapping[str, Any]) -> "Switch":
        """The switch that a stored document came from."""
        recording = content["recording"]
        return cls(
            on=content["on"],
            since=_instant(content["since"]),
            actor=content["actor"],
            reason=content["reason"],
            recording=None
            if recording is None
            else Recording(
                policy=recording["policy"],
                until=_instant(recording["until"]),
                reason=recording["reason"],
            ),
            requests=tuple(content["requests"]),
            version=version,
        )


def switches_of(documents: Documents) -> dict[str, Switch]:
    """The switches by process or freerun, of the documents of their kind."""
    return {name: Switch.of_content(*document) for name, document in documents.items()}


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND


def _instant(micros: int) -> datetime:
    return _EPOCH + micros * _MICROSECOND
