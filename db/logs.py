"""Lines of web server access logs: Common and Combined Log Format.

The rule of a record, the same as the independent truth of the tests uses::

    host ident user [dd/Mon/yyyy:HH:MM:SS +-hhmm] "request" status size ["referer" ["agent"]]

* Greedy on the request, so quotes inside it stay inside.
* A size of ``-`` counts as 0 bytes.
* The instant is the time written minus its offset.
* A line that starts with one blank and a double quote is a *continuation*: the severed user-agent
  half of a record. It is counted and adds nothing.
* Every other line is *malformed*: counted, kept aside, adds nothing. So is a line longer than
  `LINE_LIMIT`, an impossible date, or a size of more than 18 digits.

The agent may be absent (Common format) or cut off by the end of the line.
"""

import re
from datetime import date
from functools import lru_cache
from typing import NamedTuple

#: Bytes of the longest line that is looked at; longer ones are malformed.
LINE_LIMIT = 1 << 20
#: Characters kept of an address, an agent or a site: enough to tell them apart.
TEXT_LIMIT = 500
#: The site of requests without the wanted path segment.
ROOT = "(root)"

_RECORD = re.compile(
    rb"(\S+) \S+ \S+ "
    rb"\[(\d\d)/([A-Z][a-z][a-z])/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)\] "
    rb'"(.*)" (\d{3}) (\d{1,18}|-)(?=\s|$)(.*)',
    re.DOTALL,
)
#: What follows the size: referer and agent, each with \" inside, the last perhaps cut off.
_AGENT = re.compile(rb' "(?:[^"\\]|\\.)*" "((?:[^"\\]|\\.)*)', re.DOTALL)
_CONTINUATION = b' "'
_EPOCH = date(1970, 1, 1).toordinal()
_MONTHS = {
    name: number
    for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}


class Record(NamedTuple):
    """One request of a visitor."""

    #: Who asked: a host name or address, as written.
    address: str
    #: When, in seconds since 1970-01-01 UTC.
    time: int
    #: The request line as written, without its quotes.
    request: str
    #: HTTP status, three digits.
    status: int
    #: Bytes sent.
    size: int
    #: User agent; empty when the line has none.
    agent: str


def parse(line: bytes) -> Record | None:
    """The record that a line (without its newline) holds; None when it is not one."""
    if len(line) > LINE_LIMIT:
        return None
    found = _RECORD.match(line)
    if found is None:
        return None
    address, day, month, year, hour, minute, second, sign, ahead, ahead_minutes = found.groups()[
        :10
    ]
    midnight = _midnight(year, month, day)
    clock = int(hour), int(minute), int(second)
    if midnight is None or clock > (23, 59, 59) or clock[1] > 59 or clock[2] > 59:
        return None
    offset = int(ahead) * 3600 + int(ahead_minutes) * 60
    written = midnight + clock[0] * 3600 + clock[1] * 60 + clock[2]
    request, status, size, rest = found.groups()[10:]
    agent = _AGENT.match(rest)
    return Record(
        address=text(address),
        time=written - offset if sign == b"+" else written + offset,
        request=text(request, limit=LINE_LIMIT),
        status=int(status),
        size=0 if size == b"-" else int(size),
        agent=text(agent[1]) if agent else "",
    )


def is_continuation(line: bytes) -> bool:
    """Whether a line is the severed user-agent half of a record."""
    return line.startswith(_CONTINUATION) and len(line) <= LINE_LIMIT


def site_of(request: str, segment: int) -> str:
    """The site that a request belongs to: path segment number `segment` (from 1), lower case.

    The query is cut off; of an absolute URL only the path counts. `ROOT` where the segment is
    absent or empty, and for every request that is not ``METHOD /path …``: a handshake sent to
    the wrong port is traffic, and it belongs to no site.
    """
    words = request.split(" ", 2)
    if len(words) < 2:
        return ROOT
    target = words[1]
    if not target.startswith("/"):
        scheme, separator, rest = target.partition("://")
        if not separator or not scheme.isalpha():
            return ROOT
        target = "/" + rest.partition("/")[2]
    segments = target.partition("?")[0].split("/", segment + 1)
    return segments[segment].lower()[:TEXT_LIMIT] or ROOT if len(segments) > segment else ROOT


def text(raw: bytes, limit: int = TEXT_LIMIT) -> str:
    """Bytes of a log as printable text: what is not UTF-8 or not printable becomes an escape."""
    found = raw[:limit].decode("utf-8", "backslashreplace")
    if found.isprintable():
        return found
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in found
    )


@lru_cache(maxsize=1024)
def _midnight(year: bytes, month: bytes, day: bytes) -> int | None:
    try:
        return (date(int(year), _MONTHS[month], int(day)).toordinal() - _EPOCH) * 86400
    except (KeyError, ValueError):
        return None
