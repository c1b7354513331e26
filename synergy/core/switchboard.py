"""Switching processes and freeruns off and on: requests become documents, each write conditional.

A switch counts from the moment when the store has it.  Where another scheduler has written it
meanwhile, what stands there is taken over, and the request is looked at again: it may have been
obeyed already.  A process whose missed intervals are to be recorded has that in its switch until it
is done (see `catch_up`), so that whoever takes over goes on with it.
"""

from collections import deque
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from synergy.core.building import CATCH_UPS
from synergy.core.catalog import Catalog
from synergy.core.commands import Command, SaveDocument
from synergy.core.events import DocumentRefused, DocumentSaved
from synergy.core.model import Documents, Request
from synergy.core.operations import answered
from synergy.core.switches import Recording, Switch, switches_of
from synergy.core.values import dataclass


class Desk(Protocol):
    """What the switchboard needs of the engine."""

    catalog: Catalog

    def ask(self, command: Command) -> None:
        """Have the command carried out."""

    def switched(self, name: str, now: datetime) -> None:
        """It stands otherwise in the store now: do what follows."""


@dataclass(frozen=True, slots=True)
class _Writing:
    """A switch that is being written, and the request that wants it so, where one does."""

    switch: Switch
    request: Request | None
    #: Whether it stands otherwise than before.
    changed: bool = True


class Switchboard:
    """How everything is switched, as it stands in the store."""

    def __init__(self, desk: Desk) -> None:
        self.switches: dict[str, Switch] = {}
        self._desk = desk
        self._writing: dict[str, _Writing] = {}
        self._filed: dict[str, deque[Request]] = {}

    def load(self, documents: Documents) -> None:
        """Take over what is stored, at the beginning."""
        self.switches = switches_of(documents)

    def knows(self, documents: Documents) -> bool:
        """Whether none of these is newer than what is known."""
        return all(
            (known := self.switches.get(name)) is not None and known.version >= version
            for name, (version, _) in documents.items()
        )

    def read(self, documents: Documents, now: datetime) -> None:
        """Take over what another scheduler has written."""
        for name, switch in switches_of(documents).items():
            known = self.switches.get(name)
            if known is None or known.version < switch.version:
                self.switches[name] = switch
                self._desk.switched(name, now)

    def meet(self, name: str, policy: str, *, new: bool, now: datetime) -> None:
        """See a process with a catch-up policy for the first time.

        What it has missed is recorded if it is `new`; from now on it is known, so that what a
        scheduler that was down has missed is not taken for that.
        """
        reason = "it was due before its process was registered"
        recording = Recording(policy=policy, until=now, reason=reason)
        switch = Switch(on=True, since=now, recording=recording if new else None)
        self.switches[name] = switch  # nothing of it goes out before that is known for certain
        self._write(name, switch, None)

    def on(self, name: str) -> bool:
        """Whether it is not switched off."""
        switch = self.switches.get(name)
        return switch is None or switch.on

    @property
    def recordings(self) -> list[str]:
        """Processes of which something is to be recorded, and their switch is not being written."""
        return [
            name
            for name, switch in self.switches.items()
            if switch.recording is not None
            and switch.version
            and name not in self._writing
            and name in self._desk.catalog.processes
        ]

    def recorded(self, name: str) -> None:
        """All that it has missed is recorded: it goes on."""
        self._write(name, replace(self.switches[name], recording=None), None)

    def file(self, request: Request, now: datetime) -> str:
        """Obey a request as soon as those before it are done; why it cannot be, if so."""
        refusal = self._refusal(request)
        if not refusal:
            if request.process in self._writing:
                self._filed.setdefault(request.process, deque()).append(request)
            else:
                self._obey(request, now)
        return refusal

    def saved(self, event: DocumentSaved, now: datetime) -> None:
        """The store took the write."""
        done = self._writing.pop(event.key)
        self.switches[event.key] = replace(done.switch, version=event.version)
        self._desk.switched(event.key, now)
        if done.request is not None:
            self._answer(done.request, done.changed, now)
        self._next(event.key, now)

    def refused(self, event: DocumentRefused, now: datetime) -> None:
        """Another scheduler has written it."""
        wanted = self._writing.pop(event.key)
        if event.current is None:
            self.switches.pop(event.key, None)
        else:
            self.switches[event.key] = Switch.of_content(*event.current)
        self._desk.switched(event.key, now)
        if wanted.request is not None:
            self._obey(wanted.request, now)
        else:
            self._next(event.key, now)

    def _refusal(self, request: Request) -> str:
        name, catalog = request.process, self._desk.catalog
        policy = request.options.get("catch_up")
        if name not in catalog.processes and name not in catalog.freeruns:
            return f"no process or freerun {name} is registered"
        if not isinstance(request.options.get("on"), bool):
            return 'a switch needs the option "on", true or false'
        if policy is not None and policy not in CATCH_UPS:
            return f"catch_up {policy!r} is none of {', '.join(CATCH_UPS)}"
        if policy is not None and name in catalog.freeruns:
            return (
                f"{name} is a freerun: what becomes of the firings that it missed is said by its "
                "misfire policy"
            )
        return ""

    def _obey(self, request: Request, now: datetime) -> None:
        name = request.process
        standing = self.switches.get(name) or Switch(on=True, since=now)
        if request.id in standing.requests:
            self._answer(request, True, now)
            self._next(name, now)
            return
        on = bool(request.options["on"])
        recording = self._recording(request, standing, now) if on else None
        # Also where nothing changes: it may stand otherwise by now, and the write would tell.
        switch = standing.obeying(request.id, on=on, recording=recording or standing.recording)
        if on != standing.on:
            switch = replace(switch, since=now, actor=request.actor, reason=request.reason)
        if not on:
            switch = replace(switch, recording=None)
        self._write(name, switch, request, changed=on != standing.on or recording is not None)

    def _recording(self, request: Request, standing: Switch, now: datetime) -> Recording | None:
        """What is to be recorded before it goes on."""
        process = self._desk.catalog.processes.get(request.process)
        asked = request.options.get("catch_up")
        if process is None or (standing.on and asked is None):
            return None
        policy = str(asked or process.catch_up)
        if policy == "all":
            return None
        if standing.on:
            by = f" by {request.actor}" if request.actor else ""
            reason = f"so asked for by request {request.id}{by}"
        else:
            since, until = _clock(standing.since), _clock(now)
            reason = f"its process was switched off from {since} to {until}"
        return Recording(policy=policy, until=now, reason=reason)

    def _write(
        self, name: str, switch: Switch, request: Request | None, *, changed: bool = True
    ) -> None:
        self._writing[name] = _Writing(switch, request, changed)
        self._desk.ask(SaveDocument("switches", name, switch.content(), switch.version))

    def _answer(self, request: Request, changed: bool, now: datetime) -> None:
        self._desk.ask(answered(request, "done", {"touched": [], "changed": changed}, now))

    def _next(self, name: str, now: datetime) -> None:
        filed = self._filed.get(name)
        if filed and name not in self._writing:
            self._obey(filed.popleft(), now)


def _clock(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")
