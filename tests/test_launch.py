"""The bootstrap: when the environment is made, by whom, and what is said when it cannot be.

Nothing here reaches a network: a shell script stands in for the environment's Python.
"""

import ast
import importlib.util
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import launch

PROJECT = Path(__file__).resolve().parent.parent

#: Stands in for .venv/bin/python: answers for pip, and shows how it was started otherwise.
FAKE_PYTHON = """\
#!/bin/sh
case "$*" in
"-m pip --version") exit 0 ;;
"-m pip install"*) echo "$*" >> pip.log; echo "no such index"; exit ${PIP_EXIT:-0} ;;
*) echo "ran $*" ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with launch.py and an environment that has no stamp yet."""
    folder = tmp_path.resolve() / "a project"
    bin_folder = folder / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (folder / "launch.py").write_bytes((PROJECT / "launch.py").read_bytes())
    (folder / "pyproject.toml").write_text("[project]\n")
    (folder / "constraints.txt").write_text("rich==1\n")
    (folder / ".venv" / "pyvenv.cfg").write_text("version = 3.11.7\n")
    (bin_folder / "python").write_text(FAKE_PYTHON)
    (bin_folder / "python").chmod(0o755)
    return folder


def run(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if "SYNERGY" not in name}
    return subprocess.run(
        [sys.executable, "launch.py", *arguments],
        cwd=project,
        env={**variables, **environment},
        capture_output=True,
        text=True,
    )


def make_fresh(project: Path) -> None:
    launch.write_stamp(str(project))
    assert launch.fresh(str(project))


# ---- the stamp


def test_an_environment_without_a_stamp_is_not_ready(project: Path) -> None:
    assert not launch.fresh(str(project))
    make_fresh(project)


