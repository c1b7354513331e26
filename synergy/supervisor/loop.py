"""The supervisor's loop: sees what runs, does what `plan` says, tells the store.

One thread watches the programs: it sleeps until one of them dies (the kernel says so), somebody
rings, a signal comes, or the plan wants something.  A second one speaks with the store, which may
not answer for long: programs that run stay, and nothing is started until it has answered again.

Every program that the box is to run is taken over, whoever started it: what ran when the last
supervisor was killed is found by its pid file and its birth, and never started twice.
"""

import contextlib
import math
import os
import queue
import selectors
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Protocol

from synergy.bells import Wake
from synergy.core.model import BoxRecord, ProgramRecord
from synergy.errors import Conflict, SynergyError
from synergy.owners import departed
from synergy.ports import Bell, Clock, Store
from synergy.presence import SILENT
from synergy.programs import (
    KILL_PATIENCE,
    Identity,
    Usage,
    age_of,
    alive,
    collect,
    death_of,
    identity_of,
    kill_tree,
    terminate,
    usage_of,
)
from synergy.signals import drain, wakeup_by_signals
from synergy.supervisor import plan
from synergy.supervisor.plan import Course, Rules, Step

#: Name of the supervisor among the programs, and its role with the bell.
SUPERVISOR: Final = "supervisor"
#: Seconds between the records of a box at which nothing happens.
HEARTBEAT: Final = 5.0
#: First and longest wait before a store that did not answer is asked again (seconds).
RETRY_FIRST, RETRY_LONGEST = 0.5, 10.0
#: Seconds for which it counts that the store has answered.
FRESH: Final = 1.0
#: Seconds between looks at a program whose death the kernel does not tell.
BLIND_LOOK: Final = 0.25
#: Seconds that a stopping supervisor waits for the store to take its last record.
FAREWELL: Final = 2.0

#: Says one thing: the action, and the text.
Say = Callable[[str, str], None]


class Programs(Protocol):
    """How programs are started and found; `synergy.supervisor.children` for those of a project."""

    def start(self, name: str) -> int:
        """Begin one and return its process id.  Raises OSError, SynergyError when it cannot."""
        ...

    def find(self, name: str) -> Identity | None:
        """The living process that is the program."""
        ...

    def last_words(self, name: str) -> str:
        """What it printed since it was started last, shortly; empty for nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a supervisor works with."""

    box: str
    #: Unique to this process.
    owner: str
    #: The programs that shall run on this box unless they are switched off.
    names: tuple[str, ...]
    programs: Programs
    open_store: Callable[[], Store]
    bell: Bell
    clock: Clock
    #: Frees what processes of this box held that have ended.
    hand_on: Callable[[Store, Bell], int]
    say: Say
    rules: Rules = field(default_factory=Rules)


