"""Says in the end which implementations have kept the contracts, and which were not at hand."""

from collections import defaultdict

import pytest

from synergy.testing.broker_contract import BrokerContract
from synergy.testing.contracts import StoreContract

#: Under this name each case of a contract carries with it which implementation it was for; it goes
#: with the report, also from another process that shares the work.
IMPLEMENTATION = "implementation"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        kept = item.cls if isinstance(item, pytest.Function) else None
        for contract in (StoreContract, BrokerContract):
            if kept is not None and issubclass(kept, contract):
                what = contract.__name__.removesuffix("Contract").lower()
                name = f"{what:6}  {kept.__name__.removeprefix('Test')}"
                item.user_properties.append((IMPLEMENTATION, name))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each: how many cases passed, failed, were left out."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if name := dict(report.user_properties).get(IMPLEMENTATION):
                counts[name][outcome] += 1
    if counts:
        terminalreporter.section("contracts")
    for name, found in sorted(counts.items()):
        told = ", ".join(f"{number} {outcome}" for outcome, number in found.items())
        terminalreporter.write_line(f"{name:28}{told}")
