"""Databases and servers for tests of the MongoDB store."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from synergy.stores.mongodb_feed import EMPTY_HEAD
from tests import servers


@contextlib.contextmanager
def a_database(server: str) -> Iterator[str]:
    """The URL of a database of its own on that server, dropped in the end."""
    url = servers.with_database(server, servers.fresh_name())
    try:
        yield url
    finally:
        with MongoClient[Any](url) as client:
            client.drop_database(client.get_default_database().name)


def empty(url: str) -> None:
    """Forget all that is in the store, its indexes excepted: making them takes long."""
    with MongoClient[Any](url) as client:
        database = client.get_default_database()
        for name in database.list_collection_names():
            if name not in ("schema", "feed"):
                database[name].delete_many({})
        database["feed"].delete_many({"_id": {"$ne": "head"}})
        database["feed"].replace_one({"_id": "head"}, EMPTY_HEAD)


class Mongod:
    """A server of a test's own, on the loopback; may be killed and started again."""

    def __init__(self, folder: Path, *options: str, compressors: str = "disabled") -> None:
        self._folder = folder
        self._options = ("--networkMessageCompressors", compressors, *options)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        command = [
            *(servers.program("mongod"), "--dbpath", self._folder, "--port", str(self.port)),
            *("--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
            *self._options,
        ]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        raise AssertionError((self._folder / "log").read_text()[-2000:])

    def kill(self) -> None:
        """SIGKILL; twice is harmless."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def a_mongod(folder: Path, *options: str, compressors: str = "disabled") -> Iterator[Mongod]:
    """A server that runs until the end of the block."""
    server = Mongod(folder, *options, compressors=compressors)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class CuttingProxy:
    """Stands before a server and loses answers: the questions arrive, the connection is cut.

    Each command in `losing` is met once; what comes after is passed on.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        #: Names of commands whose next answer is lost, with words that the question contains.
        self.losing: list[tuple[bytes, bytes]] = []
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError, EOFError),
            client,
            socket.create_connection(("127.0.0.1", self._target)) as server,
        ):
            while True:
                question = _message(client)
                server.sendall(question)
                answer = _message(server)
                if self._is_to_lose(question):
                    self.lost += 1
                    return
                client.sendall(answer)

    def _is_to_lose(self, question: bytes) -> bool:
        for each in self.losing:
            command, words = each
            # The name of the command is the first element of the body: a string, or ours.
            if question[26 : 26 + len(command) + 1] == command + b"\0" and words in question:
                self.losing.remove(each)
                return True
        return False


def _message(peer: socket.socket) -> bytes:
    head = _exactly(peer, 4)
    return head + _exactly(peer, int.from_bytes(head, "little") - 4)


def _exactly(peer: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = peer.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
