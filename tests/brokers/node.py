"""A RabbitMQ node of the tests' own, to be killed, starved and told to ask for certificates."""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests import servers

HOST = "127.0.0.1"

_CONF = """\
listeners.tcp{plain}
listeners.ssl.1 = {host}:{amqps}
ssl_options.cacertfile = {certificates}/ca.pem
ssl_options.certfile = {certificates}/server.pem
ssl_options.keyfile = {certificates}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
consumer_timeout = {consumer_timeout}
disk_free_limit.absolute = 1MB
"""
#: Consumers are looked at for their timeouts each second instead of each minute.
_ADVANCED = "[{rabbit, [{channel_tick_interval, 1000}]}]."

#: Milliseconds that a consumer may hold a message.
CONSUMER_TIMEOUT = 3_000
#: Seconds for a node to start.
_STARTS_WITHIN = 90.0


class Node:
    """One node, with an epmd of its own so that it meets no other; user and password are guest."""

    def __init__(self, folder: Path, certificates: Path, *, plain: bool = True) -> None:
        """Without `plain` it speaks nothing but TLS."""
        self._folder = folder
        self._plain = plain
        self._server = servers.program("rabbitmq-server")
        self.port, self.tls_port, self._distribution, self._epmd_port = _free_ports(4)
        (folder / "rabbitmq.conf").write_text(
            _CONF.format(
                host=HOST,
                plain=f".1 = {HOST}:{self.port}" if plain else " = none",
                amqps=self.tls_port,
                certificates=certificates,
                consumer_timeout=CONSUMER_TIMEOUT,
            )
        )
        (folder / "advanced.config").write_text(_ADVANCED)
        cookie = folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        self._epmd: subprocess.Popen[bytes] | None = None
        self._node: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._epmd = self._spawn(["epmd", "-address", HOST, "-port", str(self._epmd_port)])
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()

    def start(self) -> None:
        """Start it and wait until it greets."""
        self._node = self._spawn([str(self._server)])
        deadline = time.monotonic() + _STARTS_WITHIN
        while not self._greets():
            assert self._node.poll() is None, (self._folder / "out").read_text()
            assert time.monotonic() < deadline, (self._folder / "out").read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """SIGKILL."""
        if self._node is not None:
            self._node.kill()
            self._node.wait()
            self._node = None

    def control(self, *words: str) -> str:
        """What ``rabbitmqctl`` says."""
        program = self._server.with_name("rabbitmqctl")
        done = subprocess.run(
            [program, "-q", *words],
            env=self._environment(),
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    def _spawn(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with open(self._folder / "out", "ab") as out:
            return subprocess.Popen(
                command, env=self._environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def _greets(self) -> bool:
        if not self._plain:
            return self._listens()
        try:
            with socket.create_connection((HOST, self.port), 5) as connection:
                connection.settimeout(5)
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(connection.recv(1))
        except OSError:
            return False

    def _listens(self) -> bool:
        try:
            socket.create_connection((HOST, self.tls_port), 5).close()
        except OSError:
            return False
        return True

    def _environment(self) -> dict[str, str]:
        folder = self._folder
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RABBITMQ_")}
        return {
            **inherited,
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"test-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback} +S 2:2",
            "RABBITMQ_CTL_ERL_ARGS": f"{loopback} -start_epmd false",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            # Then its script becomes the node, instead of standing before it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
