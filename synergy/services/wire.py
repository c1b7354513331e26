"""The few words that must be exchanged with a server to know that it is ready, without a driver.

MongoDB: one command, one answer (OP_MSG with its BSON).  RabbitMQ: its greeting.  A connection for
each question; only loopback is spoken to.
"""

import itertools
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

#: Seconds that a server on this machine has for one answer.
PATIENCE = 5.0
#: MongoDB's operation code of commands and answers.
OP_MSG = 2013
#: AMQP 0-9-1: what a client says first.
AMQP_GREETING = b"AMQP\x00\x00\x09\x01"
#: The beginning of `connection.start` on channel 0, before and after its four bytes of length.
AMQP_START = (b"\x01\x00\x00", b"\x00\x0a\x00\x0a")

_requests = itertools.count(1)


def greets(port: int) -> bool:
    """Whether an AMQP server answers at this port of the loopback.

    Raises:
        OSError: nobody listens, or it does not answer in time.
    """
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(AMQP_GREETING)
        answer = _exactly(connection, 11)
    return answer.startswith(AMQP_START[0]) and answer.endswith(AMQP_START[1])


def command(port: int, document: Mapping[str, Any]) -> dict[str, Any]:
    """What the MongoDB server at this port of the loopback answers; `ok` is 0.0 when it refuses.

    Raises:
        OSError: nobody listens, or it does not answer in time.
    """
    body = b"\x00" * 4 + b"\x00" + encoded({**document, "$db": "admin"})
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        header = struct.pack("<iiii", 16 + len(body), next(_requests), 0, OP_MSG)
        connection.sendall(header + body)
        (length,) = struct.unpack("<i", _exactly(connection, 4))
        answer = _exactly(connection, length - 4)
    # Twelve bytes of header, four of flags, one for the kind of section.
    return decoded(answer[17:])


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document as BSON: text, truth, whole and other numbers, documents, lists."""
    elements = b"".join(_element(name, value) for name, value in document.items())
    return struct.pack("<i", len(elements) + 5) + elements + b"\x00"


def decoded(data: bytes) -> dict[str, Any]:
    """A document from BSON; types that no answer of ours needs are left as bytes.

    Raises:
        ValueError: a type that is not known here.
    """
    return dict(_elements(data))


def _element(name: str, value: Any) -> bytes:
    match value:
        case bool():
            kind, data = 0x08, bytes([value])
        case int():
            kind, data = 0x10, struct.pack("<i", value)
        case float():
            kind, data = 0x01, struct.pack("<d", value)
        case str():
            text = value.encode() + b"\x00"
            kind, data = 0x02, struct.pack("<i", len(text)) + text
        case Mapping():
            kind, data = 0x03, encoded(value)
        case Sequence():
            kind, data = 0x04, encoded({str(place): item for place, item in enumerate(value)})
        case _:
            raise TypeError(f"{name}: no BSON for {value!r}")
    return bytes([kind]) + name.encode() + b"\x00" + data


#: BSON types of a fixed size: how they are read; None leaves the bytes.
_FIXED: Mapping[int, tuple[int, str | None]] = {
    0x01: (8, "<d"),
    0x07: (12, None),  # an object's id
    0x08: (1, "<?"),
    0x09: (8, "<q"),  # milliseconds since 1970
    0x0A: (0, None),
    0x10: (4, "<i"),
    0x11: (8, "<Q"),  # a place in the oplog
    0x12: (8, "<q"),
}


def _elements(data: bytes) -> Iterator[tuple[str, Any]]:
    place = 4
    while kind := data[place]:
        end = data.index(b"\x00", place + 1)
        name = data[place + 1 : end].decode()
        place = end + 1
        if kind in _FIXED:
            size, form = _FIXED[kind]
            raw = data[place : place + size]
            yield name, struct.unpack(form, raw)[0] if form else raw
        else:
            (size,) = struct.unpack_from("<i", data, place)
            match kind:
                case 0x02:
                    yield name, data[place + 4 : place + 3 + size].decode()
                    size += 4
                case 0x03:
                    yield name, decoded(data[place : place + size])
                case 0x04:
                    yield name, [*decoded(data[place : place + size]).values()]
                case 0x05:
                    yield name, data[place + 5 : place + 5 + size]
                    size += 5
                case _:
                    raise ValueError(f"{name}: BSON type {kind:#x} is not known here")
        place += size


def _exactly(connection: socket.socket, size: int) -> bytes:
    """The next `size` bytes. Raises ConnectionError when it ends before."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    return data
