"""Columns of characters over time, for terminals: an axis that begins at zero and leaves out
nothing."""

from collections.abc import Sequence

from synergy.cli.output import duration

#: Lines of a plot above its axis.
HEIGHT = 8
#: One interval is never wider than so many characters.
WIDEST = 3


def columns(
    title: str, points: Sequence[tuple[str, float | None]], width: int, height: int = HEIGHT
) -> list[str]:
    """Seconds by label as lines of text, at most so wide; no lines where nothing is known.

    Where there are more intervals than columns, each column is the longest of some neighbours.
    What is there but lower than half a line is drawn as a dot, so that it is not taken for nothing.
    """
    top = max((value for _, value in points if value is not None), default=None)
    if top is None:
        return []
    margin = max(len(duration(top)), len("0"))
    room = max(width - margin - 2, 10)
    together = -(-len(points) // room)
    wide = min(max(room // len(points), 1), WIDEST)
    highest = [_longest(points[at : at + together]) for at in range(0, len(points), together)]
    each = f"the longest of {together} intervals" if together > 1 else "an interval"
    lines = [f"{title}, each column {each}"]
    for line in range(height, 0, -1):
        mark = duration(top) if line == height else ""
        cells = "".join(_cell(value, top, line, height) * wide for value in highest)
        lines.append(f"{mark:>{margin}} |{cells}".rstrip())
    lines.append(f"{'0':>{margin}} +{'-' * (len(highest) * wide)}")
    first, last = points[0][0], points[-1][0]
    space = len(highest) * wide - len(first) - len(last)
    under = first + " " * space + last if space > 0 else f"{first} … {last}"
    lines.append(" " * (margin + 2) + (under if len(points) > 1 else first))
    return lines


def _longest(points: Sequence[tuple[str, float | None]]) -> float | None:
    return max((value for _, value in points if value is not None), default=None)


def _cell(value: float | None, top: float, line: int, height: int) -> str:
    if value is None:
        return " "
    filled = value / top * height if top else 0.0
    if filled >= line - 0.5:
        return "#"
    return "." if line == 1 else " "
