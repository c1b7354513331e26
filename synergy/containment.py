"""Runs one command so that nothing it starts outlives it: the small parent of a contained tree.

Started by `synergy.programs` as a program of its own, `python -I -S containment.py …`, once per
command, in a session of its own. It imports little, because each import delays each command; the
standard library only, and nothing of synergy.

The protocol. Two pipes lead to the program that started us:

* *control* (we read): `k` kills the tree at once; `t SECONDS\\n` sends SIGTERM to the command's
  process group and kills the tree when the seconds are over; end of file means that the program
  died, and kills the tree as well.
* *status* (we write): one line, `exit CODE SURVIVORS` or `signal NUMBER SURVIVORS`, after the tree
  is gone; then we exit. End of file without a line means that we were killed ourselves.

Three things make the tree complete. We are a *child subreaper*: whatever the command starts becomes
our child when its parent dies, daemons that forked twice and left the session included, so when we
have no children left, nothing is left. The kernel sends us SIGHUP when the starting thread dies
(`PR_SET_PDEATHSIG`); it is only a second line, for a control pipe that leaked into another process,
and counts only if our parent has really changed, for the thread may end and the program go on. And
the command gets SIGKILL from the kernel should we be killed.

We sleep in one `poll`, woken by the control pipe or by a signal's byte; there is no timer except
for a requested grace.
"""

import ctypes
import os
import select
import sys
import time

try:
    # The C module behind `signal`, which adds only enums to it and 4 ms to the start of a command.
    import _signal as signal  # type: ignore[import-not-found]
except ImportError:  # not CPython
    import signal

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

#: Meant for us through the group or the session's end; the program decides when a command ends.
DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
#: How long, in seconds, the tree is killed again and again before the survivors are only counted: a
#: process of another user, or one that the kernel holds (a dead network disk), may not be killable.
PERSISTENCE = 0.5
#: The kernel's first choice when memory runs out shall be the command, not its keepers.
OOM_SCORE_ADJUSTMENT = 500

NOT_EXECUTABLE = 126
NOT_FOUND = 127


def main(arguments: list[str]) -> None:
    """Run the command to its end. Arguments: control, status, parent, options, then the command."""
    control, status = int(arguments[0]), int(arguments[1])
    parent, options, command = int(arguments[2]), arguments[3], arguments[4:]
    os.set_inheritable(control, False)
    os.set_inheritable(status, False)
    wake = prepare()
    if os.getppid() != parent:
        return  # it died before it could be watched, and nothing has been started yet
    if "coerced-locale" in options.split(","):
        os.environ.pop("LC_CTYPE", None)  # Python put it there, not the program
    child = start(command, options)
    ended = watch(child, control, wake, parent)
    ended, survivors = kill_all(child, ended)
    report(status, ended, survivors)


