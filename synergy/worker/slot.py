"""The long-lived child in which functions and classes run: one attempt after the other.

Started as ``python -m synergy.worker.slot REQUESTS ANSWERS BOARD``, the numbers of inherited
descriptors; its folder is the project's.  It reads requests and writes answers, as
`synergy.worker.wire` has them; both pipes are its own, so that nothing a worker prints can be
taken for an answer.

Before it answers, whatever the attempt left behind is brought to an end: processes (it is a child
subreaper, so daemons that forked twice are its children too), timers, output in buffers, closed
or redirected descriptors, the working folder.  Where it cannot, because a thread still runs or a
process does not die, it says that it is ``spent``, and is replaced.  So when the answer is there,
all that the attempt printed is in the pipe before it; and where there is something, the slot holds
until it has been taken out.

A worker that forks and returns in the child too would answer twice: only the process that read
the request answers, any other ends at once.
"""

import contextlib
import ctypes
import faulthandler
import fcntl
import io
import json
import os
import signal
import sys
import termios
import threading
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import Any

from synergy import containment
from synergy.worker.board import Board
from synergy.worker.calls import Answer, call, call_together, environment_of, failure, say
from synergy.worker.wire import HOLD_AFTER, Errand, calls_in
from synergy.worker.work import Progress, Work

#: Our descriptors are moved up to here, out of the way of a worker that closes the low ones.
HIGH = 200
#: Exit code of a slot whose pipes were closed by the worker that it ran.
PIPES_LOST = 70

_IONBF = 2


def main(arguments: list[str]) -> None:
    """Serve until the requests end."""
    requests, answers, board = (_move_up(int(fd)) for fd in arguments)
    _forget_our_path()
    containment.prctl(containment.PR_SET_CHILD_SUBREAPER, 1)
    _unbuffer_c_output()
    faulthandler.enable(2)  # a traceback before the signal's death
    Slot(requests, Pipe(answers), Board(board), os.getcwd()).serve()


