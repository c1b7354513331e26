"""Single omissions of the protocol, each made in the product's own code.

A mutant is a text that stands once in a function of the product, and what stands there instead.
A simulation that does not notice one of them has a hole (RELIABILITY §6.3).
"""

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from synergy.testing.cases import WITH_BACKFILLS, WITH_BATCHES, WITH_LATE, WITH_PLANS, WITH_POOLS


@dataclass(frozen=True)
class Edit:
    """A text that stands once in a function of the product, and what stands there instead."""

    #: ``module:function`` or ``module:Class.method``, below `synergy`.
    place: str
    old: str
    new: str

    def applied(self) -> Iterator[None]:
        """Exchange the function for the changed one, wherever it was imported to."""
        module_name, _, path = self.place.partition(":")
        module = import_module(f"synergy.{module_name}")
        owner: Any = module
        *classes, name = path.split(".")
        for part in classes:
            owner = getattr(owner, part)
        original = inspect.getattr_static(owner, name)
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.old) == 1, f"{self.old!r} stands no more in {self.place}"
        code = compile(source.replace(self.old, self.new), f"<{self.place}>", "exec")
        space: dict[str, Any] = {}
        exec(code, vars(module), space)
        places = [owner]
        if not classes:
            ours = [each for key, each in sys.modules.items() if key.startswith("synergy.")]
            places = [each for each in ours if vars(each).get(name) is original]
        for each in places:
            setattr(each, name, space[name])
        yield
        for each in places:
            setattr(each, name, original)


