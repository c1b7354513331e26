"""``up``: keep the programs of this box running, in the foreground, and stop them with Ctrl-C."""

import argparse

from synergy.app import supervisor_of
from synergy.cli import console
from synergy.cli.output import Output, command
from synergy.cli.programs import checked, running_already, warn_of_broker
from synergy.programs import AlreadyRunning
from synergy.project import Project
from synergy.signals import stop_on_signals
from synergy.supervisor.children import holder_of, pid_file
from synergy.supervisor.loop import SUPERVISOR


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """The verb has no options of its own."""


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Run until Ctrl-C or SIGTERM."""
    holder = holder_of(project, SUPERVISOR)
    if holder is not None:
        raise running_already(project, SUPERVISOR, holder)
    catalog = checked(project, output)
    stopping = stop_on_signals()
    warn_of_broker(project, output)
    try:
        with pid_file(project, SUPERVISOR):
            output.note(f"Ctrl-C stops all of them; look from another terminal: {command('jobs')}")
            console.expected(project, output.note)
            supervisor_of(project, catalog, lambda _, text: output.note(text)).run(stopping)
    except AlreadyRunning as error:
        holder = holder_of(project, SUPERVISOR)
        raise (running_already(project, SUPERVISOR, holder) if holder else error) from error
    return 0
