"""Figures for Prometheus: a few for each process, never one for each interval."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response

from synergy.errors import SynergyError
from synergy.mx.console import Console
from synergy.mx.picture import Picture
from synergy.mx.routes import Call
from synergy.mx.sessions import NOBODY
from synergy.mx.views.shell import heartbeat


def metrics(console: Console, call: Call) -> Response:
    """The figures, as text: for who has an account, or asks from this machine of a console that
    nobody else reaches."""
    local = console.setting.address.loopback and not console.setting.transport.proxy
    if call.visitor is NOBODY and not local:
        raise Unauthorized("send a token")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(console, call))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Figures(Collector):
    def __init__(self, console: Console, call: Call) -> None:
        self._console = console
        self._call = call

    def collect(self) -> Iterator[Metric]:
        living, now = self._console.living, self._call.now
        try:
            with living.picture() as picture:
                alive = heartbeat(picture.lease, now).state == "alive"
                found = [*_of_processes(picture), *_of_the_whole(picture, alive)]
        except SynergyError:
            found = []
        away = living.away_since
        yield _gauge(
            "synergy_store_away_seconds",
            "Since when the store does not answer; 0 while it does",
            (now - away).total_seconds() if away is not None else 0,
        )
        yield from found


def _of_processes(picture: Picture) -> Iterator[Metric]:
    finished = GaugeMetricFamily(
        "synergy_finished_until_seconds",
        "Unix time until which all intervals of a process are finished",
        labels=["process"],
    )
    jobs = GaugeMetricFamily(
        "synergy_jobs",
        "Jobs of a process that are not finished, by state",
        labels=["process", "state"],
    )
    for name in picture.catalog.processes:
        summary = picture.summary(name)
        if summary.finished_until is not None:
            finished.add_metric([name], summary.finished_until.timestamp())
        states: dict[str, int] = {"failed": summary.failed, "skipped": summary.skipped}
        for job in picture.active_of(name):
            states[job.state.value] = states.get(job.state.value, 0) + 1
        for state, count in states.items():
            jobs.add_metric([name, state], count)
    yield finished
    yield jobs


def _of_the_whole(picture: Picture, alive: bool) -> Iterator[Metric]:
    yield _gauge("synergy_scheduler_alive", "Whether a scheduler leads", int(alive))
    yield _gauge("synergy_feed_seq", "Number of the last change", picture.seq)
    yield _gauge("synergy_held_units", "Units that workers hold", len(picture.held))
    yield _gauge("synergy_open_requests", "Requests not carried out yet", len(picture.requests))


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
