"""The timetable in memory, kept up to date by the feed: what a page costs does not grow with it.

It is read whole once.  After that a look asks the store what has changed since, and for those
documents; somebody looks with every page, and every now and then when nobody does.  When more has
changed than the feed still tells, or a scheduler has begun with another context, it is read anew.

A store that does not answer is no reason to show nothing: what was known stays, with the moment
since when nothing is heard, and the next look that is answered ends that.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeVar

from synergy.core.catalog import Catalog
from synergy.core.model import Job, Lease
from synergy.core.switches import switches_of
from synergy.core.timetable import Timetable
from synergy.errors import NotFound, SynergyError, Unreachable
from synergy.leases import LEADER
from synergy.logs import logger
from synergy.mx.picture import Picture
from synergy.ports import Clock, Store
from synergy.reading import BATCH, Reading, read_loaded

T = TypeVar("T")

#: Seconds for which what was read counts as it stands.
FRESH: Final = 0.5
#: Seconds between looks while somebody asks for pages, and while nobody does.
LOOK, IDLE_LOOK = 1.0, 10.0
#: Seconds after the last page until nobody asks any more.
ATTENTION: Final = 60.0
#: The catalog by which the store's timetable is made, and its version; None where there is none.
ReadCatalog = Callable[[Store], tuple[int, Catalog] | None]


class Living:
    """One picture of the timetable for all pages of a console."""

    def __init__(
        self,
        open_store: Callable[[], Store],
        read_catalog: ReadCatalog,
        clock: Clock,
    ) -> None:
        self._open_store = open_store
        self._read_catalog = read_catalog
        self._clock = clock
        self._guard = threading.RLock()
        self._store: Store | None = None
        self._picture: Picture | None = None
        self._looked = self._asked = -1e9
        self._stop = threading.Event()
        #: Since when the store does not answer, and what was said last; None while it does.
        self.away_since: datetime | None = None
        self.trouble = ""

    @contextlib.contextmanager
    def picture(self) -> Iterator[Picture]:
        """What is known now; nothing of it changes within the block.

        Raises:
            Unreachable: nothing is known yet, since the store has never answered.
            NotFound: nobody has ever worked on the store.
        """
        with self._guard:
            self._asked = self._clock.monotonic()
            if self._asked - self._looked > FRESH and self.away_since is None:
                self.look()
            if self._picture is None:
                self.look()
            if self._picture is None:
                raise Unreachable(self.trouble)
            yield self._picture

    def ask(self, question: Callable[[Store], T]) -> T:
        """What the store answers to a question of its documents.

        Raises:
            Unreachable: it is away, of which is not made sure with every page.
        """
        with self._guard:
            if self._picture is None:
                self.look()
            store = self._store
            if store is None or self.away_since is not None:
                raise Unreachable(self.trouble)
        try:
            return question(store)
        except Unreachable as error:
            with self._guard:
                self._went_away(error)
            raise

    def consult(self, question: Callable[["Glance"], T]) -> T:
        """What follows from the picture and the store together.

        Raises:
            Unreachable: the store is away.
        """
        with self.picture() as picture:
            return self.ask(lambda store: question(Glance(store, picture)))

    def look(self) -> None:
        """Bring the picture up to date; what goes wrong is remembered, not raised.

        Raises:
            NotFound: nobody has ever worked on the store.
        """
        with self._guard:
            try:
                self._look()
                self.away_since, self.trouble = None, ""
            except Unreachable as error:
                self._went_away(error)
            except NotFound as error:
                if self._picture is None:
                    raise
                self._went_away(error)
            finally:
                self._looked = self._clock.monotonic()

    def warm(self) -> None:
        """Count everything once, so that the first page does not have to."""
        with contextlib.suppress(SynergyError):
            with self.picture() as picture:
                names = [*picture.catalog.processes]
            for name in names:  # pages may come in between
                with self.picture() as picture:
                    if name in picture.catalog.processes:
                        picture.summary(name)

    def keep_looking(self) -> None:
        """Look now and then, until `close`; for a thread of its own."""
        self.warm()
        while True:
            attentive = self._clock.monotonic() - self._asked < ATTENTION
            away = self.away_since is not None
            if self._stop.wait(LOOK if attentive or away else IDLE_LOOK):
                return
            try:
                self.look()
            except NotFound:
                continue
            except Exception:
                # A thread that dies would leave the pages old for ever, and nobody told.
                logger("console").exception("a look failed", extra={"action": "look_failed"})

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        with self._guard:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _went_away(self, error: SynergyError) -> None:
        if self.away_since is None:
            self.away_since = self._clock.now()
            logger("console").warning(str(error), extra={"action": "store_away"})
        self.trouble = str(error)

    def _look(self) -> None:
        if self._store is None:
            self._store = self._open_store()
        store, picture = self._store, self._picture
        lease = store.read_lease(LEADER)
        if (
            picture is None
            or self._is_another(store, picture, lease)
            or not self._follow(store, picture)
        ):
            picture = self._read(store)
        picture.lease = lease
        picture.switches = switches_of(store.read_documents("switches"))
        picture.boxes = store.read_boxes()
        picture.held = {unit.key: unit for unit in store.held_units()}
        picture.requests = store.open_requests()
        picture.read_at = self._clock.now()
        self._picture = picture

    def _is_another(self, store: Store, picture: Picture, lease: Lease | None) -> bool:
        """Whether the scheduler has changed, and with it the context."""
        before = picture.lease
        if (before and (before.owner, before.epoch)) == (lease and (lease.owner, lease.epoch)):
            return False
        found = self._read_catalog(store)
        return found is None or found[0] != picture.catalog_version

    def _read(self, store: Store) -> Picture:
        found = self._read_catalog(store)
        if found is None:
            raise NotFound("no scheduler has ever worked on the store; ./launch.py up starts one")
        version, catalog = found
        loaded, seq = read_loaded(store, catalog)
        timetable = Timetable(catalog)
        timetable.load(loaded.ledgers, loaded.entries, loaded.jobs)
        return Picture(catalog, version, timetable, seq)

    def _follow(self, store: Store, picture: Picture) -> bool:
        """Take over what has changed; False where that is not told any more."""
        while batch := store.changes(picture.seq, BATCH):
            if batch[0][0] != picture.seq + 1:
                return False
            keys = {key for _, kind, key, _ in batch if kind == "job" and picture.knows(key)}
            jobs = store.read_jobs(keys)
            if len(jobs) < len(keys):
                return False  # pruned since
            for job in jobs.values():
                picture.put(job)
            picture.seq = batch[-1][0]
            if len(batch) < BATCH:
                break
        return True


class Glance(Reading):
    """The picture as the explanations consult it; to be used within `Living.picture` only.

    Of units only those that workers hold are known beforehand; others are read when asked for.
    """

    def __init__(self, store: Store, picture: Picture) -> None:
        # Not as the others: nothing is loaded.
        self.store = store
        self.catalog = picture.catalog
        self.through = picture.seq
        self.requests = tuple(picture.requests)
        self.timetable = picture.timetable
        self.units = dict(picture.held)
        self._seen = {**picture.held}
        self.switches = dict(picture.switches)

    def _active_jobs(self) -> Sequence[Job]:
        """Firings are in no picture: they are asked for when one wants to know."""
        return self.store.active_jobs()