def prepare() -> int:
    """Become a subreaper; return the descriptor that is readable after a signal."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    prctl(PR_SET_PDEATHSIG, signal.SIGHUP)
    return wake


def prctl(option: int, value: int) -> None:
    """Ask the kernel; a kernel that does not know the option leaves us with the pipe alone."""
    call = getattr(ctypes.CDLL(None), "prctl", None)
    if call is not None:
        call(option, ctypes.c_ulong(value), 0, 0, 0)


# ---- the command


def start(command: list[str], options: str) -> int:
    """Start the command as the leader of its own process group; return its process id."""
    keeper = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        become(command, options, keeper)
    except FileNotFoundError as error:
        complain(command, error)
        os._exit(NOT_FOUND)
    except BaseException as error:
        complain(command, error)
        os._exit(NOT_EXECUTABLE)
    return 0


def become(command: list[str], options: str, keeper: int) -> None:
    os.setpgid(0, 0)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(128 + signal.SIGKILL)
    for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ, *DEAF_TO):
        signal.signal(number, signal.SIG_DFL)
    limit(options)
    prefer_for_oom()
    os.execvpe(command[0], command, os.environ)


def limit(options: str) -> None:
    """Apply `NAME=NUMBER` of the options, names as in `resource` without RLIMIT_."""
    pairs = [option.split("=") for option in options.split(",") if "=" in option]
    if pairs:
        import resource

        for name, value in pairs:
            which = getattr(resource, "RLIMIT_" + name)
            hard = resource.getrlimit(which)[1]
            bound = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
            resource.setrlimit(which, (bound, bound))


def prefer_for_oom() -> None:
    try:
        with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
            if int(file.read()) < OOM_SCORE_ADJUSTMENT:
                file.seek(0)
                file.write(b"%d" % OOM_SCORE_ADJUSTMENT)
    except OSError:
        pass  # only a preference


def complain(command: list[str], error: BaseException) -> None:
    reason = getattr(error, "strerror", None) or str(error)
    sentence = f"synergy: cannot run {' '.join(command[:1])!r}: {reason}\n"
    os.write(2, sentence.encode("utf-8", "backslashreplace"))


# ---- until it is over


def watch(child: int, control: int, wake: int, parent: int) -> "int | None":
    """Sleep until the tree must go; return the command's wait status if it ended by itself."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake, select.POLLIN)
    deadline: float | None = None
    while True:
        ended, _ = reap(child, None)
        if ended is not None or os.getppid() != parent:
            return ended
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return None
        events = poll.poll(None if left is None else left * 1000 + 1)
        ready = [descriptor for descriptor, _ in events]
        if wake in ready:
            os.read(wake, 512)
        if control in ready:
            order = os.read(control, 4096)
            if not order or b"k" in order:
                return None
            deadline = time.monotonic() + float(order.rpartition(b"t")[2])
            signal_group(child, signal.SIGTERM)


def signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def reap(child: int, ended: "int | None") -> "tuple[int | None, bool]":
    """Collect the dead; return the command's wait status once known, and whether a child lives."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        if pid == child:
            ended = status


def kill_all(child: int, ended: "int | None") -> "tuple[int | None, int]":
    """Kill every descendant; return the command's wait status and how many could not be killed.

    Again and again, from the top down, because a process may fork until the moment it dies. Its
    children then become ours, so to have no children left is to have no descendants left.
    """
    give_up = time.monotonic() + PERSISTENCE
    pause = 0.0005
    ended, alive = reap(child, ended)
    while alive and time.monotonic() < give_up:
        if ended is None:
            signal_group(child, signal.SIGKILL)
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
        ended, alive = reap(child, ended)
    return ended, len(descendants(os.getpid())) if alive else 0


def descendants(root: int) -> "list[int]":
    """The living descendants of a process, parents before children; none where /proc is missing."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        children = children_of(waiting.pop())
        found += children
        waiting += children
    return found


def children_of(parent: int) -> "list[int]":
    """Direct children, of every thread of the parent."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        # It died meanwhile, or this kernel was built without that file.
        known = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
        return [] if known else scan(parent)
    return found


def scan(parent: int) -> "list[int]":
    """Direct children, by asking every process for its parent."""
    found: list[int] = []
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        try:
            with open(f"/proc/{int(name)}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(name))
        except (OSError, ValueError):
            continue  # not a process, or not any more
    return found


def report(status: int, ended: "int | None", survivors: int) -> None:
    """Write the line; a command that could not be killed counts as killed and as a survivor."""
    if ended is None:
        line = f"signal {int(signal.SIGKILL)} {max(survivors, 1)}\n"
    elif os.WIFSIGNALED(ended):
        line = f"signal {os.WTERMSIG(ended)} {survivors}\n"
    else:
        line = f"exit {os.WEXITSTATUS(ended)} {survivors}\n"
    try:
        os.write(status, line.encode())
    except OSError:
        pass  # nobody is left to be told


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException as error:
        complain(sys.argv[5:6], error)
    # Without the interpreter's farewell: nothing is left to be cleaned, and a waiter waits.
    os._exit(0)
