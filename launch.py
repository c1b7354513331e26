#!/usr/bin/env python3
"""The project's command, ``./launch.py VERB ...``, for a machine that has only Python and pip.

It makes a virtual environment ``.venv`` beside itself, once, and again when ``pyproject.toml``,
``constraints.txt``, the interpreter or the folder changed; then it becomes that environment's
Python (exec, same process id) and hands over to ``synergy.cli``. ``SYNERGY_PYTHON`` names another
interpreter to use as it is, for those who install the requirements themselves.

Standard library only, no annotations and no f-strings: this file must parse on any Python, to be
able to say in a sentence that it is too old.
"""

import os
import sys

PROJECT = os.path.dirname(os.path.realpath(__file__))
#: The oldest Python that runs synergy.
OLDEST = (3, 11)
#: The names under which a newer Python is looked for when this one is too old, best first.
NEWER = ("python3.14", "python3.13", "python3.12", "python3.11")
#: Set across the exec. It carries the process id, which exec keeps and a child process does not
#: share, so that a launch.py started by a launched program is not mistaken for one already there.
LAUNCHED = "SYNERGY_LAUNCHED"


class Refused(Exception):
    """The command cannot be carried out, for a reason that is told in a sentence."""


def main(argv):
    """Run one command line; return its exit code."""
    try:
        if sys.version_info < OLDEST:
            become(newer_python(), argv)
        if os.environ.pop(LAUNCHED, None) == str(os.getpid()):
            return run(argv)
        become(chosen_python() or ready_python(PROJECT), argv, launched=True)
    except Refused as refusal:
        sys.stderr.write("launch.py: %s\n" % refusal)
        return 1
    except KeyboardInterrupt:
        return 130


def run(argv):
    """Hand over to the command line, inside the environment."""
    from pathlib import Path

    if sys.path[:1] != [PROJECT]:
        sys.path.insert(0, PROJECT)
    try:
        from synergy.cli import main as command_line
    except ModuleNotFoundError as missing:
        if (missing.name or "synergy").split(".")[0] == "synergy":
            raise
        raise Refused(
            "%s has no module '%s'. It needs what pyproject.toml lists; "
            "without SYNERGY_PYTHON, launch.py installs that by itself in .venv."
            % (sys.executable, missing.name)
        )
    return command_line(argv, project=Path(PROJECT))


def become(python, argv, launched=False):
    """Replace this process by ``python launch.py argv``."""
    environment = dict(os.environ)
    if launched:
        environment[LAUNCHED] = str(os.getpid())
    sys.stdout.flush()
    sys.stderr.flush()
    command = [python, os.path.join(PROJECT, "launch.py")] + list(argv)
    try:
        os.execve(python, command, environment)
    except OSError as error:
        raise Refused("cannot run %s: %s." % (python, error.strerror))


# ---- which Python


def newer_python():
    """The path of a Python that is new enough, from PATH."""
    for name in NEWER:
        path = find_program(name)
        if path and is_new_enough(path):
            return path
    raise Refused(
        "synergy needs Python %d.%d or newer; this is %d.%d.%d, and there is no %s on the PATH."
        % (OLDEST + tuple(sys.version_info[:3]) + (" or ".join(reversed(NEWER)),))
    )


def is_new_enough(python):
    """Whether this interpreter runs at all and is new enough; a name alone proves neither."""
    import subprocess

    question = "import sys; sys.exit(sys.version_info < (%d, %d))" % OLDEST
    with open(os.devnull, "w") as nothing:
        try:
            return subprocess.call([python, "-c", question], stdout=nothing, stderr=nothing) == 0
        except OSError:
            return False


def find_program(name):
    """The path of a program, itself if it has a slash, else from PATH; None if there is none."""
    if os.sep in name:
        candidates = [os.path.abspath(os.path.expanduser(name))]
    else:
        folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
        candidates = [os.path.join(folder, name) for folder in folders]
    for path in candidates:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def chosen_python():
    """The interpreter that the user chose to supply, or None."""
    name = os.environ.get("SYNERGY_PYTHON")
    if not name:
        return None
    path = find_program(name)
    if path is None:
        raise Refused("SYNERGY_PYTHON=%s is not a program that can be run." % name)
    if not is_new_enough(path):
        raise Refused("SYNERGY_PYTHON=%s is not a Python %d.%d or newer." % ((name,) + OLDEST))
    return path


# ---- the environment


def ready_python(project):
    """The environment's interpreter, after making or updating the environment where needed."""
    if not fresh(project):
        prepare(project, build)
    return environment_python(project)


