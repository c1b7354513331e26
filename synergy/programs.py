"""Processes of the operating system: who they are, how they start, how a whole tree of them ends.

Four things, each usable alone:

* `Identity`: a process id together with its birth, so that a number that the system gave to another
  is never mistaken, and never signalled.
* `spawn` → `Contained`: a command that cannot leave anything behind. Between us and it stands a
  small keeper (`synergy.containment`), which kills the whole tree, daemons included, when the
  command ends, when we say so, and when we die.
* `PidFile`: one running instance of a program, by a lock that the kernel drops when it dies.
* `start_detached` and `stop`: programs that go on when the one who started them ends; and in its
  parts, for who keeps several of them: `terminate`, `kill_tree`, `death_of`, `collect`, `usage_of`.

Linux first. Elsewhere commands run and are killed by process group, without the daemons they made.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal as signals
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from synergy.capture import make_private_folders
from synergy.errors import Conflict, SynergyError, TimedOut

PR_SET_CHILD_SUBREAPER = 36

#: The keeper's program.
KEEPER = Path(__file__).with_name("containment.py")
#: Seconds that the keeper has to clear its tree before we do it ourselves.
KEEPER_PATIENCE = 0.7
#: Seconds that we then try.
OUR_PATIENCE = 0.25
#: Seconds that a second start waits for the first to write its process id into the pid file.
PID_PATIENCE = 1.0
#: Seconds that the system has to remove killed processes.
KILL_PATIENCE = 5.0


class AlreadyRunning(Conflict):
    """This program runs already; `pid` is its process, None when it could not be learned."""

    def __init__(self, pid: int | None, path: Path) -> None:
        super().__init__(f"already running as process {pid or '(unknown)'}, says {path}")
        self.pid = pid
        self.path = path


# ---- identity


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for all time: the system gives its number to others, but not its birth."""

    #: The process id.
    pid: int
    #: Seconds from the boot to the birth on Linux (no clock correction changes it), else Unix time.
    created: float
    #: The boot's own id on Linux, else empty: seconds from different boots do not compare.
    boot: str = ""


def identity_of(pid: int, *, zombies: bool = False) -> Identity | None:
    """Who has this process id now; None when nobody lives there.

    A zombie does not live; with `zombies` it is told who it was, for those who collect it.
    """
    if not sys.platform.startswith("linux"):
        return _identity_by_psutil(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may hold anything; from the state on, the fields are plain.
    fields = stat.rpartition(b")")[2].split()
    if fields[0] in (b"Z", b"X") and not zombies:
        return None
    return Identity(pid, int(fields[19]) / os.sysconf("SC_CLK_TCK"), _boot())


def alive(identity: Identity) -> bool:
    """Whether this very process lives; a zombie is dead, and so is a number with another birth."""
    return identity_of(identity.pid) == identity


def age_of(identity: Identity) -> float:
    """Seconds since the birth of a living process."""
    if not sys.platform.startswith("linux"):
        return max(0.0, time.time() - identity.created)
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - identity.created)


def _identity_by_psutil(pid: int) -> Identity | None:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return Identity(pid, process.create_time())
    except psutil.Error:
        return None


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


# ---- a command that leaves nothing behind


