"""``db``: care of the store."""

import argparse

from synergy.cli.output import Output
from synergy.project import Project
from synergy.stores import migrate


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument("what", choices=["migrate"], help="bring the schema up to this version")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Do it."""
    names = migrate(project.store, args.dry_run)
    if output.json:
        output.data({"store": project.store, "dry_run": args.dry_run, "migrations": names})
        return 0
    verb = "would be applied" if args.dry_run else "applied"
    for name in names:
        output.line(f"{verb}: {name}")
    if not names:
        output.line(f"{project.store} is up to date")
    return 0
