"""The handlers of the pages about freeruns: all of them, one of them, fire it, what it printed."""

import contextlib
from functools import partial

from werkzeug.wrappers import Response

from synergy.core.catalog import Freerun
from synergy.core.model import Job, Unit
from synergy.errors import NotFound, Unreachable
from synergy.explanation import explain_freerun
from synergy.mx.actions import ask_for, wish_of
from synergy.mx.console import Console
from synergy.mx.logs import LogScreen, asked_window, log_view
from synergy.mx.routes import Call
from synergy.mx.views.freeruns import address_of, freerun_view, row_of
from synergy.mx.views.interval import reasons_of
from synergy.ports import Store

#: Firings that are listed.
FIRINGS = 50


def freeruns_page(console: Console, call: Call) -> Response:
    """All of them."""
    with console.living.picture() as picture:
        freeruns, switches = picture.catalog.freeruns, picture.switches
    rows = []
    for name, freerun in freeruns.items():
        firings: list[Job] = []
        with contextlib.suppress(Unreachable):  # the page says so; when it fires is known
            firings = console.living.ask(partial(_firings, name, 1))
        rows.append(row_of(freerun, switches.get(name), firings, call.now))
    return console.page(call, "freeruns.html", rows, title="Freeruns")


def freerun_page(console: Console, call: Call) -> Response:
    """One of them, and its latest firings."""
    freerun = _freerun(console, call)
    with console.living.picture() as picture:
        switch = picture.switches.get(freerun.name)
    firings = console.living.ask(partial(_firings, freerun.name, FIRINGS))
    keys = [job.unit for job in firings if job.unit is not None]
    units = console.living.ask(lambda store: store.read_units(keys, history=False))
    why = console.living.consult(lambda known: explain_freerun(known, freerun.name, call.now))
    with console.living.picture() as picture:
        told = reasons_of(why.chain, picture.catalog, "UTC")
    view = freerun_view(freerun, switch, firings, units, told, call.now)
    return console.page(call, "freerun.html", view, title=freerun.name)


def fire(console: Console, call: Call) -> Response:
    """Have it fired now."""
    freerun = _freerun(console, call)
    with console.living.picture() as picture:
        reason = call.request.form.get("reason", "")
        wish = wish_of(picture, call.now, "trigger", freerun.name, [], reason)
    return console.redirect(f"/requests/{ask_for(console, call, wish).id}")


def firing_log_page(console: Console, call: Call) -> Response:
    """What a firing printed."""
    freerun, label = _freerun(console, call), call.path["firing"]
    unit = console.living.ask(partial(_unit_of, f"{freerun.name}@{label}"))
    if unit is None:
        raise NotFound(f"{freerun.name} has had no firing {label}, or it has not run")
    setting = console.setting
    screen = LogScreen(
        log_view(setting.log_dir, setting.box, unit, *asked_window(call, unit)),
        address_of(freerun.name, unit.interval.label),
        f"/freeruns/{freerun.name}",
    )
    return console.page(call, "log.html", screen, title=f"Log of {freerun.name} {label}")


def _freerun(console: Console, call: Call) -> Freerun:
    with console.living.picture() as picture:
        return picture.freerun_named(call.path["freerun"])


def _firings(freerun: str, limit: int, store: Store) -> list[Job]:
    return store.last_jobs(freerun, limit)


def _unit_of(key: str, store: Store) -> Unit | None:
    """The unit of the firing with this key."""
    job = store.read_jobs([key]).get(key)
    if job is None or job.unit is None:
        return None
    return store.read_units([job.unit], history=False).get(job.unit)
