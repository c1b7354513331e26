"""A project with a broker: what is said of its address, and that its absence stops nobody."""

from collections.abc import Callable
from typing import Any

import pytest

Wait = Callable[..., Any]

#: Nobody listens there.
NOBODY = "amqp://user:geheim@127.0.0.1:1/shop"


@pytest.mark.parametrize("url", ["memory://", "nonsense", "amqp://h:nought/", "http://host/"])
def test_a_broker_that_cannot_be_is_refused_with_what_can_be(fresh: Any, url: str) -> None:
    for words in (["start", "worker"], ["up"], ["super", "--start"]):
        done = fresh.run(*words, f"--broker={url}")
        assert (done.returncode, done.stdout) == (2, ""), done
        assert "amqp://" in done.stderr
        assert "Traceback" not in done.stderr
    assert fresh.pids() == {}
    assert not (fresh.folder / ".synergy" / "synergy.db").exists()


def test_without_its_broker_a_project_works_from_the_store(fresh: Any, wait: Wait) -> None:
    fresh.write("settings.py", f"BROKER = {NOBODY!r}\n")
    for name in ("scheduler", "worker"):
        done = fresh.run("start", name)
        assert done.returncode == 0, done
        assert "127.0.0.1" in done.stderr
        assert "look into the store" in done.stderr
    wait(lambda: fresh.jobs("hello_daily", "--state", "processed"), "the first day")
    status = fresh.json("status")
    assert status["broker"]["url"] == NOBODY.replace("geheim", "***")
    assert "127.0.0.1" in status["broker"]["trouble"]
    assert status["broker"]["trouble"] in fresh.ok("status")
    logs = [file.read_text() for file in (fresh.folder / ".synergy" / "logs").glob("*.log")]
    assert len(logs) == 2
    assert all(status["broker"]["trouble"] in log for log in logs)
    assert "geheim" not in "".join([*logs, fresh.ok("status"), *fresh.titles()])
    assert "geheim" not in fresh.run("start", "worker").stderr


def test_no_broker_is_named_where_there_is_none(fresh: Any, wait: Wait) -> None:
    fresh.ok("start", "scheduler")
    wait(lambda: fresh.run("status").returncode == 0, "a timetable")
    assert fresh.json("status")["broker"] is None
    assert "\nbroker" not in fresh.ok("status")
    said = fresh.run("status", "--json", SYNERGY_BROKER="nonsense").stdout
    assert "accepted are none" in said


def test_a_supervisor_without_its_servers_says_so_and_starts_nothing(fresh: Any) -> None:
    store = "mongodb://user:geheim@127.0.0.1:1/shop?serverSelectionTimeoutMS=100"
    done = fresh.run("super", "--start", "--store", store, "--broker", NOBODY)
    assert done.returncode == 0, done
    of_store, of_broker = done.stderr.splitlines()
    assert "mongodb://user:***@127.0.0.1:1/shop" in of_store
    assert of_store.endswith("the supervisor starts nothing until the store answers")
    assert NOBODY.replace("geheim", "***") in of_broker
    assert [*fresh.pids()] == ["supervisor"]
    assert "geheim" not in "".join([done.stdout, done.stderr, *fresh.titles()])
    fresh.ok("super", "--stop")
