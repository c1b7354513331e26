"""The composition root: the only module that knows which store, bell and clock are in use."""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synergy import __version__
from synergy.bells import Bells
from synergy.brokers import open_broker
from synergy.clock import SystemClock
from synergy.core.boxes import admits
from synergy.core.building import accepted
from synergy.core.catalog import Catalog, Program
from synergy.core.changes import Change, compare
from synergy.core.intervals import Interval
from synergy.core.model import Applied, BoxRecord, Json, UnitWrite
from synergy.core.recovery import after_lost_lease
from synergy.core.timetable import Timetable
from synergy.errors import NotFound, Unreachable
from synergy.garbage import seldom_collected
from synergy.leases import LEADER
from synergy.logs import logger
from synergy.owners import departed, new_owner
from synergy.ports import STANDBY, Bell, Broker, Store, Versioned
from synergy.presence import WorkerRecord, read_workers, remove_worker
from synergy.project import (
    Project,
    adopt,
    catalog_of,
    check,
    load_context,
    refuse,
)
from synergy.reading import Reading, read_loaded
from synergy.scheduler.loop import Scheduler, Setting
from synergy.scheduler.sources import Measure, SourcesAside
from synergy.signals import stop_on_signals
from synergy.stores import open_bell, open_store
from synergy.supervisor.children import ProjectPrograms
from synergy.supervisor.loop import SUPERVISOR, Say, Supervisor
from synergy.supervisor.loop import Setting as SupervisorSetting
from synergy.supervisor.plan import Rules
from synergy.urls import masked
from synergy.worker.alone import alone, lease_name

if TYPE_CHECKING:
    from synergy.mx.console import Console

SCHEDULER = "scheduler"
#: Name of the web console among the programs.
CONSOLE = "console"
#: Seconds that a stopped program gets beyond the grace of its units.
STOP_MARGIN = 10.0
#: The one document of its kind.
CATALOG_KEY = "catalog"
#: The worker program of a context that declares none.
DEFAULT_WORKER = Program(name="worker", slots=2, processes=None)
#: How many units of each process may be on their way to a worker: what it claims in one go when
#: they are quick, so that it need not wait for the broker in between.
PREFETCH = 256
#: Seconds that a scheduler which ends waits for the broker to take what it has published.
FLUSH = 1.0


def store_of(project: Project, *, create: bool = False) -> Store:
    """The project's store; without `create` it must be there."""
    return open_store(project.store, create=create)


def bell_of(project: Project, broker: Broker | None = None) -> Bell:
    """The doorbell of this box, and with it that of a broker, which is heard on all boxes."""
    bell = open_bell(project.store)
    return bell if broker is None else Bells(bell, broker.bell())


@contextmanager
def broker_of(project: Project, catalog: Catalog) -> Iterator[Broker | None]:
    """The project's broker, with a queue for each process; None where it has none.

    One that does not answer now is no reason not to work: it is connected to when it does (D10).

    Raises:
        BadInput, Conflict: it can never be used.
    """
    broker = open_broker(project.broker)
    if broker is None:
        yield None
        return
    try:
        try:
            broker.declare(names_of(catalog))
        except Unreachable as error:
            logger("broker").warning(str(error), extra={"action": "broker"})
        yield broker
    finally:
        broker.close()


def broker_trouble(project: Project) -> str:
    """Why the project's broker cannot be used just now, in a sentence; empty if it can, or none is.

    Raises:
        BadInput, Conflict: it can never be used.
    """
    broker = open_broker(project.broker)
    if broker is None:
        return ""
    try:
        broker.declare(())
    except Unreachable as error:
        return str(error)
    finally:
        broker.close()
    return ""


def names_of(catalog: Catalog) -> list[str]:
    """All that units are made of."""
    return [*catalog.processes, *catalog.freeruns]


def reading_of(project: Project) -> Reading:
    """The timetable as it stands in the project's store, by the catalog that it was made with."""
    store = store_of(project)
    stored = stored_context(store)
    if stored is None:
        store.close()
        shown = masked(project.store)
        raise NotFound(f"no scheduler has ever worked on {shown}; starting one makes it so")
    return Reading(store, catalog_of(stored.content))


def stored_context(store: Store) -> Versioned | None:
    """The context that the scheduler works by, as a document; None before the first scheduler."""
    found = store.read_documents("catalog").get(CATALOG_KEY)
    if found is None:
        return None
    content = found.content["context"]
    assert isinstance(content, dict)
    return Versioned(found.version, content)


def save_context(store: Store, content: Mapping[str, Json], expected: int) -> bool:
    """Put it in the place of the one of that version."""
    return store.save_document("catalog", CATALOG_KEY, {"context": dict(content)}, expected)


