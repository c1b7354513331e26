"""What a broker offers, at a table: when it is claimed, acknowledged, and looked past."""

from dataclasses import replace
from datetime import timedelta

import pytest

from synergy.core.model import Applied, Claim, Task, Unit
from synergy.core.states import UnitInput, UnitState
from synergy.ports import Delivery
from synergy.stores.rules import taken
from synergy.worker import messages as at
from synergy.worker.messages import Action
from synergy.worker.offers import Offers, decided
from synergy.worker.outcomes import Outcome, Verdict
from synergy.worker.protocol import IDLE, OCCUPIED, POLL, STALE
from tests.worker.test_protocol import DONE, FIRST, HOURS, START, the
from tests.worker.test_protocol_ahead import Ahead


def offered(hour: int, process: str = "p", tag: int | None = None, **fields: int) -> Delivery:
    """A message of the unit of an hour."""
    task = Task(entry="m:f", priority=fields.pop("priority", 0))
    unit = Unit(
        process=process,
        interval=HOURS.shift(FIRST, hour),
        generation=1,
        task=task,
        created_at=START,
        **fields,
    )
    return Delivery(unit, (0, hour if tag is None else tag))


class Fed(Ahead):
    """A table to which a broker brings units."""

    def hungry(self) -> None:
        """Its slots are free, the broker is well, and it has looked into the store in vain."""
        self.ready()
        self.tell(at.BrokerHealth(True))
        self.tell(at.Claimed([]))
        self.tell(at.NextDue(None))

    def offer(self, *deliveries: Delivery) -> list[Action]:
        """The broker brings them."""
        return self.tell(at.Offered(deliveries))

    def starts(self, *deliveries: Delivery) -> list[Unit]:
        """What the store answers when it starts these for the claim that was made last."""
        claim = self.claim()
        return [taken(each.unit, claim, UnitInput.START) for each in deliveries]


def claims(actions: list[Action]) -> list[Claim]:
    """All that is claimed."""
    return [asked.claim for asked in the(at.ClaimUnits, actions)]


def acknowledged(actions: list[Action]) -> list[Delivery]:
    """All that is acknowledged."""
    return [each for said in the(at.Acknowledge, actions) for each in said.deliveries]


# claimed by key, acknowledged after


def test_what_is_offered_is_claimed_by_its_key_at_once() -> None:
    table = Fed(slots=2)
    table.hungry()
    [claim] = claims(table.offer(offered(3)))
    assert (claim.keys, claim.limit) == ((offered(3).unit.key,), 2)


def test_a_claim_names_as_many_as_slots_are_free_in_the_order_of_every_claim() -> None:
    table = Fed(slots=3)
    table.hungry()
    late, early, high, other = (
        offered(3),
        offered(1),
        offered(9, priority=1),
        offered(1, process="o"),
    )
    [claim] = claims(table.offer(late, early, high, other))
    assert claim.keys == tuple(each.unit.key for each in (high, other, early))
    table.tell(at.Claimed(table.starts(high, other, early)))
    assert len(claims(table.actions)) == 2, "all slots are at work"
    [claim] = claims(table.over(DONE, slot=1))
    assert claim.keys == (late.unit.key,)


@pytest.mark.parametrize("takes", [True, False], ids=["taken", "refused"])
def test_a_message_is_acknowledged_when_its_claim_was_answered_and_not_before(takes: bool) -> None:
    table = Fed()
    table.hungry()
    delivery = offered(3)
    assert acknowledged(table.offer(delivery)) == []
    actions = table.tell(at.Claimed(table.starts(delivery) if takes else []))
    assert acknowledged(actions) == [delivery]
    assert bool(the(at.Run, actions)) is takes


def test_a_message_that_nobody_had_time_for_is_not_acknowledged() -> None:
    table = Fed()
    table.hungry()
    first, second = offered(1), offered(2)
    table.offer(first, second)
    assert acknowledged(table.tell(at.Claimed(table.starts(first)))) == [first]
    assert table.silence(10, renewed=True)
    assert acknowledged(table.actions) == [first]


def test_a_unit_that_was_delivered_twice_is_claimed_once() -> None:
    table = Fed(slots=2)
    table.hungry()
    [claim] = claims(table.offer(offered(1), offered(1, tag=7)))
    assert claim.keys == (offered(1).unit.key,)
    actions = table.tell(at.Claimed(table.starts(offered(1))))
    assert acknowledged(actions) == [offered(1), offered(1, tag=7)]
    assert claims(actions) == []


