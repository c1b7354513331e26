"""``console``: the web console's address, its accounts, its audit; and being it."""

import argparse
import getpass
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from synergy.app import CONSOLE, console_folder, console_of
from synergy.cli.output import Output, ago, clock, command, instant
from synergy.clock import SystemClock
from synergy.errors import BadInput, NotFound, SynergyError
from synergy.project import Project
from synergy.supervisor.children import holder_of

if TYPE_CHECKING:
    from synergy.mx.accounts import Accounts

#: What may be done with what, and whether it takes a name.
DEEDS: Mapping[str, Mapping[str, bool]] = {
    "users": {
        "list": False,
        "add": True,
        "remove": True,
        "role": True,
        "password": True,
        "off": True,
        "on": True,
    },
    "tokens": {"list": False, "add": True, "remove": True},
    "audit": {"verify": False},
}
#: What changes accounts stands in the audit as this.
FROM_HERE = "command line"


def arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Options of the verb."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=[*DEEDS],
        metavar="WHAT",
        help="users, tokens or audit; without it: where the console is, and, while it has no "
        "accounts, a link that opens it once",
    )
    parser.add_argument(
        "deed",
        nargs="?",
        metavar="DO",
        help="; ".join(f"{what}: {', '.join(deeds)}" for what, deeds in DEEDS.items()),
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the user or token")
    parser.add_argument("--role", metavar="ROLE", help="viewer (looks), operator (acts) or admin")
    parser.add_argument("--days", type=int, metavar="N", help="how long a token is good (90)")


def run(args: argparse.Namespace, project: Project, output: Output) -> int:
    """Do it."""
    if args.what is None:
        return _where(project, output)
    deeds = DEEDS[args.what]
    if args.deed not in deeds:
        said = f"there is no {args.deed!r}" if args.deed else "say what to do"
        raise BadInput(f"console {args.what}: {said}; there are {', '.join(deeds)}")
    if deeds[args.deed] != (args.name is not None):
        words = f"console {args.what} {args.deed}"
        raise BadInput(f"{words} takes {'a NAME' if deeds[args.deed] else 'no name'}")
    if args.what == "audit":
        return _verify(project, output)
    now = SystemClock().now()
    from synergy.mx.accounts import Accounts

    accounts = Accounts(console_folder(project))
    if args.deed == "list":
        return _list(args.what, accounts, now, output)
    if args.deed in ("add", "role") and args.role is None:
        raise BadInput(f"console {args.what} {args.deed} takes --role viewer, operator or admin")
    _note(project, args, now)
    if args.what == "tokens":
        return _token(args, accounts, now, output)
    return _user(args, accounts, now, output)


# where it is


def address_of(project: Project) -> str:
    """The address at which the running console answers; empty where none runs here."""
    if holder_of(project, CONSOLE) is None:
        return ""
    try:
        return (console_folder(project) / "address").read_text("utf-8").strip()
    except OSError:
        return ""


def opened_by(project: Project, url: str) -> str:
    """The address to open: with a link that is good once while there are no accounts."""
    from synergy.mx.accounts import Accounts

    accounts = Accounts(console_folder(project))
    if accounts.exist():
        return url
    return f"{url}enter?key={accounts.new_link(SystemClock().now())}"


def announce(project: Project, say: Callable[[str], None]) -> None:
    """Say where a console that runs here is to be opened; nothing where none does."""
    url = address_of(project)
    if url:
        link = opened_by(project, url)
        once = "" if link == url else "  (good once, for a quarter of an hour)"
        say(f"console    {link}{once}")


def expected(project: Project, say: Callable[[str], None]) -> None:
    """Say where the console will be that a supervisor is about to start."""
    if project.console.get(""):
        say(f"console    on {project.console['']}; to open it: {command('console')}")


def _where(project: Project, output: Output) -> int:
    url = address_of(project)
    if not url:
        raise NotFound(f"no console runs here; start one: {command('start console')}")
    link = opened_by(project, url)
    if output.json:
        output.data({"url": url, "open": link})
    else:
        output.line(link)
        if link != url:
            output.note("good once, for a quarter of an hour")
    return 0


# being it


def serve(project: Project, *, logged: bool) -> int:
    """Be the console until told to stop."""
    from synergy.mx.server import serve as serve_console

    def say(url: str) -> None:
        if not logged:
            link = opened_by(project, url)
            once = "" if link == url else " (good once, for a quarter of an hour)"
            print(f"{link}{once}", file=sys.stderr, flush=True)

    return serve_console(console_of(project), say)


def refuse(project: Project) -> None:
    """That it may be started as it is set.

    Raises:
        BadInput: with all that is missing for it.
    """
    console_of(project).check()


# accounts


def _user(args: argparse.Namespace, accounts: "Accounts", now: datetime, output: Output) -> int:
    name = args.name
    match args.deed:
        case "add":
            accounts.add_user(name, args.role, _password(name), now)
            said = f"{name} may log in as {args.role}"
        case "remove":
            accounts.remove_user(name)
            said = f"{name} is removed; its sessions have ended"
        case "role":
            accounts.change_role(name, args.role)
            said = f"{name} is {args.role} now; its sessions have ended"
        case "password":
            accounts.change_password(name, _password(name))
            said = f"the password of {name} is changed; its sessions have ended"
        case "off":
            accounts.switch(name, False)
            said = f"{name} is switched off; its sessions have ended"
        case _:
            accounts.switch(name, True)
            said = f"{name} may log in again"
    if output.json:
        output.data({"user": name, "done": args.deed})
    else:
        output.line(said)
    return 0


def _token(args: argparse.Namespace, accounts: "Accounts", now: datetime, output: Output) -> int:
    if args.deed == "remove":
        accounts.remove_token(args.name)
        if output.json:
            output.data({"token": args.name, "done": "remove"})
        else:
            output.line(f"token {args.name} is good for nothing any more")
        return 0
    life = None if args.days is None else timedelta(days=args.days)
    text = accounts.add_token(args.name, args.role, now, life)
    until = accounts.tokens()[args.name].expires_at
    if output.json:
        output.data({"token": args.name, "secret": text, "expires_at": instant(until)})
    else:
        output.note(f"token {args.name}, {args.role}, until {clock(until)} UTC; shown this once:")
        output.line(text)
    return 0


def _list(what: str, accounts: "Accounts", now: datetime, output: Output) -> int:
    rows: list[tuple[object, ...]]
    if what == "users":
        users = accounts.users().values()
        rows = [
            (each.name, each.role.word, "off" if each.disabled else "on", clock(each.made_at))
            for each in users
        ]
        data = [{"user": row[0], "role": row[1], "on": row[2] == "on"} for row in rows]
        headings = ("user", "role", "login", "made (UTC)")
    else:
        tokens = accounts.tokens().values()
        rows = [
            (each.name, each.role.word, clock(each.expires_at), ago(each.expires_at, now))
            for each in tokens
        ]
        data = [
            {"token": each.name, "role": each.role.word, "expires_at": instant(each.expires_at)}
            for each in tokens
        ]
        headings = ("token", "role", "expires (UTC)", "")
    if output.json:
        output.data(data)
    elif rows:
        output.table(headings, rows)
    else:
        output.note(f"there are no {what}; {command(f'console {what} add NAME --role ROLE')}")
    return 0


def _password(name: str) -> str:
    """What is typed twice, or the first line of what is piped in; never an argument, which
    everybody on the box can read."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    first = getpass.getpass(f"password of {name} (12 characters or more): ")
    if getpass.getpass("once more: ") != first:
        raise BadInput("the two differ; nothing was changed")
    return first


def _note(project: Project, args: argparse.Namespace, now: datetime) -> None:
    """Write it down, before it takes effect."""
    from synergy.mx.audit import Audit
    from synergy.mx.files import secret_of

    folder = console_folder(project)
    details = {"name": args.name, **({"role": args.role} if args.role else {})}
    Audit(folder, secret_of(folder)).record(
        now, _actor(), FROM_HERE, f"{args.what} {args.deed}", "asked", details
    )


def _verify(project: Project, output: Output) -> int:
    from synergy.mx.audit import Audit
    from synergy.mx.files import secret_of

    folder = console_folder(project)
    verdict = Audit(folder, secret_of(folder)).verify()
    path = _shown(folder / "audit.jsonl", project)
    if output.json:
        output.data(
            {
                "records": verdict.count,
                "last": verdict.last,
                "problems": [*verdict.problems],
            }
        )
    elif not verdict.problems:
        output.line(f"{path}: {verdict.count} records, all as they were written")
        output.line(f"the last one is {verdict.last}: noted elsewhere, it proves all before it")
    for problem in verdict.problems if not output.json else ():
        output.error(f"{path}: {problem}")
    return SynergyError.exit_code if verdict.problems else 0


def _shown(path: Path, project: Project) -> str:
    return str(path.relative_to(project.folder) if path.is_relative_to(project.folder) else path)


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
