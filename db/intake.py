"""Reading log files into the database: each line once, whatever happens in between.

**Once.** A file is read in chunks. One transaction stores the events of a chunk *and* the position
after it, and refuses when the position is no longer the one the chunk was read from. So a reader
that is killed loses nothing, and of two readers at the same time one starts again from where the
other is.

**The same file.** A file is known by its content, not by its name: everything counted so far must
stand at the beginning of what is there now (compared by checksums of 4096-byte blocks, the first
4096 bytes and the last ones). A file given twice, by two paths, as a gzip copy or after a rotation
under its new name is therefore counted once and read on from where it was left; a path whose
content does not begin like that any more was rotated or truncated, which is said, and its new
content is read from its beginning. While two different files begin with the same lines, and one of
them has no more than these, nobody can tell them apart: the shorter one counts once it differs.

**The last line.** A line without its newline is unfinished and waits, because the rest may be
written in the next moment. It counts when the file is said to be complete, or at the true end of a
gzip. Should the file grow after all, that count is taken back and the line is read anew: any way
of cutting the reading up gives the same result. The line at which a truncated gzip breaks off is
never counted; it would be a record with wrong figures.
"""

import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from os import PathLike
from pathlib import Path

from db import sessions
from db.agents import classify
from db.content import Content, Ending
from db.logs import LINE_LIMIT, Record, is_continuation, parse, site_of, text
from db.traffic import Traffic

#: Bytes of content per transaction, more when a single line is longer.
CHUNK = 1 << 19
#: Bytes over which one checksum is taken.
BLOCK = 4096
#: Malformed lines kept per file; more are only counted.
REJECTED_LIMIT = 1000

#: Told what is done and what there is, in bytes on the disk, and a text.
Progress = Callable[[int, int, str], object]


@dataclass(slots=True)
class Reading:
    """What one reading of one file brought."""

    path: str
    #: Lines that this reading added, of every kind.
    lines: int = 0
    records: int = 0
    malformed: int = 0
    continuation: int = 0
    #: Whether there is no such file (yet).
    missing: bool = False
    #: What the user should know, in sentences.
    notes: list[str] = field(default_factory=list)


