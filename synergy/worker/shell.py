"""The worker program: does what `synergy.worker.protocol` decides, and tells it what happened.

One thread, one `selectors` loop.  It sleeps until a bell rings, the broker brings something, a
child says something, a signal comes or the protocol wants to be called.  Nothing of a user's
project is imported here: functions and classes run in the slots' processes, commands in their own.
"""

import contextlib
import logging
import selectors
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Final

from synergy import programs
from synergy.capture import attempt_log_path
from synergy.core.model import Unit
from synergy.core.recovery import LEASE, LEASE_MARGIN, RENEWAL
from synergy.errors import Unreachable
from synergy.garbage import seldom_collected
from synergy.ports import Bell, Clock, Consumer, Listener, Store
from synergy.presence import WorkerRecord
from synergy.signals import drain, wakeup_by_signals
from synergy.worker import messages as at
from synergy.worker.attendance import attending
from synergy.worker.calls import environment_of
from synergy.worker.children import Child, Command, Garbled, SlotProcess
from synergy.worker.messages import Deed, Event, Question
from synergy.worker.outcomes import (
    Outcome,
    exit_reason,
    failed,
    of_answer,
    of_exit,
    others_of,
    progress_of,
)
from synergy.worker.protocol import PROGRESS_PACE, WorkerProtocol
from synergy.worker.wire import SLOW_AFTER, leave_to_message, units_to_message
from synergy.worker.work import Work

