"""Traffic per client: the figures of the sites that belong to them.

The mapping is a JSON object, site to client. Sites that it does not name belong to `NOBODY`.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from db import figures
from db.figures import Figures, Of
from db.traffic import Traffic
from synergy import Result, noop, processed
from workers.configuration import Configuration, load
from workers.unit import Unit, granularity, results

#: The client of sites without an owner.
NOBODY = "(none)"


def roll_up(unit: Unit, configuration: Configuration | None = None) -> Result:
    """Sum the site figures of the same interval by client."""
    conf = configuration or load()
    owners = read_owners(conf.clients_file)
    own, interval = granularity(unit), unit.interval
    clients: dict[str, Figures] = {}
    with Traffic(conf.traffic_db) as traffic, results(traffic, unit) as db:
        for site, its in figures.at(db, Of.SITE, own, interval.label).items():
            of_client = clients.setdefault(owners.get(site, NOBODY), Figures())
            of_client += its
        figures.replace(db, Of.CLIENT, own, interval.label, interval.start, clients)
    if not clients:
        return noop("no site has figures in this interval")
    return processed(count=sum(client.requests for client in clients.values()))


def read_owners(path: str | None) -> Mapping[str, str]:
    """The mapping of sites to clients; empty without a file."""
    if path is None:
        return {}
    try:
        owners = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"the clients file {path} is not JSON: {error}") from error
    if not isinstance(owners, dict) or not all(isinstance(name, str) for name in owners.values()):
        raise ValueError(
            f'the clients file {path} must be one JSON object of site to client, {{"shop": "acme"}}'
        )
    return owners
