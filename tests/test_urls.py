"""Passwords in addresses are masked, whatever else is wrong with them."""

from pathlib import Path

import pytest

from synergy.app import reading_of
from synergy.errors import NotFound
from synergy.project import open_project
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


def test_a_store_without_a_timetable_is_told_without_its_password(tmp_path: Path) -> None:
    project = open_project(tmp_path, "memory://me:s3cret@here")
    with pytest.raises(NotFound, match=r"memory://me:\*\*\*@here") as told:
        reading_of(project)
    assert "s3cret" not in str(told.value)