@dataclass(slots=True)
class _Child:
    """One program."""

    name: str
    #: Whether it is one of this box's, and not left over from before.
    ours: bool = True
    course: Course = plan.UNKNOWN
    identity: Identity | None = None
    #: Readable when it is dead.
    death: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Question:
    """What the store is told: how the box stands.  `freeing`: also what the dead held is freed."""

    number: int
    freeing: bool
    record: BoxRecord
    running: Mapping[str, Identity]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the store said: what is switched off, and what the box ran before; or the trouble."""

    question: _Question
    off: frozenset[str] = frozenset()
    before: BoxRecord | None = None
    freed: int = 0
    trouble: str = ""


class Supervisor:
    """Keeps the programs of a box.  `run` it, or call `once` again and again; then `close` it."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._children = {name: _Child(name) for name in setting.names}
        self._off: frozenset[str] = frozenset()
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._side = _StoreSide(setting)
        self._selector.register(self._side.fileno(), selectors.EVENT_READ, self._on_answer)
        self._listener = setting.bell.listen(SUPERVISOR)
        self._selector.register(self._listener.fileno(), selectors.EVENT_READ, self._on_ring)
        self._began = setting.clock.now()
        #: Questions that were put, the one that is out, and the first that would know of the last
        #: thing that happened.
        self._asked = 0
        self._out: int | None = None
        self._needed = 1
        self._freeing = True
        self._ask_at = 0.0
        self._answered_at = -math.inf
        self._retry = RETRY_FIRST
        self._trouble = ""
        self._closed = False

    def run(self, stopping: Callable[[], bool]) -> None:
        """Work until told to stop, then stop the programs."""
        with wakeup_by_signals() as wakeup:
            self._selector.register(wakeup, selectors.EVENT_READ, lambda: drain(wakeup))
            try:
                while not stopping():
                    self.once()
            finally:
                self._selector.unregister(wakeup)
        self.close()

    def once(self, patience: float = HEARTBEAT) -> None:
        """Do what there is to do, then wait until something happens, at most so many seconds."""
        self._act()
        wait = min(self._patience(), patience)
        for key, _ in self._selector.select(max(wait, 0.0)):
            if key.fd in self._selector.get_map():  # not closed by one of the others
                key.data()
        self._look_at_the_blind()

    def close(self) -> None:
        """Stop all programs, tell the store, and let go of everything.  Twice is harmless."""
        if self._closed:
            return
        self._closed = self._stopping = True
        give_up = self.setting.clock.monotonic() + self.setting.rules.grace + KILL_PATIENCE
        while any(child.identity is not None for child in self._children.values()):
            self.once()
            if self.setting.clock.monotonic() > give_up:
                left = [c.name for c in self._children.values() if c.identity is not None]
                self._say("stopped", f"{', '.join(left)} did not end, though killed")
                break
        self._freeing = True
        self._side.ask(self._question(supervisor=None))
        self._side.close(FAREWELL)
        self._listener.close()
        self._selector.close()

    # what is to be done

    def _wanted(self, child: _Child) -> bool:
        return child.ours and not self._stopping and child.name not in self._off

    def _act(self) -> None:
        now = self.setting.clock.monotonic()
        for child in self._children.values():
            match plan.decide(child.course, self._wanted(child), now, self.setting.rules):
                case Step.START:
                    self._start(child, now)
                case Step.STOP:
                    self._stop(child, now)
                case Step.KILL:
                    self._kill(child)
                case Step.NOTHING:
                    pass
        if not self._stopping and self._out is None and now >= self._ask_at:
            self._ask(now)

    def _patience(self) -> float:
        """Seconds until something is to be done although nothing happens."""
        now, rules = self.setting.clock.monotonic(), self.setting.rules
        wakes = [self._ask_at] if self._out is None and not self._stopping else []
        for child in self._children.values():
            wake = plan.wake_at(child.course, self._wanted(child), rules)
            if child.course.since is None and wake <= now:
                continue  # it waits for the store
            wakes.append(wake)
            if child.identity is not None and child.death is None:
                wakes.append(now + BLIND_LOOK)
        return min(wakes, default=HEARTBEAT + now) - now

    # programs

    def _start(self, child: _Child, now: float) -> None:
        """Take over what runs; start what does not, once the store is known to answer."""
        programs = self.setting.programs
        try:
            found = programs.find(child.name)
            if found is not None:
                self._watch(child, found)
                self._say("adopted", f"{child.name} runs already, process {found.pid}: it is kept")
                return
            if not self._needed and now - self._answered_at > FRESH:
                self._needed = self._asked + 1
                self._tell_soon()
            if self._needed:
                return  # the store is being asked
            pid = programs.start(child.name)
        except (OSError, SynergyError) as error:
            self._failed(child, f"{child.name} could not be started: {error}")
            return
        identity = identity_of(pid, zombies=True)
        if identity is None:
            self._failed(child, f"{child.name} (process {pid}) ended at once")
            return
        self._watch(child, identity)
        self._say("started", f"{child.name} started, process {pid}")

    def _watch(self, child: _Child, identity: Identity) -> None:
        now = self.setting.clock.monotonic()
        child.identity = identity
        child.course = plan.begun(child.course, now - age_of(identity))
        child.reason = ""
        child.death = death_of(identity)
        if child.death is not None:
            self._selector.register(
                child.death, selectors.EVENT_READ, lambda: self._on_death(child, identity)
            )
        self._tell_soon()

    def _stop(self, child: _Child, now: float) -> None:
        assert child.identity is not None
        child.course = plan.asked(child.course, now)
        try:
            terminate(child.identity)
        except SynergyError as error:
            self._say("stopping", f"{child.name} is let go: {error}")
            self._unwatch(child)
            child.ours, child.course = False, plan.UNKNOWN
            return
        self._say("stopping", f"{child.name} (process {child.identity.pid}) is asked to stop")
        self._tell_soon()

    def _kill(self, child: _Child) -> None:
        assert child.identity is not None
        child.course = plan.killed(child.course)
        kill_tree(child.identity)

    def _on_death(self, child: _Child, identity: Identity) -> None:
        """It is dead: what it held is freed at once, then it is started again."""
        if child.identity != identity:
            return
        self._unwatch(child)
        how = collect(identity)
        text = f"{child.name} (process {identity.pid}) ended" + (f": {how}" if how else "")
        if child.course.asked is not None:
            gently = not child.course.killed
            child.reason = "" if gently else "it had to be killed"
            text = f"{child.name} {'stopped' if gently else 'had to be killed'}"
        elif (other := self.setting.programs.find(child.name)) is not None:
            # Somebody else started it at the same moment, and was first.
            self._watch(child, other)
            return
        self._free()
        self._end(child, text)

    def _failed(self, child: _Child, text: str) -> None:
        self._end(child, text)
        self._tell_soon()

    def _end(self, child: _Child, text: str) -> None:
        now, rules = self.setting.clock.monotonic(), self.setting.rules
        asked = child.course.asked is not None
        child.course = plan.ended(child.course, now, rules)
        if asked or self._stopping:
            self._say("stopped", text)
            return
        words = self.setting.programs.last_words(child.name)
        child.reason = f"{text}; it said: {words}" if words else text
        wait = child.course.again_at - now
        again = f"again in {wait:.0f} s" if wait >= 0.5 else "again at once"
        if child.course.marked:
            again = (
                f"that was {len(child.course.ends)} times within {rules.within:g} s: a crash loop; "
                + again
            )
        self._say("crash_loop" if child.course.marked else "ended", f"{child.reason}; {again}")

    def _unwatch(self, child: _Child) -> None:
        if child.death is not None:
            self._selector.unregister(child.death)
            os.close(child.death)
        child.identity, child.death = None, None

    def _look_at_the_blind(self) -> None:
        for child in tuple(self._children.values()):
            identity = child.identity
            if identity is not None and child.death is None and not alive(identity):
                self._on_death(child, identity)

    # the store

    def _tell_soon(self) -> None:
        """Something has happened that the store's record does not have."""
        self._ask_at = min(self._ask_at, self.setting.clock.monotonic())

    def _free(self) -> None:
        """What the dead held is to be freed, and only then is anything started."""
        self._freeing = True
        self._needed = self._asked + 1
        self._tell_soon()

    def _ask(self, now: float) -> None:
        self._ask_at = now + HEARTBEAT
        question = self._question(supervisor=self.setting.owner)
        self._out, self._freeing = question.number, False
        self._side.ask(question)

    def _question(self, supervisor: str | None) -> _Question:
        self._asked += 1
        return _Question(
            self._asked,
            self._freeing,
            self._record(supervisor),
            {c.name: c.identity for c in self._children.values() if c.identity is not None},
        )

    def _record(self, supervisor: str | None) -> BoxRecord:
        clock = self.setting.clock
        now, monotonic = clock.now(), clock.monotonic()
        programs = []
        for child in self._children.values():
            if not child.ours and child.identity is None:
                continue
            course, wanted = child.course, self._wanted(child)
            since = None
            if course.since is not None:
                since = now - timedelta(seconds=monotonic - course.since)
            programs.append(
                ProgramRecord(
                    name=child.name,
                    wanted=child.ours and child.name not in self._off,
                    state=plan.standing(course, wanted, monotonic, self.setting.rules).value,
                    pid=child.identity.pid if child.identity is not None else None,
                    since=since,
                    restarts=course.restarts,
                    reason=child.reason,
                )
            )
        return BoxRecord(
            box=self.setting.box,
            supervisor=supervisor,
            since=self._began,
            seen_at=now,
            programs=tuple(programs),
            trouble=self._trouble,
        )

    def _on_answer(self) -> None:
        for answer in self._side.answers():
            self._out = None
            if answer.trouble:
                self._unanswered(answer)
            else:
                self._answered(answer)

    def _unanswered(self, answer: _Answer) -> None:
        now = self.setting.clock.monotonic()
        if not self._trouble:
            self._say(
                "unreachable",
                f"{answer.trouble}; what runs stays, nothing is started until the store answers",
            )
        self._trouble = answer.trouble
        self._freeing = self._freeing or answer.question.freeing
        self._needed = self._asked + 1
        self._ask_at = now + self._retry
        self._retry = min(self._retry * 2, RETRY_LONGEST)

    def _answered(self, answer: _Answer) -> None:
        if self._trouble:
            self._say("reachable", "the store answers again")
            self._tell_soon()
        self._trouble, self._retry = "", RETRY_FIRST
        self._answered_at = self.setting.clock.monotonic()
        if answer.question.number >= self._needed:
            self._needed = 0
        if answer.freed:
            self._say("freed", f"{answer.freed} units are requested again: their worker has ended")
        if answer.before is not None:
            self._leftovers(answer.before.programs)
        if answer.off != self._off:
            self._off = answer.off
            self._tell_soon()

    def _leftovers(self, before: Iterable[ProgramRecord]) -> None:
        """What this box ran before, and is to run no more, is stopped."""
        for record in before:
            if record.name not in self._children:
                found = self.setting.programs.find(record.name)
                if found is not None:
                    child = self._children[record.name] = _Child(record.name, ours=False)
                    self._watch(child, found)

    def _on_ring(self) -> None:
        """Somebody has switched something, or wants something tried again."""
        self._listener.drain()
        self._ask_at = self.setting.clock.monotonic()
        if not self._needed:
            self._needed = self._asked + 1
        for child in self._children.values():
            child.course = plan.forgiven(child.course)

    def _say(self, action: str, text: str) -> None:
        self.setting.say(action, text)