@dataclass(frozen=True, slots=True)
class Exit:
    """How a command ended: by its exit code or by a signal, the other one is None."""

    code: int | None
    signal: int | None
    #: Processes of its tree that could not be killed (another user's, or held by the kernel).
    survivors: int = 0

    def __str__(self) -> str:
        """As a reason: `exit code 3`, `killed by SIGSEGV`."""
        if self.signal is None:
            text = f"exit code {self.code}"
        else:
            text = f"killed by {_signal_name(self.signal)}"
        return f"{text}, {self.survivors} processes left" if self.survivors else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each process of a command may use; None leaves it as it is for us."""

    #: Bytes of address space.
    memory: int | None = None
    #: Seconds of processor time; beyond it SIGXCPU, then SIGKILL.
    cpu_seconds: int | None = None
    #: Open files.
    open_files: int | None = None
    #: Bytes of one file written.
    file_size: int | None = None
    #: Bytes of a core dump.
    core: int | None = None

    def options(self) -> list[str]:
        """As the keeper reads them."""
        table = {
            "AS": self.memory,
            "CPU": self.cpu_seconds,
            "NOFILE": self.open_files,
            "FSIZE": self.file_size,
            "CORE": self.core,
        }
        return [f"{name}={value:d}" for name, value in table.items() if value is not None]


class Contained:
    """A running command whose whole tree ends with it, with our word, or with us.

    Made by `spawn`. Not for use by several threads at once. Close it: `with`, or `close`.
    """

    def __init__(self, keeper: "subprocess.Popen[bytes]", control: int, status: int) -> None:
        self._keeper = keeper
        self._control = control
        self._exit: Exit | None = None
        #: Readable (for `select`, `poll`, asyncio) when it is over; valid until `close`.
        self.status_fd = status

    @property
    def pid(self) -> int:
        """The keeper's process id, which is also the session of the tree."""
        return self._keeper.pid

    def poll(self) -> Exit | None:
        """How it ended, once the whole tree is gone; None before. Never blocks."""
        if self._exit is None:
            try:
                line = os.read(self.status_fd, 256)
            except BlockingIOError:
                return None
            self._finish(_parse_exit(line))
        return self._exit

    def wait(self, timeout: float | None = None) -> Exit | None:
        """Like `poll` after at most `timeout` seconds; None waits as long as it takes."""
        if self._exit is None:
            _wait_readable(self.status_fd, timeout)
        return self.poll()

    def terminate(self, grace: float) -> None:
        """Ask the command's process group with SIGTERM; kill the tree after `grace` seconds.

        Returns at once. The keeper holds the clock, so this comes true also when we die.
        """
        self._order(f"t {grace:.3f}\n".encode())

    def kill(self) -> Exit:
        """Kill the whole tree now; return within a second, when it is gone."""
        self._order(b"k")
        ended = self.wait(KEEPER_PATIENCE)
        if ended is None:
            _kill_descendants(self.pid)  # the keeper is stopped or stuck
            self._keeper.kill()
            ended = self.wait(OUR_PATIENCE)
        return ended or Exit(None, signals.SIGKILL, survivors=1)

    def close(self) -> None:
        """Kill what still runs and close the descriptors. Closing twice is harmless."""
        if self._control < 0:
            return
        if self.poll() is None:
            self.kill()
        os.close(self._control)
        os.close(self.status_fd)
        self._control = self.status_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _order(self, message: bytes) -> None:
        if self._exit is None and self._control >= 0:
            # Without a reader the keeper has gone, and the status pipe says so.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._control, message)

    def _finish(self, told: Exit | None) -> None:
        self._keeper.wait()  # it ends right after its line, or has ended
        if told is None:
            # The keeper was killed. The command was then killed by the kernel, and what is left in
            # its session by us; who left the session is now a child of the nearest subreaper.
            _kill_session(self.pid)
            told = Exit(None, signals.SIGKILL)
        self._exit = told


def spawn(
    argv: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    limits: Limits | None = None,
) -> Contained:
    """Start a command, contained; `stdin`, `stdout` and `stderr` are descriptors (or DEVNULL).

    The command gets exactly `env` (default: ours) and the descriptors in `pass_fds` under the same
    numbers. A command that is not found ends with 127, one that cannot be executed with 126, each
    with a sentence on its standard error, as in a shell. A reader of its output sees the end of
    file when the tree is gone. Raises OSError when `cwd` is missing or the system has no process or
    descriptor left, ValueError for an empty `argv` or PIPE.
    """
    if not argv:
        raise ValueError("a command needs at least its program")
    if subprocess.PIPE in (stdin, stdout, stderr):
        raise ValueError("PIPE is not supported: make a pipe and give its descriptor")
    control_read, control = os.pipe()
    status, status_write = os.pipe()
    try:
        os.set_blocking(status, False)
        options = ["" if limits is None else ",".join(limits.options())]
        if "LC_CTYPE" not in (os.environ if env is None else env):
            options.append("coerced-locale")
        keeper = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(KEEPER), str(control_read), str(status_write)),
                *(str(os.getpid()), ",".join(filter(None, options)), *argv),
            ],
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(control_read, status_write, *pass_fds),
            start_new_session=True,
        )
    except BaseException:
        os.close(control)
        os.close(status)
        raise
    finally:
        os.close(control_read)
        os.close(status_write)
    return Contained(keeper, control, status)