def test_a_refused_offer_leaves_the_slot_to_the_next() -> None:
    table = Fed()
    table.hungry()
    table.offer(offered(1), offered(2))
    [claim] = claims(table.tell(at.Claimed([])))
    assert claim.keys == (offered(2).unit.key,)


def test_offers_of_a_claim_without_an_answer_are_acknowledged_as_far_as_they_are_found() -> None:
    table = Fed(slots=2)
    table.hungry()
    table.offer(offered(1), offered(2))
    found = table.starts(offered(1))
    actions = table.tell(at.Unanswered(the(at.ClaimUnits, table.actions)[-1], "gone"))
    actions += table.after(0.3)
    assert the(at.FindClaimed, actions)
    assert acknowledged(actions) == []
    actions = table.tell(at.Claimed(found))
    assert acknowledged(actions) == [offered(1)]
    assert [run.units for run in the(at.Run, actions)] == [tuple(found)]
    [claim] = claims(actions)
    assert claim.keys == (offered(2).unit.key,), "nobody knows how it stands"


# ahead


def test_quick_units_are_claimed_ahead_by_their_keys() -> None:
    table = Fed()
    table.quick()
    table.tell(at.BrokerHealth(True), at.Claimed([]))
    table.tell(at.NextDue(None))
    [claim] = claims(table.offer(*(offered(hour) for hour in range(500))))
    assert claim.limit == 1
    assert claim.keys == tuple(offered(hour).unit.key for hour in range(1 + claim.ahead))
    begun = table.starts(offered(0))
    ahead = [taken(offered(n).unit, claim, UnitInput.CLAIM) for n in range(1, 1 + claim.ahead)]
    actions = table.tell(at.Claimed([*begun, *ahead]))
    assert acknowledged(actions) == [offered(hour) for hour in range(1 + claim.ahead)]
    while not claims(actions := table.over(seconds=0.000_5)):
        assert table.protocol.held, "the slot never waits"
    [claim] = claims(actions)
    assert claim.limit == 0
    assert claim.keys is not None
    assert len(claim.keys) == claim.ahead


def test_only_what_may_be_ahead_is_named_beyond_the_free_slots() -> None:
    offers = Offers()
    offers.add([offered(1), offered(2), offered(3, "slow"), offered(4, attempt=2), offered(5)])
    named = offers.take(1, 9, frozenset({"p"}))
    assert [each.unit.interval for each in named] == [
        HOURS.shift(FIRST, hour) for hour in (1, 2, 5)
    ]
    assert (offers.ahead(frozenset({"slow"})), offers.ahead(frozenset({"p"}))) == (1, 0)
    assert offers.take(0, 9, frozenset()) == []
    assert len(offers.take(9, 0, frozenset())) == 2
    assert not offers


def test_offers_that_may_not_be_ahead_wait_for_a_slot() -> None:
    table = Fed()
    table.quick()
    table.tell(at.BrokerHealth(True), at.Claimed([]))
    table.tell(at.NextDue(None))
    table.offer(offered(1))
    table.tell(at.Claimed(table.starts(offered(1))))
    before = len(claims(table.actions))
    assert claims(table.offer(offered(2, attempt=2))) == []
    assert len(claims(table.actions)) == before


# stale ones


def test_while_all_are_refused_more_are_named_and_taken_ones_end_that() -> None:
    table = Fed()
    table.hungry()
    table.offer(*(offered(hour) for hour in range(500)))
    named = []
    while sum(named) + STALE < 480:
        keys = table.claim().keys
        assert keys is not None
        named.append(len(keys))
        assert len(acknowledged(table.tell(at.Claimed([])))) == len(keys)
    assert named == [1, 2, 4, 8, 16, 32, 64, 128]
    keys = table.claim().keys
    assert keys is not None
    assert len(keys) == 500 - sum(named)
    third = offered(sum(named) + 2)
    actions = table.tell(at.Claimed(table.starts(third)))
    assert len(acknowledged(actions)) == 3, "two before it were refused"
    [claim] = claims(table.over(DONE, seconds=1))
    assert claim.keys == (offered(sum(named) + 3).unit.key,), "the rest is offered still"


