"""Who listens at a port, and what a process has cost."""

import os
import socket
import subprocess
import sys
import time

from synergy.programs import identity_of, listener_on, processor_seconds


def test_who_listens_at_a_port_is_found_as_long_as_it_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert listener_on(port) == identity_of(os.getpid())
    assert listener_on(port) is None


def test_processor_time_grows_with_what_is_done() -> None:
    me = identity_of(os.getpid())
    assert me is not None
    before = processor_seconds(me)
    used = time.process_time()
    while time.process_time() < used + 0.05:
        pass
    after = processor_seconds(me)
    assert before is not None
    assert after is not None
    assert after >= before + 0.03, "the system counts in hundredths"


def test_a_process_that_is_gone_costs_nothing_that_could_be_told() -> None:
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identity_of(gone.pid)
    assert identity is not None
    gone.communicate(b"\n")
    assert processor_seconds(identity) is None
