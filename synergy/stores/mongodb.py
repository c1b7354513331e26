"""The store of many boxes: one database of a MongoDB server or replica set.

A batch of writes is one bulk of single-document writes, each conditional by itself; there is no
transaction.  When fewer documents than asked for were found, or an answer was lost, the documents
are read, and each write is judged by what stands: done, as its mark shows; refused; or still
possible, and then it is tried again.  So every call ends with an answer for each write, or with
`Unreachable`.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from bson import Timestamp
from pymongo import InsertOne, UpdateMany, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError

from synergy.core.batches import followers, may_be_shared
from synergy.core.model import (
    Applied,
    BoxRecord,
    Claim,
    FeedEntry,
    Job,
    JobWrite,
    Json,
    Lease,
    LedgerRecord,
    Refused,
    Renewal,
    Request,
    Unit,
    UnitWrite,
)
from synergy.core.states import UnitInput
from synergy.ports import Kind, News, Versioned
from synergy.records import (
    EPOCH,
    box_from_document,
    box_to_document,
    from_micros,
    from_text,
    lease_from_document,
    lease_to_document,
    ledger_from_text,
    ledger_to_document,
    request_from_document,
    request_to_document,
    to_micros,
    to_text,
)
from synergy.stores.mongodb_documents import (
    WITHOUT_HISTORY,
    Document,
    Taking,
    is_own,
    job_from_fields,
    job_passes,
    job_to_change,
    job_to_insert,
    new_mark,
    unit_from_fields,
    unit_passes,
    unit_to_change,
    unit_to_insert,
    version_before,
)
from synergy.stores.mongodb_feed import PENDING, MongoFeed
from synergy.stores.mongodb_schema import prepare
from synergy.stores.mongodb_server import (
    LARGE_BATCH,
    LONG_PATIENCE_SECONDS,
    Server,
    refused_as_known,
)
from synergy.stores.rules import HELD, lease_after

_APPLIED = Applied()
_HELD = {"$in": sorted(state.value for state in HELD)}
#: Writes that are sent, and have their time to be answered, together.
_AT_ONCE = 2000
#: Jobs that are forgotten in one go.
_PRUNED_AT_ONCE = 500

_Write = TypeVar("_Write", JobWrite, UnitWrite)
_Kept = TypeVar("_Kept", Job, Unit)


@dataclass(slots=True)
class _Pending(Generic[_Write]):
    """One write of a batch that has no answer yet."""

    #: Its place in the batch.
    place: int
    write: _Write
    key: str
    #: The version that the document has when it is done.
    version: int
    #: The version that it is tried on.
    before: int


class MongoStore:
    """The `Store` port over one database; may be used from several threads, not across a fork."""

    def __init__(self, url: str, server: Server) -> None:
        self.url = url
        self._server = server
        self._feed = MongoFeed(server)
        self._jobs = server.collection("jobs")
        self._units = server.collection("units")
        self._ledgers = server.collection("ledgers")
        self._requests = server.collection("requests")
        self._leases = server.collection("leases")
        self._boxes = server.collection("boxes")
        self._switched_off = server.collection("switched_off")

    @classmethod
    def open(cls, url: str, *, create: bool = True) -> "MongoStore":
        """The store in the database that `url` names, upgraded; a newer one is refused untouched.

        Raises:
            BadInput: the address cannot be used.
            NotFound: there is none, and `create` is not given.
            NewerSchema: a newer version has upgraded it.
            Unreachable: no answer, or none that lets us in.
        """
        server = Server(url)
        try:
            prepare(server, create=create)
            if create:  # so for the programs; who only looks is not to be told each time
                server.say_what_it_lacks()
        except BaseException:
            server.close()
            raise
        return cls(url, server)

    def close(self) -> None:
        """Close the connections; twice is harmless."""
        self._server.close()

    def checkpoint(self) -> None:
        """Nothing to tidy up."""

    def together(self) -> AbstractContextManager[None]:
        """Nothing to share: every call is a round trip of its own."""
        return nullcontext()

    # jobs

    def save_jobs(self, writes: Sequence[JobWrite]) -> list[Applied | Refused[Job]]:
        """One conditional write each, in bulk."""
        pending = [
            _Pending(place, write, write.job.key, write.job.version, write.expected)
            for place, write in enumerate(writes)
        ]

        def operation(each: _Pending[JobWrite], mark: int) -> InsertOne[Document] | UpdateOne:
            if each.write.expected == 0:
                return InsertOne(job_to_insert(each.write.job, each.key, mark))
            return UpdateOne(*job_to_change(each.write, each.key, mark))

        return self._save(self._jobs, pending, operation, job_passes, job_from_fields, new_mark())

    def read_jobs(self, keys: Iterable[str]) -> dict[str, Job]:
        """Those that are stored."""
        found = self._find_keys(self._jobs, keys)
        return {document["_id"]: job_from_fields(document) for document in found}

    def active_jobs(self) -> list[Job]:
        """By process and start."""
        found = {each["_id"]: each for each in self._find(self._jobs, {"active": 1})}
        # Those that end between the two looks are in the second, or in the feed.
        pending = self._find(self._jobs, {**PENDING, "active": None})
        folded = self._feed.untold()["job"] if pending else {}
        for document in pending:
            if folded.get(document["_id"], 0) < document["transitions"][-1][0]:
                found.setdefault(document["_id"], document)
        jobs = [job_from_fields(document) for document in found.values()]
        return sorted(jobs, key=lambda job: (job.process, job.interval.start))

    def jobs_between(self, process: str, start: datetime, end: datetime) -> list[Job]:
        """By start."""
        query = {"process": process, "start": {"$gte": to_micros(start), "$lt": to_micros(end)}}
        found = self._find(self._jobs, query, sort=[("start", 1)])
        return [job_from_fields(document) for document in found]

    def last_jobs(self, process: str, limit: int) -> list[Job]:
        """Newest first."""
        if limit <= 0:
            return []
        found = self._find(self._jobs, {"process": process}, sort=[("start", -1)], limit=limit)
        return [job_from_fields(document) for document in found]

    def prune_jobs(self, process: str, before: datetime) -> int:
        """Forget what is over, folded and has no unit at work."""
        self._feed.settle()
        over = {"active": None, "pending": None}
        query = {"process": process, "start": {"$lt": to_micros(before)}, **over}
        busy = {
            f"{document['process']}@{document['label']}"
            for unfinished in ({"active": 1}, PENDING)
            for document in self._find(
                self._units, {"process": process, **unfinished}, {"process": 1, "label": 1}
            )
        }
        found = self._find(self._jobs, query, {"version": 1}, patience=LONG_PATIENCE_SECONDS)
        old = [document for document in found if document["_id"] not in busy]
        count = 0
        for first in range(0, len(old), _PRUNED_AT_ONCE):
            part = old[first : first + _PRUNED_AT_ONCE]
            # The units first: should we die in between, the job is still there to be found.  What
            # has been reopened since is no longer over, and stays.
            of_part = [{"_id": {"$gte": f"{job['_id']}#", "$lt": f"{job['_id']}$"}} for job in part]
            self._delete(self._units, {"$or": of_part, **over})
            versions = [{"_id": job["_id"], "version": job["version"]} for job in part]
            count += self._delete(self._jobs, {"$or": versions, **over})
        return count

    def prune_units(self, process: str, start: datetime, end: datetime) -> int:
        """Forget those of jobs that are over and folded."""
        self._feed.settle()
        over = {"active": None, "pending": None}
        within = {"$gte": to_micros(start), "$lt": to_micros(end)}
        found = self._find(self._jobs, {"process": process, "start": within, **over}, {"_id": 1})
        count = 0
        for first in range(0, len(found), _PRUNED_AT_ONCE):
            part = found[first : first + _PRUNED_AT_ONCE]
            of_part = [{"_id": {"$gte": f"{job['_id']}#", "$lt": f"{job['_id']}$"}} for job in part]
            count += self._delete(self._units, {"$or": of_part, **over})
        return count

    def _delete(self, collection: Collection[Document], query: Document) -> int:
        return self._server.answered(
            lambda: collection.delete_many(query).deleted_count, LONG_PATIENCE_SECONDS
        )

    # units of work

    def save_units(self, writes: Sequence[UnitWrite]) -> list[Applied | Refused[Unit]]:
        """One conditional write each, in bulk."""
        return self._save_units(writes, new_mark())

    def _save_units(self, writes: Sequence[UnitWrite], mark: int) -> list[Applied | Refused[Unit]]:
        return self._save(
            self._units, _unit_writes(writes), _unit_operation, unit_passes, unit_from_fields, mark
        )

    def read_units(self, keys: Iterable[str], *, history: bool = True) -> dict[str, Unit]:
        """Those that are stored."""
        found = self._find_keys(self._units, keys, None if history else WITHOUT_HISTORY)
        return {document["_id"]: unit_from_fields(document) for document in found}

    def active_units(self) -> list[Unit]:
        """By start and key."""
        found = self._find(self._units, {"active": 1})
        units = [unit_from_fields(document) for document in found]
        return sorted(units, key=lambda unit: (unit.interval.start, unit.key))

    def held_units(self) -> list[Unit]:
        """By start and key."""
        found = self._find(self._units, {"active": 1, "state": _HELD})
        units = [unit_from_fields(document) for document in found]
        return sorted(units, key=lambda unit: (unit.interval.start, unit.key))

    def claim(self, claim: Claim) -> list[Unit]:
        """Start up to so many units for this owner, and claim some ahead."""
        taking = Taking(claim, new_mark())
        start = _start_of_offered(taking)
        if start is not None:
            return self._start_offered(taking, *start) or self._claim_what_stands(claim)
        return self._claim_what_stands(claim)

    def save_and_claim(
        self, writes: Sequence[UnitWrite], claim: Claim
    ) -> tuple[list[Applied | Refused[Unit]], list[Unit]]:
        """Both in one bulk, tried by itself first: whatever is not certain after it is asked for
        once more, and found out by the marks."""
        mark, taking = new_mark(), Taking(claim, new_mark())
        start = _start_of_offered(taking)
        if start is None:
            self._choose(taking)
        takes = [start] if start is not None else taking.updates()
        pending = _unit_writes(writes)
        if not takes or len(_turns(pending)) != 1:
            return self._save_units(writes, mark), self.claim(claim)
        operations = [
            *(_unit_operation(each, mark) for each in pending),
            *(UpdateMany(*each, hint="_id_") for each in takes),
        ]
        count = self._write(self._units, operations)
        if start is not None:
            held = self._own(taking)
            if len(held) == count - len(pending) == 1:
                return [_APPLIED] * len(writes), held
            return self._save_units(writes, mark), held or self._claim_what_stands(claim)
        if count == len(pending) + len(taking.taken):
            return [_APPLIED] * len(writes), list(taking.taken.values())
        answers = self._save_units(writes, mark)
        return answers, self._take(taking) or self._claim_what_stands(claim)

    def _start_offered(self, taking: Taking, found: Document, change: Document) -> list[Unit]:
        """Start the one unit that was offered, in one round trip, if it stands in the version that
        was offered; how it stands is what the store says."""
        before = self._server.answered(
            lambda: self._units.find_one_and_update(found, change, hint="_id_")
        )
        if before is None:
            # An answer that was lost on its way looks like this, too.
            return self._own(taking)
        taking.take(before, UnitInput.START)
        return list(taking.taken.values())

    def _own(self, taking: Taking) -> list[Unit]:
        """The one unit that was offered, where it was taken."""
        own = {"_id": taking.claim.offered[0].key, "mark": taking.mark}
        return [unit_from_fields(document) for document in self._find(self._units, own)]

    def _claim_what_stands(self, claim: Claim) -> list[Unit]:
        while True:
            taking = Taking(claim, new_mark())
            self._choose(taking)
            if not taking.taken:
                return []
            if held := self._take(taking):
                return held
            # Others took all of them: there may be more.

    def _choose(self, taking: Taking) -> None:
        """Look for what is to be taken."""
        for applied, query, processes, limit in _wishes(taking.claim):
            # What is about to be started is not claimed ahead.
            found = self._claimable(query, processes, limit + len(taking.taken))
            fresh = [each for each in found if each["_id"] not in taking.taken]
            for document in fresh[:limit]:
                taking.take(document, applied)
            if applied is UnitInput.START:
                self._choose_followers(taking)

    def _choose_followers(self, taking: Taking) -> None:
        """Look for what makes the calls full that are to be begun."""
        read: dict[str, Document] = {}

        def waiting(last: Unit) -> Iterator[Unit]:
            later = {
                "state": "requested",
                "not_before": {"$not": {"$gt": to_micros(taking.claim.now)}},
                "process": last.process,
                "start": {"$gte": to_micros(last.interval.end)},
                "attempt": 1,
            }
            by_start = [("start", 1), ("_id", 1)]
            limit = last.task.batch
            for found in self._find(
                self._units, later, sort=by_start, limit=limit, hint="requested"
            ):
                read[found["_id"]] = found
                yield unit_from_fields(found)

        for unit in followers(list(taking.taken.values()), waiting):
            taking.take(read[unit.key], UnitInput.START)

    def _claimable(
        self, query: Document, processes: frozenset[str] | None, limit: int
    ) -> list[Document]:
        """Requested units in their order, of these processes or of all."""
        if "_id" in query:
            if processes is not None:
                query = {**query, "process": {"$in": sorted(processes)}}
            return self._find(self._units, query, sort=_TURN, limit=limit, hint="_id_")
        if processes is None:  # which is a look at the index, not at the units
            requested = {"state": query["state"]}
            processes = frozenset(
                self._server.answered(lambda: self._units.distinct("process", requested))
            )
        names, found = sorted(processes), list[Document]()
        for first in range(0, len(names), _MERGED):
            some = {**query, "process": {"$in": names[first : first + _MERGED]}}
            found += self._find(self._units, some, sort=_TURN, limit=limit, hint="requested")
        if len(names) > _MERGED:
            found.sort(key=lambda unit: (-unit["priority"], unit["start"], unit["_id"]))
        return found[:limit]

    def _take(self, taking: Taking) -> list[Unit]:
        """The units that could be taken, in order."""
        updates = [UpdateMany(*each, hint="_id_") for each in taking.updates()]
        taken = taking.taken
        # Asked again after an answer was lost, it finds fewer: those that it took are requested
        # no more.  And one that the lost question would find later, it has found then.
        count = self._server.answered(
            lambda: self._units.bulk_write(updates, ordered=False).matched_count
        )
        if count == len(taken):
            return list(taken.values())
        own = {"_id": {"$in": list(taken)}, "mark": taking.mark}
        held = {document["_id"] for document in self._find(self._units, own, {"_id": 1})}
        return [unit for key, unit in taken.items() if key in held]

    def next_claimable(self) -> datetime | None:
        """The earliest `not_before` among requested units; the epoch for one without."""
        requested = {"state": "requested"}
        if self._find(self._units, {**requested, "not_before": None}, {"_id": 1}, limit=1):
            return EPOCH
        later = {**requested, "not_before": {"$exists": True}}
        for found in self._find(self._units, later, sort=[("not_before", 1)], limit=1):
            return from_micros(found["not_before"])
        return None

    def renew(self, renewals: Sequence[Renewal]) -> list[bool]:
        """Extend leases where they are still held, in bulk."""
        if not renewals:
            return []
        updates = [UpdateOne(*_renewal(renewal)) for renewal in renewals]
        count = self._server.answered(
            lambda: self._units.bulk_write(updates, ordered=False).matched_count
        )
        if count == len(renewals):
            return [True] * count
        found = self._find_keys(
            self._units,
            [renewal.key for renewal in renewals],
            {"attempt": 1, "owner": 1, "state": 1},
        )
        standing = {document["_id"]: document for document in found}
        return [
            renewal.key in standing
            and standing[renewal.key]["state"] in _HELD["$in"]
            and standing[renewal.key]["attempt"] == renewal.attempt
            and standing[renewal.key].get("owner") == renewal.owner
            for renewal in renewals
        ]

    # the feed

    def fold(self, limit: int) -> int:
        """Number the pending transitions of so many documents at most."""
        return self._feed.fold(limit)

    def feed(self, after: int, limit: int) -> list[FeedEntry]:
        """Numbered entries, ascending."""
        return self._feed.feed(after, limit)

    def changes(self, after: int, limit: int) -> list[tuple[int, str, str, int]]:
        """What of numbered entries tells which documents to read."""
        return self._feed.changes(after, limit)

    def follow(self, after: int, limit: int, known: Container[tuple[str, int]]) -> News:
        """The units are those that were folded, where nobody else folds."""
        changes, seen, more = self._feed.follow(after, limit)
        keys = {
            key: None
            for _, kind, key, version in changes
            if kind == "unit" and (key, version) not in known
        }
        if seen is None:
            units = self.read_units(keys, history=False)
        else:
            units = {key: unit_from_fields(seen[key], history=False) for key in keys}
        return News(changes, units, more)

    def prune_feed(self, through: int) -> int:
        """Forget numbered entries."""
        return self._feed.prune(through)

    def read_ledgers(self) -> dict[str, LedgerRecord]:
        """All of them."""
        return {
            document["_id"]: ledger_from_text(
                document["_id"], document["through"], document["document"]
            )
            for document in self._find(self._ledgers, {})
        }

    def save_ledgers(self, records: Sequence[LedgerRecord]) -> None:
        """Keep the one that reaches further."""
        if not records:
            return
        updates = [
            UpdateOne(
                {"_id": record.process, "through": {"$lte": record.through}},
                {
                    "$set": {
                        "through": record.through,
                        "document": to_text(ledger_to_document(record)),
                    }
                },
                upsert=True,
            )
            for record in records
        ]

        def save() -> None:
            try:
                self._ledgers.bulk_write(updates, ordered=False)
            except BulkWriteError as error:
                # Where the stored one reaches further it is not found, and is there all the same.
                if not refused_as_known(error):
                    raise

        self._server.answered(save)

    # requests, catalog, leases

    def file_request(self, request: Request) -> None:
        """Insert; a second time changes nothing."""
        self._insert(
            self._requests,
            {
                "_id": request.id,
                "state": request.state,
                "arrival": Timestamp(0, 0),  # the server puts its time and a counter in its place
                "document": to_text(request_to_document(request)),
            },
        )

    def read_request(self, request_id: str) -> Request | None:
        """As it stands."""
        for document in self._find(self._requests, {"_id": request_id}):
            return request_from_document(from_text(document["document"]))
        return None

    def open_requests(self) -> list[Request]:
        """In the order of filing."""
        found = self._find(self._requests, {"state": "filed"}, sort=[("arrival", 1)])
        return [request_from_document(from_text(document["document"])) for document in found]

    def last_requests(self, limit: int) -> list[Request]:
        """Newest first."""
        if limit <= 0:
            return []
        found = self._find(self._requests, {}, sort=[("arrival", -1)], limit=limit)
        return [request_from_document(from_text(document["document"])) for document in found]

    def move_request(self, request: Request, expected: str) -> bool:
        """Only one that stands in that state."""
        text = to_text(request_to_document(request))
        changes = {"state": request.state, "document": text}
        if self._change(self._requests, {"_id": request.id, "state": expected}, changes):
            return True
        stands = {"_id": request.id, "document": text}
        return bool(self._find(self._requests, stands, {"_id": 1}))

    # documents: a collection for each kind

    def read_documents(self, kind: Kind) -> dict[str, Versioned]:
        """All of them."""
        return {
            document["_id"]: Versioned(document["version"], from_text(document["document"]))
            for document in self._find(self._server.collection(kind), {}, sort=[("_id", 1)])
        }

    def save_document(
        self, kind: Kind, key: str, content: Mapping[str, Json] | None, expected: int | None
    ) -> bool:
        """Its version becomes one more."""
        collection, query = self._server.collection(kind), {"_id": key}
        if content is None:
            return self._remove(collection, key, expected)
        mark = new_mark()
        document: Document = {"mark": mark, "document": to_text(content)}
        if expected is None:
            self._put(collection, key, {"$set": document, "$inc": {"version": 1}})
            return True
        document["version"] = expected + 1
        if expected == 0:
            saved = self._insert(collection, {**query, **document})
        else:
            saved = self._change(collection, {**query, "version": expected}, document)
        return saved or bool(self._find(collection, {**query, "mark": mark}, {"_id": 1}))

    def _remove(self, collection: Collection[Document], key: str, expected: int | None) -> bool:
        """Whether no document of that key stands after it, where it may be removed."""
        query = {"_id": key} if expected is None else {"_id": key, "version": expected}
        if expected != 0:
            self._server.answered(lambda: collection.delete_one(query))
        return not self._find(collection, {"_id": key}, {"_id": 1})

    def take_lease(self, name: str, owner: str, now: datetime, until: datetime) -> Lease:
        """The lease as it stands after."""
        while True:
            held = self.read_lease(name)
            lease = lease_after(held, owner, now, until)
            if lease == held:
                return lease
            document = lease_to_document(lease)
            # Where the answer is lost, or another was first, the next look tells what stands.
            if held is None:
                taken = self._insert(self._leases, {"_id": name, **document})
            else:
                taken = self._change(
                    self._leases, {"_id": name, **lease_to_document(held)}, document
                )
            if taken:
                return lease

    def read_lease(self, name: str) -> Lease | None:
        """Who holds it, or held it last."""
        for document in self._find(self._leases, {"_id": name}):
            return lease_from_document(document)
        return None

    def drop_lease(self, name: str, owner: str, now: datetime) -> None:
        """Over at once, if it is this owner's."""
        self._change(self._leases, {"_id": name, "owner": owner}, {"until": to_micros(now)})

    # boxes

    def save_box(self, record: BoxRecord) -> None:
        """In the place of the one before."""
        changes = {"$set": {"document": to_text(box_to_document(record))}}
        self._put(self._boxes, record.box, changes)

    def read_boxes(self) -> list[BoxRecord]:
        """By name."""
        found = self._find(self._boxes, {}, sort=[("_id", 1)])
        return [box_from_document(from_text(document["document"])) for document in found]

    def switch_program(self, box: str, program: str, on: bool) -> None:
        """On or off."""
        change = "$pull" if on else "$addToSet"
        self._put(self._switched_off, box, {change: {"programs": program}})

    def switched_off(self, box: str) -> frozenset[str]:
        """Of this box."""
        for document in self._find(self._switched_off, {"_id": box}):
            return frozenset(document.get("programs", ()))
        return frozenset()

    # how

    def _save(
        self,
        collection: Collection[Document],
        pending: list[_Pending[_Write]],
        operation: Callable[[_Pending[_Write], int], InsertOne[Document] | UpdateOne],
        passes: Callable[[_Write, Mapping[str, Any] | None], bool],
        read: Callable[[Mapping[str, Any]], _Kept],
        mark: int,
    ) -> list[Applied | Refused[_Kept]]:
        """The answers to all writes, in their order; what names each key first has this mark."""
        answers: list[Any] = [_APPLIED] * len(pending)
        for number, turn in enumerate(_turns(pending)):
            mark = new_mark() if number else mark
            while turn:
                if self._write(collection, [operation(each, mark) for each in turn]) == len(turn):
                    break
                found = self._find_keys(collection, [each.key for each in turn])
                standing = {document["_id"]: document for document in found}
                again = []
                for each in turn:
                    document = standing.get(each.key)
                    if is_own(document, each.version, mark):
                        continue
                    if passes(each.write, document):
                        each.before = 0 if document is None else document["version"]
                        again.append(each)
                    else:
                        answers[each.place] = Refused(None if document is None else read(document))
                turn = again
        return answers

    def _write(
        self,
        collection: Collection[Document],
        operations: Sequence[InsertOne[Document] | UpdateOne | UpdateMany],
    ) -> int:
        """Do them all, each by itself; how many were done as far as the last answer tells."""

        def write() -> int:
            try:
                done = collection.bulk_write(operations, ordered=False)
            except BulkWriteError as error:
                if not refused_as_known(error):
                    raise
                return -1
            return done.inserted_count + done.matched_count

        return self._server.answered(write)

    def _insert(self, collection: Collection[Document], document: Document) -> bool:
        """False where there is one of its key, be it by a question whose answer was lost."""

        def insert() -> bool:
            try:
                collection.insert_one(document)
            except DuplicateKeyError:
                return False
            return True

        return self._server.answered(insert)

    def _change(self, collection: Collection[Document], query: Document, changes: Document) -> bool:
        """False where nothing like that stands, be it by a question whose answer was lost."""
        return self._server.answered(
            lambda: collection.update_one(query, {"$set": changes}).matched_count == 1
        )

    def _put(self, collection: Collection[Document], key: str, changes: Document) -> None:
        """Change the document of that key, which is made where there is none."""
        self._server.answered(lambda: collection.update_one({"_id": key}, changes, upsert=True))

    def _find_keys(
        self,
        collection: Collection[Document],
        keys: Iterable[str],
        fields: Mapping[str, Any] | None = None,
    ) -> list[Document]:
        wanted = list(keys)
        return self._find(collection, {"_id": {"$in": wanted}}, fields) if wanted else []

    def _find(
        self,
        collection: Collection[Document],
        query: Mapping[str, Any],
        fields: Mapping[str, Any] | None = None,
        *,
        sort: Sequence[tuple[str, int]] | None = None,
        limit: int = 0,
        hint: str | None = None,
        patience: float | None = None,
    ) -> list[Document]:
        return self._server.answered(
            lambda: list(
                collection.find(
                    query, fields, sort=sort, limit=limit, hint=hint, batch_size=LARGE_BATCH
                )
            ),
            patience,
        )