#: Seconds until a request that did not fit into a slot's pipe is pushed again.
_PUSH_AGAIN: Final = 0.005
#: Seconds; nothing needs it, but a selector cannot wait for ever in one go.
_LONGEST_SLEEP: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The times of the lease; tests shorten them."""

    lease: timedelta = LEASE
    renewal: timedelta = RENEWAL
    margin: timedelta = LEASE_MARGIN


def run_worker(
    store: Store,
    bell: Bell,
    clock: Clock,
    *,
    worker_id: str,
    slots: int,
    project: Path,
    log_dir: Path,
    processes: Iterable[str] | None = None,
    grace: timedelta = timedelta(seconds=20),
    log: logging.Logger,
    times: Times | None = None,
    ahead: bool = True,
    consumer: Consumer | None = None,
    record: WorkerRecord | None = None,
) -> int:
    """Be a worker until SIGTERM, SIGINT or SIGHUP; the exit code of the program.

    `worker_id` must never have been used before: it is part of the token of every claim.
    `processes` limits it to these.  Units run in `project`; their attempts' logs stand below
    `log_dir`.  Without `ahead` no unit is claimed before it can be started.  `consumer` brings what
    is published, and is closed when no more is taken.  `record` is what others are told of it, as
    long as it listens.

    A second signal ends the `grace` that the first one gives to running units.
    """
    times = times or Times()
    protocol = WorkerProtocol(
        worker_id,
        slots,
        lease=times.lease,
        renewal=times.renewal,
        margin=times.margin,
        grace=grace,
        processes=processes,
        ahead=ahead,
    )
    programs.become_subreaper()
    shell = Shell(store, bell, clock, protocol, slots, project, log_dir, log, consumer)
    told = contextlib.nullcontext() if record is None else _told(store, clock, record, shell)
    with contextlib.closing(shell), _signals(shell.stop_soon) as wakeup, seldom_collected(), told:
        shell.listen(wakeup)
        return shell.run()


def _told(
    store: Store, clock: Clock, record: WorkerRecord, shell: "Shell"
) -> contextlib.AbstractContextManager[None]:
    return attending(store, clock, record, lambda: shell.busy)


@dataclass(slots=True)
class _Slot:
    """What stands behind a slot of the protocol."""

    index: int
    process: SlotProcess | None = None
    command: Command | None = None
    #: What it was given and has not answered; the first one runs.  Each has a number of its own.
    queue: deque[tuple[int, Unit]] = field(default_factory=deque)
    #: Monotonic times: when it was last sent something, and since when the first one runs.
    sent: float = 0.0
    since: float = 0.0
    #: Whether the first one takes long, so that it will hold after it.
    slow: bool = False
    #: Whether it was given leave for a hold that it has not told yet.
    leave: bool = False
    #: Whether its output is listened to.
    heard: bool = False

    @property
    def unit(self) -> Unit | None:
        """What it runs."""
        return self.queue[0][1] if self.queue else None

    @property
    def together(self) -> bool:
        """Whether all that it has is one call."""
        return bool(self.queue) and self.queue[0][1].task.batch > 1

    def at_work(self) -> list[tuple[int, Unit]]:
        """What it runs, with their numbers."""
        if self.together:
            return [*self.queue]
        return [self.queue[0]] if self.queue else []

    def children(self) -> list[Child]:
        """Those that run."""
        return [child for child in (self.process, self.command) if child is not None]


class Shell:
    """The loop and its children.  Close it: no child outlives it."""

    def __init__(
        self,
        store: Store,
        bell: Bell,
        clock: Clock,
        protocol: WorkerProtocol,
        slots: int,
        project: Path,
        log_dir: Path,
        log: logging.Logger,
        consumer: Consumer | None = None,
    ) -> None:
        self._store, self._bell, self._clock = store, bell, clock
        self._consumer = consumer
        #: Whether the consumer is well, as the protocol was told last.
        self._healthy: bool | None = None
        self._protocol = protocol
        self._slots = [_Slot(index) for index in range(slots)]
        self._project, self._log_dir, self._log = project, log_dir, log
        self._selector = selectors.DefaultSelector()
        self._listener: Listener | None = None
        self._events: list[Event] = []
        self._unsaid: list[at.Say] = []
        self._attempts = 0
        self._looked_at_boards = 0.0
        self._code: int | None = None

    # the loop

    def run(self) -> int:
        """Work until the protocol says that it is over; the exit code."""
        self._listen_to_bell()
        self._listen_to_broker()
        while self._code is None:
            self.once()
        counts = self._protocol.counts
        self._say_all()
        self._say(at.Say("stopped", f"stopped; {counts}"))
        return self._code

    def once(self) -> None:
        """Tell the protocol what has happened and do what it says; then wait for something new."""
        events, self._events = self._events, []
        actions = self._protocol.handle(events, self._clock.now(), self._clock.monotonic())
        questions = [action for action in actions if isinstance(action, at.Question)]
        for action in actions:
            if isinstance(action, at.Deed):
                self._do(action)
        if questions:
            self._events += self._ask(questions)
        self._unsaid += [action for action in actions if isinstance(action, at.Say)]
        if self._code is None and not self._events:
            self._say_all()  # nobody waits for it, as for a ring that follows from an answer
            self._wait()

    def stop_soon(self) -> None:
        """Begin to stop; again: at once.  For signal handlers."""
        self._events.append(at.Stop())

    @property
    def busy(self) -> int:
        """How many slots are at work; any thread may ask."""
        return sum(bool(slot.queue) for slot in self._slots)

    def listen(self, wakeup: socket.socket) -> None:
        """Wake up when this socket is readable."""
        self._watch(wakeup.fileno(), lambda: drain(wakeup))

    def close(self) -> None:
        """Kill what still runs and close everything."""
        for slot in self._slots:
            for child in slot.children():
                child.close()
        if self._listener is not None:
            self._listener.close()
        self._stop_consuming()
        self._selector.close()

    def _wait(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            if key.fd in self._selector.get_map():  # not closed by one of the others
                key.data()
        now = self._clock.monotonic()
        for slot in self._slots:
            if slot.process is not None and self._takes_long(slot, now):
                self._look_at_slow(slot, slot.process, now)
        self._look_at_boards(now)

    def _patience(self) -> float:
        now = self._clock.monotonic()
        patience = min(self._protocol.wake_at() - now, _LONGEST_SLEEP)
        for slot in self._slots:
            if not slot.queue or slot.command is not None:
                continue
            look = self._looked_at_boards + PROGRESS_PACE if slot.slow else slot.since + SLOW_AFTER
            patience = min(patience, look - now)
        if not all(slot.process.flush() for slot in self._slots if slot.process is not None):
            patience = min(patience, _PUSH_AGAIN)
        return max(patience, 0.0)

    def _watch(self, fd: int, callback: Callable[[], None]) -> None:
        self._selector.register(fd, selectors.EVENT_READ, callback)

    def _unwatch(self, *fds: int) -> None:
        for fd in fds:
            with contextlib.suppress(KeyError):
                self._selector.unregister(fd)

    # the bell

    def _listen_to_bell(self) -> None:
        listener = self._listener = self._bell.listen("worker")

        def rang() -> None:
            listener.drain()
            self._events.append(at.Rang())

        self._watch(listener.fileno(), rang)

    # the broker

    def _listen_to_broker(self) -> None:
        consumer = self._consumer
        if consumer is not None:
            self._watch(consumer.fileno(), lambda: self._on_offers(consumer))
            self._on_offers(consumer)

    def _on_offers(self, consumer: Consumer) -> None:
        deliveries, healthy = consumer.receive(), consumer.healthy
        if healthy != self._healthy:
            self._healthy = healthy
            self._events.append(at.BrokerHealth(healthy))
        if deliveries:
            self._events.append(at.Offered(deliveries))

    def _stop_consuming(self) -> None:
        if self._consumer is not None:
            self._unwatch(self._consumer.fileno())
            self._consumer.close()
            self._consumer = None

    # actions

    def _do(self, action: Deed) -> None:
        match action:
            case at.StartSlot(slot):
                self._start_slot(self._slots[slot])
            case at.Run(slot, units):
                self._run(self._slots[slot], units)
            case at.Kill(slot):
                self._kill(self._slots[slot])
            case at.Ring(role):
                self._bell.ring(role)
            case at.Acknowledge(deliveries):
                assert self._consumer is not None
                self._consumer.acknowledge(deliveries)
            case at.PauseConsuming():
                assert self._consumer is not None
                self._consumer.pause()
            case at.ResumeConsuming(window):
                assert self._consumer is not None
                self._consumer.resume(window)
            case at.StopConsuming():
                self._stop_consuming()
            case at.Exit(code):
                self._code = code

    def _ask(self, questions: Sequence[Question]) -> list[Event]:
        """Have the store do it all together; what it answers."""
        try:
            with self._store.together():
                match questions:
                    case [at.Report(writes), *others, at.ClaimUnits(claim)]:
                        saved, units = self._store.save_and_claim(writes, claim)
                        between = [self._answer_to(question) for question in others]
                        return [at.Reported(saved), *between, at.Claimed(units)]
                    case _:
                        return [self._answer_to(question) for question in questions]
        except Unreachable as error:
            return [at.Unanswered(question, str(error)) for question in questions]

    def _answer_to(self, question: Question) -> Event:
        match question:
            case at.ClaimUnits(claim):
                return at.Claimed(self._store.claim(claim))
            case at.FindClaimed(owner):
                units = self._store.active_units()
                return at.Claimed([unit for unit in units if unit.owner == owner])
            case at.LookAhead():
                return at.NextDue(self._store.next_claimable())
            case at.Renew(renewals):
                return at.Renewed(self._store.renew(renewals))
            case at.Report(writes):
                return at.Reported(self._store.save_units(writes))

    def _say_all(self) -> None:
        unsaid, self._unsaid = self._unsaid, []
        for said in unsaid:
            self._say(said)

    def _say(self, said: at.Say) -> None:
        text = f"{said.key} {said.text}" if said.key else said.text
        level = logging.WARNING if said.warning else logging.INFO
        self._log.log(level, text, extra={"action": said.action, "key": said.key})

    # slots

    def _start_slot(self, slot: _Slot) -> None:
        try:
            process = slot.process = SlotProcess.start(self._project)
        except OSError as error:
            self._events.append(at.SlotGone(slot.index, f"it could not be started: {error}"))
            return
        self._watch(process.answers, lambda: self._on_answer(slot, process))
        self._watch(process.contained.status_fd, lambda: self._on_slot_end(slot, process))
        self._hear(slot, process)

    def _run(self, slot: _Slot, units: Sequence[Unit]) -> None:
        if units[0].task.command:
            slot.queue.append((0, units[0]))
            self._run_command(slot, units[0], self._log_of(units[0]))
            return
        assert slot.process is not None
        now = slot.sent = self._clock.monotonic()
        if not slot.queue:
            slot.process.output.drain()
            self._hear_no_more(slot, slot.process)
            slot.since = now
        numbered = [(self._attempts + count, unit) for count, unit in enumerate(units, 1)]
        self._attempts += len(numbered)
        slot.queue.extend(numbered)
        slot.process.send(units_to_message(numbered, now))

    def _log_of(self, unit: Unit) -> Path:
        return attempt_log_path(
            self._log_dir,
            unit.process,
            unit.interval.label,
            unit.generation,
            unit.run,
            unit.attempt,
        )

    def _record(self, slot: _Slot, process: SlotProcess) -> None:
        """What the slot prints belongs to what it runs."""
        (_, first), *others = slot.at_work()
        line = f"synergy: one call with {first.key}, whose log has what was printed\n"
        process.output.record(
            self._log_of(first), {self._log_of(other): line for _, other in others}
        )

    def _run_command(self, slot: _Slot, unit: Unit, log: Path) -> None:
        environment = environment_of(unit.key, Work.of(unit))
        try:
            command = slot.command = Command.start(unit, log, self._project, environment)
        except (OSError, ValueError) as error:
            self._ended(slot, failed(f"its command could not be started: {error}"))
            return
        self._watch(command.contained.status_fd, lambda: self._on_command_end(slot, command))
        self._watch(command.output.fd, lambda: self._on_output(command))

    def _kill(self, slot: _Slot) -> None:
        if slot.command is not None:
            slot.command.kill()
            self._close_command(slot, slot.command)
            self._ended(slot, failed("killed"))
        elif slot.process is not None:
            self._replace(slot, slot.process, "killed", None)

    def _replace(
        self,
        slot: _Slot,
        process: SlotProcess,
        reason: str,
        outcome: Outcome | None,
        others: tuple[Outcome, ...] = (),
    ) -> None:
        """End the slot's process with all it has started, and say so."""
        process.contained.kill()
        if outcome is None:
            self._hear_out(slot, process)
        if slot.unit is not None and not slot.slow:
            self._record(slot, process)
        process.output.end()
        self._read_boards([slot])
        self._check_log(slot, process)
        self._unseat(slot, process)
        slot.queue.clear()
        slot.slow = False
        self._events.append(at.SlotGone(slot.index, reason, outcome, others))

    def _hear_out(self, slot: _Slot, process: SlotProcess) -> None:
        """Take what it answered before it died, so that nothing counts as not done that was."""
        with contextlib.suppress(Garbled, ValueError):
            for answer in process.receive()[0]:
                if slot.queue and "number" in answer:
                    self._over(slot, process, answer)

    def _unseat(self, slot: _Slot, process: SlotProcess) -> None:
        self._unwatch(process.answers, process.contained.status_fd, process.output.fd)
        process.close()
        slot.process, slot.heard, slot.leave = None, False, False

    def _ended(self, slot: _Slot, outcome: Outcome) -> None:
        """A command is over."""
        slot.queue.clear()
        self._events.append(at.Ended(slot.index, outcome))
        if slot.process is None:
            self._events.append(at.SlotGone(slot.index, "its process ended during a command"))

    # output

    def _hear(self, slot: _Slot, process: SlotProcess) -> None:
        """Listen to its output from now on."""
        if not slot.heard:
            self._watch(process.output.fd, lambda: self._on_output(process))
            slot.heard = True

    def _hear_no_more(self, slot: _Slot, process: SlotProcess) -> None:
        """Leave its output where it is, until it is known whose it is."""
        if slot.heard:
            self._unwatch(process.output.fd)
            slot.heard = False

    def _takes_long(self, slot: _Slot, now: float) -> bool:
        return (
            bool(slot.queue)
            and slot.command is None
            and not slot.slow
            and now >= slot.since + SLOW_AFTER
        )

    def _look_at_slow(self, slot: _Slot, process: SlotProcess, now: float) -> None:
        """It had not answered for long: unless it has just done so, it will hold (see `wire`)."""
        self._on_answer(slot, process)
        if slot.process is process and slot.unit is not None and self._takes_long(slot, now):
            slot.slow = slot.leave = True
            self._record(slot, process)
            self._hear(slot, process)
            slot.queue = deque(slot.at_work())
            process.send(leave_to_message(slot.queue[0][0], now))
            self._events.append(at.Slow(slot.index))

    # what children say

    def _on_output(self, child: Child) -> None:
        if not child.output.pump():
            self._unwatch(child.output.fd)

    def _on_answer(self, slot: _Slot, process: SlotProcess) -> None:
        try:
            answers, more = process.receive()
            if not more:
                self._unwatch(process.answers)
            for answer in answers:
                self._answered(slot, process, answer)
        except (Garbled, ValueError) as error:
            reason = f"something that is no answer came through the pipe of its slot: {error}"
            self._replace(slot, process, reason, failed(reason))

    def _answered(self, slot: _Slot, process: SlotProcess, answer: dict[str, Any]) -> None:
        if answer == {"ready": True}:
            self._events.append(at.SlotReady(slot.index))
            return
        if answer == {"held": True}:
            self._give_leave(slot, process)
            return
        if answer.get("spent"):
            self._replace(
                slot, process, "its worker left something running", *self._told(slot, answer)
            )
            return
        self._over(slot, process, answer)
        if answer.get("held"):
            self._give_leave(slot, process)

    def _told(self, slot: _Slot, answer: dict[str, Any]) -> tuple[Outcome, tuple[Outcome, ...]]:
        """How what the slot ran came out, by this answer: the first, and the others of its call."""
        if not slot.queue or answer.get("number") != slot.queue[0][0]:
            raise Garbled("an answer to what was not asked")
        if (progress := answer.get("progress")) is not None:
            for place, said in enumerate(progress if slot.together else [progress]):
                if said is not None:
                    self._events.append(at.Progressed(slot.index, progress_of(said), place))
        others = others_of(answer, len(slot.at_work())) if "others" in answer else ()
        return of_answer(answer), others

    def _over(self, slot: _Slot, process: SlotProcess, answer: dict[str, Any]) -> None:
        """What the slot ran is over."""
        outcome, others = self._told(slot, answer)
        began, ended = float(answer["began"]), float(answer["ended"])
        if answer.get("printed") and not slot.slow:
            self._record(slot, process)
        if answer.get("printed") or slot.slow:
            process.output.end()
            self._check_log(slot, process)
        if slot.together:
            slot.queue.clear()
        else:
            slot.queue.popleft()
        slot.slow, slot.since = False, max(ended, slot.sent)
        if slot.queue:
            self._hear_no_more(slot, process)
        else:
            self._hear(slot, process)
        self._events.append(at.Ended(slot.index, outcome, began, ended, others))

    def _give_leave(self, slot: _Slot, process: SlotProcess) -> None:
        """Let a slot that holds go on, unless it was given leave in advance."""
        if not slot.leave:
            slot.since = slot.sent = self._clock.monotonic()
            process.send(leave_to_message(None, slot.sent))
        slot.leave = False

    def _on_slot_end(self, slot: _Slot, process: SlotProcess) -> None:
        ended = process.contained.poll()
        if ended is None:
            return
        self._on_answer(slot, process)  # its last words may be an answer
        if slot.process is not process:
            return
        if slot.command is not None:
            self._unseat(slot, process)  # told when the command, which does not need it, is over
            return
        reason = exit_reason(_code_of(ended))
        if ended.signal == signal.SIGKILL:
            self._reap_strays(process)
        if slot.unit is None:
            process.output.end()
            words = process.output.last_words.decode("utf-8", "backslashreplace").strip()
            reason = f"{reason}: {words}" if words else reason
        self._replace(slot, process, reason, None)

    def _on_command_end(self, slot: _Slot, command: Command) -> None:
        ended = command.contained.poll()
        if ended is None or slot.unit is None:
            return
        if ended.signal == signal.SIGKILL:
            self._reap_strays(command)
        outcome = of_exit(_code_of(ended), slot.unit.task.noop_codes)
        command.output.end()
        self._check_log(slot, command)
        self._close_command(slot, command)
        self._ended(slot, outcome)

    def _close_command(self, slot: _Slot, command: Command) -> None:
        self._unwatch(command.contained.status_fd, command.output.fd)
        command.close()
        slot.command = None

    def _reap_strays(self, dead: Child) -> None:
        """After a kill that was not ours: had it hit the keeper, its tree would be ours now."""
        known = {
            child.contained.pid
            for slot in self._slots
            for child in slot.children()
            if child is not dead
        }
        programs.reap_strays(known)

    def _check_log(self, slot: _Slot, child: Child) -> None:
        if child.output.trouble is not None and slot.unit is not None:
            text = f"the log of its attempt is not complete: {child.output.trouble}"
            self._say(at.Say("log_incomplete", text, slot.unit.key, True))

    # progress

    def _look_at_boards(self, now: float) -> None:
        if now >= self._looked_at_boards + PROGRESS_PACE:
            self._looked_at_boards = now
            self._read_boards(self._slots)

    def _read_boards(self, slots: Sequence[_Slot]) -> None:
        for slot in slots:
            for place, (number, _) in enumerate(slot.at_work() if slot.process else ()):
                progress = slot.process.progress(number) if slot.process else None
                if progress is not None:
                    self._events.append(at.Progressed(slot.index, progress, place))


def _code_of(ended: programs.Exit) -> int:
    """As ``subprocess`` writes it: negative for a signal."""
    if ended.signal is not None:
        return -ended.signal
    return 0 if ended.code is None else ended.code


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[socket.socket]:
    """Call `stop` on signals that ask us to end; yields a socket that is readable after one."""

    def note(number: int, frame: FrameType | None) -> None:
        stop()

    asked = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in asked}
    try:
        with wakeup_by_signals() as wakeup:
            yield wakeup
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
