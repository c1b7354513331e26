"""Settings of this installation and of the illustration suite; data only.

Each of the first five may be overridden by an environment variable ``SYNERGY_<NAME>``.  What the
demonstration was last told (which logs, from when until when) lies in ``.synergy/demo.json``.
"""

import json
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_SYNERGY = _HERE / ".synergy"
_FILE = _SYNERGY / "demo.json"

#: What `./launch.py demo` was last told; empty before its first run.
DEMO = json.loads(_FILE.read_text("utf-8")) if _FILE.exists() else {}
#: Everything that is kept of one demonstration; another one has another folder.
DATA = _SYNERGY / DEMO.get("name", "suite")

# synergy's own

#: Where the timetable is kept.  For production: "mongodb://…".
STORE = DEMO.get("store", f"sqlite:///{DATA}/synergy.db")
#: What brings the units to the workers.  For production: "amqps://…".
BROKER = DEMO.get("broker", "none")
#: Logs of the programs and of every attempt.
LOG_DIR = str(DATA / "logs")
#: Pid files of the programs.
RUN_DIR = str(DATA / "run")
#: Seconds that units get to finish when a worker is told to stop.
GRACE = 20

#: Verbs of this project's own.
COMMANDS = {"demo": "workers.demo:main", "test": "scripts.test:main"}

# the illustration suite's

#: Events, visits and figures.
TRAFFIC_DB = str(DATA / "traffic.db")
#: Access logs that are read, and read on while they grow.
LOG_FILES = DEMO.get("files", [])
#: Which segment of the path names the site, from 1.
SITE_SEGMENT = DEMO.get("segment", 1)
#: JSON object, site to client.
CLIENTS_FILE = DEMO.get("clients")
#: Holds the label of the hour that fails on purpose; `demo --heal` removes it.
FAIL_FILE = str(DATA / "fail-hour")
#: First hour of the site tree and end of its last; None: from now on, without end.
SITE_START = DEMO.get("start")
SITE_UNTIL = DEMO.get("until")
#: Seconds from the end of an hour until it is counted: the logs must have been read by then.
SITE_LAG = DEMO.get("lag", 60)
#: Whether visitors are generated, into the first of the log files.
GENERATED = DEMO.get("generated", False)
#: Names of the worker programs.
WORKERS = DEMO.get("workers", ["worker"])
#: Whether this machine is sampled.
HOST = DEMO.get("host", True)