def become_subreaper() -> bool:
    """Adopt orphaned descendants from now on, so that `reap_strays` finds them; False elsewhere."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0) == 0


def reap_strays(known: set[int]) -> int:
    """Kill and collect every child of this process that is not `known`; return how many there were.

    For a subreaper after a keeper was killed: its descendants are our children now. `known` must
    name all children that are meant to live, keepers included. Takes at most a second.
    """
    collected: set[int] = set()
    me = psutil.Process()
    give_up = time.monotonic() + 1.0
    while time.monotonic() < give_up:
        strays = [child for child in me.children() if child.pid not in known]
        if not strays:
            break
        for stray in strays:
            _kill_each([stray, *_descendants(stray)])
            if _collect(stray.pid):
                collected.add(stray.pid)
        time.sleep(0.001)
    return len(collected)


def _collect(pid: int) -> bool:
    """Remove a dead child of ours from the process table; False while it lives."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _parse_exit(line: bytes) -> Exit | None:
    """The keeper's line; None when it died without one."""
    if not line:
        return None
    kind, number, survivors = line.decode("ascii").split()
    if kind == "exit":
        return Exit(int(number), None, int(survivors))
    return Exit(None, int(number), int(survivors))


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _wait_readable(descriptor: int, timeout: float | None) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.poll(None if timeout is None else timeout * 1000)


def _kill_descendants(root: int) -> None:
    """Kill all below a process that stays their adopter, until none lives or patience ends."""
    give_up = time.monotonic() + OUR_PATIENCE
    while time.monotonic() < give_up:
        try:
            living = [one for one in _descendants(psutil.Process(root)) if _is_living(one)]
        except psutil.NoSuchProcess:
            return
        if not living:
            return
        _kill_each(living)
        time.sleep(0.002)


