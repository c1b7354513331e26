"""``python -m tests.chaos FAULT … [--rounds N] [--seed N] …``: one line of JSON for each fault.

The exit code is 1 when anything was lost, applied twice, or otherwise not as it should be.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.faults import FAULTS, Options, play
from tests.chaos.rig import Servers


def main() -> int:
    """Play the faults that are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("faults", nargs="+", choices=[*FAULTS, "all"], metavar="FAULT")
    parser.add_argument("--rounds", type=int, default=20, help="how often each is injected; 20")
    parser.add_argument("--seed", type=int, help="of all that is drawn; another each time")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a long outage; 60")
    parser.add_argument("--alone", action="store_true", help="no supervisor keeps the programs")
    parser.add_argument("--standby", action="store_true", help="a second box has a scheduler too")
    parser.add_argument(
        "--services", type=Path, help="folder of the servers, which stay; else they go afterwards"
    )
    parser.add_argument("--keep", type=Path, help="folder for copies of the projects, with logs")
    args = parser.parse_args()
    names = [*FAULTS] if "all" in args.faults else args.faults
    seed = random.SystemRandom().randrange(1 << 30) if args.seed is None else args.seed
    options = Options(
        seed=seed,
        rounds=args.rounds,
        supervised=not args.alone,
        standby=args.standby,
        seconds=args.seconds,
        keep=args.keep,
    )
    good = True
    with tempfile.TemporaryDirectory(prefix="synergy-chaos-") as folder:
        servers = Servers(args.services or Path(folder) / "services")
        try:
            for name in names:
                began = time.monotonic()
                told = play(name, servers, options)
                told["took"] = round(time.monotonic() - began, 1)
                print(json.dumps(told), flush=True)
                good = good and not told["wrong"]
        finally:
            if args.services is None:
                servers.down()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
