"""Colours that everybody can tell apart, measured on the style sheet itself."""

import re
from itertools import combinations
from pathlib import Path

import pytest

import synergy.mx
from synergy.core.states import JobState, UnitState
from synergy.mx.looks import LOOKS, NOT_DUE, look_of

FAMILIES = ("neutral", "active", "done", "attention", "failed", "blocked")
FOLDER = Path(synergy.mx.__file__).parent
SHEET = (FOLDER / "static/console.css").read_text("utf-8")
#: Machado 2009, severity 1, on linear RGB.
VISIONS = {
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritan": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
Colour = tuple[float, float, float]


def colours(scheme: int) -> dict[str, Colour]:
    """The custom properties of one scheme, light 0 or dark 1, as linear RGB."""
    found = re.findall(r"--(\w+): light-dark\(#(\w{6}), #(\w{6})\)", SHEET)
    return {name: linear(pair[scheme]) for name, *pair in found}


def linear(text: str) -> Colour:
    values = [int(text[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values
    )
    return red, green, blue


def contrast(one: Colour, other: Colour) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: Colour) -> float:
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


def seen(colour: Colour, vision: str) -> Colour:
    red, green, blue = (
        min(1.0, max(0.0, sum(a * b for a, b in zip(row, colour, strict=True))))
        for row in VISIONS[vision]
    )
    return red, green, blue


def lab(colour: Colour) -> Colour:
    red, green, blue = colour
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    f, g, h = (
        value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z)
    )
    return 116 * g - 16, 500 * (f - g), 200 * (g - h)


def distance(one: Colour, other: Colour, vision: str) -> float:
    pairs = zip(lab(seen(one, vision)), lab(seen(other, vision)), strict=True)
    return float(sum((a - b) ** 2 for a, b in pairs) ** 0.5)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_state_stands_out_from_its_background(scheme: int, family: str) -> None:
    found = colours(scheme)
    assert contrast(found[family], found["paper"]) >= 3.0


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("vision", VISIONS)
def test_states_are_told_apart_by_everybody(scheme: int, vision: str) -> None:
    found = colours(scheme)
    for one, other in combinations(FAMILIES, 2):
        assert distance(found[one], found[other], vision) >= 23.5, (one, other)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read(scheme: int) -> None:
    found = colours(scheme)
    for text in ("ink", "soft", "link"):
        for ground in ("paper", "panel", "alarm"):
            assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    assert contrast(found["focus"], found["paper"]) >= 3.0


def test_every_state_has_a_look_and_says_it_without_colour() -> None:
    for state in (*JobState, *UnitState):
        assert look_of(state.value).word == state.value
    assert look_of(None).word == "embryo"
    for one, other in combinations([look_of(state) for state in JobState] + [LOOKS[NOT_DUE]], 2):
        assert one.glyph != other.glyph


def test_the_budgets_are_kept() -> None:
    import gzip

    def packed(name: str) -> int:
        return len(gzip.compress((FOLDER / "static" / name).read_bytes()))

    assert packed("console.css") < 10_000
    assert packed("console.js") < 8_000
    assert "@import" not in SHEET
    assert "http" not in SHEET
