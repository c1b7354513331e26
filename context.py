"""What is registered: the illustration suite, a project like any user's."""

import settings
from synergy import (
    Context,
    daily,
    freerun,
    hourly,
    minutely,
    monthly,
    offset,
    program,
    tree,
    yearly,
)

#: Site traffic: every hour is counted from the events read so far, again each minute while it is
#: open and finally when it has closed; the coarser levels are sums of the finer.
site = tree(
    "site",
    [
        yearly("site_yearly", run="workers.site:roll_up"),
        monthly("site_monthly", run="workers.site:roll_up"),
        daily("site_daily", run="workers.site:roll_up", blocking="children"),
        hourly(
            "site_hourly",
            run="workers.site:count",
            machine="recomputing",
            source="events",
            every="every 60",
            backoff=5,
        ),
    ],
    start=settings.SITE_START,
    until=settings.SITE_UNTIL,
    lag=settings.SITE_LAG,
)

#: The same figures by client: each level waits for that of the sites.
client = tree(
    "client",
    [
        yearly("client_yearly", run="workers.client:roll_up", after="site_yearly"),
        monthly("client_monthly", run="workers.client:roll_up", after="site_monthly"),
        daily("client_daily", run="workers.client:roll_up", after="site_daily"),
    ],
    start=settings.SITE_START,
    until=settings.SITE_UNTIL,
    lag=settings.SITE_LAG,
)

#: A day against the same weekday a week ago.
alert = tree(
    "alert",
    [
        daily(
            "alert_daily",
            run="workers.alert:compare",
            after=["site_daily", offset(-7, "site_daily")],
        )
    ],
    start=settings.SITE_START,
    until=settings.SITE_UNTIL,
    lag=settings.SITE_LAG,
)

#: This machine: samples over the open minute, summed up when it has closed.
host = tree(
    "host",
    [
        daily("host_daily", run="workers.host:roll_up"),
        hourly("host_hourly", run="workers.host:roll_up"),
        minutely(
            "host_minutely",
            run="workers.host:sample",
            machine="continuous",
            every="every 10",
        ),
    ],
    lag=5,
)

read_logs = freerun("read_logs", run="workers.stream:read", at="every 10")
visitors = freerun("visitors", run="workers.visitors:write", at="every 15")

context = Context(
    site,
    client,
    alert,
    *([host] if settings.HOST else []),
    *([read_logs] if settings.LOG_FILES and not settings.SITE_UNTIL else []),
    *([visitors] if settings.GENERATED else []),
    *(program(name, slots=2) for name in settings.WORKERS),
    sources={"events": "workers.stream:keys"},
)
