"""`bench broker` measures what it says; how fast this machine is, no test asks."""

import argparse
from typing import Any

import pytest

from synergy.bench.broker import arguments, measure
from synergy.errors import BadInput
from tests import servers


def told(*argv: str) -> Any:
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker")
    arguments(parser)
    return measure(parser.parse_args(argv))


def test_a_broker_is_measured() -> None:
    found = told("--broker", servers.rabbitmq(), "--n", "1200", "--hops", "20")
    assert found["n"] == 1200
    for name in ("publish", "consume"):
        assert found[name]["units_per_s"] > 0
        assert found[name]["cpu_us"] > 0
    assert 0 < found["hop_ms"]["p50"] <= found["hop_ms"]["p99"]


@pytest.mark.parametrize("url", ["none", "memory://"])
def test_what_cannot_be_measured_is_refused(url: str) -> None:
    with pytest.raises(BadInput, match=r"accepted are|name one"):
        told("--broker", url)