class Mutant:
    """One omission of the protocol."""

    def __init__(self, name: str, *edits: Edit, seeds: range) -> None:
        self.name = name
        self.edits = edits
        #: Among these it is noticed.
        self.seeds = seeds

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The product with this omission."""
        changes = [edit.applied() for edit in self.edits]
        try:
            for change in changes:
                next(change)
            yield
        finally:
            for change in reversed(changes):
                next(change, None)


MUTANTS = (
    Mutant(
        "a unit is claimed whoever holds it",
        Edit(
            "stores.memory:MemoryStore._requested",
            "for _, _, key in self._queue",
            "for key in sorted(self._active_units)",
        ),
        Edit("stores.rules:taken", "next_unit_state(unit.state, applied)", "UnitState.IN_PROGRESS"),
        seeds=range(4),
    ),
    Mutant(
        "a report is not fenced by attempt and owner",
        Edit(
            "stores.rules:fence_lets_pass",
            "fence.state == standing.state",
            "True or fence.state == standing.state",
        ),
        seeds=range(5),
    ),
    Mutant(
        "a job is written whatever its version",
        Edit(
            "stores.memory:MemoryStore.save_jobs",
            "if (0 if current is None else current.version) != write.expected:",
            "if False:",
        ),
        seeds=range(9, 17),
    ),
    Mutant(
        "no holds on what is built on a reopened job",
        Edit(
            "core.machines:reopened",
            "holds = (*job.holds, request) if hold else job.holds",
            "holds = job.holds",
        ),
        seeds=range(429, 437),
    ),
    Mutant(
        "the target is reopened before what is built on it",
        Edit(
            "core.operations:Operations._carrying_out",
            '("hold", "reopen", "release")',
            '("reopen", "hold", "release")',
        ),
        seeds=range(7),
    ),
    Mutant(
        "a held job is requested",
        Edit("core.readiness:_own_reasons", "reasons += map(Held, job.holds)", ""),
        seeds=range(429, 437),
    ),
    Mutant(
        "a request is obeyed again",
        Edit("core.machines:reopened", "if request in job.requests:", "if False:"),
        seeds=range(5),
    ),
    Mutant(
        "a lease is taken for lost though it was renewed",
        Edit("core.engine:Engine._lease_ran_out", "unit.fence_with_lease", "unit.fence"),
        seeds=range(8),
    ),
    Mutant(
        "a lost attempt is repeated under its number",
        Edit("core.recovery:after_failure", "attempt=unit.attempt + 1", "attempt=unit.attempt"),
        seeds=range(5),
    ),
    Mutant(
        "a unit lost before it was said to run is repeated under its number",
        Edit("core.recovery:after_lost_lease", "started=True", "started=False"),
        seeds=range(598, 606),
    ),
    Mutant(
        "a worker runs on beyond its lease",
        Edit("worker.protocol:WorkerProtocol._why_stop", "self._time >= held.deadline", "False"),
        seeds=range(201, 209),
    ),
    Mutant(
        "leases are not watched",
        Edit(
            "core.engine:Engine._watch",
            "if unit.lease_until is not None:",
            "if unit.lease_until is not None and unit.run:",
        ),
        seeds=range(61, 69),
    ),
    Mutant(
        "a failed child counts as finished",
        Edit("core.readiness:_awaited", "else _FINISHED", "else _FINISHED | {JobState.FAILED}"),
        seeds=range(8),
    ),
    Mutant(
        "kept without renewing what it consumed",
        Edit("core.machines:kept", "consumed=dict(generations)", "consumed=job.consumed"),
        seeds=range(20, 28),
    ),
    Mutant(
        "a unit is requested whether or not its job was written",
        Edit(
            "core.engine:Engine._request",
            "line.out.add(job.interval.start)",
            "self._insert_unit(machines.dispatched(process.machine, job, now, final=final, "
            "consuming=generations), now)",
        ),
        seeds=range(511, 519),
    ),
    Mutant(
        "after a refusal it is decided on an old view",
        Edit("scheduler.loop:Scheduler._execute", "events = self._changes() + events", "pass"),
        seeds=range(420, 428),
    ),
    Mutant(
        "a transition stands twice in the feed",
        Edit(
            "stores.memory:MemoryStore._tell",
            "for transition in transitions:",
            "for transition in (*transitions, *transitions):",
        ),
        seeds=range(4),
    ),
    Mutant(
        "a dispatched job whose unit was never inserted is left alone",
        Edit("core.engine:Engine._resume", "if job.unit not in units:", "if False:"),
        seeds=range(10, 18),
    ),
    Mutant(
        "what another scheduler wrote is not believed",
        Edit("core.engine:Engine._jobs_changed", "known.version < job.version", "False"),
        seeds=range(103, 111),
    ),
    Mutant(
        "a job ends by whatever unit of it ends",
        Edit("core.engine:Engine._unit_changed", "job.unit == unit.key", "True"),
        seeds=range(13, 21),
    ),
    Mutant(
        "begun is only what the clock says",
        Edit("core.timetable:Timetable.begun", "job is None or job.version > 0", "False"),
        seeds=range(789, 797),
    ),
    Mutant(
        "a job is read that is newer than what is known of the others",
        Edit(
            "scheduler.loop:Scheduler._changes",
            "while self._look(jobs, units):",
            "if self._look(jobs, units):",
        ),
        seeds=range(1407, 1415),
    ),
    Mutant(
        "an attempt that was given back after its start keeps its number",
        Edit("core.recovery:handed_back", "unit.state is UnitState.IN_PROGRESS", "False"),
        seeds=range(54, 62),
    ),
    Mutant(
        "the feed since the last ledger is not read at the start",
        Edit("reading:read_loaded", "entries=tuple(entries)", "entries=()"),
        seeds=range(4),
    ),
    Mutant(
        "a claim whose answer was lost is not looked for",
        Edit("worker.protocol:WorkerProtocol._find_claimed", "self._unsure", "False"),
        seeds=range(8, 16),
    ),
    Mutant(
        "a message is acknowledged before its unit is claimed",
        Edit(
            "worker.protocol:WorkerProtocol._offered",
            "self._offers.add(deliveries)",
            "self._offers.add(deliveries); self._out.append(Acknowledge(tuple(deliveries)))",
        ),
        seeds=range(8),
    ),
    Mutant(
        "a message is acknowledged though its claim came to nothing",
        Edit("worker.protocol:WorkerProtocol._acknowledge", "if each.unit.key in ours", "if True"),
        seeds=range(14, 22),
    ),
    Mutant(
        "a unit is published before it is written",
        Edit(
            "scheduler.loop:Scheduler._execute",
            "zip(units, store.save_units(units)",
            "zip(units, self._publish([w.unit for w in units]) * 0 or store.save_units(units)",
        ),
        seeds=range(8),
    ),
    Mutant(
        "what was brought is run without a claim",
        Edit(
            "worker.protocol:WorkerProtocol._offered",
            "self._offers.add(deliveries)",
            "[self._begin([Held(each.unit.moved(UnitState.IN_PROGRESS, self._now, "
            "owner=self._id + '/0', lease_until=self._now + self._lease), self._now, self._time, "
            "self._time + self._validity)]) for each in deliveries]",
        ),
        seeds=range(8),
    ),
    Mutant(
        "what was never brought is not looked for",
        Edit(
            "worker.protocol:WorkerProtocol._wish",
            "return _Wish(max(self._look_at, silence), free, ahead)",
            "return None if self._healthy else _Wish(self._look_at, free, ahead)",
        ),
        seeds=range(8),
    ),
    Mutant(
        "a pool is filled beyond its places",
        Edit("core.admission:free_places", "return view", "return 1 + view"),
        seeds=range(WITH_POOLS + 45, WITH_POOLS + 60),
    ),
    Mutant(
        "what is off is dispatched",
        Edit("core.admission:closed_by", "if not switch.on:", "if False:"),
        seeds=range(WITH_POOLS + 25, WITH_POOLS + 40),
    ),
    Mutant(
        "who has not heard of a switch does not look how it stands",
        Edit(
            "core.switchboard:Switchboard.refused",
            "self.switches[event.key] = Switch.of_content(*event.current)",
            "pass",
        ),
        seeds=range(WITH_POOLS + 71, WITH_POOLS + 79),
    ),
    Mutant(
        "what is built on the only one that runs again is neither marked nor fenced",
        Edit(
            "core.operations:Operations._changed",
            "return marked or machines.noted(job, request.id, now)",
            "return None",
        ),
        seeds=range(WITH_PLANS + 106, WITH_PLANS + 107),
    ),
    Mutant(
        "what is taken back may build on what runs again",
        Edit(
            "core.operations:Operations._why_left",
            '"its inputs are not finished" if builds and unfinished else None',
            "None",
        ),
        Edit("core.machines:taken_back", "not _made_from(job, results)", "False"),
        Edit(
            "core.operations:_stands_as_before",
            "if job.state.finished and",
            "return True\n    if job.state.finished and",
        ),
        seeds=range(WITH_PLANS + 191, WITH_PLANS + 192),
    ),
    Mutant(
        "what ends on a mark is not marked",
        Edit("core.engine:Engine._finish", "outdated=marked", "outdated=False"),
        seeds=range(WITH_LATE + 30, WITH_LATE + 45),
    ),
    Mutant(
        "what is kept on a mark is not marked",
        Edit("core.engine:Engine._request", "outdated=marked", "outdated=False"),
        seeds=range(WITH_LATE + 225, WITH_LATE + 235),
    ),
    Mutant(
        "what is built on a mark is marked before it",
        Edit(
            "core.operations:Operations._carrying_out",
            "plans.waves(self._desk.catalog, found.order)",
            "[found.order]",
        ),
        seeds=range(WITH_LATE + 30, WITH_LATE + 45),
    ),
    Mutant(
        "a scheduler does not know of the marks of before",
        Edit(
            "core.timetable:Timetable.load",
            "any(ledger.marks for ledger in self.ledgers.values())",
            "False",
        ),
        seeds=range(WITH_LATE + 30, WITH_LATE + 45),
    ),
    Mutant(
        "the feed does not tell of marks",
        Edit("core.timetable:standing_of", "made.outdated", "False"),
        seeds=range(WITH_LATE, WITH_LATE + 10),
    ),
    Mutant(
        "what is reopened keeps its mark",
        Edit("core.machines:reopened", "outdated=False,", ""),
        seeds=range(WITH_LATE + 10, WITH_LATE + 20),
    ),
    Mutant(
        "a backfill opens its targets, and what is built on them is not held",
        Edit(
            "core.lanes:Lanes._consumers",
            "if (name, interval.start) not in lane.held:",
            "if False:",
        ),
        Edit("core.operations:Operations._is_fenced", "operation.then is None", "True"),
        seeds=range(WITH_BACKFILLS + 9, WITH_BACKFILLS + 13),
    ),
    Mutant(
        "what a backfill holds that was given up is not released",
        Edit("core.lanes:Lanes._try_release", "lane.backfill.over or", "False and"),
        seeds=range(WITH_BACKFILLS + 9, WITH_BACKFILLS + 13),
    ),
    Mutant(
        "a call is for intervals with a gap between them",
        Edit(
            "worker.protocol:WorkerProtocol._begin_calls",
            "calls_of(held.unit for held in shared)",
            "[[held.unit for held in shared]]",
        ),
        seeds=range(WITH_BATCHES + 5, WITH_BATCHES + 8),
    ),
    Mutant(
        "what failed together is tried together again",
        Edit("core.batches:is_shared", " and attempt == 1", ""),
        seeds=range(WITH_BATCHES, WITH_BATCHES + 1),
    ),
    Mutant(
        "of a call only the first unit is renewed and watched",
        Edit("worker.holding:Slot.at_work", "self.queue if self.together else ", ""),
        Edit("worker.protocol:WorkerProtocol._holdings", "in slot.queue", "in slot.at_work()"),
        seeds=range(WITH_BATCHES + 49, WITH_BATCHES + 50),
    ),
    Mutant(
        "all units of a call come out like its first",
        Edit("worker.holding:Slot.over", "[outcome, *others]", "[outcome]"),
        seeds=range(WITH_BATCHES + 3, WITH_BATCHES + 7),
    ),
    Mutant(
        "what makes a call full is not claimed",
        Edit(
            "stores.memory:MemoryStore.claim",
            "self._put_unit(after, before)",
            "before in more or self._put_unit(after, before)",
        ),
        seeds=range(WITH_BATCHES, WITH_BATCHES + 4),
    ),
)
