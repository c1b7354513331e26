"""``check``: whether the context can be used, and what it changes for existing intervals."""

import argparse
import contextlib

from synergy.app import reconciled, store_of, stored_context
from synergy.cli.output import Output, Styled
from synergy.clock import SystemClock
from synergy.core.changes import Change, refused
from synergy.errors import Conflict, NotFound
from synergy.project import Project, check, load_context


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """The verb has no options of its own."""


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Say it; nothing is written.  Exit code 4 where the scheduler would refuse to start."""
    check(project, load_context(project), SystemClock().now())
    changes = changes_of(project)
    bad = refused(changes)
    if output.json:
        output.data({"changes": [as_json(each) for each in changes], "refused": len(bad)})
        return Conflict.exit_code if bad else 0
    for change in (*bad, *(each for each in changes if not each.refused)):
        sign = Styled("✕ ", "red") if change.refused else Styled("· ", "dim")
        output.line(sign, f"{change.kind} {change.name}: {change.what}")
        output.line(f"    {change.consequence}")
        if change.accept:
            output.line(f'    if that is meant: Context(…, accept=["{change.accept}"])')
    if bad:
        output.error(f"refused, as it is: {_counted(bad)}; nothing was written")
        return Conflict.exit_code
    if changes:
        output.note("the scheduler takes this over when it starts")
    else:
        output.note("context.py can be used, and changes nothing for what is recorded")
    return 0


def changes_of(project: Project) -> list[Change]:
    """What the context of the project changes for the intervals in its store, if there is one."""
    with contextlib.suppress(NotFound):
        store = store_of(project)
        with contextlib.closing(store):
            return reconciled(project, store, stored_context(store))[1]
    return []


def as_json(change: Change) -> dict[str, object]:
    """One change."""
    return {
        "kind": change.kind,
        "name": change.name,
        "what": change.what,
        "consequence": change.consequence,
        "refused": change.refused,
        "accept": change.accept or None,
    }


def _counted(changes: list[Change]) -> str:
    return f"{len(changes)} change{'' if len(changes) == 1 else 's'}"
