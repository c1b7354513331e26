"""``db``: care of the store."""

import argparse
import json

from synergy.cli.output import Output
from synergy.errors import BadInput
from synergy.project import Project
from synergy.stores import create_roles, migrate, role_commands
from synergy.urls import masked


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument(
        "what",
        choices=["migrate", "roles"],
        help="migrate: bring the schema up to this version; "
        "roles: the least that scheduler, workers and console need of MongoDB, as commands",
    )
    parser.add_argument("--dry-run", action="store_true", help="migrate: only say what would be")
    parser.add_argument(
        "--create",
        action="store_true",
        help="roles: create them, or bring them up to date, as a user who may do that",
    )


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Do it."""
    if args.what == "roles":
        if args.dry_run:
            raise BadInput("db roles only prints, unless --create is given; leave --dry-run out")
        return _create_roles(project, output) if args.create else _print_roles(project, output)
    if args.create:
        raise BadInput("db migrate takes no --create")
    return _migrate(args.dry_run, project, output)


def _migrate(dry_run: bool, project: Project, output: Output) -> int:
    names = migrate(project.store, dry_run)
    store = masked(project.store)
    if output.json:
        output.data({"store": store, "dry_run": dry_run, "migrations": names})
        return 0
    verb = "would be applied" if dry_run else "applied"
    for name in names:
        output.line(f"{verb}: {name}")
    if not names:
        output.line(f"{store} is up to date")
    return 0


def _print_roles(project: Project, output: Output) -> int:
    commands = role_commands(project.store)
    if output.json:
        output.data(commands)
        return 0
    output.line("// for mongosh, in the database of the store, as a user who may create roles")
    for command in commands:
        output.line(f"db.runCommand({json.dumps(command)})")
    output.line("// then a user for each program, and its name in the program's SYNERGY_STORE:")
    for command in commands:
        role = command["createRole"]
        user = role.removeprefix("synergy_")
        output.line(
            f'// db.createUser({{user: "{user}", pwd: passwordPrompt(), roles: ["{role}"]}})'
        )
    return 0


def _create_roles(project: Project, output: Output) -> int:
    roles = create_roles(project.store)
    if output.json:
        output.data({"store": masked(project.store), "created": roles})
        return 0
    for role, new in roles.items():
        output.line(f"{'created' if new else 'up to date'}: {role}")
    return 0