def register(project: Project, store: Store) -> Catalog:
    """Check the project's context and leave it in the store, if it is not there already."""
    check(project, load_context(project), SystemClock().now())
    while True:
        stored = stored_context(store)
        document, changes = reconciled(project, store, stored)
        refuse(changes)
        known = stored is not None and document == stored.content
        if known or save_context(store, document, 0 if stored is None else stored.version):
            for change in changes:
                logger(SCHEDULER).info(str(change), extra={"action": "changed"})
            return catalog_of(document)


def reconciled(
    project: Project, store: Store, stored: Versioned | None
) -> tuple[dict[str, Any], list[Change]]:
    """The project's context as the document to store in the place of what is stored, and what that
    changes for the intervals that there are."""
    context, now = load_context(project), SystemClock().now()
    document = adopt(context, stored.content if stored is not None else None, now)
    if stored is None:
        return document, []
    before, after = catalog_of(stored.content), catalog_of(document)
    if _defined(before) == _defined(after):
        return document, []
    table = Timetable(before)
    loaded, _ = read_loaded(store, before)
    table.load(loaded.ledgers, loaded.entries, loaded.jobs)
    recorded = {
        name: job.interval
        for name in after.processes
        if name not in before.processes
        for job in store.last_jobs(name, 1)
    }
    again = Timetable(after)
    again.load(loaded.ledgers, loaded.entries, (), lazily=True)
    changes = compare(
        before,
        after,
        table,
        now,
        accepted=accepted(context),
        recorded=recorded,
        ledgers={name: again.ledgers[name] for name in recorded},
    )
    return document, changes


def _defined(catalog: Catalog) -> tuple[object, ...]:
    """What changes are looked for in."""
    return catalog.trees, catalog.processes, catalog.freeruns


def programs_of(catalog: Catalog) -> dict[str, Program | None]:
    """The programs of a box by name; None is the scheduler."""
    workers = catalog.programs or {DEFAULT_WORKER.name: DEFAULT_WORKER}
    return {SCHEDULER: None, **workers}


def run_scheduler(project: Project) -> int:
    """Be the scheduler until told to stop."""
    store = store_of(project, create=True)
    catalog = register(project, store)
    with broker_of(project, catalog) as broker:
        bell = bell_of(project, broker)
        publisher = None if broker is None else broker.publisher()
        hand_on(store, bell, catalog.programs.values())
        announce(store, project.box)
        scheduler = Scheduler(
            Setting(
                store=store,
                bell=bell,
                clock=SystemClock(),
                catalog=catalog,
                owner=new_owner(SCHEDULER, project.box),
                sources=SourcesAside(measurer(catalog), lambda: bell.ring(SCHEDULER)),
                publisher=publisher,
                keep_units=project.keep_units,
            )
        )
        stopping = stop_on_signals()
        with seldom_collected():
            scheduler.run(stopping)
        if publisher is not None:
            publisher.flush(FLUSH)
    store.close()
    logger("scheduler").info("stopped", extra={"action": "stopped"})
    return 0


def measurer(catalog: Catalog) -> Measure:
    """Measures the sources that the catalog names, importing them when first asked."""

    def measure(source: str, interval: Interval) -> tuple[Json, Json] | None:
        module, _, name = catalog.sources[source].partition(":")
        found: tuple[Json, Json] | None = getattr(importlib.import_module(module), name)(interval)
        return found

    return measure


def run_worker_program(
    project: Project, catalog: Catalog, program: Program, *, ahead: bool = True
) -> int:
    """Be a worker program until told to stop.

    Without `ahead` no unit is claimed before it can be started.
    """
    from synergy.worker.shell import run_worker

    store, clock = store_of(project, create=True), SystemClock()
    owner, log = new_owner(program.name, project.box), logger(program.name)
    with broker_of(project, catalog) as broker:
        bell = bell_of(project, broker)
        hand_on(store, bell, catalog.programs.values())
        announce(store, project.box)
        processes = catalog.workable(program, project.box)
        brought = names_of(catalog) if processes is None else sorted(processes)
        with (
            alone(store, bell, clock, program.name, owner, log) if program.alone else nullcontext()
        ):
            return run_worker(
                store,
                bell,
                clock,
                worker_id=owner,
                slots=program.slots,
                project=project.folder,
                log_dir=project.log_dir,
                processes=processes,
                grace=project.grace,
                log=log,
                ahead=ahead,
                consumer=None if broker is None else broker.consume(brought, PREFETCH),
                record=WorkerRecord(
                    owner=owner,
                    program=program.name,
                    box=project.box,
                    slots=program.slots,
                    processes=processes,
                    busy=0,
                    seen_at=clock.now(),
                ),
            )


