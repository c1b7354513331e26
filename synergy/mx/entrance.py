"""Coming and going: the login, the link that opens a console without accounts, the logout."""

from dataclasses import dataclass

from werkzeug.exceptions import Forbidden
from werkzeug.wrappers import Response

from synergy.mx.console import Console
from synergy.mx.gate import local_path, too_often
from synergy.mx.routes import Call
from synergy.mx.sessions import ABSOLUTE

#: Characters of a name that anybody may send.
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class LoginView:
    """The page."""

    #: Whether there are accounts; else a link is needed.
    accounts: bool
    next: str
    user: str = ""
    wrong: bool = False


def login_page(console: Console, call: Call) -> Response:
    """The form."""
    view = LoginView(console.accounts.exist(), local_path(call.query("next")))
    return console.page(call, "login.html", view, title="Log in")


def login(console: Console, call: Call) -> Response:
    """Log in by name and password."""
    form = call.request.form
    name = form.get("user", "").strip()[:LONGEST_NAME]
    target = local_path(form.get("next", ""))
    keys = (f"user:{name}", f"address:{call.address}")
    wait = console.throttle.wait(*keys).total_seconds()
    if wait > 0:
        raise too_often(wait)
    # Counted before it is tried, so that many at once are not all tried.
    console.throttle.failed(*keys)
    user = console.accounts.login(name, form.get("password", ""))
    if user is None:
        console.note(call, "login", "refused", {"user": name})
        view = LoginView(console.accounts.exist(), target, name, wrong=True)
        return console.page(call, "login.html", view, status=403, title="Log in")
    console.throttle.succeeded(*keys)
    console.note(call, "login", "done", {"user": name, "role": user.role.word})
    console.sessions.end(call.visitor.session)
    return _admitted(console, target, console.sessions.begin(user))


def enter_page(console: Console, call: Call) -> Response:
    """What the link of the start leads to: one more step, since looking must not use it up."""
    return console.page(call, "enter.html", call.query("key"), title="Open")


def enter(console: Console, call: Call) -> Response:
    """Come in by the link, once."""
    key = f"address:{call.address}"
    wait = console.throttle.wait(key).total_seconds()
    if wait > 0:
        raise too_often(wait)
    if not console.accounts.use_link(call.request.form.get("key", ""), call.now):
        console.throttle.failed(key)
        console.note(call, "enter", "refused")
        raise Forbidden(
            "this link was used, has expired, or another was made after it; "
            "./launch.py console prints a new one"
        )
    console.note(call, "enter", "done")
    console.sessions.end(call.visitor.session)
    return _admitted(console, "/", console.sessions.begin(None))


def logout(console: Console, call: Call) -> Response:
    """End the session."""
    console.note(call, "logout", "done")
    console.sessions.end(call.visitor.session)
    answer = console.redirect("/login")
    answer.delete_cookie(console.gate.cookie, path="/", secure=console.gate.private, httponly=True)
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


def _admitted(console: Console, target: str, cookie: str) -> Response:
    answer = console.redirect(target)
    answer.set_cookie(
        console.gate.cookie,
        cookie,
        max_age=ABSOLUTE,
        path="/",
        secure=console.gate.private,
        httponly=True,
        samesite="Lax",
    )
    return answer
