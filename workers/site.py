"""Traffic per site: counted by the hour, then rolled up to days, months and years.

Hourly figures come from the events and visits of the hour; coarser ones are sums of the next finer
level, never counted anew. The rows of an interval are replaced in one transaction, and a unit
that was overtaken by a later generation or attempt writes nothing.
"""

from db import figures
from db.figures import Figures, Of
from db.traffic import Traffic
from synergy import Result, noop, processed
from workers.configuration import Configuration, load
from workers.stream import read_files
from workers.unit import Unit, finer, granularity, results


class FailedOnPurpose(Exception):
    """The demonstration wants this hour to fail."""


def count(unit: Unit, configuration: Configuration | None = None) -> Result:
    """Count the requests, bytes and visits of one hour, site by site."""
    conf = configuration or load()
    label = unit.interval.label
    if conf.fail_hour() == label:
        raise FailedOnPurpose(
            f"the hour {label} fails on purpose, to show what happens then; "
            "`./launch.py demo --heal` lets it pass"
        )
    if not unit.provisional and conf.log_files:
        # However far the reader is behind, a closed hour is counted from all that the logs have.
        read_files(conf.traffic_db, conf.log_files, conf.site_segment)
    with Traffic(conf.traffic_db) as traffic, results(traffic, unit) as db:
        sites = figures.count(db, unit.interval.start, unit.interval.end)
        figures.replace(db, Of.SITE, granularity(unit), label, unit.interval.start, sites)
    return _result(sites, "no requests in this hour")


def roll_up(unit: Unit, configuration: Configuration | None = None) -> Result:
    """Sum the figures of the finer intervals that lie in this one.

    Arguments: `from`, the granularity to sum (the next finer one by default).
    """
    conf = configuration or load()
    interval, child = unit.interval, finer(unit)
    with Traffic(conf.traffic_db) as traffic, results(traffic, unit) as db:
        sites = figures.within(db, Of.SITE, child, interval.start, interval.end)
        figures.replace(db, Of.SITE, granularity(unit), interval.label, interval.start, sites)
    return _result(sites, f"no {child} figures in this interval")


def _result(sites: dict[str, Figures], reason: str) -> Result:
    if not sites:
        return noop(reason)
    return processed(count=sum(site.requests for site in sites.values()))
