"""How states look: six families of colour that everybody can tell apart, and a sign for each state.

The colours themselves are custom properties of ``static/console.css``, a pair for light and dark;
they were measured, and the tests measure them again: at least 3:1 on both backgrounds, and a
distance that stays under each kind of colour blindness.  The sign says it once more without colour.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from synergy.core.states import JobState


@dataclass(frozen=True, slots=True)
class Look:
    """One state on a page."""

    #: Its word, the same as in the command line and the API.
    word: str
    #: Class of its colour.
    family: str
    glyph: str
    #: What it means, in a few words.
    meaning: str


#: Not a state of a job: an interval whose time has not come.
NOT_DUE: Final = "not_due"

LOOKS: Final[Mapping[str, Look]] = {
    look.word: look
    for look in (
        Look("processed", "done", "●", "finished with a result"),
        Look("noop", "neutral", "∅", "finished, there was nothing to do"),
        Look("final_run", "active", "◕", "closed, its final unit is at work"),
        Look("in_progress", "active", "◐", "a unit is at work"),
        Look("requested", "active", "◔", "waits for a worker"),
        Look("claimed", "active", "◔", "held by a worker, not started"),
        Look("embryo", "neutral", "○", "waits for what it is made of"),
        Look(NOT_DUE, "neutral", "·", "its time has not come"),
        Look("skipped", "attention", "↷", "given up, finished without a result"),
        Look("failed", "failed", "✕", "failed in all attempts, holds what is built on it"),
        Look("invalid", "failed", "✕", "given up after its attempts"),
        Look("canceled", "neutral", "⊖", "withdrawn"),
        Look("blocked", "blocked", "▣", "held by a failure below it"),
    )
}
#: Of jobs, in the order of the legend and of stacks.
OF_JOBS: Final = ("failed", "skipped", "processed", "noop", "final_run", "in_progress", "embryo")


def look_of(state: JobState | str | None) -> Look:
    """How a state looks; None: nobody has touched it."""
    word = "embryo" if state is None else state.value if isinstance(state, JobState) else state
    return LOOKS.get(word) or Look(word, "neutral", "?", word)
