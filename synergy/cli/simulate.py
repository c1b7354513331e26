"""``simulate``: play a scenario, or a project's own timetable, on a virtual clock."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from synergy.app import programs_of
from synergy.cli.naming import interval_named, process_named
from synergy.cli.output import Output, Styled, command, instant
from synergy.core.building import CatalogError, build
from synergy.core.catalog import Catalog
from synergy.core.model import FeedEntry, Request, Unit
from synergy.core.promises import without_promises
from synergy.core.states import JobState, UnitState
from synergy.errors import BadInput, SynergyError
from synergy.garbage import seldom_collected
from synergy.project import Project, load_context
from synergy.testing.play import Crew, Ending, Held, Play, Summary
from synergy.testing.scenario import DEFAULT, instant_of, parse
from synergy.worker.outcomes import Outcome, Verdict

#: Lines written in one go.
CHUNK = 2000
#: Waiting jobs that the summary names.
NAMED = 10


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument(
        "file", nargs="?", metavar="FILE.json", help="a scenario; - reads it from stdin"
    )
    own = parser.add_argument_group("in place of a scenario, a project's own timetable")
    own.add_argument(
        "--context",
        dest="dir",
        type=_folder,
        metavar="context.py",
        help="the project's context; its scheduler first starts at --from, with an empty store",
    )
    own.add_argument("--from", dest="begin", type=_instant, metavar="INSTANT", help="begin here")
    own.add_argument("--until", type=_instant, metavar="INSTANT", help="end here")
    own.add_argument(
        "--duration",
        type=_seconds,
        metavar="SECONDS",
        help=f"how long every attempt takes ({DEFAULT.duration.seconds} by default)",
    )
    own.add_argument(
        "--fail",
        action="append",
        default=[],
        metavar="PROCESS@LABEL",
        help="every attempt at this interval fails (may be given several times)",
    )
    own.add_argument(
        "--workers",
        type=_slots,
        metavar="N",
        help="so many attempts at once, in place of the programs that the context declares",
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Play it and tell what happened."""
    play, zone = _play(args, project)
    with seldom_collected():
        if output.json:
            _print_lines(play)
        else:
            _tell(play, zone, output)
    for request in play.answers():
        if request.state == "refused":
            output.note(f"{_asked(request, play.catalog)} was refused: {request.answer['why']}")
        elif not (request.answer.get("touched") or request.answer.get("changed")):
            output.note(f"{_asked(request, play.catalog)} changed nothing")
    return SynergyError.exit_code if play.summary().violations else 0


def _play(args: argparse.Namespace, project: Project) -> tuple[Play, str]:
    """What is to be played, and the zone of its story."""
    own = {
        "--from": args.begin,
        "--until": args.until,
        "--duration": args.duration,
        "--fail": args.fail or None,
        "--workers": args.workers,
    }
    if args.dir is None:
        given = [name for name, value in own.items() if value is not None]
        if given:
            raise BadInput(f"{', '.join(given)}: only with --context; a scenario says it itself")
        if args.file is None:
            raise BadInput(
                "what is to be played? A scenario: "
                f"{command('simulate FILE.json')}, or the project's own timetable: "
                f"{command('simulate --context context.py --from INSTANT --until INSTANT')}"
            )
        scenario = parse(*_text(args.file))
        return scenario.play(), scenario.zone
    if args.file is not None:
        raise BadInput(f"{args.file}: a scenario, or --context; not both")
    missing = [name for name in ("--from", "--until") if own[name] is None]
    if missing:
        raise BadInput(f"--context needs {' and '.join(missing)}")
    if args.until < args.begin:
        raise BadInput("--until lies before --from")
    play = _own_play(args, project)
    zones = {tree.zone for tree in play.catalog.trees.values()}
    return play, zones.pop() if len(zones) == 1 else "UTC"


