"""URLs of brokers: which are accepted, and what is said of the others."""

import subprocess
import sys
from pathlib import Path

import pytest

from synergy.brokers import open_broker
from synergy.brokers.rabbitmq.address import address_of
from synergy.brokers.rabbitmq.topology import Topology
from synergy.errors import BadInput


def test_a_short_url_means_what_servers_have_by_default() -> None:
    address = address_of("amqp://localhost")
    found = (address.host, address.port, address.user, address.password, address.vhost)
    assert found == ("localhost", 5672, "guest", "guest", "/")
    assert (address.prefix, address.queues, address.heartbeat) == ("synergy", "quorum", 30)
    assert address.tls is None
    assert address_of("amqps://localhost").port == 5671
    assert address_of("amqp://localhost/").vhost == "/"


def test_everything_can_be_said() -> None:
    url = "amqp://us%40er:p%2Fw@[::1]:77/a%2Fb?prefix=site.1&queues=classic&heartbeat=5"
    address = address_of(url)
    found = (address.host, address.port, address.user, address.password, address.vhost)
    assert found == ("::1", 77, "us@er", "p/w", "a/b")
    assert (address.prefix, address.queues, address.heartbeat) == ("site.1", "classic", 5)
    assert "p%2Fw" not in address.shown


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("amqp://", "names no host"),
        ("amqp://:secret@/", "names no host"),
        ("amqp://host:port/", "Port could not be cast"),
        ("amqp://host:99999/", "Port out of range"),
        ("amqp://host/a/b", "written as %2F"),
        ("amqp://user:sec#ret@host/", "."),
        ("amqp://host/?prefix", "bad query field"),
        ("amqp://host/?prefx=a", "no option 'prefx', only prefix, queues"),
        ("amqp://host/?prefix=", "prefix '' is not made of"),
        ("amqp://host/?prefix=a b", "prefix 'a b' is not made of"),
        ("amqp://host/?queues=fast", "quorum or classic, not 'fast'"),
        ("amqp://host/?heartbeat=0", "at least 5 seconds"),
        ("amqp://host/?heartbeat=no", "at least 5 seconds"),
        ("amqp://host/?cafile=/x", "cafile is an option of amqps"),
        ("amqps://host/?cafile=/no/such/file", "cafile '/no/such/file' cannot be used"),
        ("amqps://host/?certfile=/no/such/file", "certfile '/no/such/file' cannot be used"),
        ("amqps://host/?keyfile=/x", "only together with certfile"),
        ("http://user:secret@host/", "accepted are none, memory://, amqp://"),
        ("memory://x", "accepted are"),
        ("", "accepted are"),
        ("amqp:/host", "accepted are"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_its_password(url: str, what: str) -> None:
    with pytest.raises(BadInput, match=what) as caught:
        open_broker(url)
    assert "secret" not in str(caught.value)
    assert "sec#ret" not in str(caught.value)


def test_a_file_that_is_no_certificate_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("hello")
    with pytest.raises(BadInput, match=r"cafile .* cannot be used"):
        open_broker(f"amqps://host/?cafile={path}")


def test_none_is_no_broker() -> None:
    assert open_broker("none") is None


def test_a_queues_name_has_its_limit() -> None:
    topology = Topology("synergy", "quorum")
    assert topology.queue("a" * 241) == "synergy.units." + "a" * 241
    with pytest.raises(BadInput, match="too long a name"):
        topology.queue("a" * 242)


def test_what_is_declared_is_durable_and_alike_on_every_server() -> None:
    declared = [
        (each.call, each.arguments.get("arguments"), each.arguments.get("durable"), each.what)
        for each in (
            *Topology("p", "quorum").for_units(["a"]),
            *Topology("p", "classic").for_letters(),
            *Topology("p", "quorum").for_rings(),
        )
    ]
    assert declared == [
        ("exchange_declare", None, True, "exchange p.units"),
        ("queue_declare", {"x-queue-type": "quorum"}, True, "queue p.units.a"),
        ("queue_bind", None, None, "queue p.units.a"),
        (
            "queue_declare",
            {"x-queue-type": "classic", "x-max-length": 10_000},
            True,
            "queue p.dead",
        ),
        ("queue_declare", {"x-queue-type": "classic"}, True, "queue p.parked"),
        ("exchange_declare", None, True, "exchange p.bell"),
    ]


def test_pika_is_not_needed_without_rabbitmq() -> None:
    code = "import sys; from synergy.brokers import open_broker; open_broker('memory://')\n"
    code += "sys.exit('pika' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
