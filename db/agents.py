"""Browser and system families of user agents, by two small tables.

Agents claim to be several things at once (Edge says Chrome says Safari says Mozilla), so the first
row that matches wins and the tables go from the particular to the general. What no row knows is
``other``, no agent at all is ``none``. Honest, not clever: a robot that dresses up as a browser is
counted as that browser.
"""

import re
from functools import lru_cache
from typing import NamedTuple

_BROWSERS = (
    (r"bot\b|bot[/_-]|crawl|spider|slurp|nutch|zgrab|scan|censys|facebookexternalhit", "bot"),
    (r"\bcurl/", "curl"),
    (r"\bwget/", "wget"),
    (r"python|aiohttp|httpx|scrapy", "python"),
    (r"\bgo-http-client|\bgo-network|\bjava/|okhttp|libwww-perl|\bruby\b", "library"),
    (r"\bedg(e|a|ios)?/", "edge"),
    (r"\bopr/|\bopera\b|\bopt/", "opera"),
    (r"\bfirefox/|\bfxios/", "firefox"),
    (r"\bchrome/|\bchromium/|\bcrios/", "chrome"),
    (r"\bmsie |\btrident/", "internet explorer"),
    (r"\bsafari/", "safari"),
)
_SYSTEMS = (
    (r"android", "android"),
    (r"iphone|ipad|ipod|\bios\b", "ios"),
    (r"windows|\bwin(32|64)\b", "windows"),
    (r"macintosh|mac os x|macos|darwin", "macos"),
    (r"linux|x11; ?(ubuntu|fedora|cros)|\bubuntu\b", "linux"),
)


class Families(NamedTuple):
    """What a user agent says about itself."""

    browser: str
    system: str


def _compiled(rows: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.IGNORECASE), family) for pattern, family in rows)


_BROWSER_ROWS = _compiled(_BROWSERS)
_SYSTEM_ROWS = _compiled(_SYSTEMS)


@lru_cache(maxsize=4096)
def classify(agent: str) -> Families:
    """The families of a user agent as written in the log."""
    if agent in ("", "-"):
        return Families("none", "none")
    return Families(_family(agent, _BROWSER_ROWS), _family(agent, _SYSTEM_ROWS))


def _family(agent: str, rows: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    return next((family for pattern, family in rows if pattern.search(agent)), "other")