class Pipe:
    """A descriptor that is only written to as long as it is still what it was."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._identity = _identity(fd)

    def write(self, line: bytes) -> None:
        """All of it, or OSError."""
        if _identity(self.fd) != self._identity:
            raise OSError("the descriptor was closed and used for something else")
        while line:
            line = line[os.write(self.fd, line) :]

    def waiting(self) -> bool:
        """Whether something that was written has not been read; True where that is not known."""
        try:
            return fcntl.ioctl(self.fd, termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0"
        except OSError:
            return True


class Slot:
    """Runs what it is sent."""

    def __init__(self, requests: int, answers: Pipe, board: Board, folder: str) -> None:
        self._requests = requests
        self._answers = answers
        self._board = board
        self._folder = folder
        self._pid = os.getpid()
        self._output = Pipe(_move_up(os.dup(1)))
        self._nothing = _move_up(os.open(os.devnull, os.O_RDONLY))
        self._streams = [_text_stream(1), _text_stream(2)]
        self._queue: deque[tuple[Errand, ...]] = deque()
        #: Whether it waits for leave.
        self._held = False
        #: When it last looked at the clock after an answer, or was to begin.
        self._looked = 0.0
        #: By the number of the errand.
        self._progress: dict[int, Progress] = {}

    def serve(self) -> None:
        """Answer every request; return when there are no more."""
        self._answer({"ready": True})
        for line in _lines(self._requests):
            self._take(json.loads(line))
            while self._queue and not self._held:
                self._next(self._queue.popleft())

    def _take(self, request: dict[str, Any]) -> None:
        if "keep" in request:
            self._held, self._looked = False, request["at"]
            while request["keep"] is not None and self._queue:
                if self._queue[-1][0].number <= request["keep"]:
                    break
                self._queue.pop()
            return
        if not self._queue:
            self._looked = max(self._looked, request["at"])
        self._queue.extend(calls_in(request))

    def _next(self, errands: tuple[Errand, ...]) -> None:
        answer = self._attempt(errands)
        held = self._held = self._must_hold(answer)
        if held:
            answer["held"] = True
        self._answer(answer)
        now = monotonic()
        if not held and now - self._looked > HOLD_AFTER:
            self._held = True
            self._answer({"held": True})
        self._looked = now

    def _must_hold(self, answer: Answer) -> bool:
        if self._output.waiting():
            answer["printed"] = True
            return True
        return "spent" in answer or answer["ended"] - self._looked > HOLD_AFTER

    def _attempt(self, errands: tuple[Errand, ...]) -> Answer:
        """Run one call and leave no trace of it; what is to be answered."""
        before = set(threading.enumerate())
        began = monotonic()
        self._restore()
        self._progress.clear()
        answer = self._call(errands)
        self._only_the_first_process(answer)
        if _leftovers(before):
            answer["spent"] = True
        self._flush()
        if self._progress:
            told = [self._progress.get(errand.number) for errand in errands]
            answer["progress"] = told if _is_batch(errands) else told[0]
        answer.update(number=errands[0].number, began=began, ended=monotonic())
        return answer

    def _call(self, errands: tuple[Errand, ...]) -> Answer:
        works = [self._work(errand) for errand in errands]
        for name, value in environment_of(works[0].key, works[0]).items():
            if os.environ.get(name) != value:  # setting one costs four looks
                os.environ[name] = value
        entry = errands[0].task.entry
        if entry is None:
            return failure("it names no function or class")
        return call_together(entry, works) if _is_batch(errands) else call(entry, works[0])

    def _work(self, errand: Errand) -> Work:
        def report(progress: Progress) -> None:
            if os.getpid() == self._pid:
                self._progress[errand.number] = progress
                self._board.write(errand.number, progress)

        task = errand.task
        return Work(
            process=errand.process,
            interval=errand.interval,
            generation=errand.generation,
            run=errand.run,
            attempt=errand.attempt,
            arguments=task.arguments,
            source=task.source,
            sink=task.sink,
            low=errand.low,
            high=errand.high,
            _report=report,
        )

    def _only_the_first_process(self, answer: Answer) -> None:
        if os.getpid() != self._pid:
            self._flush()
            os._exit(answer.get("exit", int(answer["verdict"] == "failed")) & 255)

    def _answer(self, answer: Answer) -> None:
        try:
            self._answers.write(json.dumps(answer).encode() + b"\n")
        except OSError as error:
            say(f"the worker closed the pipe through which its slot answers: {error}")
            self._flush()
            os._exit(PIPES_LOST)

    def _restore(self) -> None:
        """Give the next attempt what the slot began with."""
        os.chdir(self._folder)
        with contextlib.suppress(OSError):
            os.dup2(self._nothing, 0)
            os.dup2(self._output.fd, 1)
            os.dup2(self._output.fd, 2)
        self._streams = [
            _text_stream(fd) if stream.closed else stream
            for fd, stream in zip((1, 2), self._streams, strict=True)
        ]
        sys.stdout, sys.stderr = self._streams
        sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc]

    def _flush(self) -> None:
        """Bring to the log what is still in buffers, and stop what the clock would still do."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for stream in {sys.stdout, sys.stderr, *self._streams}:
            with contextlib.suppress(BaseException):
                stream.flush()


def _is_batch(errands: tuple[Errand, ...]) -> bool:
    return errands[0].task.batch > 1


def _leftovers(before: set[threading.Thread]) -> bool:
    """End what the attempt left running; whether something is left all the same."""
    _, survivors = containment.kill_all(0, 0)
    if survivors:
        say(f"the worker left {survivors} processes that cannot be killed; its slot is replaced")
    threads = [
        thread.name
        for thread in threading.enumerate()
        if thread not in before and not thread.daemon and thread.is_alive()
    ]
    if threads:
        say(f"the worker left threads running ({', '.join(threads)[:200]}); its slot is replaced")
    return bool(survivors or threads)


def _lines(fd: int) -> Iterator[bytes]:
    """The lines that come through a pipe, until it ends or is closed by somebody here."""
    pending = b""
    while True:
        try:
            data = os.read(fd, 1 << 16)
        except OSError:
            os._exit(PIPES_LOST)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        yield from lines


def _text_stream(fd: int) -> io.TextIOWrapper:
    """Line by line, so that little is lost with a kill; never a decoding error, never closing."""
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def _move_up(fd: int) -> int:
    """The same at a high number that is not inherited by programs."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(fd)
    return moved


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _forget_our_path() -> None:
    """Take out the entry of PYTHONPATH with which we were started: it is no part of the project.

    What stands beside synergy must not be taken for the project's modules of the same name.
    """
    entry, _, rest = os.environ.pop("PYTHONPATH", "").partition(os.pathsep)
    with contextlib.suppress(ValueError):
        del sys.path[sys.path.index(entry, 1)]  # the first one is the project's folder
    if rest:
        os.environ["PYTHONPATH"] = rest


def _unbuffer_c_output() -> None:
    """Let extension modules print at once, or their last words came into the next log."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IONBF, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
