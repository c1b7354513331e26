"""Real servers for development and tests: MongoDB and RabbitMQ, found or installed, kept, ended.

`keeping` brings them up and takes them down, in one folder; `kinds` says what each server is made
of; `sources` where its program comes from.
"""

from synergy.services.keeping import (
    Place,
    Server,
    choose_sources,
    servers_down,
    servers_status,
    servers_up,
)
from synergy.services.kinds import KINDS, Kind, kinds_named
from synergy.services.sources import Source, Unavailable

__all__ = [
    "KINDS",
    "Kind",
    "Place",
    "Server",
    "Source",
    "Unavailable",
    "choose_sources",
    "kinds_named",
    "servers_down",
    "servers_status",
    "servers_up",
]
