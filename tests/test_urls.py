"""Passwords in addresses are masked, whatever else is wrong with them."""

import pytest

from synergy.urls import masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mongodb://u:p@h:1,i:2/db?replicaSet=rs", "mongodb://u:***@h:1,i:2/db?replicaSet=rs"),
        ("amqps://u:p%40q@h/%2f?heartbeat=5", "amqps://u:***@h/%2f?heartbeat=5"),
        ("mongodb+srv://u:p@h/db", "mongodb+srv://u:***@h/db"),
        ("mongodb://u:p@x/y@h/db", "mongodb://u:***@h/db"),
        ("mongodb://u:p?q@h/db?tls=true", "mongodb://u:***@h/db?tls=true"),
        ("mongodb://u:p:q@h", "mongodb://u:***@h"),
        ("mongodb://:p@h", "mongodb://:***@h"),
        (
            "mongodb://h/?tls=true&tlsCertificateKeyFilePassword=secret&w=1",
            "mongodb://h/?tls=true&tlsCertificateKeyFilePassword=***&w=1",
        ),
        ("amqp://h/?PASSWORD=secret", "amqp://h/?PASSWORD=***"),
    ],
)
def test_a_password_is_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "memory://",
        "sqlite:////var/lib/a:b@c.db",
        "mongodb://user@host/db",
        "mongodb://host:27017/db?replicaSet=rs",
    ],
)
def test_an_address_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert masked(url) == url
