"""A short run of every fault: nothing is lost, nothing applied twice.

``python -m tests.chaos FAULT --rounds N`` is the long run, and prints the times.
"""

from collections.abc import Iterator

import pytest

from tests import servers
from tests.chaos.faults import FAULTS, Options, play
from tests.chaos.rig import Servers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that nobody else uses: they are killed."""
    for name in ("mongod", "rabbitmq-server"):
        servers.program(name)
    own = Servers(tmp_path_factory.mktemp("chaos") / "services")
    try:
        yield own
    finally:
        own.down()


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_or_applied_twice(own_servers: Servers, fault: str) -> None:
    told = play(fault, own_servers, Options(seed=1, rounds=1, seconds=2, age=0))
    assert (told["lost"], told["applied_twice"], told["wrong"]) == (0, 0, []), told
    assert told["openings"] > 250, told
    assert any(told["injected"].values()), told
