"""Every flight that left New York in 2013: cut by UTC, and by New York's clock."""

from flights import FIRST, LAST

from synergy import Context, daily, hourly, monthly, program, tree, yearly


def levels(name: str) -> list:
    """The four levels of a tree."""
    return [
        yearly(f"{name}_yearly", run="flights:roll_up", arguments={"of": f"{name}_monthly"}),
        monthly(f"{name}_monthly", run="flights:roll_up", arguments={"of": f"{name}_daily"}),
        daily(f"{name}_daily", run="flights:roll_up", arguments={"of": f"{name}_hourly"}),
        hourly(f"{name}_hourly", run="flights:count"),
    ]


context = Context(
    tree("utc", levels("utc"), start=FIRST, until=LAST, lag=0),
    tree("local", levels("local"), zone="America/New_York", start=FIRST, until=LAST, lag=0),
    program("worker", slots=2),
)