@pytest.mark.parametrize(
    ("limit", "ahead", "started", "claimed", "settled"),
    [
        (2, 0, [1], [], [0, 1, 2, 3, 4]),
        (2, 0, [], [], [0, 1, 2, 3, 4]),
        (1, 0, [1], [], [0, 1]),
        (1, 0, [0], [], [0]),
        (1, 2, [0], [2], [0, 1, 2, 4]),
        (1, 1, [0], [2], [0, 1, 2]),
        (0, 2, [], [], [0, 1, 2, 4]),
        (0, 1, [], [1], [0, 1]),
        (2, 1, [0, 3], [4], [0, 1, 2, 3, 4]),
    ],
)
def test_what_a_claim_left_behind_was_refused_or_not_reached(
    limit: int, ahead: int, started: list[int], claimed: list[int], settled: list[int]
) -> None:
    """The one of hour 3 may not be claimed ahead."""
    there = [offered(hour, process="slow" if hour == 3 else "p") for hour in range(5)]
    claim = Claim(
        owner="w", now=START, lease_until=START, limit=limit, ahead=ahead, quick=frozenset({"p"})
    )
    units = [taken(there[hour].unit, claim, UnitInput.START) for hour in started]
    units += [taken(there[hour].unit, claim, UnitInput.CLAIM) for hour in claimed]
    assert decided(there, claim, units) == [there[hour] for hour in settled]


# looks into the store


@pytest.mark.parametrize(
    ("due", "wait"), [(None, IDLE), (-5.0, IDLE), (0.0, IDLE), (0.6, 0.6), (3600.0, IDLE)]
)
def test_while_the_broker_is_well_the_store_is_seldom_looked_into(
    due: float | None, wait: float
) -> None:
    table = Fed()
    table.hungry()
    table.tell(at.Rang())
    table.tell(at.Claimed([]))
    now = START + timedelta(seconds=table.time)
    table.tell(at.NextDue(None if due is None else now + timedelta(seconds=due)))
    assert table.protocol.wake_at() == pytest.approx(table.time + wait)
    assert table.after(wait - 0.01) == []
    [claim] = claims(table.after(0.02))
    assert claim.keys is None


def test_a_ring_is_answered_when_nothing_was_brought_for_a_moment() -> None:
    table = Fed(slots=2)
    table.hungry()
    table.offer(offered(1))
    table.tell(at.Claimed(table.starts(offered(1))))
    assert claims(table.tell(at.Rang())) == []
    [claim] = claims(table.after(POLL))
    assert claim.keys is None


def test_a_look_that_found_all_it_asked_for_is_followed_by_the_next() -> None:
    table = Fed()
    table.hungry()
    table.tell(at.Rang())
    for _ in range(5):
        table.tell(at.Claimed([table.unit()]))
        [claim] = claims(table.over(DONE))
        assert claim.keys is None
        table.tell(at.Reported([Applied()]))


def test_what_a_broker_brings_goes_before_a_look_but_for_so_long_only() -> None:
    table = Fed()
    table.hungry()
    looked, hour = table.time, 0
    table.tell(at.Rang())
    table.tell(at.Claimed([table.unit()]))
    while True:
        table.offer(offered(hour := hour + 1))
        [claim] = claims(table.over(DONE, seconds=0.05))
        if claim.keys is None:
            break
        assert claim.keys == (offered(hour).unit.key,)
        actions = table.tell(at.Claimed(table.starts(offered(hour))), at.Reported([Applied()]))
        assert claims(actions) == []
    assert table.time - looked == pytest.approx(IDLE, abs=0.11)


def test_a_look_that_is_overdue_waits_for_one_offer() -> None:
    table = Fed()
    table.hungry()
    table.tell(at.Rang())
    table.tell(at.Claimed([table.unit()]))
    table.offer(offered(1), offered(2))
    [claim] = claims(table.over(DONE, seconds=10))
    assert claim.keys == (offered(1).unit.key,)
    [claim] = claims(table.tell(at.Claimed([]), at.Reported([Applied()])))
    assert claim.keys is None


# the broker's health


def test_when_the_broker_is_gone_the_store_is_looked_into_as_without_one() -> None:
    table = Fed(slots=2)
    table.hungry()
    table.offer(offered(1))
    table.tell(at.Claimed(table.starts(offered(1))))
    [claim] = claims(table.tell(at.BrokerHealth(False)))
    assert claim.keys is None
    table.tell(at.Claimed([]))
    table.tell(at.NextDue(START))
    assert table.protocol.wake_at() == pytest.approx(table.time + POLL)


def test_what_a_lost_connection_had_brought_is_not_claimed_any_more() -> None:
    table = Fed()
    table.hungry()
    table.offer(offered(1), offered(2))
    table.tell(at.Claimed(table.starts(offered(1))), at.BrokerHealth(False))
    [claim] = claims(table.over(DONE))
    assert claim.keys is None
    table.tell(at.Claimed([]), at.BrokerHealth(True))
    table.tell(at.NextDue(None))
    [claim] = claims(table.offer(offered(2, tag=9)))
    assert claim.keys == (offered(2).unit.key,)


