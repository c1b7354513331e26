"""Browser and system families, by a hand-made table."""

import pytest

from db.agents import classify

_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_FIREFOX = "rv:127.0) Gecko/20100101 Firefox/127.0"
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "browser", "system"),
    [
        (f"{_WINDOWS} {_CHROME}", "chrome", "windows"),
        (f"{_WINDOWS} {_CHROME} Edg/126.0.0.0", "edge", "windows"),
        (f"{_WINDOWS} {_CHROME} OPR/111.0.0.0", "opera", "windows"),
        (f"{_MAC} Version/17.5 Safari/605.1.15", "safari", "macos"),
        (f"Mozilla/5.0 (X11; Linux x86_64; {_FIREFOX}", "firefox", "linux"),
        ("Mozilla/5.0 (Windows NT 6.1; Trident/7.0)", "internet explorer", "windows"),
        (f"Mozilla/5.0 (Linux; Android 14) {_CHROME}", "chrome", "android"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 "
            "(KHTML, like Gecko) CriOS/126.0 Mobile/15E148 Safari/604.1",
            "chrome",
            "ios",
        ),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +https://google.com/bot)", "bot", "other"),
        ("Googlebot-Image/1.0", "bot", "other"),
        ("crawler_eb_germany_2.0", "bot", "other"),
        ("Friendly_Crawler/Nutch-1.20-SNAPSHOT", "bot", "other"),
        ("Mozilla/5.0 zgrab/0.x", "bot", "other"),
        ("curl/7.54.0", "curl", "other"),
        ("Wget/1.20.3 (linux-gnu)", "wget", "linux"),
        ("python-requests/2.28.1", "python", "other"),
        ("Python-urllib/3.6", "python", "other"),
        ("Python/3.8 aiohttp/3.9.5", "python", "other"),
        ("Go-http-client/1.1", "library", "other"),
        ("libwww-perl/6.05", "library", "other"),
        ("Mozilla/5.0", "other", "other"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "other", "linux"),
        ("kmdjdheyytgebfghehhenegsdfsdf", "other", "other"),
        ("Cubot/1 phone", "bot", "other"),
        ("-", "none", "none"),
        ("", "none", "none"),
    ],
)
def test_the_families_of_an_agent(agent: str, browser: str, system: str) -> None:
    assert classify(agent) == (browser, system)
