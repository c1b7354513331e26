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


@dataclass(frozen=True)
class Mutant:
    """One omission."""

    name: str
    #: ``module:function`` or ``module:Class.method``, below `synergy`.
    place: str
    #: What is left out, and what stands instead.
    old: str
    new: str
    #: Within how many seeds, beginning with `first`, it is noticed.
    first: int
    within: int

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The product with this omission."""
        module_name, _, path = self.place.partition(":")
        module = import_module(f"synergy.{module_name}")
        owner: Any = module
        *classes, name = path.split(".")
        for part in classes:
            owner = getattr(owner, part)
        original = inspect.getattr_static(owner, name)
        source = textwrap.dedent(inspect.getsource(original))
        assert source.count(self.old) == 1, f"{self.name}: {self.old!r} stands there no more"
        space: dict[str, Any] = {}
        exec(
            compile(source.replace(self.old, self.new), f"<{self.name}>", "exec"),
            vars(module),
            space,
        )
        changed = space[name]
        # Modules that imported the function by name have to be given the changed one, too.
        places = [owner]
        if not classes:
            ours = [each for key, each in sys.modules.items() if key.startswith("synergy.")]
            places = [each for each in ours if vars(each).get(name) is original]
        for each in places:
            setattr(each, name, changed)
        try:
            yield
        finally:
            for each in places:
                setattr(each, name, original)


MUTANTS = (
    Mutant(
        "a unit is claimed whoever holds it",
        "stores.memory:MemoryStore.claim",
        "for unit in (self._units[key] for _, _, key in self._queue)",
        "for unit in (replace(self._units[key], state=UnitState.REQUESTED) for key in sorted(self._active_units))",
        0,
        50,
    ),
    Mutant(
        "a report is not fenced by attempt and owner",
        "stores.rules:fence_lets_pass",
        "fence.state == standing.state",
        "True or fence.state == standing.state",
        0,
        50,
    ),
    Mutant(
        "a report is not fenced by its owner",
        "stores.rules:fence_lets_pass",
        "and fence.owner == standing.owner",
        "",
        0,
        400,
    ),
    Mutant(
        "a job is written whatever its version",
        "stores.memory:MemoryStore.save_jobs",
        "if (0 if current is None else current.version) != write.expected:",
        "if False:",
        0,
        50,
    ),
    Mutant(
        "no holds on what is built on a reopened job",
        "core.machines:reopened",
        "holds = (*job.holds, request) if hold else job.holds",
        "holds = job.holds",
        0,
        400,
    ),
    Mutant(
        "the target is reopened before what is built on it",
        "core.operations:Operations._begin_operation",
        'deque(["hold", "reopen", "release"])',
        'deque(["reopen", "hold", "release"])',
        0,
        400,
    ),
    Mutant(
        "the target is reopened before running units are withdrawn",
        "core.operations:Operations._next_phase",
        "or operation.canceling",
        "",
        0,
        400,
    ),
    Mutant(
        "a held job is requested",
        "core.readiness:_own_reasons",
        "for request in job.holds:",
        "for request in ():",
        0,
        400,
    ),
    Mutant(
        "a running unit is not withdrawn when its job is reopened",
        "core.engine:Engine._settled",
        "if units:\n        self._cancel_orphans(units, job, now)",
        "pass",
        0,
        400,
    ),
    Mutant(
        "a request is obeyed again",
        "core.machines:reopened",
        "if request in job.requests:",
        "if False:",
        0,
        400,
    ),
    Mutant(
        "a lease is taken for lost though it was renewed",
        "core.engine:Engine._lease_ran_out",
        "unit.owner, unit.lease_until)",
        "unit.owner)",
        0,
        400,
    ),
    Mutant(
        "a lost attempt is repeated under its number",
        "core.recovery:after_failure",
        "attempt=unit.attempt + 1",
        "attempt=unit.attempt",
        0,
        100,
    ),
    Mutant(
        "a unit lost before it was said to run is repeated under its number",
        "core.recovery:after_lost_lease",
        "started=True",
        "started=False",
        0,
        1000,
    ),
    Mutant(
        "a worker runs on beyond its lease",
        "worker.protocol:WorkerProtocol._why_stop",
        "self._time >= held.deadline",
        "False",
        0,
        1000,
    ),
    Mutant(
        "a refused renewal is taken for granted",
        "stores.memory:MemoryStore.renew",
        "answers.append(held)",
        "answers.append(True)",
        0,
        1000,
    ),
    Mutant(
        "leases are not watched",
        "core.engine:Engine._watch",
        "if unit.lease_until is not None:",
        "if unit.lease_until is not None and unit.run:",
        0,
        100,
    ),
    Mutant(
        "a failed child counts as finished",
        "core.readiness:_awaited",
        "else _FINISHED",
        "else _FINISHED | {JobState.FAILED}",
        0,
        50,
    ),
    Mutant(
        "kept without renewing what it consumed",
        "core.machines:kept",
        "consumed=dict(generations)",
        "consumed=job.consumed",
        0,
        100,
    ),
    Mutant(
        "the unit is requested before its job is written",
        "scheduler.loop:Scheduler._execute",
        "jobs = [command.write for command in commands if isinstance(command, SaveJob)]",
        "jobs = [command.write for command in commands if isinstance(command, SaveJob)]\n"
        "    from synergy.core.machines import unit_of\n"
        "    from synergy.core.model import UnitWrite\n"
        "    store.save_units([UnitWrite(unit_of(w.job, self.setting.catalog.processes[w.job.process].task, self.setting.clock.now(), 1, 2), None)\n"
        "        for w in jobs if w.job.state.at_work and w.job.unit and w.job.process != 'f' and w.job.unit not in store.read_units([w.job.unit])])",
        0,
        400,
    ),
    Mutant(
        "after a refusal it is decided on an old view",
        "scheduler.loop:Scheduler._execute",
        "events = self._changes() + events",
        "pass",
        0,
        1000,
    ),
    Mutant(
        "a transition stands twice in the feed",
        "stores.memory:MemoryStore._tell",
        "for transition in transitions:",
        "for transition in (*transitions, *transitions):",
        0,
        20,
    ),
    Mutant(
        "a dispatched job whose unit was never inserted is left alone",
        "core.engine:Engine._resume",
        "if job.unit not in units:",
        "if False:",
        0,
        400,
    ),
    Mutant(
        "what another scheduler wrote is not believed",
        "core.engine:Engine._jobs_changed",
        "known.version < job.version",
        "False",
        0,
        100,
    ),
    Mutant(
        "a job ends by whatever unit of it ends",
        "core.engine:Engine._unit_changed",
        "job.unit == unit.key",
        "True",
        0,
        400,
    ),
)