def test_without_a_word_of_a_broker_nothing_of_it_is_done() -> None:
    table = Ahead()
    table.running()
    table.tell(at.Stop(), at.Ended(0, DONE))
    kinds = {type(action) for action in table.actions}
    assert not kinds & {at.Acknowledge, at.StopConsuming}


# the end


def test_who_stops_gives_back_what_was_offered_at_once() -> None:
    table = Fed()
    table.hungry()
    table.offer(offered(1), offered(2))
    assert the(at.StopConsuming, table.tell(at.Stop())) == [at.StopConsuming()]
    actions = table.tell(at.Claimed(table.starts(offered(1))), at.Offered([offered(3)]), at.Stop())
    assert acknowledged(actions) == [], "it comes to another, whose claim is refused, or taken"
    assert the(at.StopConsuming, actions) == []
    [report] = the(at.Report, actions)
    assert [write.unit.state for write in report.writes] == [UnitState.REQUESTED]
    assert the(at.Exit, table.tell(at.Reported([Applied()]))) == [at.Exit(at.DONE)]


def test_a_retry_rings_so_that_somebody_looks_when_it_is_due() -> None:
    table = Fed()
    table.hungry()
    table.offer(offered(1))
    table.tell(at.Claimed(table.starts(offered(1))))
    actions = table.over(Outcome(Verdict.RETRY, after=timedelta(seconds=0.5)))
    assert the(at.Report, actions)
    assert at.Ring("worker") in table.tell(at.Reported([Applied()]))
    [claim] = claims(table.after(POLL, at.Rang()))
    table.tell(at.Claimed([]))
    now = START + timedelta(seconds=table.time)
    table.tell(at.NextDue(now + timedelta(seconds=0.5)))
    [claim] = claims(table.after(0.5))
    assert claim.keys is None


# when all slots are at what takes long


def occupied(table: Fed, *deliveries: Delivery) -> list[Action]:
    """All its slots are at what takes long, for so long that it may have paused."""
    table.hungry()
    table.offer(*deliveries)
    table.tell(at.Claimed(table.starts(*deliveries)))
    table.after(0.02, *(at.Slow(slot) for slot, _ in enumerate(deliveries)))
    return table.after(OCCUPIED)


#: Seconds of a unit that is not quick.
LONG = 0.3
PAUSES = (at.PauseConsuming, at.ResumeConsuming)


def pauses(actions: list[Action]) -> list[Action]:
    """What it does about being brought units."""
    return [action for action in actions if isinstance(action, PAUSES)]


def test_who_is_at_long_units_with_all_slots_gives_back_what_was_offered() -> None:
    table = Fed(slots=2)
    table.hungry()
    first, second, third = offered(1), offered(2), offered(3)
    table.offer(first, second, third)
    table.tell(at.Claimed(table.starts(first, second)))
    assert pauses(table.after(0.02, at.Slow(0))) == [], "the other slot may be free in a moment"
    assert pauses(table.after(1)) == []
    assert pauses(table.tell(at.Slow(1))) == []
    assert table.protocol.wake_at() == pytest.approx(table.time + OCCUPIED)
    assert pauses(table.after(OCCUPIED - 0.01)) == []
    assert pauses(table.after(0.01)) == [at.PauseConsuming()]
    assert pauses(table.after(1)) == [], "once"
    assert acknowledged(table.actions) == [first, second]


def test_a_command_takes_long_without_a_word() -> None:
    table = Fed()
    table.hungry()
    table.offer(offered(1))
    [unit] = table.starts(offered(1))
    table.tell(at.Claimed([replace(unit, task=Task(command=("sleep", "9")))]))
    assert pauses(table.after(OCCUPIED)) == [at.PauseConsuming()]


def test_a_slot_that_gets_free_in_time_costs_nothing() -> None:
    table = Fed()
    table.hungry()
    table.offer(offered(1), offered(2))
    table.tell(at.Claimed(table.starts(offered(1))))
    table.after(0.02, at.Slow(0))
    [claim] = claims(table.after(OCCUPIED - 0.01, at.Ended(0, DONE)))
    assert claim.keys == (offered(2).unit.key,)
    table.tell(at.Claimed(table.starts(offered(2))))
    table.after(OCCUPIED - 0.01, at.Slow(0))
    assert pauses(table.after(OCCUPIED - 0.01)) == [], "it counts from the later one"
    assert pauses(table.after(0.01)) == [at.PauseConsuming()]


