"""Real processes: identities, contained commands, pid files, detached programs."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from synergy.capture import Capture
from synergy.programs import (
    AlreadyRunning,
    Contained,
    Exit,
    Identity,
    Limits,
    PidFile,
    alive,
    identity_of,
    spawn,
    start_detached,
    stop,
)

PROJECT = Path(__file__).resolve().parents[2]
#: The promise about survivors, in seconds (RELIABILITY I17).
SOON = 1.0


def eventually(fact: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for a fact of the operating system."""
    give_up = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.002)
    return True


def number_in(path: Path) -> int:
    """A process id that a command writes into a file, as soon as it is there."""
    assert eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def gone(pid: int, seconds: float = SOON) -> bool:
    return eventually(lambda: identity_of(pid) is None, seconds)


def daemon_script(mark: Path, then: str) -> list[str]:
    """A command that leaves a daemon, forked twice and in a session of its own; then goes on."""
    daemon = f"echo $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 1000"
    wait = f"while [ ! -e {mark} ]; do sleep 0.01; done"
    script = f'(setsid sh -c "{daemon}" >/dev/null 2>&1 &); {wait}; {then}'
    return ["sh", "-c", script.replace("$$", r"\$\$")]


def output_of(
    argv: list[str], env: Mapping[str, str] | None = None, limits: Limits | None = None
) -> tuple[Exit | None, str]:
    """Run to the end; how it ended and all it printed."""
    read, write = os.pipe()
    try:
        with spawn(argv, stdout=write, stderr=write, env=env, limits=limits) as command:
            os.close(write)
            text = b""
            while part := os.read(read, 65536):
                text += part
            return command.wait(5), text.decode(errors="surrogateescape")
    finally:
        os.close(read)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Every test leaves no child, no zombie and no open descriptor."""
    before = set(os.listdir("/proc/self/fd"))
    others = set(psutil.Process().children(recursive=True))
    yield
    assert eventually(lambda: others.issuperset(psutil.Process().children(recursive=True)), SOON)
    assert len(os.listdir("/proc/self/fd")) == len(before)


class Helper:
    """A Python process that uses the module, told and asked by lines."""

    def __init__(self, source: str, *arguments: object) -> None:
        setup = f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", setup + textwrap.dedent(source), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def __enter__(self) -> "Helper":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


# ---- identity


def test_a_process_is_itself_until_it_dies() -> None:
    me = identity_of(os.getpid())
    assert me is not None
    assert alive(me)
    assert identity_of(os.getpid()) == me


def test_a_number_with_another_birth_is_somebody_else() -> None:
    me = identity_of(os.getpid())
    assert me is not None
    assert not alive(Identity(me.pid, me.created + 1, me.boot))
    assert not alive(Identity(me.pid, me.created, "another boot"))


def test_a_zombie_is_dead() -> None:
    with subprocess.Popen(["true"]) as process:
        assert eventually(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert identity_of(process.pid) is None


def test_a_number_that_nobody_has_is_nobody() -> None:
    assert identity_of(2**22 + 1) is None


# ---- how a command ends


@pytest.mark.parametrize("code", [0, 1, 2, 126, 127, 255])
def test_an_exit_code_is_passed_on_exactly(code: int) -> None:
    ended, _ = output_of(["sh", "-c", f"exit {code}"])
    assert ended == Exit(code, None)
    assert str(ended) == f"exit code {code}"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGTERM", "SIGABRT", "SIGHUP"])
def test_a_death_by_signal_is_told_from_an_exit_code(name: str) -> None:
    ended, _ = output_of(["sh", "-c", f"ulimit -c 0; kill -{name[3:]} $$"])
    assert ended == Exit(None, getattr(signal, name))
    assert str(ended) == f"killed by {name}"


def test_a_program_that_is_not_there_ends_as_in_a_shell() -> None:
    ended, said = output_of(["no-such-program"])
    assert ended == Exit(127, None)
    assert said == "synergy: cannot run 'no-such-program': No such file or directory\n"


def test_a_program_that_cannot_be_executed_ends_as_in_a_shell(tmp_path: Path) -> None:
    ended, said = output_of([str(tmp_path)])
    assert ended == Exit(126, None)
    assert "Permission denied" in said


def test_survivors_are_told() -> None:
    assert str(Exit(0, None, survivors=2)) == "exit code 0, 2 processes left"
    assert str(Exit(None, 64)) in ("killed by SIGRTMAX", "killed by signal 64")


@pytest.mark.parametrize(
    "arguments",
    [{"argv": []}, {"argv": ["true"], "stdout": subprocess.PIPE}],
    ids=["empty", "PIPE"],
)
def test_what_cannot_be_meant_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        spawn(**arguments)  # type: ignore[arg-type]


def test_a_missing_folder_is_refused() -> None:
    with pytest.raises(FileNotFoundError):
        spawn(["true"], cwd="/no/such/folder")


# ---- what a command is given


def test_a_command_gets_exactly_its_environment() -> None:
    given = {"PATH": os.environ["PATH"], "SYNERGY_UNIT": "site@2026#1", "ODD": "ü \udcff\n="}
    _, said = output_of([sys.executable, "-I", "-S", "-c", "import os; print(os.environb)"], given)
    assert "LC_CTYPE" not in output_of(["env"], given)[1]
    assert repr(os.fsencode(given["ODD"])) in said
    assert len(output_of(["env", "-0"], given)[1].split("\0")) == len(given) + 1


def test_a_command_gets_its_folder_its_input_and_its_descriptors(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from standard input")
    out, extra = tmp_path / "out", tmp_path / "extra"
    with (
        (tmp_path / "given").open() as source,
        out.open("w") as sink,
        extra.open("w") as passed,
        spawn(
            ["sh", "-c", f"pwd; cat; echo extra > /proc/self/fd/{passed.fileno()}"],
            cwd=tmp_path,
            stdin=source.fileno(),
            stdout=sink.fileno(),
            pass_fds=[passed.fileno()],
        ) as command,
    ):
        assert command.wait(5) == Exit(0, None)
    assert out.read_text() == f"{tmp_path}\nfrom standard input"
    assert extra.read_text() == "extra\n"


def test_a_command_inherits_no_signal_settings_and_no_descriptors_of_ours() -> None:
    _, status = output_of(["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"])
    assert status.split()[1::2] == ["0" * 16, "0" * 16]
    _, descriptors = output_of(["ls", "/proc/self/fd"])
    assert descriptors.split() == ["0", "1", "2", "3"]  # the last is the folder that ls reads


def test_limits_bind_the_command(tmp_path: Path) -> None:
    limits = Limits(open_files=32, memory=512 * 2**20, file_size=4096, core=0)
    _, said = output_of(["sh", "-c", "ulimit -n; ulimit -v; ulimit -c"], limits=limits)
    assert said.split() == ["32", str(512 * 2**10), "0"]
    ended, _ = output_of(["dd", "if=/dev/zero", f"of={tmp_path}/big", "bs=8192"], limits=limits)
    assert ended == Exit(None, signal.SIGXFSZ)


def test_memory_runs_out_in_the_command_first() -> None:
    _, said = output_of(["cat", "/proc/self/oom_score_adj"])
    assert int(said) >= 500


# ---- nothing is left


def test_a_daemon_ends_with_its_command(tmp_path: Path) -> None:
    mark = tmp_path / "daemon"
    with spawn(daemon_script(mark, "exit 4")) as command:
        assert command.wait(5) == Exit(4, None)
        assert gone(number_in(mark), 0)


def test_a_daemon_is_killed_with_its_command(tmp_path: Path) -> None:
    mark = tmp_path / "daemon"
    with spawn(daemon_script(mark, "sleep 1000")) as command:
        pid = number_in(mark)
        assert identity_of(pid) is not None
        began = time.monotonic()
        assert command.kill() == Exit(None, signal.SIGKILL)
        assert gone(pid, 0)
        assert time.monotonic() - began < SOON


def test_fifty_children_are_killed_together() -> None:
    read, write = os.pipe()
    script = "for i in $(seq 50); do sleep 1000 & done; echo ready; wait"
    with spawn(["sh", "-c", script], stdout=write) as command:
        os.close(write)
        assert os.read(read, 100) == b"ready\n"
        tree = psutil.Process(command.pid).children(recursive=True)
        assert len(tree) >= 51
        command.kill()
        assert all(gone(one.pid, 0) for one in tree)
    os.close(read)


def test_children_that_go_on_forking_are_killed(tmp_path: Path) -> None:
    script = "while true; do (setsid sh -c 'sleep 0.05; sleep 1000' &) ; done"
    with spawn(["sh", "-c", script], limits=Limits()) as command:
        keeper = psutil.Process(command.pid)
        assert eventually(lambda: len(keeper.children(recursive=True)) > 30)
        assert command.kill().survivors == 0


def test_orphans_are_collected_while_the_command_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"(setsid sh -c 'echo $$ > {mark}' &); sleep 1000"
    with spawn(["sh", "-c", script]) as command:
        orphan = number_in(mark)
        assert eventually(lambda: not psutil.pid_exists(orphan))
        assert command.poll() is None


def test_closing_kills(tmp_path: Path) -> None:
    mark = tmp_path / "daemon"
    with spawn(daemon_script(mark, "sleep 1000")) as command:
        pid = number_in(mark)
    assert gone(pid, 0)
    command.close()
    assert command.poll() == Exit(None, signal.SIGKILL)


def test_a_request_to_end_reaches_the_whole_group() -> None:
    read, write = os.pipe()
    script = "trap 'echo asked; exit 7' TERM; sleep 1000 & echo ready; wait"
    with spawn(["sh", "-c", script], stdout=write) as command:
        os.close(write)
        assert os.read(read, 100) == b"ready\n"
        command.terminate(5)
        assert command.wait(SOON) == Exit(7, None)
        assert os.read(read, 100) == b"asked\n"
    os.close(read)


def test_who_does_not_listen_is_killed_after_the_grace() -> None:
    read, write = os.pipe()
    with spawn(["sh", "-c", "trap '' TERM; echo ready; sleep 1000"], stdout=write) as command:
        os.close(write)
        assert os.read(read, 100) == b"ready\n"
        command.terminate(0.1)
        assert command.wait(0.05) is None
        assert command.wait(SOON) == Exit(None, signal.SIGKILL)
    os.close(read)


def test_the_keeper_is_deaf_to_what_is_meant_for_others() -> None:
    with spawn(["sleep", "1000"]) as command:
        assert eventually(lambda: bool(psutil.Process(command.pid).children()))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            os.kill(command.pid, number)
        assert command.wait(0.1) is None


def test_a_stopped_keeper_is_passed_over(tmp_path: Path) -> None:
    mark = tmp_path / "daemon"
    with spawn(daemon_script(mark, "sleep 1000")) as command:
        pid = number_in(mark)
        os.kill(command.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert command.kill() == Exit(None, signal.SIGKILL)
        assert time.monotonic() - began < SOON + 0.2
        assert gone(pid)


def test_the_end_of_the_spawning_thread_is_not_our_end() -> None:
    made: list[Contained] = []
    thread = threading.Thread(target=lambda: made.append(spawn(["sleep", "1000"])))
    thread.start()
    thread.join()
    with made[0] as command:
        assert eventually(lambda: bool(psutil.Process(command.pid).children()))
        assert command.wait(0.1) is None


# ---- when we die, when the keeper dies

SPAWNER = """
    import os, sys, time
    from synergy.programs import spawn
    command = spawn(["sh", "-c", sys.argv[1]])
    {extra}
    print(command.pid, flush=True)
    time.sleep(1000)
