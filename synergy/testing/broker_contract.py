"""The contract of the `Broker` port as tests: every implementation passes them, ours and yours.

    class TestMyBroker(BrokerContract):
        @pytest.fixture
        def rig(self, tmp_path):
            yield MyRig(…)

A `BrokerRig` gives handles on one broker, empty at first, and does to it from outside what a
server's operator, its network or somebody else's program may do.
"""

import random
import select
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

import pytest

from synergy.brokers.message import DEAD, KEPT, LARGEST, PARKED, TYPE, encode
from synergy.core.model import Task, Unit
from synergy.ports import Bell, Broker, Consumer, Delivery, Listener, Publisher
from synergy.records import to_text
from synergy.testing.contracts import NOW, a_unit

#: Seconds within which everything that must happen has happened, on the slowest machine.
SOON = 30.0

#: The processes whose units are published here, for those who tidy up.
PROCESSES = ("site_hourly", "new.process-1", "a", "b", "unknown")


class BrokerRig(Protocol):
    """One broker, and what happens to it from outside."""

    def open(self) -> Broker:
        """One more handle on it."""
        ...

    def outage(self) -> AbstractContextManager[None]:
        """Within the block the broker cannot be reached by anybody; what it had, it keeps."""
        ...

    def put(self, process: str, body: bytes, kind: str | None = TYPE) -> None:
        """Let a message of somebody else come in the queue of a process, which is declared."""
        ...

    def letters(self, place: str) -> list[tuple[str, bytes]]:
        """Take what was put aside there (`DEAD` or `PARKED`): the reason and the body of each."""
        ...


