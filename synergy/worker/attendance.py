"""A worker tells the store that it listens: when it begins, now and then, and when it ends.

In a thread of its own, so that a store which is slow or away keeps no unit waiting.  Whatever goes
wrong with it is of no consequence for the worker.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from synergy.errors import SynergyError
from synergy.ports import Clock, Store
from synergy.presence import BEAT, WorkerRecord, remove_worker, save_worker


@contextmanager
def attending(
    store: Store,
    clock: Clock,
    record: WorkerRecord,
    busy: Callable[[], int],
    beat: float = BEAT,
) -> Iterator[None]:
    """Inside, the worker's record is kept fresh; `busy` tells how many of its slots are at work."""
    over = threading.Event()

    def attend() -> None:
        while True:
            with suppress(SynergyError):
                save_worker(store, replace(record, busy=busy(), seen_at=clock.now()))
            if over.wait(beat):
                break
        with suppress(SynergyError):
            remove_worker(store, record.owner)

    keeper = threading.Thread(target=attend, name="attendance", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join(beat)
