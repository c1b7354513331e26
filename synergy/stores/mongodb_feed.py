"""The feed of the MongoDB store: transitions move from the documents into numbered entries.

The newest entries are in one document, ``head``, with the number of the last one (``through``).
Folding is one conditional write on it: the entries are put behind those of the expected number, so
whoever else folds at the same time is refused, looks anew, and no number is given twice or left
out.  A head that is full is copied to a document of its own, numbered by its last entry, before the
next entries take its place.

After that the documents are told: ``pending`` goes where nothing has happened since.  That can
wait, and so it is done for many at once, and once for a document that moves on quickly; until then
the folder remembers what is folded of which document.  ``cleared`` says up to which number nothing
of that is left to do: whoever finds it behind ``through`` does it again, for another folds too or
has died in between, and only then folds more.
"""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pymongo import UpdateMany
from pymongo.errors import DuplicateKeyError

from synergy.core.model import TRANSITIONS_KEPT, FeedEntry
from synergy.stores.mongodb_documents import (
    ENTRY_KEY,
    ENTRY_KIND,
    ENTRY_REASON,
    ENTRY_VERSION,
    Document,
    entries_of,
    entry_from_list,
    new_mark,
)
from synergy.stores.mongodb_server import LARGE_BATCH, Server

#: Collections by the kind of their documents.
KINDS: Mapping[str, str] = {"job": "jobs", "unit": "units"}

HEAD = {"_id": "head"}
EMPTY_HEAD: Document = {**HEAD, "through": 0, "cleared": 0, "size": 0, "entries": []}

#: Documents that one fold takes at most, and about how many bytes of entries.
FOLD_MOST, FOLD_BYTES = 2000, 4_000_000
#: Documents are told when they are so many, or have waited for so many seconds.
TELL_MOST, TELL_SECONDS = 100, 0.2
#: With so many entries, or bytes of them, a head is full.
HEAD_MOST, HEAD_BYTES = 500, 500_000
#: About what an entry takes, beside its reason.
_ENTRY_BYTES = 200

_COUNT = {"count": {"$size": "$entries"}}
PENDING = {"pending": {"$gt": 0}}
_PENDING_FIELDS = dict.fromkeys(
    ("process", "label", "start", "end", "version", "pending", "mark", "transitions"), 1
)


@dataclass(frozen=True, slots=True)
class _Head:
    """The head as it was read or left last."""

    through: int
    #: Documents know of all entries up to this one.
    cleared: int
    count: int
    size: int
    #: What is in it, where this folder has put all of it there.
    entries: list[list[Any]] | None = None

    @property
    def full(self) -> bool:
        # Of the head alone, so that everybody who finds it decides alike: what is copied once may
        # not grow any more.
        return self.count >= HEAD_MOST or self.size >= HEAD_BYTES


@dataclass(frozen=True, slots=True)
class _Told:
    """A document whose news up to a version are in the feed, which it does not know yet."""

    kind: str
    key: str
    version: int
    #: Of its last write, when it was read.
    mark: int
    #: Whether it carries more transitions than are kept.
    long: bool
    #: Number of the first of its entries that it does not know of.
    first: int


#: Marks the units among documents of several kinds.
_IS_UNIT: Document = {"is_unit": {"$literal": True}}

#: Number, kind, key and version of an entry.
Change = tuple[int, str, str, int]
_ByKey = dict[tuple[str, str], _Told]