#: Processes whose requested units the server merges in their order; of more than 200 it would
#: sort all that there are.
_MERGED = 100
#: The order in which units are claimed.
_TURN = [("priority", -1), ("start", 1), ("_id", 1)]


def _wishes(
    claim: Claim,
) -> Iterator[tuple[UnitInput, Document, frozenset[str] | None, int]]:
    """What is to be applied to which units, of which processes, in turn, and to how many."""
    ready: Document = {
        "state": "requested",
        "not_before": {"$not": {"$gt": to_micros(claim.now)}},
    }
    if claim.keys is not None:
        ready["_id"] = {"$in": list(claim.keys)}
    if claim.limit > 0 and (claim.processes is None or claim.processes):
        yield UnitInput.START, ready, claim.processes, claim.limit
    quick = claim.quick if claim.processes is None else claim.quick & claim.processes
    if claim.ahead > 0 and quick:
        yield UnitInput.CLAIM, {**ready, "attempt": 1}, quick, claim.ahead


def _start_of_offered(taking: Taking) -> tuple[Document, Document] | None:
    """Which document is changed, and how, to start the one unit that was offered as it was
    offered; None where it is not one."""
    claim = taking.claim
    wish = next(_wishes(claim), None)
    if claim.limit <= 0 or len(claim.offered) != 1 or wish is None:
        return None
    (offered,) = claim.offered
    if may_be_shared(offered):
        return None  # there may be more to take with it
    applied, ready, processes, _ = wish
    found = {
        **ready,
        "_id": offered.key,
        "version": offered.version,
        "generation": offered.generation,
        "attempt": offered.attempt,
    }
    if processes is not None:
        found["process"] = {"$in": sorted(processes)}
    return found, taking.change_of(offered, applied)


