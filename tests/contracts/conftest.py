"""Says in the end which implementations have kept the contracts, and which were not at hand."""

from collections import defaultdict

import pytest

from synergy.testing.broker_contract import BrokerContract
from synergy.testing.contracts import StoreContract

#: Of each case that belongs to a contract: the implementation.
IMPLEMENTATION = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[IMPLEMENTATION] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        kept = item.cls if isinstance(item, pytest.Function) else None
        for contract in (StoreContract, BrokerContract):
            if kept is not None and issubclass(kept, contract):
                what = contract.__name__.removesuffix("Contract").lower()
                name = f"{what:6}  {kept.__name__.removeprefix('Test')}"
                config.stash[IMPLEMENTATION][item.nodeid] = name


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """A line for each: how many cases passed, failed, were left out."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    implementation = config.stash[IMPLEMENTATION]
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            if name := implementation.get(report.nodeid):
                counts[name][outcome] += 1
    if counts:
        terminalreporter.section("contracts")
    for name, found in counts.items():
        told = ", ".join(f"{number} {outcome}" for outcome, number in found.items())
        terminalreporter.write_line(f"{name:28}{told}")
