"""The feed of the MongoDB store: transitions move from the documents into numbered entries.

The newest entries are in one document, ``head``, with the number of the last one (``through``).
Folding is one conditional write on it: the entries are put behind those of the expected number, so
whoever else folds at the same time is refused, looks anew, and no number is given twice or left
out.  After that the documents are told: ``pending`` goes, or moves behind what was folded where a
document has moved on since.  ``cleared`` says up to which number that has been done; who finds it
behind ``through`` does it again, for somebody has died in between, and only then folds more.

A head that is full is copied to a document of its own, numbered by its last entry, before the next
entries take its place.

Neither telling the documents nor ``cleared`` waits for the journal: a failure that undoes the one
undoes the other too, as everything is kept in the order of writing, and the next fold expects the
``cleared`` that it knows.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo import InsertOne, UpdateMany
from pymongo.errors import BulkWriteError

from synergy.core.model import TRANSITIONS_KEPT, FeedEntry
from synergy.stores.mongodb_documents import (
    ENTRY_KEY,
    ENTRY_KIND,
    ENTRY_VERSION,
    Document,
    entries_of,
    entry_from_list,
    new_mark,
)
from synergy.stores.mongodb_server import Server, refused_as_known

#: Collections by the kind of their documents.
KINDS: Mapping[str, str] = {"job": "jobs", "unit": "units"}

HEAD = {"_id": "head"}
EMPTY_HEAD: Document = {**HEAD, "through": 0, "cleared": 0, "size": 0, "entries": []}

#: Documents that one fold takes at most, and about how many bytes of entries.
FOLD_MOST, FOLD_BYTES = 2000, 4_000_000
#: With so many entries, or bytes of them, a head is full.
HEAD_MOST, HEAD_BYTES = 500, 500_000
#: About what an entry takes, beside its reason.
_ENTRY_BYTES = 200

_COUNT = {"count": {"$size": "$entries"}}
PENDING = {"pending": {"$gt": 0}}
_PENDING_FIELDS = dict.fromkeys(
    ("process", "label", "start", "end", "version", "pending", "mark", "transitions"), 1
)

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class _Head:
    """What a folder knows of the head when everything in it is cleared."""

    through: int
    count: int
    size: int

    @property
    def full(self) -> bool:
        # Of the head alone, so that everybody who finds it decides alike: what is copied once may
        # not grow any more.
        return self.count >= HEAD_MOST or self.size >= HEAD_BYTES


@dataclass(frozen=True, slots=True)
class _Told:
    """Of a document: up to which version its transitions are in the feed, and how it was read."""

    kind: str
    key: str
    version: int
    mark: int
    long: bool


class MongoFeed:
    """Folds, and reads what was folded."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._feed = server.collection("feed")
        self._head = server.collection("feed", durable=False)
        self._of_kind = {kind: server.collection(name) for kind, name in KINDS.items()}
        self._told = {kind: server.collection(name, durable=False) for kind, name in KINDS.items()}
        self._lock = threading.Lock()
        #: The head as this folder left it; None when it must be looked at.
        self._known: _Head | None = None

    # in

    def fold(self, limit: int) -> int:
        """Number the pending transitions of so many documents at most; how many they were."""
        if limit <= 0:
            return 0
        with self._lock:
            while True:
                head = self._known or self._read_head()
                self._known = None  # should anything fail from here on
                documents = self._pending(min(limit, FOLD_MOST))
                entries, told = _entries(documents)
                if not entries:
                    self._known = head
                    return 0
                if head.full:
                    self._copy(head)
                following = self._append(head, entries)
                if following is not None:
                    self._clear(told, head.through, following.through)
                    self._known = following
                    return len(entries)

    def _read_head(self) -> _Head:
        """The head, after what another folder has left undone was done."""
        found = self._server.answered(
            lambda: self._feed.find_one(
                HEAD,
                {
                    "through": 1,
                    "cleared": 1,
                    "size": 1,
                    **_COUNT,
                    "undone": _behind("$cleared", FOLD_MOST * TRANSITIONS_KEPT),
                },
            )
        )
        assert found is not None, "the schema makes it"
        if found["undone"]:
            self._clear(self._told_by(found["undone"]), found["cleared"], found["through"])
        return _Head(found["through"], found["count"], found["size"])

    def _told_by(self, entries: Sequence[Sequence[Any]]) -> list[_Told]:
        """The documents as they stand now, as far as these entries are of their last version."""
        versions: dict[str, dict[str, int]] = defaultdict(dict)
        for entry in entries:
            known = versions[entry[ENTRY_KIND]]
            key, version = entry[ENTRY_KEY], entry[ENTRY_VERSION]
            known[key] = max(version, known.get(key, 0))
        return [
            _Told(kind, document["_id"], known[document["_id"]], document["mark"], True)
            for kind, known in versions.items()
            for document in self._find(kind, {"_id": {"$in": list(known)}}, {"mark": 1})
        ]

    def _pending(self, limit: int) -> list[tuple[str, Document]]:
        """Documents with news, by kind, those first whose news are the oldest."""
        found = [
            (kind, document)
            for kind in KINDS
            for document in self._find(kind, PENDING, _PENDING_FIELDS, limit)
        ]
        found.sort(key=lambda each: _first_news_at(each[1]))
        return found[:limit]

    def _find(
        self, kind: str, query: Document, fields: Mapping[str, Any], limit: int = 0
    ) -> list[Document]:
        collection = self._of_kind[kind]
        return self._server.answered(lambda: list(collection.find(query, fields, limit=limit)))

    def _copy(self, head: _Head) -> None:
        """Put a full head beside; done twice, or by two, it is the same."""
        found = self._server.answered(
            lambda: self._feed.find_one({**HEAD, "through": head.through}, {"entries": 1})
        )
        if found is None:
            return  # another was first, as `_append` will find too
        document = {"_id": head.through, "entries": found["entries"]}

        def insert() -> None:
            try:
                self._head.bulk_write([InsertOne(document)])
            except BulkWriteError as error:
                if not refused_as_known(error):
                    raise

        self._server.answered(insert)

    def _append(self, head: _Head, entries: list[list[Any]]) -> _Head | None:
        """Give the entries their numbers; the head after it, None when another was first."""
        mark, size = new_mark(), sum(map(_size, entries))
        if head.full:
            following = _Head(head.through + len(entries), len(entries), size)
            change: Document = {"$set": {"entries": entries}}
        else:
            following = _Head(
                head.through + len(entries), head.count + len(entries), head.size + size
            )
            change = {"$set": {}, "$push": {"entries": {"$each": entries}}}
        change["$set"] |= {"through": following.through, "size": following.size, "mark": mark}
        expected = {**HEAD, "through": head.through, "cleared": head.through}
        appended = self._server.answered(
            lambda: self._feed.update_one(expected, change).matched_count
        )
        if not appended:
            # An answer that was lost on its way looks like this, too.
            standing = self._server.answered(lambda: self._feed.find_one(HEAD, {"mark": 1}))
            if standing is None or standing.get("mark") != mark:
                return None
        return following

    def _clear(self, told: Iterable[_Told], cleared: int, through: int) -> None:
        """Tell the documents that the feed has them, so that it is known of all up to `through`."""
        for kind, group in _grouped(told, lambda each: each.kind):
            alike = list(_grouped(group, lambda each: (each.version, each.long)))
            updates = [_unset(version, long, each) for (version, long), each in alike]
            if self._tell(kind, updates) < len(group):
                self._tell(kind, [_move_on(version, each) for (version, _), each in alike])
        self._server.answered(
            lambda: self._head.update_one(
                {**HEAD, "through": through, "cleared": cleared}, {"$set": {"cleared": through}}
            )
        )

    def _tell(self, kind: str, updates: list[UpdateMany]) -> int:
        collection = self._told[kind]
        return self._server.answered(
            lambda: collection.bulk_write(updates, ordered=False).matched_count
        )

    # out

    def feed(self, after: int, limit: int) -> list[FeedEntry]:
        """Entries, ascending."""
        return [entry_from_list(seq, entry) for seq, entry in self._entries(after, limit)]

    def changes(self, after: int, limit: int) -> list[tuple[int, str, str, int]]:
        """What of entries tells which documents to read."""
        return [
            (seq, entry[ENTRY_KIND], entry[ENTRY_KEY], entry[ENTRY_VERSION])
            for seq, entry in self._entries(after, limit)
        ]

    def prune(self, through: int) -> int:
        """Forget entries; how many."""
        head = self._server.answered(
            lambda: self._feed.find_one(HEAD, {"through": 1, "cleared": 1, **_COUNT})
        )
        assert head is not None, "the schema makes it"
        through = min(through, head["cleared"])
        whole = {"_id": {"$gt": 0, "$lte": through}}
        numbered = [("_id", 1)]
        found = self._server.answered(
            lambda: (
                list(self._feed.find(whole, _COUNT)),
                list(self._feed.find({"_id": {"$gt": through}}, _COUNT, sort=numbered, limit=1)),
            )
        )
        forgotten: int = sum(each["count"] for each in found[0])
        if forgotten:
            self._server.answered(lambda: self._feed.delete_many(whole))
        for document in (*found[1], head):
            last = head["through"] if document is head else document["_id"]
            old = min(document["count"], through - (last - document["count"]))
            if old > 0:
                forgotten += old
                self._cut(document, document["count"] - old)
        return forgotten

    def _cut(self, document: Document, keep: int) -> None:
        """Leave so many entries of the document, the last ones."""
        standing: Document = {
            name: document[name] for name in ("_id", "through") if name in document
        }
        cut = {"$push": {"entries": {"$each": [], "$slice": -keep}}}
        self._server.answered(lambda: self._feed.update_one(standing, cut))

    def _entries(self, after: int, limit: int) -> list[tuple[int, Sequence[Any]]]:
        """Entries with their numbers."""
        if limit <= 0:
            return []
        head = self._server.answered(
            lambda: self._feed.find_one(
                HEAD,
                {
                    "through": 1,
                    **_COUNT,
                    "entries": _behind({"$literal": after}, limit),
                },
            )
        )
        assert head is not None, "the schema makes it"
        before = head["through"] - head["count"]
        found: list[tuple[int, Sequence[Any]]] = []
        if after < before:
            found = self._server.answered(lambda: self._older(after, before, limit))
        found += enumerate(head["entries"], max(after, before) + 1)
        return found[:limit]

    def _older(self, after: int, before: int, limit: int) -> list[tuple[int, Sequence[Any]]]:
        found: list[tuple[int, Sequence[Any]]] = []
        numbered = {"_id": {"$gt": after, "$lte": before}}
        with self._feed.find(numbered, sort=[("_id", 1)], batch_size=16) as documents:
            for document in documents:
                entries = document["entries"]
                first = document["_id"] - len(entries) + 1
                found += [(seq, entry) for seq, entry in enumerate(entries, first) if seq > after]
                if len(found) >= limit:
                    break
        return found