"""


def test_the_tree_dies_with_us(tmp_path: Path) -> None:
    mark = tmp_path / "daemon"
    with Helper(SPAWNER.format(extra=""), daemon_script(mark, "sleep 1000")[2]) as helper:
        keeper, daemon = int(helper.line()), number_in(mark)
        tree = [one.pid for one in psutil.Process(keeper).children(recursive=True)]
        assert daemon in tree
        helper.process.kill()
        began = time.monotonic()
        assert all(gone(pid) for pid in [*tree, keeper])
        assert time.monotonic() - began < SOON


def test_the_tree_dies_with_us_though_the_pipe_leaked(tmp_path: Path) -> None:
    """A child forked without exec holds our end of the control pipe: no end of file is to come."""
    mark = tmp_path / "daemon"
    extra = "leak = os.fork() or time.sleep(1000); print(leak)"
    with Helper(SPAWNER.format(extra=extra), daemon_script(mark, "sleep 1000")[2]) as helper:
        leak, keeper, daemon = int(helper.line()), int(helper.line()), number_in(mark)
        helper.process.kill()
        try:
            assert gone(daemon)
            assert gone(keeper)
        finally:
            os.kill(leak, signal.SIGKILL)


def test_a_killed_keeper_leaves_nothing_to_a_subreaper(tmp_path: Path) -> None:
    mark = tmp_path / "daemon"
    source = """
        import os, subprocess, sys
        from synergy.programs import become_subreaper, reap_strays, spawn
        assert become_subreaper()
        friend = subprocess.Popen(["sleep", "1000"])
        command = spawn(["sh", "-c", sys.argv[1]])
        print(command.pid, flush=True)
        sys.stdin.readline()
        os.kill(command.pid, 9)
        print(command.wait(1), flush=True)
        print(reap_strays({friend.pid}), flush=True)
        print(friend.poll(), os.listdir("/proc/self/task")[0] != "", flush=True)
        friend.kill(); friend.wait()
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            print("no children", flush=True)
    """
    with Helper(source, daemon_script(mark, "sleep 1000")[2]) as helper:
        helper.line()
        daemon = number_in(mark)
        helper.tell()
        assert helper.line() == "killed by SIGKILL"
        assert int(helper.line()) >= 1
        assert helper.line() == "None True"
        assert helper.line() == "no children"
        assert gone(daemon, 0)


def test_a_killed_keeper_takes_its_command_along() -> None:
    with spawn(["sh", "-c", "sleep 1000 & sleep 1000"]) as command:
        keeper = psutil.Process(command.pid)
        assert eventually(lambda: len(keeper.children(recursive=True)) == 3)
        tree = keeper.children(recursive=True)
        keeper.kill()
        assert command.wait(SOON) == Exit(None, signal.SIGKILL)
        assert all(gone(one.pid) for one in tree)


def test_a_command_without_its_keeper_dies_though_we_cannot_see_to_it() -> None:
    with Helper(SPAWNER.format(extra=""), "exec sleep 1000") as helper:
        keeper = psutil.Process(int(helper.line()))
        assert eventually(lambda: bool(keeper.children()))
        command = keeper.children()[0]
        helper.process.send_signal(signal.SIGSTOP)
        keeper.kill()
        assert gone(command.pid)


# ---- a flood


def test_a_flood_of_output_takes_no_memory(tmp_path: Path) -> None:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 2**20)
    before = psutil.Process().memory_info().rss
    with Capture(tmp_path / "log") as log, spawn(["yes"], stdout=write) as command:
        os.close(write)
        while log.total < 300 * 2**20:
            log.write(os.read(read, 2**20))
        command.kill()
        grown = psutil.Process().memory_info().rss - before
    os.close(read)
    assert grown < 20 * 2**20
    assert (tmp_path / "log").stat().st_size <= log.limit
    assert log.trouble is None


# ---- pid files


def test_a_second_start_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "pids" / "scheduler.pid"
    with PidFile(path) as first:
        assert first.holder() == identity_of(os.getpid())
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.read_text().splitlines()[0] == str(os.getpid())
        with pytest.raises(AlreadyRunning) as refusal:
            PidFile(path).acquire()
        assert refusal.value.pid == os.getpid()
        assert str(os.getpid()) in str(refusal.value)
    assert not path.exists()
    first.release()
    assert first.holder() is None


@pytest.mark.parametrize("text", ["", "999999999\n1.0 x\n", "nonsense", "1\n0.0 \n", "\n\n"])
def test_a_stale_file_is_taken_over(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.pid"
    path.write_text(text)
    assert PidFile(path).holder() is None
    with PidFile(path) as mine:
        assert mine.holder() == identity_of(os.getpid())


ACQUIRER = """
    import sys, time
    from pathlib import Path
    from synergy.programs import AlreadyRunning, PidFile
    print("here", flush=True)
    sys.stdin.readline()
    try:
        PidFile(Path(sys.argv[1])).acquire()
    except AlreadyRunning as refusal:
        print("refused", refusal.pid, flush=True)
    else:
        print("acquired", flush=True)
    time.sleep(1000)