def _own_play(args: argparse.Namespace, project: Project) -> Play:
    """The project's own timetable, from its first start on."""
    try:
        catalog = without_promises(build(load_context(project), args.begin))
    except CatalogError as error:
        path = project.folder / "context.py"
        raise BadInput(f"{path} cannot be used:", error.problems) from error
    failing = {_job_named(catalog, text) for text in args.fail}
    lasts = DEFAULT.duration if args.duration is None else timedelta(seconds=args.duration)
    good = Ending(duration=lasts)
    bad = Ending(duration=lasts, outcome=Outcome(Verdict.FAILED, "told to fail"))

    def plot(unit: Unit) -> Ending:
        return bad if (unit.process, unit.interval.label) in failing else good

    crews: list[Crew] = [
        Crew(slots=program.slots, processes=program.processes)
        for program in programs_of(catalog).values()
        if program is not None
    ]
    if args.workers is not None:
        crews = [Crew(slots=args.workers)]
    return Play(catalog, args.begin, args.until, plot, crews=crews)


def _job_named(catalog: Catalog, text: str) -> tuple[str, str]:
    """Process and label of ``PROCESS@LABEL``."""
    name, _, label = text.partition("@")
    process = process_named(catalog, name)
    return process, interval_named(catalog, process, label).label


def _text(file: str) -> tuple[str, str]:
    """What the file says, and how it is called."""
    try:
        if file == "-":
            return sys.stdin.read(), "the scenario on stdin"
        return Path(file).read_text("utf-8"), file
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is no text in UTF-8: {error.reason}") from error


# for programs


def _print_lines(play: Play) -> None:
    """A line for each transition, and the summary."""
    lines: list[str] = []
    for entries in play.run():
        lines += _lines(entries)
        if len(lines) >= CHUNK:
            _write(lines)
            lines.clear()
    summary = play.summary()
    last = {
        "kind": "summary",
        "jobs": summary.jobs,
        "units": summary.units,
        "violations": summary.violations,
    }
    _write([*lines, json.dumps(last, separators=(",", ":"))])


def _write(lines: Iterable[str]) -> None:
    print("\n".join(lines))


#: An empty text in JSON.
_NONE = '""'


def _lines(entries: Iterable[FeedEntry]) -> Iterator[str]:
    """Written out by hand, which is five times as quick as `json.dumps`.

    Names and labels hold no character that JSON would have to escape: the catalog sees to that.
    """
    before: datetime | None = None
    at = ""
    for entry in entries:
        transition = entry.transition
        if transition.at != before:
            before, at = transition.at, instant(transition.at)
        if entry.kind == "job":
            reason = (
                json.dumps(transition.reason, ensure_ascii=False) if transition.reason else _NONE
            )
            yield (
                f'{{"at":"{at}","kind":"job","process":"{entry.process}",'
                f'"interval":"{entry.interval.label}","generation":{transition.generation},'
                f'"from":"{transition.before}","to":"{transition.after}","reason":{reason}}}'
            )
        else:
            yield (
                f'{{"at":"{at}","kind":"unit","unit":"{entry.key}","attempt":{transition.attempt},'
                f'"from":"{transition.before}","to":"{transition.after}"}}'
            )


# for people


def _tell(play: Play, zone: str, output: Output) -> None:
    """The story: a line for each transition that matters, and the end of it in words."""
    info = ZoneInfo(zone)
    told = [
        (entry.transition.at, row)
        for entries in play.run()
        for entry in entries
        if (row := _row(entry, output)) is not None
    ]
    # The feed does not tell of switches; what follows from one comes after it.
    told = sorted([*_switched(play), *told], key=lambda each: each[0])
    if told:
        rows = [(_clock(at, info), *row) for at, row in told]
        output.table((f"time ({zone})", "process", "interval", "", ""), rows)
        output.line()
    for sentence in _in_words(play, play.summary(), info):
        output.line(sentence)


#: Process, label, what happened, and why.
_Row = tuple[str, str, Styled, str]


