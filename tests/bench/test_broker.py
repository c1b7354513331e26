"""`bench broker` measures what it says; how fast this machine is, no test asks."""

import argparse
from typing import Any

import pytest

from synergy.bench.broker import arguments, measure
from synergy.errors import BadInput
from tests import servers


def told(*argv: str) -> Any:
    parser = argparse.ArgumentParser()
    arguments(parser)
    return measure(parser.parse_args(argv))


def test_a_broker_is_measured() -> None:
    found = told(servers.rabbitmq(), "--n", "1200", "--hops", "20")
    assert found["n"] == 1200
    for name in ("publish", "consume"):
        assert found[name]["units_per_s"] > 0
        assert found[name]["cpu_us"] > 0
    assert 0 < found["hop"]["p50_ms"] <= found["hop"]["p99_ms"]


@pytest.mark.parametrize(
    "argv",
    [
        ("none",),
        ("memory://",),
        ("amqp://host/?prefix=", "--n", "0"),
    ],
)
def test_what_cannot_be_measured_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(BadInput):
        told(*argv)