def until(fact: Callable[[], Any], seconds: float = SOON) -> bool:
    """Look again and again until it is so; whether it ever was."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def gather(
    consumer: Consumer, count: int, *, acknowledge: bool = True, seconds: float = SOON
) -> list[Delivery]:
    """So many deliveries, in the order of arrival; fewer when no more have come in time."""
    found: list[Delivery] = []
    deadline = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < deadline:
        select.select([consumer.fileno()], [], [], 0.1)
        arrived = consumer.receive()
        if acknowledge:
            consumer.acknowledge(arrived)
        found += arrived
    return found


def keys(deliveries: Sequence[Delivery]) -> list[str]:
    """The keys of their units."""
    return [delivery.unit.key for delivery in deliveries]


def letters_of(rig: BrokerRig, place: str, count: int) -> list[tuple[str, bytes]]:
    """So many that were put aside there, or all that came in time."""
    found: list[tuple[str, bytes]] = []

    def complete() -> bool:
        found.extend(rig.letters(place))
        return len(found) >= count

    until(complete)
    return found


def rung(bell: Bell, role: str, ear: Listener) -> bool:
    """Ring until it is heard: rings before somebody listens are lost; whether it ever was."""

    def heard() -> bool:
        bell.ring(role)
        return ear.wait(0.05)

    return until(heard)


def some_units(count: int, process: str = "site_hourly", first: int = 0) -> list[Unit]:
    """As many, of one process, hour after hour."""
    return [a_unit(first + number, process) for number in range(count)]


def published(unit: Unit) -> Unit:
    """All of it that a message carries."""
    return Unit(
        process=unit.process,
        interval=unit.interval,
        generation=unit.generation,
        task=unit.task,
        created_at=unit.created_at,
        run=unit.run,
        attempt=unit.attempt,
        low=unit.low,
        high=unit.high,
    )


def body_of(unit: Unit) -> bytes:
    """The body of its message."""
    body = encode(unit)
    assert body is not None
    return body


class BrokerContract:
    """What every broker promises.  A subclass provides the fixture `rig`."""

    @pytest.fixture
    def rig(self) -> BrokerRig:
        """Overridden: a broker of this test alone."""
        raise NotImplementedError

    @pytest.fixture
    def broker(self, rig: BrokerRig) -> Any:
        """The first handle."""
        broker = rig.open()
        broker.declare(["site_hourly"])
        yield broker
        broker.close()

    @pytest.fixture
    def publisher(self, broker: Broker) -> Publisher:
        """One that is well."""
        publisher = broker.publisher()
        assert until(lambda: not publisher.trouble), publisher.trouble
        return publisher

    # units

    def test_a_unit_arrives_as_it_was_published(self, broker: Broker, publisher: Publisher) -> None:
        task = Task(
            command=("sh", "-c", "echo “€”\x00\ud800"),
            noop_codes=(3, 4),
            arguments={"deep": [{"a": None, "b": [1.5, True, "é"]}], "task": {}},
            source="sessions",
            sink="traffic",
            time_limit=timedelta(minutes=5, microseconds=1),
            max_attempts=7,
            backoff=timedelta(seconds=1),
            priority=-5,
        )
        rich = a_unit(1, generation=4, run=2, attempt=3, low={"id": 1}, high=["x", 2])
        rich = replace(rich, task=task, created_at=NOW + timedelta(microseconds=7))
        units = [a_unit(), rich]
        publisher.publish(units)
        arrived = gather(broker.consume(["site_hourly"], 10), 2)
        assert [delivery.unit for delivery in arrived] == [published(unit) for unit in units]

    def test_units_arrive_once_and_in_order(self, broker: Broker, publisher: Publisher) -> None:
        units = some_units(2500)
        consumer = broker.consume(["site_hourly"], 100)
        for start in range(0, 2500, 500):
            publisher.publish(units[start : start + 500])
        arrived = gather(consumer, 2500)
        publisher.publish([a_unit(9999)])
        arrived += gather(consumer, 1)
        assert keys(arrived) == [unit.key for unit in (*units, a_unit(9999))]
        assert publisher.flush(SOON)
        told = publisher.published
        assert (told.handed, told.confirmed, told.dropped) == (2501, 2501, 0)

    def test_what_was_published_before_anybody_consumed_waits(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        publisher.publish(some_units(3))
        assert publisher.flush(SOON)
        assert len(gather(broker.consume(["site_hourly"], 10), 3)) == 3

    def test_a_process_that_nobody_declared_gets_its_queue(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        publisher.publish(some_units(20, "new.process-1") + some_units(1))
        assert publisher.flush(SOON)
        assert publisher.published.confirmed == 21
        arrived = gather(broker.consume(["new.process-1"], 100), 20)
        assert sorted(keys(arrived)) == sorted(unit.key for unit in some_units(20, "new.process-1"))

    def test_consumers_of_a_process_share_its_units(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        one = broker.consume(["site_hourly"], 5)
        two = rig.open().consume(["site_hourly"], 5)
        assert until(lambda: one.healthy and two.healthy)
        publisher.publish(some_units(10))
        taken = gather(one, 5, acknowledge=False), gather(two, 5, acknowledge=False)
        assert [len(each) for each in taken] == [5, 5]
        assert set(keys(taken[0] + taken[1])) == {unit.key for unit in some_units(10)}

    def test_each_process_has_a_queue_of_its_own(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        broker.declare(["a", "b"])
        publisher.publish([a_unit(0, "a"), a_unit(0, "b"), a_unit(1, "a"), a_unit(1, "b")])
        of_a = broker.consume(["a"], 10)
        assert keys(gather(of_a, 2)) == [a_unit(0, "a").key, a_unit(1, "a").key]
        assert keys(gather(broker.consume(["b"], 10), 2)) == [
            a_unit(0, "b").key,
            a_unit(1, "b").key,
        ]
        assert of_a.receive() == []

    def test_a_consumer_of_several_has_a_window_for_each(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        broker.declare(["a", "b"])
        consumer = broker.consume(["a", "b"], 2)
        publisher.publish(some_units(9, "a") + some_units(9, "b"))
        arrived = gather(consumer, 4, acknowledge=False)
        assert sorted(keys(arrived)) == sorted(
            unit.key for unit in some_units(2, "a") + some_units(2, "b")
        )

    def test_a_consumer_holds_no_more_than_its_window(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        narrow = broker.consume(["site_hourly"], 3)
        assert until(lambda: narrow.healthy)
        publisher.publish(some_units(10))
        held = gather(narrow, 3, acknowledge=False)
        wide = broker.consume(["site_hourly"], 100)
        others = gather(wide, 7)
        assert keys(held) == [unit.key for unit in some_units(3)]
        assert keys(others) == [unit.key for unit in some_units(7, first=3)]
        assert narrow.receive() == []

    def test_what_is_acknowledged_makes_room(self, broker: Broker, publisher: Publisher) -> None:
        consumer = broker.consume(["site_hourly"], 4)
        publisher.publish(some_units(8))
        first = gather(consumer, 4, acknowledge=False)
        consumer.acknowledge([first[2], first[0]])
        second = gather(consumer, 2, acknowledge=False)
        consumer.acknowledge([*first, *second])
        third = gather(consumer, 2, acknowledge=False)
        assert keys(first + second + third) == [unit.key for unit in some_units(8)]

    def test_what_is_not_acknowledged_comes_again_and_nothing_else(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 10)
        publisher.publish(some_units(10))
        held = gather(consumer, 10, acknowledge=False)
        consumer.acknowledge(held[:3] + held[5:8])
        consumer.close()
        heir = broker.consume(["site_hourly"], 10)
        again = gather(heir, 4)
        publisher.publish([a_unit(99)])
        last = gather(heir, 1)
        assert sorted(keys(again)) == sorted(keys(held[3:5] + held[8:]))
        assert keys(last) == [a_unit(99).key]

    def test_acknowledging_twice_or_too_late_is_harmless(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 10)
        publisher.publish(some_units(2))
        held = gather(consumer, 2, acknowledge=False)
        assert publisher.flush(SOON)  # or they are published once more after the outage
        with rig.outage():
            assert until(lambda: not consumer.healthy)
            consumer.acknowledge(held)
        again = gather(consumer, 2, acknowledge=False)
        consumer.acknowledge(held)
        consumer.acknowledge(again)
        consumer.acknowledge(again)
        publisher.publish([a_unit(99)])
        assert keys(gather(consumer, 1)) == [a_unit(99).key]
        consumer.close()
        consumer.acknowledge(again)

    # pauses

    def test_a_pause_gives_back_in_order_what_is_not_acknowledged(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 8)
        publisher.publish(some_units(12))
        held = gather(consumer, 8, acknowledge=False)
        consumer.acknowledge(held[:2] + held[4:6])
        consumer.pause()
        consumer.acknowledge(held)
        consumer.resume()
        again = keys(gather(consumer, 8))
        returned = [a_unit(hour).key for hour in (2, 3, 6, 7)]
        assert [key for key in again if key in returned] == returned
        assert sorted(again) == sorted([*returned, *(unit.key for unit in some_units(4, first=8))])

    def test_who_pauses_is_brought_nothing_and_others_are(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        broker.declare(["a"])
        consumer = broker.consume(["site_hourly", "a"], 5)
        publisher.publish(some_units(4) + some_units(4, "a"))
        gather(consumer, 4, acknowledge=False)
        consumer.pause()
        other = rig.open().consume(["site_hourly", "a"], 5)
        arrived = gather(other, 8)
        publisher.publish(some_units(20, first=4))
        arrived += gather(other, 20)
        expected = some_units(24) + some_units(4, "a")
        assert sorted(keys(arrived)) == sorted(unit.key for unit in expected)
        assert consumer.receive() == []
        assert (consumer.healthy, consumer.trouble) == (True, "")

    def test_what_arrived_before_a_pause_is_not_seen_after_it(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 5)
        publisher.publish(some_units(3))
        assert until(lambda: select.select([consumer.fileno()], [], [], 0)[0])
        assert until(lambda: publisher.flush(0))
        consumer.pause()
        assert consumer.receive() == []
        consumer.resume()
        assert keys(gather(consumer, 3)) == [unit.key for unit in some_units(3)]

    def test_another_window_may_follow_a_pause(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 10)
        assert until(lambda: consumer.healthy)
        for window, expected in ((2, 2), (None, 10)):
            consumer.pause()
            consumer.resume(window)
            publisher.publish(some_units(12))
            held = gather(consumer, expected, acknowledge=False)
            other = rig.open().consume(["site_hourly"], 100)
            rest = gather(other, 12 - expected)
            assert sorted(keys(held + rest)) == sorted(unit.key for unit in some_units(12))
            assert consumer.receive() == []
            other.close()
            consumer.acknowledge(held)

    def test_pausing_and_resuming_twice_or_after_the_end_is_harmless(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 10)
        consumer.resume(1)
        publisher.publish(some_units(3))
        gather(consumer, 3, acknowledge=False)
        consumer.pause()
        consumer.pause()
        consumer.resume()
        consumer.resume(1)
        held = gather(consumer, 3, acknowledge=False)
        assert keys(held) == [unit.key for unit in some_units(3)]
        consumer.acknowledge(held)
        nobody = broker.consume([], 1)
        for each in (consumer, nobody):
            each.pause()
            each.close()
            each.pause()
            each.resume()
            assert each.receive() == []

    def test_a_pause_survives_an_outage(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 10)
        publisher.publish(some_units(2))
        gather(consumer, 2, acknowledge=False)
        assert publisher.flush(SOON)  # or they are published once more after the outage
        consumer.pause()
        with rig.outage():
            assert until(lambda: not consumer.healthy)
        assert until(lambda: consumer.healthy)
        with_it = rig.open().consume(["site_hourly"], 1)
        publisher.publish(some_units(20, first=2))
        assert sorted(keys(gather(with_it, 22))) == sorted(unit.key for unit in some_units(22))
        with_it.close()
        assert consumer.receive() == []
        consumer.resume()
        publisher.publish([a_unit(99)])
        assert keys(gather(consumer, 1)) == [a_unit(99).key]

    def test_during_an_outage_it_may_pause_and_resume(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        pauses, resumes = broker.consume(["site_hourly"], 9), broker.consume(["site_hourly"], 9)
        assert until(lambda: pauses.healthy and resumes.healthy)
        resumes.pause()
        publisher.publish(some_units(5))
        gather(pauses, 5, acknowledge=False)
        assert publisher.flush(SOON)  # or they are published once more after the outage
        with rig.outage():
            assert until(lambda: not pauses.healthy and not resumes.healthy)
            pauses.pause()
            resumes.resume()
        assert sorted(keys(gather(resumes, 5))) == [unit.key for unit in some_units(5)]
        assert until(lambda: pauses.healthy)
        assert pauses.receive() == []

    def test_nothing_is_lost_or_forgotten_among_pauses(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        chance = random.Random("pauses")
        consumers = [broker.consume(["site_hourly"], 7), rig.open().consume(["site_hourly"], 30)]
        done: set[str] = set()
        for batch in range(16):
            publisher.publish(some_units(50, first=50 * batch))
            rig.put("site_hourly", b"no unit")
            for consumer in consumers:
                if chance.random() < 0.5:
                    consumer.pause()
                    consumer.resume(chance.choice([None, 3]))
                arrived = gather(consumer, chance.randrange(20), seconds=0.05)
                done |= set(keys(arrived))
                if chance.random() < 0.5:
                    consumer.pause()
                    consumer.acknowledge(arrived)
        for consumer in consumers:
            consumer.resume()

        def complete() -> bool:
            for consumer in consumers:
                done.update(keys(gather(consumer, 1, seconds=0.05)))
            return len(done) == 800

        assert until(complete), f"{len(done)} of 800"
        assert len(letters_of(rig, DEAD, 16)) == 16

    def test_its_descriptor_tells_that_something_arrived(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 10)
        assert until(lambda: consumer.healthy)
        assert consumer.receive() == []
        assert select.select([consumer.fileno()], [], [], 0)[0] == []
        publisher.publish(some_units(1))
        assert select.select([consumer.fileno()], [], [], SOON)[0]
        assert keys(consumer.receive()) == [a_unit().key]

    def test_nothing_to_publish_or_acknowledge_is_harmless(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        publisher.publish([])
        assert publisher.flush(0)
        broker.declare([])
        broker.consume([], 1).acknowledge([])

    def test_a_unit_that_is_too_large_is_dropped_and_counted(
        self, broker: Broker, publisher: Publisher
    ) -> None:
        task = Task(entry="w:f", arguments={"text": "x" * LARGEST})
        publisher.publish([replace(a_unit(0), task=task), a_unit(1)])
        assert publisher.flush(SOON)
        assert (publisher.published.confirmed, publisher.published.dropped) == (1, 1)
        assert keys(gather(broker.consume(["site_hourly"], 10), 1)) == [a_unit(1).key]

    # a broker that goes away

    def test_who_begins_while_it_is_away_waits_for_it(self, rig: BrokerRig) -> None:
        broker = rig.open()
        with rig.outage():
            publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 10)
            publisher.publish(some_units(5))
            assert publisher.trouble
            assert consumer.trouble
            assert not consumer.healthy
            assert not publisher.flush(0.05)
        # In any order: some may have been published just before their queue was there.
        assert sorted(keys(gather(consumer, 5))) == [unit.key for unit in some_units(5)]
        assert until(lambda: not publisher.trouble)
        assert (consumer.healthy, consumer.trouble) == (True, "")
        broker.close()

    def test_nothing_is_lost_when_it_goes_away_in_between(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 50)
        units = some_units(3000)
        arrived: list[Delivery] = []
        enough = threading.Event()

        def consume() -> None:
            while not enough.is_set():
                arrived.extend(gather(consumer, 1, seconds=0.1))

        thread = threading.Thread(target=consume)
        thread.start()
        publisher.publish(units[:1000])
        with rig.outage():
            publisher.publish(units[1000:2000])
            assert until(lambda: publisher.trouble)
        publisher.publish(units[2000:])
        assert publisher.flush(SOON), publisher.published
        expected = {unit.key for unit in units}
        complete = until(lambda: len(arrived) >= 3000 and set(keys(arrived)) == expected)
        enough.set()
        thread.join()
        assert complete, f"{len(set(keys(arrived)))} of 3000 arrived"
        told = publisher.published
        assert (told.handed, told.confirmed, told.dropped) == (3000, 3000, 0)

    def test_its_going_and_coming_back_are_told(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 10)
        assert until(lambda: consumer.healthy)
        consumer.receive()
        with rig.outage():
            assert select.select([consumer.fileno()], [], [], SOON)[0]
            assert until(lambda: not consumer.healthy and publisher.trouble)
            assert consumer.trouble
            consumer.receive()
        assert select.select([consumer.fileno()], [], [], SOON)[0]
        assert until(lambda: consumer.healthy and not publisher.trouble)
        publisher.publish(some_units(1))
        assert keys(gather(consumer, 1)) == [a_unit().key]

    def test_what_it_handed_out_comes_again(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        consumer = broker.consume(["site_hourly"], 10)
        publisher.publish(some_units(4))
        held = gather(consumer, 4, acknowledge=False)
        assert publisher.flush(SOON)  # or they are published once more after the outage
        with rig.outage():
            assert until(lambda: not consumer.healthy)
        assert sorted(keys(gather(consumer, 4))) == sorted(keys(held))

    def test_it_keeps_only_so_much_while_it_is_away(
        self, rig: BrokerRig, broker: Broker, publisher: Publisher
    ) -> None:
        with rig.outage():
            assert until(lambda: publisher.trouble)
            publisher.publish(some_units(KEPT - 1))
            assert publisher.published.dropped == 0
            publisher.publish(some_units(3))
            assert publisher.published.dropped == 2
        assert publisher.flush(SOON)
        assert publisher.published.confirmed == KEPT

    # what is no proper message

    @pytest.mark.parametrize(
        ("body", "kind", "reason"),
        [
            (b"", TYPE, "JSON"),
            (b"hello", TYPE, "JSON"),
            (b"\xff\xfe\x00", TYPE, "JSON"),
            (b"[" * 60_000, TYPE, "JSON"),
            (b"1" * 5_000, TYPE, "JSON"),
            (b"null", TYPE, "null is not an object"),
            (b"{}", TYPE, '"process" is missing'),
            (b"x" * (LARGEST + 1), TYPE, "bytes"),
            (body_of(a_unit()), None, "type"),
            (body_of(a_unit()), "synergy.unit/0", "type"),
            (body_of(a_unit()), "celery", "type"),
        ],
    )
    def test_a_foreign_message_is_put_with_the_dead(
        self, rig: BrokerRig, broker: Broker, body: bytes, kind: str | None, reason: str
    ) -> None:
        consumer = broker.consume(["site_hourly"], 1)
        rig.put("site_hourly", body, kind)
        rig.put("site_hourly", body_of(a_unit(7)))
        assert keys(gather(consumer, 1)) == [a_unit(7).key]
        [(why, kept)] = letters_of(rig, DEAD, 1)
        assert reason in why
        assert kept == body

    @pytest.mark.parametrize(
        "change",
        [
            {"process": 5},
            {"start": "2026-11-20"},
            {"end": 0},
            {"end": 10**30},
            {"generation": True},
            {"attempt": -1},
            {"label": None},
            {"task": []},
            {"task": {"priority": "high"}},
            {"task": {"command": "rm -rf"}},
            {"owner": "me"},
        ],
    )
    def test_a_malformed_unit_is_put_with_the_dead(
        self, rig: BrokerRig, broker: Broker, change: dict[str, Any]
    ) -> None:
        document = {
            "process": "site_hourly",
            "label": "2026-11-20T17",
            "start": 1_795_194_000_000_000,
            "end": 1_795_197_600_000_000,
            "generation": 1,
            "created_at": 1_795_197_600_000_000,
            "task": {"entry": "w:f"},
        }
        consumer = broker.consume(["site_hourly"], 1)
        rig.put("site_hourly", to_text({**document, **change}).encode())
        rig.put("site_hourly", to_text(document).encode())
        assert keys(gather(consumer, 1)) == ["site_hourly@2026-11-20T17#1"]
        assert len(letters_of(rig, DEAD, 1)) == 1

    @pytest.mark.parametrize(
        ("unit", "kind", "reason"),
        [
            (a_unit(), "synergy.unit/2", "newer"),
            (a_unit(0, "unknown"), TYPE, "unknown"),
        ],
    )
    def test_what_another_may_understand_is_parked(
        self, rig: BrokerRig, broker: Broker, unit: Unit, kind: str, reason: str
    ) -> None:
        consumer = broker.consume(["site_hourly"], 1)
        body = body_of(unit)
        rig.put("site_hourly", body, kind)
        rig.put("site_hourly", body_of(a_unit(7)))
        assert keys(gather(consumer, 1)) == [a_unit(7).key]
        [(why, kept)] = letters_of(rig, PARKED, 1)
        assert reason in why
        assert kept == body

    def test_a_flood_of_foreign_messages_stops_nobody(self, rig: BrokerRig, broker: Broker) -> None:
        chance = random.Random("flood")
        proper = body_of(a_unit(0))
        consumer = broker.consume(["site_hourly"], 2)
        for number in range(200):
            at = chance.randrange(len(proper))
            rig.put("site_hourly", proper[:at] + chance.randbytes(chance.randrange(1, 9)))
            if number % 50 == 0:
                rig.put("site_hourly", body_of(a_unit(number)))
        assert keys(gather(consumer, 4)) == [a_unit(number).key for number in (0, 50, 100, 150)]
        assert len(letters_of(rig, DEAD, 200)) == 200

    # the bell

    def test_a_ring_wakes_everybody_of_the_role_and_nobody_else(
        self, rig: BrokerRig, broker: Broker
    ) -> None:
        bell, far = broker.bell(), rig.open().bell()
        ears = [bell.listen("worker"), bell.listen("worker"), far.listen("worker")]
        other = far.listen("scheduler")
        heard: set[int] = set()

        def all_heard() -> bool:
            bell.ring("worker")
            heard.update(number for number, ear in enumerate(ears) if ear.wait(0.05))
            return len(heard) == 3

        assert until(all_heard)
        # Who begins to listen may be woken for what he could have missed; after that, only rings.
        assert rung(far, "scheduler", other)
        while any(ear.wait(0.2) for ear in (*ears, other)):
            pass
        bell.ring("worker")
        assert all(ear.wait(SOON) for ear in ears)
        assert not other.wait(0)
        for ear in (*ears, other):
            ear.close()

    def test_a_ring_is_heard_again_after_an_outage(self, rig: BrokerRig, broker: Broker) -> None:
        bell = broker.bell()
        ear = bell.listen("scheduler")
        assert rung(bell, "scheduler", ear)
        with rig.outage():
            bell.ring("scheduler")
        ear.drain()
        assert rung(bell, "scheduler", ear)
        ear.close()

    def test_who_has_closed_is_not_rung(self, broker: Broker) -> None:
        bell = broker.bell()
        one, two = bell.listen("worker"), bell.listen("worker")
        one.close()
        one.close()
        assert rung(bell, "worker", two)
        two.close()
        bell.ring("worker")

    # the end

    def test_closing_twice_is_harmless_and_nothing_is_said_after_it(self, rig: BrokerRig) -> None:
        broker = rig.open()
        publisher, consumer = broker.publisher(), broker.consume(["site_hourly"], 1)
        bell = broker.bell()
        ear = bell.listen("worker")
        consumer.close()
        consumer.close()
        publisher.close()
        broker.close()
        broker.close()
        publisher.publish(some_units(2))
        bell.ring("worker")
        ear.close()
        assert consumer.receive() == []

    def test_closing_while_it_is_away_takes_no_time(self, rig: BrokerRig) -> None:
        broker = rig.open()
        with rig.outage():
            broker.publisher()
            broker.consume(["site_hourly"], 1)
            before = time.monotonic()
            broker.close()
            assert time.monotonic() - before < SOON / 2
