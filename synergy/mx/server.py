"""The console as a program: waitress before the application, with limits to all that comes in.

A browser may be slow, silent or hostile: connections are counted, a silent one is closed, a thread
is only taken by a request that has arrived whole, and nothing of it may be larger than makes sense.
TLS is done on the same loop, by the standard library; its handshake is one of the things that may
not take long.
"""

import contextlib
import errno
import resource
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from waitress import create_server
from waitress.channel import HTTPChannel

from synergy.errors import BadInput, Conflict
from synergy.logs import logger
from synergy.mx.addresses import Address, Transport
from synergy.mx.console import Console
from synergy.mx.files import replace
from synergy.mx.gate import MOST_BYTES

#: Threads that answer; each page takes a few hundredths of a second of one.
THREADS = 8
#: Connections at once, and seconds after which one is closed that is silent, or whose request has
#: not arrived.
CONNECTIONS, SILENCE = 1500, 20
#: Seconds between looks for those.
CLEANING = 5
#: Bytes of the lines before a body.
HEADER_BYTES = 16_384
#: Seconds that the loop sleeps at most, and that a stopping console waits for its threads.
LOOK, FAREWELL = 0.5, 0.4
#: Files that the rest of the program may have open.
OTHER_FILES = 200


class _Ended(BaseException):
    """Told to stop."""


class Server:
    """Listens, serves, stops.  `address` is where, also when any port was asked for."""

    def __init__(self, console: Console) -> None:
        """Begin to listen; nothing is answered before `run`.

        Raises:
            Conflict: somebody else listens there.
            BadInput: there is no such address here, or the certificate cannot be used.
        """
        console.check()
        self._console = console
        setting = console.setting
        listening = _listen(setting.address, _context(setting.transport))
        host, port = listening.getsockname()[:2]
        self.address = Address(host, port)
        self.url = f"{'https' if setting.transport.certificate else 'http'}://{self.address}/"
        self._server = create_server(
            console,
            sockets=[listening],
            threads=THREADS,
            connection_limit=_connections(),
            channel_timeout=SILENCE,
            cleanup_interval=CLEANING,
            max_request_header_size=HEADER_BYTES,
            max_request_body_size=MOST_BYTES + 1,
            asyncore_use_poll=True,
            asyncore_loop_timeout=LOOK,
            ident=None,
            expose_tracebacks=False,
            log_socket_errors=False,
            **_behind(setting.transport),
        )
        self._server.channel_class = _Channel

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; within a second of it, this returns."""
        looking = threading.Thread(target=self._console.living.keep_looking, daemon=True)
        looking.start()
        with contextlib.suppress(_Ended), _ended_by_signals():
            self._serve()
        self.close()

    def close(self) -> None:
        """Listen no more, and let go of what is at work."""
        self._server.task_dispatcher.shutdown(timeout=FAREWELL)
        self._server.close()
        self._console.close()

    def _serve(self) -> None:
        self._server.asyncore.loop(timeout=LOOK, map=self._server._map, use_poll=True)


def serve(console: Console, say: Callable[[str], None]) -> int:
    """Be the console until told to stop; `say` is told its address."""
    server = Server(console)
    # Read by `query` and by whoever makes a link.
    place = console.setting.folder / "address"
    replace(place, server.url)
    log = logger("console")
    log.info("listening on %s", server.url, extra={"action": "listening"})
    say(server.url)
    try:
        server.run()
    finally:
        place.unlink(missing_ok=True)
    log.info("stopped", extra={"action": "stopped"})
    return 0


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise _Ended

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(address: Address, context: ssl.SSLContext | None) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = (
            socket.socket(family, kind, protocol)
            if context is None
            else _TlsListener(context, family, kind, protocol)
        )
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"{address} is taken by another program; name another in CONSOLE, "
                "such as 127.0.0.1:0 for any port that is free"
            ) from error
        raise BadInput(
            f"the console cannot listen on {address}: {error.strerror or error}; "
            "CONSOLE names an address of this machine, such as 127.0.0.1:8080"
        ) from error
    return listening


def _behind(transport: Transport) -> dict[str, Any]:
    if not transport.proxy:
        return {"clear_untrusted_proxy_headers": True}
    return {
        "trusted_proxy": transport.proxy,
        "trusted_proxy_count": 1,
        "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto"},
        "clear_untrusted_proxy_headers": True,
    }


def _connections() -> int:
    """As many as there may be files for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OTHER_FILES
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(20, min(CONNECTIONS, soft - OTHER_FILES))


class _Channel(HTTPChannel):  # type: ignore[misc]
    """A connection whose requests arrive in time: who sends a byte now and then is as silent as who
    sends none.  With TLS it may have nothing to say yet although something has arrived."""

    def handle_read(self) -> None:
        """Take what has arrived."""
        try:
            data = self.recv(self.adj.recv_bytes)
        except BlockingIOError:
            return
        except OSError:
            self.handle_close()
            return
        if not data:
            self.connected = False
            return
        if self.request is None:  # one begins; from now on it is awaited
            self.last_activity = time.time()
        self.received(data)


# TLS


def _context(transport: Transport) -> ssl.SSLContext | None:
    if transport.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(transport.certificate, transport.key)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(
            f"the certificate {transport.certificate} cannot be used: {error}; CONSOLE_CERTIFICATE "
            "names a PEM file with the chain, CONSOLE_KEY one with its key"
        ) from error
    return context


class _TlsListener(socket.socket):
    """Accepts connections that speak TLS; their handshake follows when something arrives."""

    def __init__(self, context: ssl.SSLContext, *words: Any) -> None:
        super().__init__(*words)
        self._context = context

    def accept(self) -> "tuple[Any, Any]":
        """The next connection."""
        connection, address = super().accept()
        connection.setblocking(False)
        return _TlsSocket(
            self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        ), address


class _TlsSocket:
    """A connection as waitress uses it: what TLS wants to wait for is "would block".

    The loop reads while a thread of the handlers writes, which one TLS connection does not bear.
    """

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection
        self._one = threading.Lock()

    def recv(self, size: int) -> bytes:
        """All that has arrived and was decrypted with the first bytes."""
        with self._one, _would_block():
            data = self._connection.recv(size)
            while self._connection.pending():
                data += self._connection.recv(self._connection.pending())
            return data

    def send(self, data: bytes) -> int:
        """Send some of it."""
        with self._one, _would_block():
            return self._connection.send(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@contextlib.contextmanager
def _would_block() -> Iterator[None]:
    try:
        yield
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
        raise BlockingIOError(errno.EWOULDBLOCK, "TLS waits") from error
    except ssl.SSLError as error:  # no TLS at all, or a client that does not trust us
        raise ConnectionResetError(errno.ECONNRESET, str(error)) from error