class MongoFeed:
    """Folds, and reads what was folded."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._feed = server.collection("feed")
        self._of_kind = {kind: server.collection(name) for kind, name in KINDS.items()}
        self._lock = threading.Lock()
        #: The head as this folder left it; None when it must be looked at.
        self._known: _Head | None = None
        self._told: _ByKey = {}
        self._told_since = 0.0

    # in

    def fold(self, limit: int) -> int:
        """Number the pending transitions of so many documents at most; how many they were."""
        with self._lock:
            return len(self._fold(limit).entries) if limit > 0 else 0

    def follow(
        self, after: int, limit: int
    ) -> tuple[list[Change], Mapping[str, Mapping[str, Any]] | None, bool]:
        """Fold; the changes behind a number, the documents of the units that these are of, if they
        were seen, and whether there may be more."""
        with self._lock:
            folded = self._fold(max(1, limit))
        if after == folded.after:
            return [_change_of(*each) for each in folded.numbered()], folded.units, folded.more
        changes = self.changes(after, limit)
        return changes, None, folded.more or len(changes) == limit

    def _fold(self, limit: int) -> "_News":
        """What could be folded."""
        while True:
            head = self._known or self._read_head()
            self._known = None  # should anything fail from here on
            news = self._news(head, min(limit, FOLD_MOST))
            if news is None:
                continue  # another has folded since
            following = self._append(head, news) if news.entries else head
            if following is not None:
                if not self._told:
                    self._told_since = time.monotonic()
                self._told |= news.told
                self._known = following
                return news

    def settle(self) -> None:
        """Let the documents know of everything that is folded."""
        with self._lock:
            self._known = None
            head = self._read_head()
            known = {"$set": {"cleared": head.cleared}}
            self._server.answered(
                lambda: self._feed.update_one({**HEAD, "through": head.through}, known)
            )
            self._known = head

    def _read_head(self) -> _Head:
        """The head, after the documents of what another folder has left undone were told."""
        self._told = {}
        fields = {"through": 1, "cleared": 1, "size": 1, **_COUNT}
        found = self._server.answered(lambda: self._feed.find_one(HEAD, fields))
        assert found is not None, "the schema makes it"
        through = found["through"]
        told = [
            _told_up_to(known[document["_id"]], kind, document, through)
            for kind, known in self._untold(found["cleared"], through).items()
            for document in self._find(
                kind, {"_id": {"$in": list(known)}, **PENDING}, _PENDING_FIELDS
            )
        ]
        if not self._tell(told):
            self._move_on(told)
        return _Head(through, through, found["count"], found["size"])

    def untold(self) -> Mapping[str, Mapping[str, int]]:
        """What is in the feed of documents that need not know: kind → key → version."""
        found = self._server.answered(
            lambda: self._feed.find_one(HEAD, {"through": 1, "cleared": 1})
        )
        assert found is not None, "the schema makes it"
        return self._untold(found["cleared"], found["through"])

    def _untold(self, cleared: int, through: int) -> Mapping[str, Mapping[str, int]]:
        versions: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
        for _, entry in self._entries(cleared, through - cleared):
            known = versions[entry[ENTRY_KIND]]
            key, version = entry[ENTRY_KEY], entry[ENTRY_VERSION]
            known[key] = max(version, known.get(key, 0))
        return versions

    def _news(self, head: _Head, limit: int) -> "_News | None":
        """What is pending, of so many documents at most; tells those that it is time to tell.

        None where the head has moved on.
        """
        told = self._told
        waited = time.monotonic() - self._told_since
        due = len(told) >= TELL_MOST or (bool(told) and waited > TELL_SECONDS)
        if due and self._tell(told.values()):
            self._told = {}
        most = limit + len(told)
        through, documents = self._pending(most)
        if through != head.through:
            return None
        if due and self._told:  # some have moved on
            if len(documents) < most:
                read = {(kind, document["_id"]) for kind, document in documents}
                self._told = {key: each for key, each in told.items() if key in read}
            else:  # they need not be among those that were read
                self._move_on(told.values())
                self._told = {}
        news = _News(head.through, told, self._told)
        news.more = len(documents) == most
        for kind, document in documents:
            if news.documents == limit or news.size > FOLD_BYTES:
                news.more = True
                break
            news.add(kind, document)
        return news

    def _pending(self, limit: int) -> tuple[int, list[tuple[str, Document]]]:
        """Where the head is, and documents with news, by kind, the oldest news first.

        Of units it is the whole document.
        """
        # One question instead of three.  The head comes last: as long as it stands where it stood,
        # nobody has folded, and so made no longer pending, what was pending when this began.
        pipeline: list[Document] = [
            {"$match": PENDING},
            {"$limit": limit},
            {"$project": _PENDING_FIELDS},
            _union(KINDS["unit"], {"$match": PENDING}, {"$limit": limit}, {"$set": _IS_UNIT}),
            _union("feed", {"$match": HEAD}, {"$project": {"through": 1}}),
        ]
        jobs = self._of_kind["job"]
        *found, head = self._server.answered(
            lambda: list(jobs.aggregate(pipeline, batchSize=LARGE_BATCH))
        )
        documents = [("unit" if _IS_UNIT.keys() <= each.keys() else "job", each) for each in found]
        documents.sort(key=lambda each: _first_news_at(each[1]))
        return head["through"], documents[:limit]

    def _find(
        self, kind: str, query: Document, fields: Mapping[str, Any], limit: int = 0
    ) -> list[Document]:
        collection = self._of_kind[kind]
        return self._server.answered(
            lambda: list(collection.find(query, fields, limit=limit, batch_size=LARGE_BATCH))
        )

    def _append(self, head: _Head, news: "_News") -> _Head | None:
        """Give the entries their numbers; the head after it, None when another was first."""
        mark, count, size = new_mark(), len(news.entries), news.size
        if head.full:
            self._copy(head)
            entries: list[list[Any]] | None = news.entries
            change: Document = {"$set": {"entries": news.entries}}
        else:
            count, size = head.count + count, head.size + size
            entries = None if head.entries is None else head.entries + news.entries
            change = {"$set": {}, "$push": {"entries": {"$each": news.entries}}}
        first = min((each.first for each in self._told.values()), default=head.through + 1)
        following = _Head(head.through + len(news.entries), first - 1, count, size, entries)
        change["$set"] |= {
            "through": following.through,
            "cleared": following.cleared,
            "size": size,
            "mark": mark,
        }
        expected = {**HEAD, "through": head.through}
        appended = self._server.answered(
            lambda: self._feed.update_one(expected, change).matched_count
        )
        if not appended:
            # An answer that was lost on its way looks like this, too.
            standing = self._server.answered(lambda: self._feed.find_one(HEAD, {"mark": 1}))
            if standing is None or standing.get("mark") != mark:
                return None
        return following

    def _copy(self, head: _Head) -> None:
        """Put a full head beside; done twice, or by two, it is the same."""
        as_left = {**HEAD, "through": head.through}
        found = self._server.answered(lambda: self._feed.find_one(as_left, _COUNT))
        entries = head.entries
        if found is not None and (entries is None or found["count"] != len(entries)):
            # Not all of it is ours, or it was pruned since.
            found = self._server.answered(lambda: self._feed.find_one(as_left, {"entries": 1}))
            entries = None if found is None else found["entries"]
        if found is None:
            return  # another was first, as `_append` finds too

        def insert() -> None:
            with contextlib.suppress(DuplicateKeyError):
                self._feed.insert_one({"_id": head.through, "entries": entries})

        self._server.answered(insert)

    def _tell(self, told: Collection[_Told]) -> bool:
        """Whether all of them know now; else some have moved on."""
        updates = [
            (kind, _unset(version, long, each))
            for (kind, version, long), each in _alike(told).items()
        ]
        return self._update(updates) == len(told)

    def _move_on(self, told: Collection[_Told]) -> None:
        """Tell those that have moved on that only what came later is pending."""
        self._update(
            [
                (kind, _only_later(version, each))
                for (kind, version, _), each in _alike(told).items()
            ]
        )

    def _update(self, updates: Iterable[tuple[str, UpdateMany]]) -> int:
        """How many documents were found."""
        found, of_kind = 0, defaultdict(list)
        for kind, update in updates:
            of_kind[kind].append(update)
        for kind, group in of_kind.items():
            # Durable, as the head will say that they know, and nobody looks again then.
            write = partial(self._of_kind[kind].bulk_write, group, ordered=False)
            found += self._server.answered(write).matched_count
        return found

    # out

    def feed(self, after: int, limit: int) -> list[FeedEntry]:
        """Entries, ascending."""
        return [entry_from_list(seq, entry) for seq, entry in self._entries(after, limit)]

    def changes(self, after: int, limit: int) -> list[Change]:
        """What of entries tells which documents to read."""
        return [_change_of(seq, entry) for seq, entry in self._entries(after, limit)]

    def prune(self, through: int) -> int:
        """Forget entries; how many."""
        self.settle()
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


class _News:
    """Entries to be folded, and the documents that are to be told then."""

    def __init__(self, through: int, floor: _ByKey, told: _ByKey) -> None:
        self.entries: list[list[Any]] = []
        #: The units that they are of, by key.
        self.units: dict[str, Mapping[str, Any]] = {}
        #: Whether there may be more.
        self.more = False
        #: Of how many documents they are.
        self.documents = 0
        self.told: _ByKey = {}
        self.size = 0
        #: Number of the last entry before these.
        self.after = through
        self._floor = floor
        self._before = told

    def add(self, kind: str, document: Mapping[str, Any]) -> None:
        """Take what the feed does not have of this document."""
        place = kind, document["_id"]
        folded = self._floor[place].version if place in self._floor else 0
        fresh = [entry for entry in entries_of(kind, document) if entry[ENTRY_VERSION] > folded]
        first = self.after + len(self.entries) + 1
        if place in self._before:
            first = self._before[place].first
        # One without news is told, too: it was written since without a transition.
        self.told[place] = _told_up_to(document["version"], kind, document, first)
        self.documents += bool(fresh)
        self.entries += fresh
        if fresh and kind == "unit":
            self.units[document["_id"]] = document
        self.size += sum(_ENTRY_BYTES + len(entry[ENTRY_REASON] or "") for entry in fresh)

    def numbered(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """The entries with their numbers."""
        return enumerate(self.entries, self.after + 1)


def _told_up_to(version: int, kind: str, document: Mapping[str, Any], first: int) -> _Told:
    """The document, of which the feed has the transitions up to this version."""
    transitions = document["transitions"]
    return _Told(
        kind,
        document["_id"],
        # A later version than that of its last transition has no news.
        document["version"] if transitions[-1][0] <= version else version,
        document["mark"],
        len(transitions) > TRANSITIONS_KEPT,
        first,
    )


def _alike(told: Iterable[_Told]) -> dict[tuple[str, int, bool], list[_Told]]:
    groups: dict[tuple[str, int, bool], list[_Told]] = {}
    for each in told:
        groups.setdefault((each.kind, each.version, each.long), []).append(each)
    return groups


def _unset(version: int, long: bool, told: Sequence[_Told]) -> UpdateMany:
    """Those that stand as they were read have nothing pending."""
    # The marks tell a document that was forgotten and began anew from the one that was read.
    marks = list({each.mark for each in told})
    keys = [each.key for each in told]
    query = {"_id": {"$in": keys}, "version": version, "mark": {"$in": marks}}
    change: Document = {"$unset": {"pending": ""}}
    if long:
        change["$push"] = {"transitions": {"$each": [], "$slice": -TRANSITIONS_KEPT}}
    return UpdateMany(query, change)


def _only_later(version: int, told: Sequence[_Told]) -> UpdateMany:
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


def _change_of(seq: int, entry: Sequence[Any]) -> Change:
    return seq, entry[ENTRY_KIND], entry[ENTRY_KEY], entry[ENTRY_VERSION]


def _union(collection: str, *pipeline: Document) -> Document:
    """The stage that adds what a pipeline finds in another collection."""
    return {"$unionWith": {"coll": collection, "pipeline": list(pipeline)}}


def _first_news_at(document: Mapping[str, Any]) -> int:
    pending = document["pending"]
    at: int = next((each[1] for each in document["transitions"] if each[0] >= pending), 0)
    return at
