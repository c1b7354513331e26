"""It is measured in a place of its own, which is gone then; what was there is not touched."""

import os
import socket
from contextlib import closing
from pathlib import Path

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from synergy.bench.place import (
    LEVELS,
    Place,
    fresh,
    servers_here,
    shown,
    with_database,
    with_options,
)
from synergy.brokers import open_broker
from synergy.brokers.rabbitmq.address import address_of
from synergy.brokers.rabbitmq.server import parameters_of
from synergy.errors import NotFound
from synergy.programs import identity_of
from synergy.stores import open_store
from synergy.stores.removal import drop_database
from tests import servers


class Args:
    """The two options that name servers."""

    def __init__(self, store: str | None = None, broker: str | None = None) -> None:
        self.store, self.broker = store, broker


def test_no_password_is_told() -> None:
    told = shown(Args("mongodb://me:hush@a/x", "amqps://me:hush@b/y"))  # type: ignore[arg-type]
    assert "hush" not in str(told)
    assert ("//me:" in told["store"], told["broker"][-3:]) == (True, "b/y")


def test_options_are_added_to_an_address_that_has_some() -> None:
    url = with_options("amqp://me:pass%40word@host/a%2Fb?queues=classic&prefix=old", prefix="new")
    assert url == "amqp://me:pass%40word@host/a%2Fb?queues=classic&prefix=new"


def test_a_file_stands_beside_the_one_that_is_named_and_is_gone_then(tmp_path: Path) -> None:
    (tmp_path / "mine.db").write_text("precious")
    with fresh(f"sqlite:///{tmp_path}/mine.db", None) as place:
        assert Path(place.store.removeprefix("sqlite:///")).parent.parent == tmp_path
        assert place.broker == "none"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.db"]
    assert (tmp_path / "mine.db").read_text() == "precious"


def test_a_database_of_a_server_is_made_and_dropped_and_no_other_is_touched() -> None:
    url = servers.with_database(servers.mongodb(), servers.fresh_name("bench"))
    with closing(open_store(url)), fresh(url, None) as place:
        with closing(open_store(place.store, create=True)) as store:
            assert store.active_units() == []
        with closing(open_store(place.store, create=False)):
            pass
        theirs = place.store
    with pytest.raises(NotFound):
        open_store(theirs, create=False)
    with closing(open_store(url, create=False)):
        pass
    drop_database(url)


def test_who_may_come_in_is_known_where_it_was() -> None:
    assert (
        with_database("mongodb://me:pw@h/x?a=b", "new") == "mongodb://me:pw@h/new?a=b&authSource=x"
    )
    assert with_database("mongodb://me:pw@h", "new") == "mongodb://me:pw@h/new?authSource=admin"
    kept = "mongodb://me:pw@h/x?authSource=other"
    assert with_database(kept, "new") == "mongodb://me:pw@h/new?authSource=other"
    assert with_database("mongodb://h:1,i:2/x", "new") == "mongodb://h:1,i:2/new"


def test_names_on_a_broker_are_removed_with_what_is_in_them() -> None:
    with fresh(None, servers.rabbitmq()) as place:
        broker = open_broker(place.broker)
        assert broker is not None
        with closing(broker):
            broker.declare(LEVELS)
        asked = place.broker
    with (
        closing(pika.BlockingConnection(parameters_of(address_of(asked)))) as connection,
        pytest.raises(ChannelClosedByBroker, match="NOT_FOUND"),
    ):
        connection.channel().queue_declare(f"{place.name}.units.hour", passive=True)


def test_servers_of_this_machine_are_found_by_their_ports() -> None:
    me = identity_of(os.getpid())
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as two:
        first, second = one.getsockname()[1], two.getsockname()[1]

        def found(store: str, broker: str = "none") -> object:
            return servers_here(Place(store=store, broker=broker, folder=Path(), name="x"))

        assert found("sqlite:///x.db") == {}
        assert found(f"mongodb://me:pw@127.0.0.1:{first}/x") == {"mongodb": [me]}
        both = f"mongodb://localhost:{first},127.0.0.1:{second}/x?replicaSet=rs"
        assert found(both, f"amqp://127.0.0.1:{second}/") == {
            "mongodb": [me, me],
            "rabbitmq": [me],
        }
        assert found(f"mongodb://127.0.0.1:{first},elsewhere:{second}/x") == {}, "not all of it"