def _kill_session(session: int) -> None:
    """Kill every member of a session. While it has one, its number is not given to another."""
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == session:
                os.kill(pid, signals.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        found = []
    return found


def _is_living(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _kill_each(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()  # psutil looks at the birth first
        except psutil.Error:
            continue


# ---- programs


class PidFile:
    """That a program runs once, and who it is: a locked file with its process id.

    The lock is the truth (the kernel drops it with the process, however that ends); the text is for
    readers. First line: the process id; second: birth and boot.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    def acquire(self) -> None:
        """Make this process the one. Raises AlreadyRunning with the pid of the other.

        A file that a dead process left behind is taken over.
        """
        make_private_folders(self.path.parent)
        give_up = time.monotonic() + PID_PATIENCE
        while True:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if self._lock(file):
                break
            os.close(file)
            holder = self.holder()
            if holder is not None or time.monotonic() > give_up:
                raise AlreadyRunning(holder.pid if holder else None, self.path)
            time.sleep(0.005)  # it has the lock, and is about to write its number
        self._file = file
        me = identity_of(os.getpid())
        assert me is not None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{me.pid}\n{me.created!r} {me.boot}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Remove the file and the lock. Releasing what is not held is harmless."""
        file, self._file = self._file, None
        if file is not None:
            try:
                if self._is_at_path(file):
                    os.unlink(self.path)
            finally:
                os.close(file)

    def holder(self) -> Identity | None:
        """The living process that the file names; None when there is none."""
        try:
            number, _, birth = self.path.read_text("ascii").partition("\n")
            created, _, boot = birth.rstrip("\n").partition(" ")
            identity = Identity(int(number), float(created), boot)
        except (OSError, ValueError):
            return None  # no file, or one that is being written
        return identity if alive(identity) else None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _lock(self, file: int) -> bool:
        """Whether the lock is ours, and on the file at the path: a release removes the file."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return self._is_at_path(file)

    def _is_at_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), os.stat(self.path))
        except FileNotFoundError:
            return False


def start_detached(
    argv: Sequence[str],
    log_path: Path,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Start a program that outlives us; return its process id.

    It gets a session of its own, no input, and `log_path` (0600, appended to) for all it prints.
    Raises OSError when the program, the folder or the log cannot be opened. While we live it is our
    child: once dead it counts as dead (`alive`), and `stop` collects it.
    """
    make_private_folders(log_path.parent)
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    # Not waited for, on purpose: without this, subprocess warns that it still runs.
    process.returncode = 0
    return process.pid


def killed_by(pid: int) -> str | None:
    """The name of the signal that killed a child of ours; None: it lives, exited, or is not ours.

    A dead one is collected by this, so that it can be asked only once.
    """
    try:
        collected, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    if collected == 0 or not os.WIFSIGNALED(status):
        return None
    return _signal_name(os.WTERMSIG(status))


def stop(identity: Identity, grace_seconds: float) -> bool:
    """End a program: SIGTERM, then after the grace SIGKILL for it and all below it.

    True when it ended by itself in time, or was gone before; False when it had to be killed. It is
    gone in both cases. Raises SynergyError when it is not ours to stop, TimedOut when even
    SIGKILL did not end it.
    """
    terminate(identity)
    if _ended([identity], grace_seconds):
        return True
    if not _ended([identity, *kill_tree(identity)], KILL_PATIENCE):
        raise TimedOut(f"process {identity.pid} did not end, though killed")
    return False


def terminate(identity: Identity) -> None:
    """Ask a program with SIGTERM to end; harmless when it is gone.

    Raises SynergyError when it is not ours to stop.
    """
    process = _process(identity)
    if process is None:
        return
    try:
        process.terminate()
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise SynergyError(f"process {identity.pid} belongs to somebody else") from error


def kill_tree(identity: Identity) -> list[Identity]:
    """Kill a program and all below it, without waiting; who was below it."""
    process = _process(identity)
    if process is None:
        return []
    below = _descendants(process)
    found = [one for one in (identity_of(each.pid) for each in below) if one is not None]
    _kill_each([process, *below])
    return found


def death_of(identity: Identity) -> int | None:
    """A descriptor that is readable once this process is dead, to be closed by the caller.

    None where it is dead already, or the kernel has no such descriptors: ask `alive` now and then.
    """
    try:
        handle = os.pidfd_open(identity.pid)
    except (AttributeError, OSError):
        return None
    if alive(identity):  # the handle is its own, and not that of a successor
        return handle
    os.close(handle)
    return None


def collect(identity: Identity) -> str | None:
    """How a dead child of ours ended, in words; None when it lives or is not ours.

    It is removed from the process table by this, so that it can be asked only once.
    """
    try:
        collected, status = os.waitpid(identity.pid, os.WNOHANG)
    except ChildProcessError:
        return None
    if collected == 0:
        return None
    if os.WIFSIGNALED(status):
        return str(Exit(None, os.WTERMSIG(status)))
    return str(Exit(os.WEXITSTATUS(status), None))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a program uses, together with all below it."""

    #: Processor time since it began, also of what has ended below it.
    cpu_seconds: float
    #: Resident memory now.
    memory_bytes: int


def usage_of(identity: Identity) -> Usage:
    """What a program uses now; nothing when it is gone."""
    process = _process(identity)
    if process is None:
        return Usage(0.0, 0)
    cpu, memory = 0.0, 0
    for one in (process, *_descendants(process)):
        with contextlib.suppress(psutil.Error):
            cpu += sum(one.cpu_times()[:4])  # own and collected children's, user and system
            memory += one.memory_info().rss
    return Usage(round(cpu, 2), memory)


def _ended(identities: Iterable[Identity], seconds: float) -> bool:
    """Wait until all are dead, and collect those that are ours; False when the time is over.

    Not psutil's wait: for that a zombie lives until its parent collects it, which may be never.
    """
    give_up = time.monotonic() + seconds
    for identity in identities:
        while alive(identity):
            left = give_up - time.monotonic()
            if left <= 0:
                return False
            _sleep_until_death(identity, left)
        _collect(identity.pid)
    return True


def _sleep_until_death(identity: Identity, seconds: float) -> None:
    """Sleep until this process dies, at most `seconds`; a little where the kernel cannot tell."""
    try:
        handle = os.pidfd_open(identity.pid)
    except (AttributeError, OSError):
        time.sleep(min(0.01, seconds))
        return
    try:
        if alive(identity):  # the handle is its own, and not that of a successor
            _wait_readable(handle, seconds)
    finally:
        os.close(handle)


def _process(identity: Identity) -> psutil.Process | None:
    """A handle that refuses another birth from now on; None when this process is gone."""
    try:
        process = psutil.Process(identity.pid)
    except psutil.NoSuchProcess:
        return None
    return process if alive(identity) else None


# ---- what a process costs


def listener_on(port: int) -> Identity | None:
    """Who listens at this TCP port of this box; None when nobody does, or we may not know."""
    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    pids = {
        one.pid
        for one in found
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid is not None
    }
    return identity_of(pids.pop()) if len(pids) == 1 else None


def processor_seconds(identity: Identity) -> float | None:
    """Seconds of processor time that a process has used so far; None when it is gone."""
    process = _process(identity)
    if process is None:
        return None
    try:
        times = process.cpu_times()
    except psutil.Error:
        return None
    return float(times.user + times.system)