def _unit_writes(writes: Sequence[UnitWrite]) -> list[_Pending[UnitWrite]]:
    return [
        _Pending(place, write, write.unit.key, write.unit.version, version_before(write))
        for place, write in enumerate(writes)
    ]


def _unit_operation(each: _Pending[UnitWrite], mark: int) -> InsertOne[Document] | UpdateOne:
    if each.write.expected is None:
        return InsertOne(unit_to_insert(each.write.unit, each.key, mark))
    return UpdateOne(*unit_to_change(each.write, each.key, mark, each.before))


def _renewal(renewal: Renewal) -> tuple[Document, Document]:
    """Which unit is renewed, and how."""
    changes: Document = {"lease_until": to_micros(renewal.lease_until)}
    if renewal.progress is not None:
        changes["progress"] = to_text(list(renewal.progress))
    query = {
        "_id": renewal.key,
        "attempt": renewal.attempt,
        "owner": renewal.owner,
        "state": _HELD,
    }
    return query, {"$set": changes}


def _turns(pending: list[_Pending[_Write]]) -> list[list[_Pending[_Write]]]:
    """The writes in parts that name each key once, so that a later one sees what an earlier did."""
    rounds: list[list[_Pending[_Write]]] = []
    seen: dict[str, int] = {}
    for each in pending:
        number = seen[each.key] = seen.get(each.key, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(each)
    return [
        part[first : first + _AT_ONCE] for part in rounds for first in range(0, len(part), _AT_ONCE)
    ]