def environment_python(project):
    return os.path.join(project, ".venv", "bin", "python")


def stamp(project):
    """What the environment depends on, as a hash: requirements, interpreter, folder."""
    import hashlib

    digest = hashlib.sha256(project.encode("utf-8", "surrogateescape"))
    files = ("pyproject.toml", "constraints.txt", os.path.join(".venv", "pyvenv.cfg"))
    for name in files:
        digest.update(b"\0" + read(os.path.join(project, name)))
    # pyvenv.cfg names the version that made the environment; the program that stands behind its
    # link may have been upgraded since, and is known by its place, size and age without a start.
    interpreter = os.path.realpath(environment_python(project))
    try:
        facts = os.stat(interpreter)
    except OSError:
        return ""
    digest.update(repr((interpreter, facts.st_size, facts.st_mtime)).encode("utf-8", "replace"))
    return digest.hexdigest()


def stamp_file(project):
    return os.path.join(project, ".venv", "synergy.stamp")


def fresh(project):
    """Whether the environment is whole and up to date. The stamp is written last."""
    recorded = read(stamp_file(project)).decode("ascii", "replace")
    return recorded != "" and recorded == stamp(project)


def read(path):
    """A file's bytes; nothing when it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (IOError, OSError):
        return b""


def prepare(project, build):
    """Make or update the environment, by one launch.py at a time; the others wait and use it."""
    try:
        import fcntl
    except ImportError:
        raise Refused("synergy runs on Linux and macOS; this system lacks their file locks.")
    try:
        with open(os.path.join(project, ".venv.lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another launch.py is preparing .venv; waiting for it ...")
                fcntl.flock(lock, fcntl.LOCK_EX)
            if fresh(project):
                return
            build(project)
            write_stamp(project)
    except OSError as error:
        raise Refused("cannot prepare %s: %s." % (os.path.join(project, ".venv"), error))


def write_stamp(project):
    path = stamp_file(project)
    with open(path + ".new", "w") as file:
        file.write(stamp(project))
    os.replace(path + ".new", path)


def build(project):
    """Make the environment where it is missing or broken, then install what is required."""
    import time

    began = time.monotonic()
    python = environment_python(project)
    if has_pip(python):
        say("bringing .venv up to date ...")
    else:
        say("making .venv with Python %d.%d.%d, once; it takes a minute ..." % sys.version_info[:3])
        make_environment(project)
    install(project)
    say("ready after %.0f s." % (time.monotonic() - began))


def has_pip(python):
    """Whether the environment works; interrupted making, or a new interpreter, leaves no pip."""
    return os.access(python, os.X_OK) and finished([python, "-m", "pip", "--version"], ".")[0] == 0


def make_environment(project):
    import importlib.util

    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise Refused(
                "this Python cannot make virtual environments (it has no module '%s'). On Debian "
                "and Ubuntu: apt install python3-venv (or python%d.%d-venv). Then run this again."
                % ((module,) + tuple(sys.version_info[:2]))
            )
    # The base interpreter: an environment made from within itself would saw off its own branch.
    base = getattr(sys, "_base_executable", None) or sys.executable
    command = [base, "-m", "venv", "--clear", os.path.join(project, ".venv")]
    code, output = finished(command, project)
    if code != 0:
        sys.stderr.write(output)
        raise Refused(
            "making .venv failed; what Python said stands above. On Debian and Ubuntu the package "
            "python3-venv is needed."
        )


def install(project):
    code, output = finished(pip_command(project), project)
    if code != 0:
        sys.stderr.write(output)
        raise Refused(
            "pip could not install what pyproject.toml lists; what it said stands above. If the "
            "package index cannot be reached from here, set PIP_INDEX_URL, or install the "
            "requirements yourself and name that interpreter in SYNERGY_PYTHON."
        )


def pip_command(project):
    """How pip is called: the project itself, editable, all else at the constrained version."""
    options = ["--quiet", "--no-input", "--disable-pip-version-check"]
    constraints = os.path.join(project, "constraints.txt")
    python = environment_python(project)
    return [python, "-m", "pip", "install"] + options + ["-c", constraints, "-e", ".[dev]"]


def finished(command, folder):
    """The exit code of a command and everything it printed."""
    import subprocess

    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output = process.communicate()[0]
    return process.returncode, output.decode("utf-8", "replace")


def say(sentence):
    """On standard error: standard output belongs to the command (``--json``)."""
    sys.stderr.write("launch.py: %s\n" % sentence)
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