def read_files(
    traffic: Traffic,
    paths: Sequence[str | PathLike[str]],
    *,
    segment: int = 1,
    complete: bool = False,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> list[Reading]:
    """Read log files, in any order, from where each was left to its present end.

    `segment` is the number of the path segment that names the site, from 1; `complete` says that
    nothing will be added to the files. A missing file is marked as such; one that cannot be read
    raises its `OSError` after the others have been read.
    """
    total = sum(_size(path) for path in paths)
    done = 0
    readings: list[Reading] = []
    unreadable: OSError | None = None
    for path in paths:
        before = done

        def tell(consumed: int, path: str | PathLike[str] = path, before: int = before) -> None:
            if progress is not None:
                progress(min(before + consumed, total), total, Path(path).name)

        try:
            readings.append(
                read_file(traffic, path, segment=segment, complete=complete, tell=tell, chunk=chunk)
            )
        except FileNotFoundError:
            note = f"{path}: there is no such file"
            readings.append(Reading(str(path), missing=True, notes=[note]))
        except OSError as error:
            unreadable = unreadable or error
        done += _size(path)
        tell(done - before)
    if unreadable is not None:
        raise unreadable
    return readings


def read_file(
    traffic: Traffic,
    path: str | PathLike[str],
    *,
    segment: int = 1,
    complete: bool = False,
    tell: Callable[[int], object] = lambda consumed: None,
    chunk: int = CHUNK,
) -> Reading:
    """Read one log file from where it was left; see `read_files`."""
    if segment < 1:
        raise ValueError(f"path segments are numbered from 1, not {segment}")
    reading = Reading(str(path))
    while True:
        with Content(path) as content:
            try:
                _read_on(
                    traffic, Path(path).absolute(), content, reading, segment, complete, tell, chunk
                )
                return reading
            except _Moved:
                pass  # another reader was faster; what it counted is not counted here


class _Moved(Exception):
    """Another process has read the file meanwhile; look again where it stands."""


class _Kind(Enum):
    RECORD = "records"
    MALFORMED = "malformed"
    CONTINUATION = "continuation"


class _Match(Enum):
    """How the content at a path relates to a file that was read before."""

    #: All that was counted stands at its beginning.
    SAME = "same"
    #: It is the beginning of what was counted, and no more.
    SHORTER = "shorter"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class _File:
    """A row of `files`, as far as reading needs it."""

    #: None while nothing of the file has been counted: it has no row yet.
    id: int | None = None
    offset: int = 0
    head: bytes = b""
    tail: bytes = b""
    loose: bytes | None = None
    #: Of a file without a row: how many files had been read when it was found to be new.
    others: int = 0

    @property
    def counted(self) -> int:
        return self.offset + len(self.loose or b"")


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Whole lines of a file, or the unfinished last one, with the traces they leave."""

    start: int
    #: Position after the last whole line; equal to `start` for an unfinished line.
    end: int
    #: Each line without its newline, and its position.
    lines: list[tuple[int, bytes]]
    #: Checksums of the blocks that are full now, and the bytes after them.
    blocks: list[tuple[int, int]]
    tail: bytes
    #: The first bytes of the chunk, as many as a head may need.
    first: bytes


def _read_on(
    traffic: Traffic,
    path: Path,
    content: Content,
    reading: Reading,
    segment: int,
    complete: bool,
    tell: Callable[[int], object],
    size: int,
) -> None:
    file = _identify(traffic, path, content, reading)
    if file is None:
        return
    content.rewind()
    content.skip_to(file.offset)
    rest = b""
    for step in _chunks(content, file, size):
        match step:
            case _Chunk():
                file = _store(traffic, path, file, step, segment, reading)
            case bytes():
                rest = step
        tell(content.consumed)
    finished = content.ending is Ending.COMPLETE or (complete and content.ending is Ending.PRESENT)
    if finished and len(rest) > len(file.loose or b""):
        line = [(file.offset, rest)]
        last = _Chunk(file.offset, file.offset, line, [], file.tail, rest[:BLOCK])
        file = _store(traffic, path, file, last, segment, reading)
    _close(traffic, path, file, content, reading)


def _identify(traffic: Traffic, path: Path, content: Content, reading: Reading) -> _File | None:
    """The file that the content at a path is; None where there is nothing to read."""
    head = content.read(BLOCK)
    with traffic.reading() as db:
        known = _known(db, path)
        others = _files_read(db)
        candidates = _candidates(db, head, known)
    shorter: _File | None = None
    for candidate in candidates:
        match _compare(traffic, content, candidate, quick=candidate == known):
            case _Match.SAME:
                _remember_path(traffic, path, candidate)
                return candidate
            case _Match.SHORTER:
                shorter = shorter or candidate
            case _Match.DIFFERENT:
                pass
    if shorter is not None:
        _remember_path(traffic, path, shorter)
        reading.notes.append(
            f"{path} is shorter than what was read of this file before; it has nothing new"
        )
        return None
    if known is not None and known.counted:
        reading.notes.append(
            f"{path} was rotated or truncated: it no longer begins with the {known.counted} bytes "
            "read before, so its new content is read from the beginning. Lines written to the old "
            "file since then count when the rotated file is read too"
        )
    return _File(others=others)


_ROW = "SELECT files.id, offset, head, tail, loose FROM files"


def _known(db: sqlite3.Connection, path: Path) -> _File | None:
    row = db.execute(
        f"{_ROW} JOIN paths ON paths.file = files.id WHERE paths.path = ?", (str(path),)
    ).fetchone()
    return _File(*row) if row else None


def _files_read(db: sqlite3.Connection) -> int:
    count: int = db.execute("SELECT count(*) FROM files WHERE length(head) > 0").fetchone()[0]
    return count


def _candidates(db: sqlite3.Connection, head: bytes, known: _File | None) -> list[_File]:
    """Files that begin like `head`, the one last met at this path first, then the longest."""
    if not head:
        return []  # nothing is the beginning of everything
    rows = [
        _File(*row)
        for row in db.execute(
            f"{_ROW} WHERE length(head) > 0"
            " AND substr(head, 1, min(length(head), ?1)) = substr(?2, 1, min(length(head), ?1))"
            " ORDER BY offset DESC",
            (len(head), head),
        )
    ]
    return sorted(rows, key=lambda row: row != known)


def _compare(traffic: Traffic, content: Content, file: _File, *, quick: bool) -> _Match:
    """Whether what was counted of a file stands at a path; its heads are known to agree.

    `quick` is for the path where the file was met last: there the end of what was counted is
    proof enough, and a growing log is not read again from its beginning each time.
    """
    full = file.offset // BLOCK
    first = max(full - 1, 0) if quick and not content.compressed else 0
    content.rewind()
    content.skip_to(first * BLOCK)
    for (crc,) in traffic.db.execute(
        "SELECT crc FROM blocks WHERE file = ? AND number BETWEEN ? AND ? ORDER BY number",
        (file.id, first, full - 1),
    ).fetchall():
        block = content.read(BLOCK)
        if len(block) < BLOCK:
            return _Match.SHORTER
        if zlib.crc32(block) != crc:
            return _Match.DIFFERENT
    end = file.tail + (file.loose or b"")
    found = content.read(len(end))
    if found == end:
        return _Match.SAME
    return _Match.SHORTER if end.startswith(found) else _Match.DIFFERENT


def _remember_path(traffic: Traffic, path: Path, file: _File) -> None:
    query = "SELECT file FROM paths WHERE path = ?"
    if traffic.db.execute(query, (str(path),)).fetchone() != (file.id,):
        with traffic.writing() as db:
            db.execute("REPLACE INTO paths VALUES (?, ?)", (str(path), file.id))


def _chunks(content: Content, file: _File, size: int) -> Iterator[_Chunk | bytes]:
    """The whole lines from the file's position on, and after each step what is left over.

    Of a line longer than `LINE_LIMIT` only so much is kept in memory as shows that it is; its
    checksums are taken while it passes.
    """
    start, blocks, tail = file.offset, list[tuple[int, int]](), file.tail
    first_block = (start - len(tail)) // BLOCK
    rest = b""  # the unfinished line so far, cut to just above the limit
    passed = 0  # its true length
    while piece := content.read(size):
        cut = piece.rfind(b"\n") + 1
        if not cut:
            blocks, tail = _mark(blocks, first_block, tail + piece)
            passed += len(piece)
            rest = (rest + piece)[: LINE_LIMIT + 1]
            yield rest
            continue
        whole, left = piece[:cut], piece[cut:]
        marked, kept = _mark(blocks, first_block, tail + whole)
        end = start + passed + cut
        lines: list[tuple[int, bytes]] = []
        position = start
        for number, line in enumerate(whole.split(b"\n")[:-1]):
            text_of_line = rest + line if number == 0 else line
            lines.append((position, text_of_line))
            position += len(line) + 1 + (passed if number == 0 else 0)
        yield _Chunk(start, end, lines, marked, kept, (rest + whole)[:BLOCK])
        start, first_block = end, end // BLOCK
        blocks, tail = _mark([], first_block, kept + left)
        rest, passed = left[: LINE_LIMIT + 1], len(left)
        yield rest


def _mark(
    blocks: list[tuple[int, int]], first: int, data: bytes
) -> tuple[list[tuple[int, int]], bytes]:
    """Checksums of the full blocks of `data` after those already taken, and what is left."""
    number = first + len(blocks)
    full = len(data) // BLOCK
    taken = [
        (number + place, zlib.crc32(data[place * BLOCK : (place + 1) * BLOCK]))
        for place in range(full)
    ]
    return [*blocks, *taken], data[full * BLOCK :]


def _store(
    traffic: Traffic, path: Path, file: _File, chunk: _Chunk, segment: int, reading: Reading
) -> _File:
    """One transaction: the lines of a chunk, and that they have been counted."""
    records: list[tuple[int, Record]] = []
    rejected: list[tuple[int, str, str]] = []
    kinds = dict.fromkeys(_Kind, 0)
    kind = _Kind.RECORD
    for position, line in chunk.lines:
        record = parse(line)
        if record is not None:
            kind = _Kind.RECORD
            records.append((position, record))
        elif is_continuation(line):
            kind = _Kind.CONTINUATION
        else:
            kind = _Kind.MALFORMED
            rejected.append((position, text(line), _reason(line)))
        kinds[kind] += 1

    loose = chunk.lines[0][1] if chunk.end == chunk.start else None
    with traffic.writing() as db:
        number = _row(db, path, file)
        offset, before, before_kind, head = db.execute(
            "SELECT offset, loose, loose_kind, head FROM files WHERE id = ?", (number,)
        ).fetchone()
        if offset != chunk.start or before != file.loose:
            raise _Moved
        if before is not None:
            _take_back(db, number, offset)
            kinds[_Kind(before_kind)] -= 1
        _insert(db, number, records, segment)
        (kept,) = db.execute("SELECT count(*) FROM rejected WHERE file = ?", (number,)).fetchone()
        db.executemany(
            "INSERT INTO rejected VALUES (?, ?, ?, ?)",
            [(number, *line) for line in rejected[: max(REJECTED_LIMIT - kept, 0)]],
        )
        db.executemany(
            "INSERT INTO blocks VALUES (?, ?, ?)", [(number, *block) for block in chunk.blocks]
        )
        db.execute(
            "UPDATE files SET offset = ?, head = ?, tail = ?, loose = ?, loose_kind = ?,"
            " lines = lines + ?, records = records + ?, malformed = malformed + ?,"
            " continuation = continuation + ? WHERE id = ?",
            (
                chunk.end,
                (head[: chunk.start] + chunk.first)[:BLOCK],
                chunk.tail,
                loose,
                kind.value if loose is not None else None,
                sum(kinds.values()),
                *(kinds[kind] for kind in _Kind),
                number,
            ),
        )
    reading.lines += sum(kinds.values())
    reading.records += kinds[_Kind.RECORD]
    reading.malformed += kinds[_Kind.MALFORMED]
    reading.continuation += kinds[_Kind.CONTINUATION]
    return _File(number, chunk.end, tail=chunk.tail, loose=loose)


def _row(db: sqlite3.Connection, path: Path, file: _File) -> int:
    """The row of a file, made now if it has none."""
    if file.id is not None:
        return file.id
    if _files_read(db) != file.others:
        raise _Moved  # one that was read meanwhile may be this one, by another path
    db.execute("INSERT INTO files (path) VALUES (?)", (str(path),))
    number: int = db.execute("SELECT last_insert_rowid()").fetchone()[0]
    db.execute("REPLACE INTO paths VALUES (?, ?)", (str(path), number))
    return number


def _reason(line: bytes) -> str:
    if len(line) > LINE_LIMIT:
        return f"longer than {LINE_LIMIT} bytes"
    return "not in the Common or Combined Log Format"


def _take_back(db: sqlite3.Connection, file: int, offset: int) -> None:
    """Forget the last line that was counted without its newline."""
    place = (file, offset)
    db.execute("DELETE FROM rejected WHERE file = ? AND offset = ?", place)
    event = db.execute(
        "DELETE FROM events WHERE file = ? AND offset = ? RETURNING visitor, site, time", place
    ).fetchone()
    if event is not None:
        sessions.remove(db, *event)


def _insert(
    db: sqlite3.Connection, file: int, records: Sequence[tuple[int, Record]], segment: int
) -> None:
    visitors: dict[tuple[str, str], int] = {}
    for _, record in records:
        key = record.address, record.agent
        if key not in visitors:
            visitors[key] = _visitor(db, *key)
    events = [
        (
            file,
            position,
            record.time,
            site_of(record.request, segment),
            visitors[record.address, record.agent],
            record.status,
            record.size,
        )
        for position, record in records
    ]
    db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", events)
    sessions.add(db, ((visitor, site, time) for _, _, time, site, visitor, _, _ in events))


def _visitor(db: sqlite3.Connection, address: str, agent: str) -> int:
    db.execute(
        "INSERT OR IGNORE INTO visitors (address, agent, browser, system) VALUES (?, ?, ?, ?)",
        (address, agent, *classify(agent)),
    )
    number: int = db.execute(
        "SELECT id FROM visitors WHERE address = ? AND agent = ?", (address, agent)
    ).fetchone()[0]
    return number


def _close(traffic: Traffic, path: Path, file: _File, content: Content, reading: Reading) -> None:
    """Write down how the content ended, and say it where something is missing."""
    ending, note = content.ending.value, ""
    if content.ending in (Ending.TRUNCATED, Ending.DAMAGED):
        uncounted = content.position - file.counted
        note = (
            f"{path}: the gzip is {ending} after {content.position} bytes of content; "
            "what could be read is counted"
            + (f", the severed last line ({uncounted} bytes) is not" if uncounted else "")
        )
        reading.notes.append(note)
    elif file.id is None:
        return  # nothing to say about nothing
    query = "SELECT ending, note FROM files WHERE id = ?"
    if traffic.db.execute(query, (file.id,)).fetchone() != (ending, note):
        with traffic.writing() as db:
            db.execute(
                "UPDATE files SET ending = ?, note = ? WHERE id = ?",
                (ending, note, _row(db, path, file)),
            )


def _size(path: str | PathLike[str]) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