CHANGES: dict[str, Callable[[Path], object]] = {
    "requirements": lambda it: (it / "pyproject.toml").write_text("[project]\nname='x'\n"),
    "constraints": lambda it: (it / "constraints.txt").write_text("rich==2\n"),
    "version": lambda it: (it / ".venv" / "pyvenv.cfg").write_text("version = 3.12.1\n"),
    "interpreter upgraded": lambda it: os.utime(it / ".venv" / "bin" / "python", (1, 1)),
    "interpreter gone": lambda it: (it / ".venv" / "bin" / "python").unlink(),
    "stamp lost": lambda it: (it / ".venv" / "synergy.stamp").unlink(),
    "stamp cut short": lambda it: os.truncate(it / ".venv" / "synergy.stamp", 10),
    "stamp unreadable": lambda it: (it / ".venv" / "synergy.stamp").write_bytes(b"\xff\0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_environment_is_outdated_when_what_it_depends_on_changed(
    project: Path, change: str
) -> None:
    make_fresh(project)
    CHANGES[change](project)
    assert not launch.fresh(str(project))


def test_an_environment_is_outdated_when_its_folder_was_moved(project: Path) -> None:
    make_fresh(project)
    moved = project.rename(project.with_name("elsewhere"))
    assert not launch.fresh(str(moved))


# ---- a run


def test_a_missing_stamp_means_one_installation_and_then_none(project: Path) -> None:
    first = run(project, "list", "--json")
    assert first.returncode == 0
    assert first.stdout == f"ran {project}/launch.py list --json\n"
    assert "bringing .venv up to date" in first.stderr
    second = run(project, "list", "--json")
    assert (second.stdout, second.stderr) == (first.stdout, "")
    calls = (project / "pip.log").read_text().splitlines()
    assert len(calls) == 1
    assert f"-c {project}/constraints.txt -e .[dev]" in calls[0]


def test_a_failing_installation_is_told_in_a_sentence(project: Path) -> None:
    done = run(project, "demo", PIP_EXIT="1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "no such index\n" in done.stderr
    assert "pip could not install what pyproject.toml lists" in done.stderr
    assert "Traceback" not in done.stderr
    assert not launch.fresh(str(project))


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(project: Path) -> None:
    (project / ".venv.lock").mkdir()
    done = run(project, "demo")
    assert done.returncode == 1
    assert done.stderr.startswith(f"launch.py: cannot prepare {project}/.venv: ")
    assert "Traceback" not in done.stderr


def test_a_chosen_interpreter_is_used_as_it_is(project: Path) -> None:
    (project / ".venv" / "bin" / "python").unlink()
    chosen = project / "mine"
    chosen.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "mine $*"\n')
    chosen.chmod(0o755)
    done = run(project, "jobs", SYNERGY_PYTHON=str(chosen))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"mine {project}/launch.py jobs\n"


@pytest.mark.parametrize(
    ("script", "sentence"),
    [(None, "is not a program that can be run"), ("exit 1", "is not a Python 3.11 or newer")],
)
def test_a_chosen_interpreter_that_will_not_do_is_refused(
    project: Path, script: str | None, sentence: str
) -> None:
    chosen = project / "mine"
    if script:
        chosen.write_text(f"#!/bin/sh\n{script}\n")
        chosen.chmod(0o755)
    done = run(project, "jobs", SYNERGY_PYTHON=str(chosen))
    assert done.returncode == 1
    assert done.stderr == f"launch.py: SYNERGY_PYTHON={chosen} {sentence}.\n"


def test_inside_the_environment_the_command_line_gets_arguments_and_project(project: Path) -> None:
    cli = project / "synergy" / "cli"
    cli.mkdir(parents=True)
    (project / "synergy" / "__init__.py").touch()
    (cli / "__init__.py").write_text(
        "import sys\n"
        "def main(argv, project):\n"
        "    print(argv, project, sys.path[0])\n"
        "    return 7\n"
    )
    done = run(project, "jobs", "--json", SYNERGY_PYTHON=sys.executable)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout == f"['jobs', '--json'] {project} {project}\n"


def test_an_interpreter_without_the_requirements_is_told_which_is_missing(project: Path) -> None:
    cli = project / "synergy" / "cli"
    cli.mkdir(parents=True)
    (project / "synergy" / "__init__.py").touch()
    (cli / "__init__.py").write_text("import no_such_module\n")
    done = run(project, "jobs", SYNERGY_PYTHON=sys.executable)
    assert done.returncode == 1
    assert "has no module 'no_such_module'" in done.stderr
    assert "Traceback" not in done.stderr


# ---- two at once


def test_of_two_at_once_one_builds_and_the_other_waits(project: Path) -> None:
    source = f"""
        import sys; sys.path.insert(0, {str(PROJECT)!r})
        import launch
        def build(project):
            with open(project + "/built", "a") as file: file.write("built\\n")
            print("building", flush=True)
            sys.stdin.readline()
        launch.prepare({str(project)!r}, build)
        print("ready", launch.fresh({str(project)!r}), flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(source)]

    def start() -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    with start() as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "building\n"
        with start() as other:
            assert other.stderr is not None
            waiting = "launch.py: another launch.py is preparing .venv; waiting for it ...\n"
            assert other.stderr.readline() == waiting
            assert one.communicate("\n")[0] == "ready True\n"
            assert other.communicate("\n")[0] == "ready True\n"
    assert (project / "built").read_text() == "built\n"


def test_a_failed_building_leaves_no_stamp_and_no_lock(project: Path) -> None:
    def fail(_: str) -> None:
        raise launch.Refused("no")

    built: list[str] = []
    with pytest.raises(launch.Refused):
        launch.prepare(str(project), fail)
    assert not launch.fresh(str(project))
    launch.prepare(str(project), built.append)
    assert built == [str(project)]


# ---- what cannot be


def test_an_old_python_without_a_newer_one_is_told_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 18, "final", 0))
    shim = tmp_path / "python3.12"  # a name alone proves nothing
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.main(["demo"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("launch.py: synergy needs Python 3.11 or newer; this is 3.8.18, and ")
    assert "python3.11 or python3.12 or python3.13 or python3.14" in said


def test_an_old_python_finds_the_newest_that_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, code in (("python3.14", 127), ("python3.13", 0), ("python3.11", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.newer_python() == str(tmp_path / "python3.13")


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_the_package(
    monkeypatch: pytest.MonkeyPatch, project: Path, missing: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    with pytest.raises(launch.Refused, match="apt install python3-venv"):
        launch.make_environment(str(project))


def test_the_file_parses_on_any_python() -> None:
    """No annotation, no f-string, no walrus, nothing but ASCII: Python 2.7 and 3.4 read it, too."""
    source = (PROJECT / "launch.py").read_text("ascii")
    tree = ast.parse(source, feature_version=(3, 4))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.JoinedStr | ast.NamedExpr | ast.AnnAssign)
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            assert node.returns is None
            assert not arguments.kwonlyargs
            assert not any(argument.annotation for argument in arguments.args)
        if isinstance(node, ast.Raise):
            assert node.cause is None
