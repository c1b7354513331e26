"""The documentation is true: generated parts are fresh, links lead somewhere, examples run.

A page's fences are carried out in order, in a project of its own as `init` makes it (a page that
begins with ``<!-- page: clone -->``: beside one, as in the clone):

* ``console run``: every line after ``$`` is run; what stands below it is what it prints, where
  ``…`` is any text, and alone on a line any lines.  What only looks is repeated until it fits.
* ``python file=PATH``, ``json file=PATH``: the file is written.
* ``python run``: is run.  All other ``python`` must at least parse.
"""

import ast
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from synergy.cli import VERBS
from synergy.project import DEFAULTS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
#: Seconds until what a command shows must fit.
PATIENCE = 30.0
#: What may be repeated.
LOOKS = re.compile(r"\./launch\.py (jobs|why|status|query|log|list)\b|cat |ls ")


class Fence(NamedTuple):
    """A block of code in a page."""

    info: str
    text: str
    line: int


def fences(page: Path) -> Iterator[Fence]:
    lines = page.read_text("utf-8").splitlines()
    begun: int | None = None
    for number, line in enumerate(lines):
        if line.startswith("```") and begun is None:
            begun = number
        elif line == "```" and begun is not None:
            text = "\n".join(lines[begun + 1 : number]) + "\n"
            yield Fence(lines[begun][3:].strip(), text, begun + 1)
            begun = None
    assert begun is None, f"{page.name}:{begun}: a fence is not closed"


def carried_out(page: Path) -> bool:
    return any(fence.info.split()[1:] for fence in fences(page))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("docs", ROOT / "scripts" / "docs.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_generated_parts_are_fresh_and_python_parses(page: Path, generator: ModuleType) -> None:
    assert generator.renewed(page) == page.read_text("utf-8"), "run: python scripts/docs.py"
    for fence in fences(page):
        if fence.info.split()[:1] == ["python"]:
            ast.parse(fence.text, f"{page}:{fence.line}")


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(other), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """As they are made of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for page in PAGES:
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"({name})" in index, name


def test_every_verb_option_and_setting_is_told_of(generator: ModuleType) -> None:
    told = "\n".join(page.read_text("utf-8") for page in PAGES)
    guides = "\n".join(
        page.read_text("utf-8") for page in PAGES if page.parent.name in ("docs", "how-to")
    )
    for verb in VERBS:
        assert f"./launch.py {verb}" in guides, f"no guide uses {verb}"
    for setting in DEFAULTS:
        assert setting in guides, f"no guide names {setting}"
    names = generator.option_names()
    assert names == {*generator.OPTIONS}, "scripts/docs.py explains every option, and no other"
    for name in names:
        assert f"`{name}`" in told, name


@pytest.mark.parametrize("package", ["pika", "pymongo"])
def test_the_versions_told_of_are_those_that_are_installed(package: str) -> None:
    installed = re.search(rf"^{package}==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert installed is not None
    page = (ROOT / "docs" / "reference" / "versions.md").read_text("utf-8")
    assert f"| {package} | {installed[1]} |" in page


def test_the_promise_stands_word_for_word() -> None:
    data = os.environ.get("SYNERGY_TEST_DATA")
    source = Path(data) / "RELIABILITY.md" if data else ROOT.parent / "shared" / "RELIABILITY.md"
    if not source.exists():
        if os.environ.get("CI"):
            pytest.fail(f"{source} is not there; SYNERGY_TEST_DATA names its folder")
        pytest.skip("the text of the promise is not at hand: set SYNERGY_TEST_DATA")
    promise = next(line for line in source.read_text("utf-8").splitlines() if line[:6] == "> Once")
    assert promise in (ROOT / "README.md").read_text("utf-8").splitlines()


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if carried_out(page)],
    ids=lambda page: page.stem,
)
def test_what_the_page_says_is_what_happens(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    subprocess.run(
        [sys.executable, "-m", "synergy.cli", "init", str(folder)], check=True, capture_output=True
    )
    if page.read_text("utf-8").startswith("<!-- page: clone -->"):
        clone = tmp_path / "clone"
        clone.mkdir()
        (folder / "launch.py").rename(clone / "launch.py")
        folder = clone
    reader = Reader(page, folder)
    try:
        for fence in fences(page):
            reader.follow(fence)
    finally:
        reader.stop_programs()


class Reader:
    """Does what a page says."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.code = 0

    def follow(self, fence: Fence) -> None:
        words = fence.info.split()
        match words:
            case ["console", "run"]:
                for command, shown in commands(fence.text):
                    self.type(command, shown, fence.line)
            case ["python", "run"]:
                done = self.run([sys.executable, "-c", fence.text])
                assert done.returncode == 0, f"{self.page.name}:{fence.line}\n{done.stdout}"
            case ["python" | "json", named] if named.startswith("file="):
                path = self.folder / named.removeprefix("file=")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(fence.text, "utf-8")
            case _:
                assert len(words) <= 1, f"{self.page.name}:{fence.line}: {fence.info}"

    def type(self, command: str, shown: str, line: int) -> None:
        if command.startswith("cd "):
            self.folder = (self.folder / command[3:]).resolve()
            return
        until = time.monotonic() + PATIENCE
        while True:
            done = self.run(["bash", "-c", command.replace("$?", str(self.code))])
            fits = not shown or pattern(shown).fullmatch(done.stdout) is not None
            if fits or not LOOKS.search(command) or time.monotonic() > until:
                break
            time.sleep(0.1)
        self.code = done.returncode
        assert fits, f"{self.page.name}:{line}: {command}\nprinted:\n{done.stdout}\nnot:\n{shown}"

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if "SYNERGY_" not in name}
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**own, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )

    def stop_programs(self) -> None:
        for file in self.folder.rglob("*.pid"):
            self.run([sys.executable, "-m", "synergy.cli", "stop", file.stem])


def commands(text: str) -> Iterator[tuple[str, str]]:
    """What is typed, and what is shown below it."""
    command, shown = None, list[str]()
    for line in [*text.splitlines(), "$ "]:
        if line.startswith("$ "):
            if command is not None:
                yield command, "".join(f"{each}\n" for each in shown)
            command, shown = line[2:], []
        else:
            shown.append(line)


def pattern(shown: str) -> re.Pattern[str]:
    """What is shown as a regular expression."""
    parts = []
    for line in shown.splitlines():
        if line == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(text) for text in line.split("…")) + r"\s*?\n")
    return re.compile("".join(parts))


def test_what_is_shown_is_compared() -> None:
    assert pattern("a … c\n…\nz\n").fullmatch("a bb c\nmore\nand more\nz\n")
    assert not pattern("a … c\n").fullmatch("a bb d\n")
    assert [*commands("$ one\nsaid\n$ two\n")] == [("one", "said\n"), ("two", "")]