def run_program(project: Project, name: str, *, ahead: bool = True) -> int:
    """Be the program of that name; a worker without `ahead` claims no unit before it can start."""
    if name == SCHEDULER:
        return run_scheduler(project)
    catalog = check(project, load_context(project), SystemClock().now())
    program = programs_of(catalog).get(name)
    if program is None:
        raise NotFound(f"no program {name!r}; known are {', '.join(programs_of(catalog))}")
    return run_worker_program(project, catalog, program, ahead=ahead)


def console_folder(project: Project) -> Path:
    """Where the console's accounts, its secret and its audit are."""
    return project.folder / ".synergy" / "console"


def console_of(project: Project) -> "Console":
    """The web console of the project.

    Raises:
        BadInput: its settings cannot be used.
    """
    # Werkzeug and the rest take a while to load, and only the console needs them.
    from synergy.mx.addresses import DEFAULT, Transport, address_of
    from synergy.mx.console import Console, Setting
    from synergy.mx.table import ROUTES

    said = project.console
    certificate, key = said.get("CERTIFICATE", ""), said.get("KEY", "")
    bell = bell_of(project)
    return Console(
        Setting(
            name=project.folder.name,
            version=__version__,
            box=project.box,
            address=address_of(said.get("") or DEFAULT),
            transport=Transport(
                certificate=project.folder / certificate if certificate else None,
                key=project.folder / key if key else None,
                proxy=said.get("PROXY", ""),
            ),
            hosts=tuple(filter(None, map(str.strip, said.get("HOSTS", "").split(",")))),
            folder=console_folder(project),
            log_dir=project.log_dir,
            open_store=lambda: store_of(project),
            read_catalog=versioned_catalog,
            clock=SystemClock(),
            ring=lambda: bell.ring(SCHEDULER),
        ),
        ROUTES,
    )


def versioned_catalog(store: Store) -> tuple[int, Catalog] | None:
    """The catalog that the scheduler works by, and its version; None before the first one."""
    stored = stored_context(store)
    return None if stored is None else (stored.version, catalog_of(stored.content))


def announce(store: Store, box: str) -> None:
    """Let the store know of this box, which may have no supervisor."""
    if all(record.box != box for record in store.read_boxes()):
        now = SystemClock().now()
        store.save_box(BoxRecord(box=box, supervisor=None, since=None, seen_at=now))


def hand_on(store: Store, bell: Bell, programs: Iterable[Program] = ()) -> int:
    """Free at once what processes of this box held that have ended; how many units.

    Their leases would run out by themselves; this is only quicker (RELIABILITY F43), and fenced
    like every other recovery.  `programs` are those that may hold a lease.
    """
    now = SystemClock().now()
    for name in (LEADER, *(lease_name(each.name) for each in programs if each.alone)):
        lease = store.read_lease(name)
        if lease is not None and lease.until > now and departed(lease.owner):
            store.drop_lease(name, lease.owner, now)
            bell.ring(STANDBY)
    for worker in read_workers(store):
        if departed(worker.owner):
            remove_worker(store, worker.owner)
    held = store.held_units()
    gone = {owner for owner in {unit.owner for unit in held} if owner and departed(owner)}
    writes = [
        UnitWrite(
            after_lost_lease(unit, now, "its process has ended"),
            unit.fence_with_lease,
        )
        for unit in held
        if unit.owner in gone
    ]
    answers = store.save_units(writes) if writes else []
    if answers:
        bell.ring("scheduler")
        bell.ring("worker")
    return sum(isinstance(answer, Applied) for answer in answers)


def supervisor_of(project: Project, catalog: Catalog, say: Say) -> Supervisor:
    """The supervisor of this box, for the programs that are bound to it."""
    schedulers = [SCHEDULER] if admits(catalog.schedulers, project.box) else []
    workers = [
        each.name
        for each in programs_of(catalog).values()
        if each is not None and admits(each.boxes, project.box)
    ]
    return Supervisor(
        SupervisorSetting(
            box=project.box,
            owner=new_owner(SUPERVISOR, project.box),
            names=(*schedulers, *workers, *([CONSOLE] if project.console.get("") else [])),
            programs=ProjectPrograms(project),
            open_store=lambda: store_of(project, create=True),
            bell=bell_of(project),
            clock=SystemClock(),
            hand_on=lambda store, bell: hand_on(store, bell, catalog.programs.values()),
            say=say,
            rules=Rules(grace=project.grace.total_seconds() + STOP_MARGIN),
        )
    )
