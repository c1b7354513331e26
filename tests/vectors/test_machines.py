"""One recorded tick of each state machine: the job and its unit before, the job and unit after.

The interval is the first hour of a day. What was recorded as a timeperiod of the future is played
by a clock that is set back; a job that "can be finalised" is one whose dependency has finished.
"""

from datetime import UTC, datetime

from synergy.core import recovery
from synergy.core.commands import Command, MeasureSource, SaveJob, SaveUnit
from synergy.core.context import Context, hourly, previous, tree
from synergy.core.engine import Engine
from synergy.core.events import (
    Event,
    JobRefused,
    JobSaved,
    Loaded,
    SourceMeasured,
    TimePassed,
    UnitChanged,
    UnitRefused,
    UnitSaved,
)
from synergy.core.intervals import BadLabel
from synergy.core.model import Applied, Unit
from synergy.testing.stage import Stage, processes
from tests.vectors.recorded import Case, each

HOUR = "2026-11-20T00"
BEFORE = datetime(2026, 11, 19, 23, 30, tzinfo=UTC)
#: So near to each other that a unit at work keeps its lease in between.
OPEN = datetime(2026, 11, 20, 0, 59, 55, tzinfo=UTC)
CLOSED = datetime(2026, 11, 20, 1, 0, 5, tzinfo=UTC)

NEW, EXISTING = "new unit published", "existing unit recovered"
#: Jobs that are where they are recorded to be before their interval has closed.
PROVISIONAL = ("in_progress", "continuous"), ("in_progress", "recomputing")


def staged(machine: str, at: datetime, *, awaits: bool = False) -> Stage:
    """One hour of a process with this machine, and the hour before of one that it may wait for."""
    recomputing = machine == "recomputing"
    process = hourly(
        "p",
        run="w:f",
        machine=machine,
        every="every 86400",
        source="s" if recomputing else None,
        after=previous("d") if awaits else (),
    )
    trees = [tree("t", [process], start="2026-11-20T00", until="2026-11-20T01", lag=0)]
    if awaits:
        awaited = hourly("d", run="w:f")
        trees.append(tree("u", [awaited], start="2026-11-19T23", until="2026-11-20T00", lag=0))
    return Stage(
        Context(*trees, sources={"s": "w:k"} if recomputing else {}),
        at=at,
        measure=lambda source, interval: (1, 9),
    )


def withdrawn(unit: Unit, now: datetime) -> Unit:
    return recovery.canceled(unit, now, "withdrawn")


def requested(stage: Stage) -> set[str]:
    return {unit.key for unit in stage.requested if unit.process == "p"}


@each("synergy_state_machines")
def test_a_machine_ticks_as_recorded(case: Case) -> None:
    given, then = case["given"], case["then"]
    machine = case["machine"]
    if machine.startswith("any"):
        # Recorded: an hour that names its group goes on as usual, any other one is closed as empty.
        names_its_group = "note" in then
        ours = grouped(given["grouping"], datetime(2026, 11, 20, not names_its_group, tzinfo=UTC))
        case.compare(
            ours, ("in_progress", [NEW]) if names_its_group else (_state(then), then["units"])
        )
        return
    if "raises" in then or EXISTING in then["units"]:
        ours = overtaken(machine, _word(given["job_state"]), given["unit_states_read"])
    else:
        ours = ticked(
            machine,
            _word(given["job_state"]),
            given["timeperiod"],
            given["finalizable"],
            [_word(state) for state in given["unit_states_read"]],
        )
    case.compare(ours, (_state(then), then["units"]))


def _word(state: str) -> str:
    return state.removeprefix("state_")


def _state(then: dict[str, str]) -> str:
    return _word(then["job_state"])


