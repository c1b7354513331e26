"""The worker's children, one system call deep: the process of a slot, and a command.

Each runs contained (`synergy.programs`), so that its whole tree ends with it, with our word and
with us; each prints into a pipe whose other end is an `Output`.
"""

import contextlib
import fcntl
import json
import os
import struct
import sys
import termios
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from synergy import programs
from synergy.capture import Capture
from synergy.core.model import Unit
from synergy.records import Plain, to_text
from synergy.worker.board import Board, open_page
from synergy.worker.work import Progress

#: Bytes read from a child's output before it is the turn of others.
_PORTION: Final = 1 << 18
#: An answer is a few hundred bytes for each unit of a call; who writes more is not our slot.
_ANSWER_LIMIT: Final = 1 << 22
#: Bytes kept of what a slot prints while it has no attempt.
_LAST_WORDS: Final = 2000


class Garbled(Exception):
    """What came through a slot's answer pipe was not written by the slot."""


class Output:
    """The end of a pipe into which a child prints, and the log of its attempt.

    The log's file is made with the first byte: most attempts print nothing.
    """

    def __init__(self) -> None:
        self.fd, self.write_end = os.pipe()
        os.set_blocking(self.fd, False)
        self._path: Path | None = None
        #: Of other attempts of the same call, and what is written there in place of the output.
        self._elsewhere: Mapping[Path, str] = {}
        self._capture: Capture | None = None
        #: What it printed last without an attempt, or while its log could not be written.
        self.last_words = b""
        #: Why the log is not complete, if it is not.
        self.trouble: OSError | None = None

    def started(self) -> None:
        """The child has its own copy of the write end now."""
        os.close(self.write_end)
        self.write_end = -1

    def record(self, path: Path, elsewhere: Mapping[Path, str] | None = None) -> None:
        """From here on the output belongs to the attempt with this log; once there is any, the
        logs of the others of its call get one line each."""
        self._path, self.trouble, self.last_words = path, None, b""
        self._elsewhere = elsewhere or {}

    def pump(self) -> bool:
        """Take some of what is there; False at the end of the output."""
        try:
            data = os.read(self.fd, _PORTION)
        except BlockingIOError:
            return True
        self._keep(data)
        return bool(data)

    def drain(self) -> None:
        """Take all that is there now, to the last byte, and no more than that."""
        left = _available(self.fd)
        while left > 0:
            data = os.read(self.fd, left)
            if not data:
                return
            self._keep(data)
            left -= len(data)

    def end(self) -> None:
        """The attempt is over: complete its log and close it."""
        self.drain()
        if self._capture is not None:
            self._capture.close()
            self.trouble = self.trouble or self._capture.trouble
        self._path = self._capture = None

    def close(self) -> None:
        """Let go of the pipe and the log."""
        self.end()
        os.close(self.fd)
        if self.write_end >= 0:
            os.close(self.write_end)

    def _keep(self, data: bytes) -> None:
        if self._capture is None and self._path is not None and data and not self.trouble:
            try:
                self._capture = Capture(self._path).open()
                for path, line in self._elsewhere.items():
                    with contextlib.closing(Capture(path).open()) as other:
                        other.write(line.encode())
            except OSError as error:
                self.trouble = error
        if self._capture is not None:
            self._capture.write(data)
        else:
            self.last_words = (self.last_words + data)[-_LAST_WORDS:]


class Child:
    """What slots and commands have in common."""

    def __init__(self, output: Output, contained: programs.Contained) -> None:
        self.output = output
        self.contained = contained

    def kill(self) -> programs.Exit:
        """Kill the whole tree and complete the log."""
        ended = self.contained.kill()
        self.output.end()
        return ended

    def close(self) -> None:
        """Kill what still runs and close everything."""
        self.contained.close()
        self.output.close()


class Command(Child):
    """A command line at work."""

    @classmethod
    def start(cls, unit: Unit, log: Path, folder: Path, environment: Mapping[str, str]) -> Self:
        """Start the unit's command; `OSError` where the system cannot."""
        output = Output()
        output.record(log)
        try:
            contained = programs.spawn(
                unit.task.command,
                cwd=folder,
                env={**os.environ, **environment},
                stdout=output.write_end,
                stderr=output.write_end,
            )
        except BaseException:
            output.close()
            raise
        output.started()
        return cls(output, contained)


class SlotProcess(Child):
    """The process of a slot: see `synergy.worker.wire` for what passes through its pipes."""

    def __init__(
        self, output: Output, contained: programs.Contained, requests: int, answers: int, page: int
    ) -> None:
        super().__init__(output, contained)
        self.answers = answers
        self._requests = requests
        self._unsent = b""
        self._unread = b""
        self._board = Board(page)

    @classmethod
    def start(cls, folder: Path) -> Self:
        """Start it; `OSError` where the system cannot."""
        output = Output()
        requests_read, requests = os.pipe()
        answers, answers_write = os.pipe()
        page = open_page()
        theirs = (requests_read, answers_write, page)
        try:
            os.set_blocking(requests, False)
            os.set_blocking(answers, False)
            contained = programs.spawn(
                [sys.executable, "-m", "synergy.worker.slot", *(str(fd) for fd in theirs)],
                cwd=folder,
                env=_environment(),
                stdout=output.write_end,
                stderr=output.write_end,
                pass_fds=theirs,
            )
            output.started()
            return cls(output, contained, requests, answers, page)
        except BaseException:
            os.close(requests)
            os.close(answers)
            output.close()
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    def send(self, message: Plain) -> None:
        """Have it do this: a message of `synergy.worker.wire`."""
        self._unsent += to_text(message).encode() + b"\n"
        self.flush()

    def flush(self) -> bool:
        """Bring on its way what is not yet; whether all is."""
        try:
            self._unsent = self._unsent[os.write(self._requests, self._unsent) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._unsent = b""  # it died, and will be seen to have died
        return not self._unsent

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """The answers that are there, and whether more can come; `Garbled` for what is none."""
        try:
            data = os.read(self.answers, 1 << 16)
        except BlockingIOError:
            return [], True
        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > _ANSWER_LIMIT:
            raise Garbled(f"a line of more than {_ANSWER_LIMIT} bytes")
        return [_parse(line) for line in lines], bool(data)

    def progress(self, number: int) -> Progress | None:
        """How far the attempt is, if it has said so."""
        return self._board.read(number)

    def close(self) -> None:
        """Kill what still runs and close everything."""
        super().close()
        os.close(self._requests)
        os.close(self.answers)
        self._board.close()


def _parse(line: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except ValueError as error:
        raise Garbled(repr(line[:100])) from error
    if not isinstance(answer, dict):
        raise Garbled(repr(line[:100]))
    return answer


def _available(fd: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]
    return count


def _environment() -> dict[str, str]:
    """Ours, and where synergy is to be found, which the slot forgets again."""
    environment = dict(os.environ)
    root = Path(__file__).resolve().parent.parent.parent
    with contextlib.suppress(KeyError):
        return {**environment, "PYTHONPATH": f"{root}{os.pathsep}{environment['PYTHONPATH']}"}
    return {**environment, "PYTHONPATH": str(root)}
