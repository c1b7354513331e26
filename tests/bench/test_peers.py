"""`bench peers` takes turns and compares neighbours; the peers themselves no test installs."""

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from synergy.bench.peers import ON_RABBITMQ, ON_SQLITE, Peer, arguments, measure, possible, ratio
from synergy.errors import BadInput

#: In the place of a peer's interpreter: does as many tasks a second as its rounds so far.
STAND_IN = """\
#!{python}
import json, os, pathlib
asked = json.loads(os.environ["SYNERGY_BENCH_PEER"])
heard = pathlib.Path(__file__).with_name("heard")
rounds = heard.read_text().splitlines() if heard.exists() else []
heard.write_text("\\n".join([*rounds, json.dumps(asked)]))
print(json.dumps({{"tasks": asked["count"], "seconds": asked["count"] / (len(rounds) + 1)}}))
"""


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for server in ("--store", "--broker"):
        parser.add_argument(server)
    arguments(parser)
    return parser.parse_args(["--small", *argv])


def installed(folder: Path, peer: Peer) -> Path:
    """A stand-in where the peer's interpreter would be."""
    home = folder / f"{'+'.join(peer.requirements)}-python{platform.python_version()}"
    python = home / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STAND_IN.format(python=sys.executable))
    python.chmod(0o755)
    (home / "ready").touch()
    return python.with_name("heard")


def test_ours_and_a_peer_take_turns_and_neighbours_are_compared(tmp_path: Path) -> None:
    heard = installed(tmp_path / "peers", ON_SQLITE["huey"])
    argv = ["--peers", str(tmp_path / "peers"), "--store", f"sqlite:///{tmp_path}/d/x.db"]
    told = measure(parsed(*argv, "--rounds", "2"))
    huey: Any = told["peers"]["huey"]
    assert huey["version"] == "3.5.4"
    assert huey["each_round"] == [1, 2]
    assert len(huey["ours_each_round"]) == 2
    assert huey["ratio"] > 0
    assert told["ours"]["batched_per_second"] > 0
    assert "callback" in told["difference"]
    asked = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [one["count"] for one in asked] == [50 // 4] * 2, "it is slow: a quarter is enough"
    assert asked[0]["queue"] != asked[1]["queue"]
    assert list((tmp_path / "d").iterdir()) == []


def test_a_ratio_is_the_median_of_those_of_the_rounds() -> None:
    assert ratio([10.0, 30.0, 10.0], [5.0, 5.0, 10.0]) == 2.0


def test_who_can_be_measured_depends_on_the_servers() -> None:
    mongodb, rabbitmq = "mongodb://127.0.0.1/", "amqp://127.0.0.1/"
    assert possible(mongodb, rabbitmq) == ON_RABBITMQ
    assert set(possible("sqlite:///x.db", rabbitmq)) == set(ON_RABBITMQ) - {"celery_durable"}
    assert possible("sqlite:///x.db", "none") == ON_SQLITE
    assert possible(mongodb, "none") == {}


def test_a_peer_that_wants_other_servers_is_told_of() -> None:
    with pytest.raises(BadInput, match="celery cannot be measured"):
        measure(parsed("--only", "celery"))
