"""Luigi on the shape that `core` measures; run by its own interpreter, which has no synergy.

``python luigi_tree.py FIRST_DAY DAYS`` prints how many tasks it did in how many seconds.
"""

import json
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta

import luigi

_done: set[str] = set()


class Interval(luigi.Task):  # type: ignore[misc]
    """One interval by its label: a year (4 signs), month (7), day (10) or hour (13)."""

    label = luigi.Parameter()
    first = luigi.Parameter(significant=False)
    days = luigi.IntParameter(significant=False)

    def requires(self) -> list["Interval"]:
        """The intervals of the next finer level in it."""
        return [Interval(label, self.first, self.days) for label in sorted(set(self._finer()))]

    def _finer(self) -> Iterator[str]:
        wide = len(self.label)
        if wide == 10:
            yield from (f"{self.label}T{hour:02}" for hour in range(24))
        elif wide < 10:
            first = date.fromisoformat(self.first)
            for day in range(self.days):
                label = (first + timedelta(days=day)).isoformat()
                if label.startswith(self.label):
                    yield label[: wide + 3]

    def complete(self) -> bool:
        """Whether it was done in this run."""
        return self.label in _done

    def run(self) -> None:
        """Nothing but being done."""
        _done.add(self.label)


def main(first: str, days: int) -> None:
    """Do them all, and print it."""
    began = time.perf_counter()
    years = sorted({str((date.fromisoformat(first) + timedelta(days=n)).year) for n in range(days)})
    built = luigi.build(
        [Interval(label, first, days) for label in years],
        local_scheduler=True,
        workers=1,
        log_level="CRITICAL",
    )
    taken = time.perf_counter() - began
    assert built, "Luigi left something undone"
    json.dump({"tasks": len(_done), "seconds": taken}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
