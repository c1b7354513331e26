"""``up``: run everything of this box in the foreground, and stop it all with Ctrl-C."""

import argparse
import time
from collections.abc import Callable, Iterable

from synergy.app import bell_of, hand_on, programs_of, stop_on_signals, store_of
from synergy.cli.output import Output, command, duration
from synergy.cli.programs import (
    STOP_MARGIN,
    KilledEarly,
    checked,
    holder_of,
    launch,
    log_file,
    pid_file,
)
from synergy.errors import SynergyError
from synergy.programs import Identity, alive, stop
from synergy.project import Project

#: Under which name it is known to `query` and `stop`.
UP = "up"
#: Seconds between looks at the programs.
LOOK = 0.5
#: Seconds before a program that ended is started again: the first time, and at most.
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
#: A program that ran so many seconds is trusted again.
TRUSTED = 60.0


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """The verb has no options of its own."""


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Run until Ctrl-C or SIGTERM."""
    stopping = stop_on_signals()
    box = Box(project, programs_of(checked(project)), output.note)
    with pid_file(project, UP), box:
        output.note(f"Ctrl-C stops all of them; look from another terminal: {command('jobs')}")
        while not stopping():
            box.look()
            time.sleep(LOOK)
    return 0


class Box:
    """The programs of this box, kept running; one that runs already is left as it is."""

    def __init__(self, project: Project, names: Iterable[str], say: Callable[[str], None]) -> None:
        self.project = project
        self.names = tuple(names)
        self.say = say
        self._running: dict[str, Identity] = {}
        self._ours: set[str] = set()
        self._since: dict[str, float] = {}
        self._wait: dict[str, float] = {}
        self._again: dict[str, float] = {}

    def __enter__(self) -> "Box":
        try:
            for name in self.names:
                try:
                    self.start(name)
                except KilledEarly as error:
                    self._later(name, str(error))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def start(self, name: str) -> None:
        """Start one, unless it runs already."""
        holder = holder_of(self.project, name)
        if holder is None:
            holder = launch(self.project, name)
            self._ours.add(name)
            self.say(f"{name} started, process {holder.pid}, log {log_file(self.project, name)}")
        else:
            self._ours.discard(name)
            self.say(f"{name} runs already, process {holder.pid}; it stays when this ends")
        self._running[name] = holder
        self._since[name] = time.monotonic()

    def look(self) -> None:
        """Start again what has ended, later each time that it ends soon."""
        now = time.monotonic()
        for name, identity in list(self._running.items()):
            if not alive(identity):
                del self._running[name]
                if now - self._since[name] > TRUSTED:
                    self._wait.pop(name, None)
                self._later(name, f"{name} (process {identity.pid}) ended")
        for name, when in list(self._again.items()):
            if now >= when:
                del self._again[name]
                try:
                    self.start(name)
                except SynergyError as error:
                    self._later(name, str(error))

    def _later(self, name: str, why: str) -> None:
        """Start it once more after a while, later each time."""
        wait = self._wait.get(name, FIRST_WAIT)
        self._wait[name] = min(wait * 2, LONGEST_WAIT)
        self._again[name] = time.monotonic() + wait
        self.say(f"{why}; again in {duration(wait)}")
        self._hand_on()

    def _hand_on(self) -> None:
        """What the ended program held is free at once, not when its lease runs out."""
        try:
            store = store_of(self.project)
            hand_on(store, bell_of(self.project))
            store.close()
        except SynergyError as error:
            self.say(str(error))

    def stop(self) -> None:
        """Stop all that were started here, the last one first."""
        for name, identity in reversed(self._running.items()):
            if name not in self._ours:
                continue
            gently = stop(identity, self.project.grace.total_seconds() + STOP_MARGIN)
            self.say(f"{name} {'stopped' if gently else 'had to be killed'}")
        self._running.clear()
