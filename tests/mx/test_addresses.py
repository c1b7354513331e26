"""Where the console listens, and when it refuses to."""

from pathlib import Path

import pytest

from synergy.errors import BadInput
from synergy.mx.addresses import Address, Transport, address_of, names_allowed, refuse_openness

HERE, EVERYWHERE = Address("127.0.0.1", 8080), Address("0.0.0.0", 8080)
TLS, PROXY = Transport(certificate=Path(__file__)), Transport(proxy="127.0.0.1")
CLEAR = Transport()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:0", "::1", 0),
        (":9000", "127.0.0.1", 9000),
        ("9000", "127.0.0.1", 9000),
        ("localhost:1", "localhost", 1),
        ("0.0.0.0:443", "0.0.0.0", 443),
    ],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    assert address_of(text) == Address(host, port)


@pytest.mark.parametrize(
    "text", ["here", "127.0.0.1", "a:b", "h:70000", "http://x:1", "a b:1", "h:-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="accepted are"):
        address_of(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_known(host: str) -> None:
    assert Address(host, 1).loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "console.example", "127.0.0.1.x"])
def test_all_else_is_reached_by_others(host: str) -> None:
    assert not Address(host, 1).loopback


@pytest.mark.parametrize(
    ("address", "transport", "accounts", "missing"),
    [
        (HERE, CLEAR, False, 0),
        (HERE, TLS, False, 0),
        (HERE, PROXY, True, 0),
        (HERE, PROXY, False, 1),  # others come by the proxy
        (EVERYWHERE, CLEAR, False, 2),
        (EVERYWHERE, CLEAR, True, 1),
        (EVERYWHERE, TLS, False, 1),
        (EVERYWHERE, PROXY, False, 1),
        (EVERYWHERE, TLS, True, 0),
        (EVERYWHERE, PROXY, True, 0),
    ],
)
def test_an_open_door_needs_an_account_and_tls(
    address: Address, transport: Transport, accounts: bool, missing: int
) -> None:
    if not missing:
        refuse_openness(address, transport, accounts)
        return
    with pytest.raises(BadInput) as told:
        refuse_openness(address, transport, accounts)
    assert len(told.value.problems) == missing


def test_it_is_called_by_its_own_names() -> None:
    assert names_allowed(HERE, ()) == {"127.0.0.1", "localhost", "[::1]"}
    assert names_allowed(EVERYWHERE, ("Console.Example",)) == {"console.example"}
    assert names_allowed(Address("192.0.2.1", 1), ()) == {"192.0.2.1"}