class _StoreSide:
    """The thread that speaks with the store, one question at a time."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._wake = Wake()
        self._store: Store | None = None
        self._first = True
        # Not waited for at the end of the program: the store may take long to say that it is away.
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when there are answers."""
        return self._wake.fileno()

    def ask(self, question: _Question) -> None:
        """Put a question; the answer comes later."""
        self._questions.put(question)

    def answers(self) -> Iterator[_Answer]:
        """Those that have come."""
        self._wake.drain()
        while not self._answers.empty():
            yield self._answers.get()

    def close(self, patience: float) -> None:
        """Have the last question answered, if that does not take longer."""
        self._questions.put(None)
        self._thread.join(patience)
        if not self._thread.is_alive():
            self._wake.close()

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            self._answers.put(self._answer(question))
            self._wake.set()
        self._let_go()

    def _answer(self, question: _Question) -> _Answer:
        setting = self._setting
        try:
            store = self._store
            if store is None:
                store = self._store = setting.open_store()
            freed = setting.hand_on(store, setting.bell) if question.freeing else 0
            before = None
            if self._first:
                before = next((b for b in store.read_boxes() if b.box == setting.box), None)
                self._refuse_a_second(before)
            record = question.record
            used = {name: usage_of(identity) for name, identity in question.running.items()}
            programs = tuple(_with_usage(each, used.get(each.name)) for each in record.programs)
            store.save_box(replace(record, programs=programs))
            off = store.switched_off(setting.box)
        except SynergyError as error:
            self._let_go()
            return _Answer(question, trouble=str(error))
        self._first = False
        return _Answer(question, off, before, freed)

    def _refuse_a_second(self, before: BoxRecord | None) -> None:
        other = before.supervisor if before is not None else None
        if before is None or other is None or other == self._setting.owner or departed(other):
            return
        now = self._setting.clock.now()
        if abs(now - before.seen_at) < timedelta(seconds=SILENT):
            raise Conflict(
                f"another supervisor, {other}, keeps the box {self._setting.box}; "
                "give each box an id of its own by the setting BOX"
            )

    def _let_go(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(SynergyError):
                store.close()


def _with_usage(record: ProgramRecord, usage: Usage | None) -> ProgramRecord:
    if usage is None:
        return record
    return replace(record, cpu_seconds=usage.cpu_seconds, memory_bytes=usage.memory_bytes)
