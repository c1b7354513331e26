"""How commands speak: data on stdout, everything else on stderr; JSON where it was asked for.

Colours and fitting to the width are for terminals only (rich is imported there and then);
``NO_COLOR`` takes the colours away.
"""

import csv
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from synergy.errors import BadInput
from synergy.words import ago as ago
from synergy.words import clock as clock
from synergy.words import duration as duration
from synergy.words import instant as instant
from synergy.words import who as who

#: A state's sign and colour, so that it can be told without colour too.
SIGNS: Mapping[str, tuple[str, str]] = {
    "embryo": ("·", "dim"),
    "requested": ("·", "dim"),
    "claimed": ("·", "dim"),
    "in_progress": ("▶", "cyan"),
    "final_run": ("▶", "cyan"),
    "processed": ("✓", "green"),
    "noop": ("○", "green"),
    "skipped": ("–", "yellow"),
    "failed": ("✕", "red"),
    "invalid": ("✕", "red"),
    "canceled": ("–", "yellow"),
}
#: Narrower than this a last column is never cut.
NARROWEST = 24


class Styled(str):
    """A text that is shown in a colour where there are colours."""

    __slots__ = ("style",)
    style: str

    def __new__(cls, text: str, style: str) -> "Styled":
        """`style` as rich writes it: ``red``, ``bold red``."""
        made = super().__new__(cls, text)
        made.style = style
        return made


class Output:
    """Prints for people or for programs."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def data(self, value: Any) -> None:
        """One JSON value; a list of objects with a line for each."""
        if isinstance(value, list):
            lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in value)
            print(f"[\n{lines}\n]" if value else "[]")
        else:
            print(json.dumps(value, ensure_ascii=False, indent=1))

    def one_form(self, csv: bool) -> None:
        """Refuse to print in two forms at once."""
        if self.json and csv:
            raise BadInput("--json or --csv; not both")

    def csv(self, headings: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
        """Comma-separated values by RFC 4180, with a line of headings.

        A text that a spreadsheet would take for a formula gets an apostrophe before it.
        """
        writer = csv.writer(sys.stdout, lineterminator="\r\n")
        writer.writerow(headings)
        writer.writerows([_harmless(cell) for cell in row] for row in rows)

    def line(self, *parts: str) -> None:
        """A line of data for people; parts may be `Styled`."""
        if terminal() and any(isinstance(part, Styled) for part in parts):
            _print_coloured(parts)
        else:
            print("".join(parts))

    def note(self, text: str) -> None:
        """A line about what is happening."""
        print(text, file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        """What went wrong, and what to do about it."""
        print(text, file=sys.stderr, flush=True)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Aligned columns, numbers to the right; on a terminal the last is cut to the width."""
        cells = [list(row) for row in rows]
        numeric = [
            bool(cells) and all(_is_number(row[place]) for row in cells)
            for place in range(len(headings))
        ]
        texts: list[list[str]] = [list(headings)]
        texts += [[c if isinstance(c, str) else str(c) for c in row] for row in cells]
        widths = [max(len(row[place]) for row in texts) for place in range(len(headings))]
        room = _room(widths)
        for number, row in enumerate(texts):
            parts: list[str] = []
            for place, cell in enumerate(row):
                last = place == len(row) - 1
                text = " ".join(cell.split()) if last else str(cell)
                if last and room is not None and len(text) > room:
                    text = text[: room - 1] + "…"
                if numeric[place]:
                    text = text.rjust(widths[place])
                elif not last:
                    text = text.ljust(widths[place])
                if number == 0:
                    text = Styled(text, "bold")
                elif isinstance(cell, Styled):
                    text = Styled(text, cell.style)
                parts += [text] if last else [text, "  "]
            self.line(*parts) if terminal() else print("".join(parts).rstrip())

    def state(self, state: str) -> Styled:
        """A state with its sign."""
        sign, style = SIGNS.get(state, ("?", ""))
        return Styled(f"{sign} {state}", style)


def terminal() -> bool:
    """Whether somebody sits before stdout, or wants it to look so."""
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def command_name() -> str:
    """How this command line is called: as it was, or as the project's command."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    return "synergy" if name == "synergy" else "./launch.py"


def command(words: str) -> str:
    """A command to type next."""
    return f"{command_name()} {words}"


def _harmless(cell: object) -> object:
    """A cell that no spreadsheet runs: what begins like a formula is marked as text."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str) and (cell.lstrip()[:1] in _FORMULA or cell[:1] in _CONTROL):
        return f"'{cell}"
    return cell


#: How formulas begin, and what spreadsheets skip before them.
_FORMULA, _CONTROL = ("=", "+", "-", "@"), ("\t", "\r", "\n")


def _is_number(cell: object) -> bool:
    """Whether it stands to the right; an empty one does not mind."""
    return isinstance(cell, int) or cell == "" or (isinstance(cell, Styled) and cell.isdigit())


def _room(widths: Sequence[int]) -> int | None:
    """Characters for the last column; None for as many as it has."""
    if not sys.stdout.isatty():
        return None
    return max(
        shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(widths) - 1), NARROWEST
    )


def _print_coloured(parts: Iterable[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    text = Text()
    for part in parts:
        text.append(part, part.style if isinstance(part, Styled) else None)
    text.rstrip()
    Console(highlight=False).print(text, soft_wrap=True)
