"""A scheduler program for which the lease is always its own: two of them are both at work (I13).

``python -m tests.chaos.leaseless FOLDER``, with the project's settings in the environment.
"""

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from synergy.app import bell_of, broker_of, measurer, register, store_of
from synergy.clock import SystemClock
from synergy.core.model import Lease
from synergy.logs import log_to
from synergy.owners import new_owner
from synergy.ports import Store
from synergy.project import open_project
from synergy.scheduler.loop import Scheduler, Setting
from synergy.scheduler.sources import SourcesAside
from synergy.signals import stop_on_signals
from synergy.supervisor.children import pid_file


class Leaseless:
    """The store as it is, but for the lease: whoever asks has it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read_lease(self, name: str) -> None:
        """Nobody has it."""

    def take_lease(self, name: str, owner: str, now: datetime, until: datetime) -> Lease:
        """Here it is."""
        return Lease(owner=owner, epoch=1, until=until, since=now)

    def drop_lease(self, name: str, owner: str, now: datetime) -> None:
        """There is none to drop."""


def main(folder: Path) -> None:
    """Be that scheduler until told to stop."""
    project = open_project(folder)
    log_to(None)
    with pid_file(project, "leaseless"):
        store = store_of(project, create=True)
        catalog = register(project, store)
        with broker_of(project, catalog) as broker:
            bell = bell_of(project, broker)
            scheduler = Scheduler(
                Setting(
                    store=Leaseless(store),  # type: ignore[arg-type]
                    bell=bell,
                    clock=SystemClock(),
                    catalog=catalog,
                    owner=new_owner("leaseless", project.box),
                    sources=SourcesAside(measurer(catalog), lambda: bell.ring("scheduler")),
                    publisher=None if broker is None else broker.publisher(),
                )
            )
            scheduler.run(stop_on_signals())
        store.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