def grouped(grouping: int, start: datetime) -> tuple[str, list[str]]:
    """What becomes of the hour that starts there in a process of grouped hours."""
    process = hourly("p", run="w:f", machine="continuous", grouping=grouping)
    stage = Stage(
        Context(tree("t", [process], start="2026-11-20", until="2026-11-20T06", lag=0)),
        at="2026-11-21T00:00Z",
    )
    try:
        interval = stage.catalog.processes["p"].calendar.starting_at(start)
    except BadLabel:
        return "no interval", []
    units = [unit for unit in stage.requested if unit.interval == interval]
    return ("in_progress" if units else "embryo"), [NEW] * len(units)


def ticked(
    machine: str, state: str, timeperiod: str, finalizable: bool | None, units: list[str]
) -> tuple[str, list[str]]:
    """The job and its new units, after the job and its unit were brought to where they were."""
    provisional = (state, machine) in PROVISIONAL
    at = OPEN if provisional or timeperiod == "current" else CLOSED
    stage = staged(machine, BEFORE, awaits=finalizable is not None)
    stage.until(at if state != "embryo" else BEFORE)
    if finalizable:
        assert stage.work(only="d") == 1
    match state:
        case "processed":
            stage.work()
        case "skipped":
            stage.request("skip", "p", HOUR)
    running = stage.claim(only="p") if units not in ([], ["requested"]) else []
    known = requested(stage)
    if finalizable is not False and state not in ("embryo", "final_run"):
        assert stage.state("p", HOUR) == state
    match timeperiod:
        case "past":
            stage.until(CLOSED)
        case "future":
            stage.clock.set(BEFORE)
    for unit in running:
        assert stage.report(unit, withdrawn if units == ["canceled"] else processes)
    stage.settle()
    new = requested(stage) - known
    return stage.state("p", HOUR).value, [NEW] * len(new)


def overtaken(machine: str, state: str, units: list[str]) -> tuple[str, list[str]]:
    """What an engine does where another one has just done the same."""
    stage = staged(machine, BEFORE)
    slow = Engine(stage.catalog)
    if state == "in_progress":
        stage.until(OPEN)
        if units == ["state_processed"]:
            (running,) = stage.claim(only="p")
        active = stage.store.active_units()
        told(stage, slow, loaded_from(stage), OPEN)
        stage.until(CLOSED)
        if units == ["state_processed"]:
            assert stage.report(running)
        else:
            stage.work()
        (before,) = [stage.unit(unit.key) for unit in active]
        assert before is not None
        taken = told(stage, slow, UnitChanged(before), CLOSED)
    else:
        told(stage, slow, loaded_from(stage), BEFORE)
        stage.until(CLOSED)
        taken = told(stage, slow, TimePassed(), CLOSED)
    assert stage.unit(f"p@{HOUR}#1") is not None
    return stage.state("p", HOUR).value, [NEW] * taken if taken else [EXISTING]


def loaded_from(stage: Stage) -> Loaded:
    """All that there is, as another scheduler would read it now."""
    job = stage.job("p", HOUR)
    return Loaded(
        ledgers={},
        entries=(),
        jobs=(job,) if job.version else (),
        units=tuple(stage.store.active_units()),
        requests=(),
        fired={},
    )


def told(stage: Stage, engine: Engine, event: Event, now: datetime) -> int:
    """Let an engine go on until it is quiet; how many new units the store took from it."""
    taken = 0
    commands: list[Command] = engine.handle([event], now)
    while commands:
        command, *commands = commands
        match command:
            case SaveJob(write):
                said = stage.store.save_jobs([write])[0]
                told_job = isinstance(said, Applied)
                answer: Event = JobSaved(write) if told_job else JobRefused(write, said.current)
            case SaveUnit(write):
                said_unit = stage.store.save_units([write])[0]
                if isinstance(said_unit, Applied):
                    taken += write.expected is None
                    answer = UnitSaved(write)
                else:
                    answer = UnitRefused(write, said_unit.current)
            case MeasureSource(process, interval, _):
                answer = SourceMeasured(process=process, interval=interval, low=1, high=9)
            case _:
                raise AssertionError(command)
        commands += engine.handle([answer], now)
    return taken
