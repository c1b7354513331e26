"""What people are told of boxes: whether they are supervised, and who could work what is bound."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from synergy.app import SCHEDULER
from synergy.cli.output import Styled, ago, duration
from synergy.core.catalog import Catalog
from synergy.core.model import BoxRecord, Lease
from synergy.owners import owner_of
from synergy.presence import bound_in_vain, is_silent


def standing_of(record: BoxRecord, now: datetime) -> Styled:
    """Whether the box has a supervisor, and whether that was heard of lately."""
    if record.supervisor is None:
        return Styled(f"· no supervisor, seen {ago(record.seen_at, now)}", "dim")
    if is_silent(record, now):
        return Styled(f"✕ its supervisor is silent, last heard {ago(record.seen_at, now)}", "red")
    took = duration((now - record.since).total_seconds()) if record.since is not None else "?"
    return Styled(f"▶ supervised for {took}", "cyan")


def standing_by(boxes: Sequence[BoxRecord], lease: Lease | None, now: datetime) -> dict[str, int]:
    """The schedulers of supervised boxes that do not lead: box and process id."""
    leader = owner_of(lease.owner) if lease is not None and lease.until >= now else None
    leads = (leader.box, leader.process.pid) if leader is not None else None
    return {
        record.box: program.pid
        for record in boxes
        if record.supervisor is not None and not is_silent(record, now)
        for program in record.programs
        if program.name == SCHEDULER and program.pid and (record.box, program.pid) != leads
    }


def all_bound_in_vain(
    catalog: Catalog, boxes: Sequence[BoxRecord], now: datetime
) -> Mapping[str, str]:
    """The same of every process and freerun that nobody can work."""
    names = (*catalog.processes, *catalog.freeruns)
    told = {name: bound_in_vain(catalog.boxes_of(name), boxes, now) for name in names}
    return {name: text for name, text in told.items() if text}
