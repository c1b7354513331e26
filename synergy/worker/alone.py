"""A worker program that works on one box at a time: it holds a lease as long as it works.

On every box that it is bound to, the program runs; one of them has the lease and works, the others
stand by.  A worker that cannot renew the lease stops itself before anybody else may take it: first
it asks its units to finish, and in time it kills them.  As with the scheduler's lease, no result
depends on it (D9): units are fenced, so that the worst that two at work could do is to share them.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from synergy.errors import Unreachable
from synergy.leases import LeaseWatch
from synergy.ports import STANDBY, Bell, Clock, Store

LEASE: Final = timedelta(seconds=15)
#: Seconds between renewals, and between the looks of who stands by.
RENEWAL: Final = 3.0
LOOK: Final = 1.0
#: Seconds after the last renewal: no further unit is begun; what still runs is killed.
ASK_AFTER, KILL_AFTER = 8.0, 13.0


def lease_name(program: str) -> str:
    """Under which name a program's lease stands in the store."""
    return f"program/{program}"


@contextmanager
def alone(
    store: Store, bell: Bell, clock: Clock, program: str, owner: str, log: logging.Logger
) -> Iterator[None]:
    """Stand by until it is this program's turn; inside, its lease is held.

    A lease that is lost inside is told by SIGTERM to ourselves, and again when time is short.
    """
    turn = Turn(store, clock, program, owner, log, _signal_ourselves)
    listener = bell.listen(STANDBY)
    try:
        while not turn.taken():
            listener.wait(LOOK)
            listener.drain()
    finally:
        listener.close()
    over = threading.Event()

    def keep() -> None:
        while not over.wait(turn.patience()):
            turn.keep()

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join(RENEWAL)
        turn.drop()
        bell.ring(STANDBY)


class Turn:
    """One program's hold on its lease; `ask_to_stop` is called when it is lost, and once more when
    what still runs must be killed."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        program: str,
        owner: str,
        log: logging.Logger,
        ask_to_stop: Callable[[], None],
    ) -> None:
        self._store, self._clock, self._log = store, clock, log
        self._program, self._owner = program, owner
        self._ask_to_stop = ask_to_stop
        self._watch = LeaseWatch(clock, LEASE + timedelta(seconds=RENEWAL))
        self._asked = 0
        #: Monotonic time before the last successful renewal was sent.
        self._renewed = 0.0
        self._told = ""

    def taken(self) -> bool:
        """Take the lease if it is free; whether it is ours."""
        sent = self._clock.monotonic()
        try:
            held = self._watch.take(self._store, lease_name(self._program), self._owner, LEASE)
        except Unreachable as error:
            self._say(f"standing by: {error}")
            return False
        if held.owner != self._owner:
            self._say(f"standing by: {held.owner} is at work")
            return False
        self._renewed = sent
        self._say("at work: no other box is")
        return True

    def keep(self) -> None:
        """Renew the lease; where that fails, see to it that nothing runs beyond its end."""
        sent, now = self._clock.monotonic(), self._clock.now()
        lost = False
        try:
            held = self._store.take_lease(lease_name(self._program), self._owner, now, now + LEASE)
            lost = held.owner != self._owner
            if not lost:
                self._renewed = sent
        except Unreachable as error:
            self._say(f"its lease could not be renewed: {error}")
        silent = self._clock.monotonic() - self._renewed
        if lost or silent >= ASK_AFTER:
            self._ask(1, "its lease is lost" if lost else "its lease was not renewed")
        if lost or silent >= KILL_AFTER:
            self._ask(2, "what still runs is killed")

    def patience(self) -> float:
        """Seconds until it is to be kept again."""
        if not self._asked and self._clock.monotonic() - self._renewed < RENEWAL:
            return RENEWAL
        return LOOK

    def drop(self) -> None:
        """Give it to the next one at once."""
        try:
            self._store.drop_lease(lease_name(self._program), self._owner, self._clock.now())
        except Unreachable as error:
            self._say(f"its lease runs out by itself: {error}")

    def _ask(self, times: int, why: str) -> None:
        if self._asked < times:
            self._asked = times
            self._say(f"stopping: {why}")
            self._ask_to_stop()

    def _say(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._log.info(text, extra={"action": "alone"})


def _signal_ourselves() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