"""


def test_of_two_that_race_one_wins_and_a_killed_winner_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    with Helper(ACQUIRER, path) as one, Helper(ACQUIRER, path) as other:
        assert (one.line(), other.line()) == ("here", "here")
        one.tell()
        other.tell()
        said = {one.line(): one, other.line(): other}
        winner = said.pop("acquired")
        assert list(said) == [f"refused {winner.process.pid}"]
        winner.process.kill()
        winner.process.wait()
        with PidFile(path) as mine:
            assert mine.holder() == identity_of(os.getpid())


# ---- detached programs


def test_a_detached_program_logs_and_ends_when_asked(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "program.log"
    script = "cat; echo out; echo err >&2; pwd; exec sleep 1000"
    pid = start_detached(["sh", "-c", script], log, cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    identity = identity_of(pid)
    assert identity is not None
    assert os.getsid(pid) == pid
    assert eventually(lambda: log.read_text() == f"out\nerr\n{tmp_path}\n")
    assert log.stat().st_mode & 0o777 == 0o600
    assert stop(identity, 5) is True
    assert not alive(identity)
    assert stop(identity, 5) is True


def test_a_program_that_does_not_listen_is_killed_with_all_below(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    script = f"trap '' TERM; sleep 1000 & echo $! > {mark}; wait; wait; sleep 1000"
    pid = start_detached(["sh", "-c", script], tmp_path / "log")
    identity, child = identity_of(pid), number_in(mark)
    assert identity is not None
    assert stop(identity, 0.05) is False
    assert gone(pid, 0)
    assert gone(child)


def test_a_number_with_another_birth_is_never_stopped() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        identity = identity_of(process.pid)
        assert identity is not None
        assert stop(Identity(identity.pid, identity.created - 1, identity.boot), 0) is True
        assert process.poll() is None
        process.kill()


def test_a_program_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        start_detached([str(tmp_path / "nothing")], tmp_path / "log")
