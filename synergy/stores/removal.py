"""Removes a database as a whole: for those that were made to be thrown away."""

from contextlib import closing


def drop_database(url: str) -> None:
    """Drop the MongoDB database that the URL names, and everything in it.

    Raises:
        Unreachable: the server does not answer, or does not let us.
    """
    from synergy.stores.mongodb_server import Server  # the driver takes a while to load

    with closing(Server(url)) as server:
        server.command({"dropDatabase": 1})