def _switched(play: Play) -> Iterator[tuple[datetime, _Row]]:
    """The processes that were switched off and on."""
    for request in play.answers():
        if request.answer.get("changed") and request.answered_at is not None:
            how = "⏻ on" if request.options["on"] else "⏻ off"
            yield request.answered_at, (request.process, "", Styled(how, "yellow"), request.reason)


def _row(entry: FeedEntry, output: Output) -> _Row | None:
    """What is told of a transition; None where another line tells it.

    A job's dispatch shows as the start of its unit, the end of a unit as that of its job.
    """
    made = entry.transition
    name, label = entry.process, entry.interval.label
    if entry.kind == "job":
        if JobState(made.after).at_work or made.before == made.after:
            return None
        reason = made.reason
        if made.after == JobState.EMBRYO.value:
            reason = f"generation {made.generation}: {reason}"
        return name, label, output.state(made.after), reason
    _, _, run = entry.key.rpartition("#")
    _, dot, provisional = run.partition(".")
    match UnitState(made.after):
        case UnitState.IN_PROGRESS:
            told = [f"provisional run {provisional}"] if dot else []
            told += [f"generation {made.generation}"] if made.generation > 1 else []
            told += [f"attempt {made.attempt}"] if made.attempt > 1 else []
            return name, label, output.state(made.after), ", ".join(told)
        case UnitState.REQUESTED if made.before == UnitState.IN_PROGRESS.value:
            return name, label, Styled("↻ requested", "yellow"), made.reason
        case UnitState.CANCELED:
            return name, label, output.state(made.after), made.reason
        case UnitState.INVALID if dot:
            return name, label, output.state(made.after), made.reason
    return None


def _in_words(play: Play, summary: Summary, info: ZoneInfo) -> Iterator[str]:
    units = f"{summary.units} unit{'s' if summary.units != 1 else ''}"
    attempts = f"{summary.attempts} attempt{'s' if summary.attempts != 1 else ''}"
    jobs = ", ".join(f"{number} {state}" for state, number in summary.jobs.items()) or "none"
    yield f"{units} in {attempts}; jobs whose interval has begun: {jobs}."
    yield from _waiting([*play.held()])
    if summary.violations:
        yield f"{summary.violations} invariants were violated: this is a defect of synergy."


def _waiting(held: Sequence[Held]) -> Iterator[str]:
    if not held:
        yield "Nothing that was due is left over."
        return
    yield "Due, and not finished in the end:"
    for one in held[:NAMED]:
        because = f": {one.because}" if one.because else ""
        yield f"  {one.job.process} {one.job.interval.label} is {one.job.state.value}{because}"
    if len(held) > NAMED:
        yield f"  … and {len(held) - NAMED} more"


def _clock(when: datetime, info: ZoneInfo) -> str:
    """By the local clock: fractions only where there are any, the offset in a repeated hour."""
    local = when.astimezone(info)
    text = local.strftime("%Y-%m-%d %H:%M:%S")
    if local.microsecond:
        text += f".{local.microsecond // 1000:03}"
    if local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset():
        text += f"{local:%z}"
    return text


def _asked(request: Request, catalog: Catalog) -> str:
    calendar = catalog.processes[request.process].calendar
    labels = [calendar.starting_at(start).label for start in request.starts]
    action = ("on" if request.options["on"] else "off") if not labels else request.action
    what = " ".join((action, request.process, *labels))
    return f"request {request.id} ({what} at {instant(request.filed_at)})"


# options


def _folder(text: str) -> str:
    """The folder of a project, named by it or by its context."""
    path = Path(text)
    if path.name == "context.py":
        path = path.parent
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is neither a context.py nor its folder")
    return str(path)


def _instant(text: str) -> datetime:
    try:
        return instant_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 3_155_760_000:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 up")
    return seconds


def _slots(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number of slots from 1 up")
    return int(text)