def _entries(
    documents: Iterable[tuple[str, Document]],
) -> tuple[list[list[Any]], list[_Told]]:
    """What is to be folded of these documents, and what they are to be told then."""
    entries: list[list[Any]] = []
    told: list[_Told] = []
    size = 0
    for kind, document in documents:
        fresh = entries_of(kind, document)
        entries += fresh
        long = len(document["transitions"]) > TRANSITIONS_KEPT
        told.append(_Told(kind, document["_id"], document["version"], document["mark"], long))
        size += sum(map(_size, fresh))
        if size > FOLD_BYTES:
            break
    return entries, told


def _unset(version: int, long: bool, told: Sequence[_Told]) -> UpdateMany:
    """Those that stand as they were read have nothing pending."""
    # The marks tell a document that was forgotten and began anew from the one that was read.
    marks = list({each.mark for each in told})
    query = {
        "_id": {"$in": [each.key for each in told]},
        "version": version,
        "mark": {"$in": marks},
    }
    change: Document = {"$unset": {"pending": ""}}
    if long:
        change["$push"] = {"transitions": {"$each": [], "$slice": -TRANSITIONS_KEPT}}
    return UpdateMany(query, change)


def _move_on(version: int, told: Sequence[_Told]) -> UpdateMany:
    """Of those that have moved on since, the later transitions are pending."""
    keys = [each.key for each in told]
    query = {"_id": {"$in": keys}, "version": {"$gt": version}, "pending": {"$lte": version}}
    return UpdateMany(query, {"$set": {"pending": version + 1}})


def _behind(number: Any, limit: int) -> Document:
    """The expression for so many of the head's entries whose numbers are above `number`."""
    before = {"$subtract": ["$through", {"$size": "$entries"}]}
    place = {"$max": [0, {"$subtract": [number, before]}]}
    return {
        "$cond": [
            {"$lt": [number, "$through"]},
            {"$slice": ["$entries", place, min(limit, 1_000_000)]},
            [],
        ]
    }


def _first_news_at(document: Mapping[str, Any]) -> int:
    pending = document["pending"]
    at: int = next((each[1] for each in document["transitions"] if each[0] >= pending), 0)
    return at


def _size(entry: Sequence[Any]) -> int:
    return _ENTRY_BYTES + len(entry[-1] or "")


def _grouped(
    items: Iterable[_Found], kind: Callable[[_Found], Any]
) -> Iterator[tuple[Any, list[_Found]]]:
    groups: dict[Any, list[_Found]] = {}
    for item in items:
        groups.setdefault(kind(item), []).append(item)
    yield from groups.items()
