"""Workers of all kinds, good and bad, for the tests of the worker program."""

import contextlib
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from synergy.worker import GiveUp, Result, Retry, Work, noop, processed


def nothing(work: Work) -> Result:
    return processed()


def herd(work: Work) -> Result:
    """Quick for the most part; by the hour it prints in one way or another, or takes longer."""
    match work.interval.start.hour % 8:
        case 1:
            print(work.key)
        case 2:
            os.write(1, f"{work.key}\n".encode())
        case 3:
            time.sleep(0.03)
            print(work.key, flush=True)
        case 4:
            work.progress(work.interval.start.hour, 24)
        case 5:
            time.sleep(0.012)
        case 6:
            os.system(f"echo {work.key}")
    return processed(count=os.getpid())


def herd_with_a_bad_one(work: Work) -> Result:
    """The one dies, or hangs, in its first attempt; the others are quick."""
    if work.interval.start.hour == 20 and work.attempt == 1:
        print(work.key, flush=True)
        if work.arguments["dies"]:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(3600)
    return processed()


def result(work: Work) -> Result:
    return processed(count=3, fingerprint=work.interval.label)


def quiet(work: Work) -> Result:
    return noop("no lines")


class Adds:
    def __init__(self, left: int, right: int) -> None:
        self.sum = left + right

    def __call__(self, work: Work) -> Result:
        return processed(count=self.sum)


def returns_none(work: Work) -> None:
    print("about to return nothing")


def returns_number(work: Work) -> Any:
    return 42


async def is_async(work: Work) -> Result:
    return processed()


def returns_forged(work: Work) -> Any:
    return Result(state="processed", count="many")  # type: ignore[arg-type]


def raises(work: Work) -> NoReturn:
    raise KeyError("colour")


def retries(work: Work) -> NoReturn:
    raise Retry("not there yet", after=3600)


def gives_up(work: Work) -> NoReturn:
    raise GiveUp("no such site")


def exits(work: Work) -> NoReturn:
    sys.exit(0)


def interrupts(work: Work) -> NoReturn:
    raise KeyboardInterrupt


def recurses(work: Work) -> Any:
    return recurses(work)


def says_too_much(work: Work) -> NoReturn:
    raise ValueError("x" * 10_000_000)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def raises_unprintable(work: Work) -> NoReturn:
    raise Unprintable


