"""huey at the same work as `synergy.bench.units`; run by an interpreter that has it.

``huey_tasks.py FOLDER COUNT`` prints one JSON object; with a third argument it is the worker.
"""

import json
import os
import subprocess
import sys
import time

FOLDER, COUNT = sys.argv[1], int(sys.argv[2])

from huey import SqliteHuey  # noqa: E402

huey = SqliteHuey(filename=os.path.join(FOLDER, "huey.db"), fsync=True, results=False, timeout=60)
DONE = os.path.join(FOLDER, "done")


@huey.task()  # type: ignore[untyped-decorator]
def nothing(number: int) -> None:
    """Nothing; the last one, and the one that shows that the worker runs, leave the time."""
    if number in (COUNT, 0):
        with open(f"{DONE}{number}.new", "w") as file:
            file.write(repr(time.time()))
        os.rename(f"{DONE}{number}.new", f"{DONE}{number}")


def when_done(number: int) -> float:
    path = f"{DONE}{number}"
    while not os.path.exists(path):
        time.sleep(0.01)
    with open(path) as file:
        return float(file.read())


def main() -> None:
    if len(sys.argv) > 3:
        consumer = huey.create_consumer(workers=1, worker_type="thread", initial_delay=0.01)
        consumer.run()
        return
    worker = subprocess.Popen([sys.executable, "-I", __file__, FOLDER, str(COUNT), "worker"])
    try:
        nothing(0)
        when_done(0)
        first = time.time()
        for number in range(1, COUNT + 1):
            nothing(number)
        seconds = when_done(COUNT) - first
    finally:
        worker.terminate()
        worker.wait()
    print(json.dumps({"tasks": COUNT, "seconds": seconds, "per_second": round(COUNT / seconds)}))


if __name__ == "__main__":
    main()