def test_when_a_slot_is_free_it_is_brought_again_as_many_as_it_has_slots() -> None:
    table = Fed(slots=2)
    assert pauses(occupied(table, offered(1), offered(2))) == [at.PauseConsuming()]
    actions = table.over(DONE, slot=1, seconds=LONG)
    assert pauses(actions) == [at.ResumeConsuming(2)]
    assert claims(actions) == [], "what it is brought again comes in a moment"
    [claim] = claims(table.offer(offered(3, tag=9)))
    assert claim.keys == (offered(3).unit.key,)


def test_a_slot_that_dies_is_free_again_too() -> None:
    table = Fed()
    occupied(table, offered(1))
    assert pauses(table.tell(at.SlotGone(0, "killed by SIGKILL"))) == [at.ResumeConsuming(1)]


def test_who_resumed_and_is_brought_nothing_looks_after_a_while() -> None:
    table = Fed()
    occupied(table, offered(1))
    table.after(IDLE)
    assert claims(table.over(DONE, seconds=LONG)) == []
    assert claims(table.after(POLL - 0.01)) == []
    [claim] = claims(table.after(0.01))
    assert claim.keys is None


def test_a_look_that_is_overdue_is_not_put_off_for_ever_by_pauses() -> None:
    table = Fed()
    occupied(table, offered(1))
    named = []
    for hour in range(2, 6):
        assert pauses(table.over(DONE, seconds=LONG)) == [at.ResumeConsuming(1)]
        [claim] = claims(table.offer(offered(hour), offered(hour + 9)))
        named.append(claim.keys is not None)
        table.tell(at.Claimed(table.starts(offered(hour))))
        table.after(0.02, at.Slow(0))
        assert pauses(table.after(IDLE)) == [at.PauseConsuming()]
    assert named == [True, True, False, True]


def test_nothing_that_was_on_its_way_is_taken_for_an_offer_during_a_pause() -> None:
    table = Fed()
    occupied(table, offered(1))
    table.offer(offered(2))
    actions = table.over(DONE, seconds=LONG)
    assert claims(actions) == []


def test_nothing_is_given_back_while_a_claim_is_out_that_names_some_of_it() -> None:
    table = Fed()
    table.quick()
    table.tell(at.BrokerHealth(True), at.Claimed([table.unit()]))
    many = [offered(hour) for hour in range(1000, 1400)]
    [claim] = claims(table.offer(*many))
    assert (claim.limit, claim.keys) == (0, tuple(each.unit.key for each in many[: claim.ahead]))
    table.after(0.02, at.Slow(0))
    assert pauses(table.after(1)) == []
    actions = table.tell(at.Claimed([]))
    assert acknowledged(actions) == many[: claim.ahead]
    assert pauses(actions) == [at.PauseConsuming()]


def test_once_a_process_is_quick_it_is_brought_as_many_as_at_first() -> None:
    table = Fed()
    occupied(table, offered(1))
    assert pauses(table.over(DONE, seconds=LONG)) == [at.ResumeConsuming(1)]
    table.offer(offered(2))
    table.tell(at.Claimed(table.starts(offered(2))))
    actions = table.over(DONE, seconds=0.000_1)
    for hour in range(3, 30):
        if pauses(actions):
            break
        table.offer(offered(hour))
        table.tell(at.Claimed(table.starts(offered(hour))))
        actions = table.over(DONE, seconds=0.000_1)
    assert pauses(actions) == [at.PauseConsuming(), at.ResumeConsuming(None)]
    table.offer(offered(40))
    table.tell(at.Claimed(table.starts(offered(40))), at.Reported([Applied()]))
    table.after(0.02, at.Slow(0))
    assert pauses(table.after(OCCUPIED)) == [at.PauseConsuming()]
    assert pauses(table.over(DONE, seconds=LONG)) == [at.ResumeConsuming(1)]


def test_the_pause_outlasts_a_broker_that_is_away() -> None:
    table = Fed()
    occupied(table, offered(1))
    assert pauses(table.tell(at.BrokerHealth(False), at.BrokerHealth(True))) == []
    table.tell(at.BrokerHealth(False))
    actions = table.over(DONE, seconds=LONG)
    assert pauses(actions) == [at.ResumeConsuming(1)]
    [claim] = claims(actions)
    assert claim.keys is None, "it does not wait for what an absent broker would bring"


def test_who_stops_or_has_no_broker_does_not_pause() -> None:
    table = Fed(grace=timedelta(seconds=60))
    table.hungry()
    table.offer(offered(1))
    table.tell(at.Claimed(table.starts(offered(1))))
    table.after(0.02, at.Slow(0), at.Stop())
    assert pauses(table.after(1, at.Ended(0, DONE))) == []
    alone = Ahead()
    alone.running()
    alone.after(0.02, at.Slow(0))
    assert pauses(alone.after(1)) == []