def segfaults(work: Work) -> None:
    print("before the end", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def leaves(work: Work) -> None:
    os._exit(139)


def forks(work: Work) -> Result:
    if os.fork() == 0:
        print("child")
        return processed(count=666)
    os.wait()
    print("parent")
    return processed(count=1)


def forks_and_raises(work: Work) -> Result:
    if os.fork() == 0:
        sys.exit(3)
    return processed(count=os.waitstatus_to_exitcode(os.wait()[1]))


def closes_output(work: Work) -> Result:
    print("first words")
    sys.stdout.close()
    os.close(1)
    os.close(2)
    return processed()


def closes_everything(work: Work) -> Result:
    os.closerange(0, 4096)
    return processed()


def writes_everywhere(work: Work) -> Result:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            os.set_blocking(int(name), False)
            os.write(int(name), b"rubbish\n" * 10)
    return processed()


def prints_protocol(work: Work) -> Result:
    os.write(1, b'{"number": 1, "verdict": "processed", "count": 666, "spent": false}\n')
    return processed(count=1)


def prints_binary(work: Work) -> Result:
    sys.stdout.buffer.write(bytes(range(256)))
    print("\udcff")
    return processed()


def prints(work: Work) -> Result:
    os.write(2, f"begin {work.arguments['text']}\n".encode())
    print("end", work.arguments["text"], end="")
    return processed()


def floods(work: Work) -> Result:
    block = b"0123456789abcdef" * 4096
    for _ in range(int(work.arguments["bytes"]) // len(block)):
        os.write(1, block)
    os.write(1, b"the very end")
    return processed()


def environment(work: Work) -> Result:
    names = ("SYNERGY_UNIT", "SYNERGY_GENERATION", "SYNERGY_ATTEMPT", "SYNERGY_FENCE")
    print(*(os.environ[name] for name in names), os.getcwd(), os.environ["PYTHONPATH"])
    return processed()


def wanders_off(work: Work) -> Result:
    os.chdir("/")
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    return processed()


def leaves_daemon(work: Work) -> Result:
    """A daemon as in the book: fork, setsid, fork; its pid in a file; then ends, or waits."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _write(work.arguments["pid_file"], str(os.getpid()))
            while True:
                time.sleep(60)
        os._exit(0)
    while not Path(str(work.arguments["pid_file"])).exists():
        time.sleep(0.002)
    if work.arguments.get("wait"):
        time.sleep(600)
    return processed()


def leaves_thread(work: Work) -> Result:
    def chatter() -> None:
        while True:
            print("still here", flush=True)
            time.sleep(0.01)

    threading.Thread(target=chatter).start()
    return processed(count=1)


def progresses(work: Work) -> Result:
    for n in range(1000):
        work.progress(n, 1000, "counting")
    work.progress(999, 1000, "the last")
    return _when_told(work)


def waits(work: Work) -> Result:
    """Says that it runs, by its pid in a file, and ends when it is told by another file."""
    return _when_told(work)


def sinks(work: Work) -> Result:
    """Writes its result under the fence, when it is told to."""
    _when_told(work)
    with contextlib.closing(sqlite3.connect(str(work.sink))) as db, db:
        db.execute("CREATE TABLE IF NOT EXISTS sink (label TEXT PRIMARY KEY, fence TEXT)")
        taken = db.execute(
            "INSERT INTO sink VALUES (?, ?) ON CONFLICT (label) DO UPDATE "
            "SET fence = excluded.fence WHERE sink.fence <= excluded.fence",
            (work.interval.label, work.fence),
        )
        if not taken.rowcount:
            _write(
                Path(str(work.arguments["folder"]), f"{work.process}.{work.attempt}.refused"), ""
            )
            raise GiveUp("overtaken")
    return processed()


def _when_told(work: Work) -> Result:
    folder = Path(str(work.arguments["folder"]))
    _write(folder / f"{work.process}.{work.attempt}.pid", str(os.getpid()))
    print(f"attempt {work.attempt} begins", flush=True)
    while not (folder / f"{work.process}.{work.attempt}.go").exists():
        time.sleep(0.005)
    print(f"attempt {work.attempt} ends", flush=True)
    return processed(count=work.attempt)


def _write(path: Any, text: str) -> None:
    """Whole or not at all."""
    part = Path(f"{path}.part")
    part.write_text(text)
    part.rename(str(path))


def loads(works: Sequence[Work]) -> Result | Sequence[Result]:
    """Notes each call; one poisonous hour fails all that are with it."""
    first, last = works[0], works[-1]
    with Path(first.arguments["folder"], "calls.txt").open("a") as calls:
        calls.write(f"{first.interval.label} {len(works)} {first.attempt}\n")
    print(f"loads {first.interval.label} to {last.interval.label}")
    for number, work in enumerate(works):
        work.progress(number, len(works))
        if work.interval.label == first.arguments.get("poison"):
            raise KeyError(work.interval.label)
    if first.arguments.get("one"):
        return processed(count=len(works))
    return [processed(count=work.interval.start.hour, fingerprint=work.key) for work in works]


def loads_too_few(works: Sequence[Work]) -> Sequence[Result]:
    return [processed() for _ in works[1:]]


def loads_wrongly(works: Sequence[Work]) -> Any:
    return [processed() if number else 42 for number, _ in enumerate(works)]


class Loads:
    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def __call__(self, works: Sequence[Work]) -> Result:
        (self.folder / f"{works[0].interval.label}.{works[0].attempt}.pid").write_text(
            f"{os.getpid()}"
        )
        while not (self.folder / "go").exists():
            time.sleep(0.01)
        return processed(count=len(works))
