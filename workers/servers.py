"""Where a demonstration keeps its timetable, and what brings the units to its workers.

By default a file beside the figures, and nothing.  ``--store`` and ``--broker`` name servers;
``--servers`` brings up a MongoDB and a RabbitMQ on this machine, as ``launch.py services up`` does.
They stay up when the demonstration ends, so that its timetable can be looked at; `take_back` ends
them.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from synergy import services
from synergy.app import names_of, reading_of
from synergy.brokers.rabbitmq.removal import remove
from synergy.errors import NotFound, SynergyError
from synergy.project import Project, open_project
from synergy.stores.removal import drop_database

Say = Callable[[str], None]

#: The servers of ``--servers``.
KINDS = ("mongodb", "rabbitmq")
#: Worker programs where there are servers.
WORKERS = ["worker", "worker-2"]
#: What the folder of a demonstration with ``--servers`` ends with.
SUFFIX = "-servers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a demonstration keeps what, as ``settings.py`` is to find it."""

    #: Of the folder with the figures.
    name: str
    #: URL; None: a file in that folder.
    store: str | None = None
    #: URL; None: there is none.
    broker: str | None = None

    @property
    def told(self) -> dict[str, Any]:
        """What to write down of it; only what is not the default."""
        urls = {"store": self.store, "broker": self.broker}
        named = {name: url for name, url in urls.items() if url is not None}
        return {"name": self.name, **named, **({"workers": WORKERS} if named else {})}

    def project(self, folder: Path) -> Project:
        """The project with them, whatever its settings say."""
        embedded = f"sqlite:///.synergy/{self.name}/synergy.db"
        return open_project(folder, self.store or embedded, self.broker or "none")


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of the demonstrations in one clone."""

    #: The clone.
    folder: Path

    def up(self, name: str, say: Say) -> Where:
        """Bring them up, or find them running; a place on them for the figures of this name.

        Raises:
            SynergyError: they cannot be had; what this call started of them is ended again.
        """
        stood = {one.name for one in self._status() if one.state != "absent"}
        known = self._read()
        ours = sorted((set(known["ours"]) & stood) | (set(KINDS) - stood))
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        # Before they are: whoever is killed now leaves servers that `take_back` knows.
        self._write({**known, "ours": ours})
        kinds = services.kinds_named(KINDS, 1)
        try:
            found = services.servers_up(self._place, kinds, os.environ, say)
        except BaseException:
            new = [kind for kind in kinds if kind.name not in stood]
            services.servers_down(self._place, new, lambda text: None)
            self._write({**known, "ours": sorted(set(ours) & stood)})
            raise
        urls = {one.name: one.url for one in found}
        return _named(f"{name}{SUFFIX}", known["token"], urls)

    def take_back(self, say: Say) -> None:
        """End those that `up` started; of others remove what is ours there."""
        if not self._file.exists():
            return
        known = self._read()
        found = self._status()
        urls = {one.name: one.url for one in found}
        others = [one for one in found if one.name not in known["ours"] or one.state == "given"]
        if others and not all(urls.values()):
            say(
                "what is on servers that the environment has named stays: it does not name them now"
            )
        elif others:
            for folder in sorted(self._file.parent.glob(f"*{SUFFIX}")):
                self._remove(_named(folder.name, known["token"], urls), say)
        if known["ours"]:
            services.servers_down(self._place, services.kinds_named(known["ours"], 1), say)
        self._file.unlink()

    def _remove(self, where: Where, say: Say) -> None:
        try:
            project = where.project(self.folder)
            with contextlib.suppress(NotFound):
                reading = reading_of(project)
                reading.store.close()
                remove(project.broker, names_of(reading.catalog))
            drop_database(project.store)
        except SynergyError as error:
            say(f"what {where.name} left there stays: {error}")

    def _status(self) -> list[services.Server]:
        found = services.servers_status(self._place, os.environ)
        return [one for one in found if one.name in KINDS]

    def _read(self) -> dict[str, Any]:
        """Which of them we started, and a word that makes our names there ours alone."""
        with contextlib.suppress(FileNotFoundError):
            known: dict[str, Any] = json.loads(self._file.read_text("utf-8"))
            return known
        return {"ours": [], "token": secrets.token_hex(4)}

    def _write(self, known: dict[str, Any]) -> None:
        self._file.write_text(json.dumps(known), "utf-8")

    @property
    def _file(self) -> Path:
        return self.folder / ".synergy" / "demo-servers.json"

    @property
    def _place(self) -> services.Place:
        return services.Place(self.folder / ".synergy" / "services", self.folder / "compose.yaml")


def _named(name: str, token: str, urls: dict[str, str]) -> Where:
    """The place on these servers: a database and a prefix that nobody else has."""
    own = f"demo-{token}-{name.removesuffix(SUFFIX)}"
    store, broker = urlsplit(urls["mongodb"]), urlsplit(urls["rabbitmq"])
    query = "&".join(filter(None, (broker.query, f"prefix={own}")))
    return Where(
        name=name,
        store=store._replace(path=f"/{own}").geturl(),
        broker=broker._replace(query=query).geturl(),
    )
