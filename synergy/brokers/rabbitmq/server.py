"""The first talk with the server, and in which sentences what goes wrong there is told.

Only programs that start have this talk (`Broker.declare`), and for them what goes wrong is an
error.  A connection that is lost later is opened again and again by `link`, which tells why it
cannot be in the same words.
"""

import re
import ssl
from collections.abc import Sequence
from typing import Any, Final

import pika
from pika.adapters.utils.connection_workflow import (
    AMQPConnectorException,
    AMQPConnectorStackTimeout,
)
from pika.exceptions import (
    AMQPError,
    AMQPHeartbeatTimeout,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from synergy.brokers.rabbitmq.address import Address
from synergy.brokers.rabbitmq.topology import Declaration
from synergy.errors import Conflict, SynergyError, Unreachable

#: The oldest version of the server that ours is proven with; it has quorum queues, as all since.
OLDEST: Final = (3, 10)

#: Seconds for a connection to come about: TCP, then TLS and login as well.
_TCP_WITHIN = 5.0
_LOGIN_WITHIN = 10.0
#: Milliseconds after which TCP gives up what was sent and not acknowledged (F10).
_TCP_SILENCE = 20_000

_ACCESS_REFUSED: Final = 403
_NOT_FOUND: Final = 404
_OTHER_ARGUMENTS: Final = 406
_NOT_ALLOWED: Final = 530

#: What is raised of a server that cannot be used.  pika has two families of its own for that: the
#: second is of connections that have not come about, and some of those it lets through unwrapped.
FAULTS: Final = (AMQPError, AMQPConnectorException, OSError)

#: Reasons of OpenSSL in words, where they mean something to somebody who has mistaken the port.
_OF_OPENSSL: Final = {
    "WRONG_VERSION_NUMBER": "what answers there does not speak it",
    "UNEXPECTED_EOF_WHILE_READING": "it ends the talk",
}

#: These mean that another thing of that name is there, or that we may not make any: both are as
#: good as having made it, or will be said when it is used.
TAKEN_AS_MADE: Final = (_ACCESS_REFUSED, _OTHER_ARGUMENTS)


def parameters_of(address: Address) -> pika.ConnectionParameters:
    """How pika is to connect."""
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.vhost,
        credentials=pika.PlainCredentials(address.user, address.password),
        heartbeat=address.heartbeat,
        socket_timeout=_TCP_WITHIN,
        stack_timeout=_LOGIN_WITHIN,
        blocked_connection_timeout=None,  # being blocked is no reason to connect anew
        ssl_options=pika.SSLOptions(address.tls, address.host) if address.tls else None,
        tcp_options={"TCP_USER_TIMEOUT": _TCP_SILENCE},
        client_properties={"connection_name": f"synergy {address.prefix}"},
    )


def declare(address: Address, declarations: Sequence[Declaration]) -> None:
    """Connect, and make what is not there.

    Raises:
        Unreachable: the server does not answer, or refuses to let us in.
        Conflict: it is too old, or has something else under one of the names.
    """
    try:
        connection = pika.BlockingConnection(parameters_of(address))
    except FAULTS as error:
        raise complaint(address, error) from error
    try:
        check_version(address, connection._impl.server_properties)
        for declaration in declarations:
            _declare(address, connection, declaration)
    except FAULTS as error:
        raise complaint(address, error) from error
    finally:
        if connection.is_open:
            connection.close()


def _declare(
    address: Address, connection: pika.BlockingConnection, declaration: Declaration
) -> None:
    channel = connection.channel()
    try:
        getattr(channel, declaration.call)(**declaration.arguments)
    except ChannelClosedByBroker as error:
        if error.reply_code == _OTHER_ARGUMENTS:
            raise Conflict(
                f"{address.shown} has a {declaration.what} that is not as we make it "
                f"({_plain(error.reply_text)}); delete it there, or say so in the URL "
                "(?queues=classic, another ?prefix=)"
            ) from error
        if error.reply_code != _ACCESS_REFUSED:
            raise
        # May not be made by us, but somebody who may can have made it.
        name = declaration.arguments.get("queue") or declaration.arguments["exchange"]
        look = "queue_declare" if "queue" in declaration.arguments else "exchange_declare"
        getattr(connection.channel(), look)(name, passive=True)
    else:
        channel.close()


def check_version(address: Address, properties: Any) -> None:
    """Refuse a server that is too old; one that does not tell its version is let pass."""
    version = str((properties or {}).get("version", ""))
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is not None and (int(found[1]), int(found[2])) < OLDEST:
        raise Conflict(
            f"{address.shown} is RabbitMQ {version}, which is too old; "
            f"upgrade it to {OLDEST[0]}.{OLDEST[1]} or newer"
        )


def complaint(address: Address, error: BaseException) -> SynergyError:
    """What went wrong with the server, and the cure, in one sentence."""
    cause = _cause(error)
    match cause:
        case ssl.SSLCertVerificationError():
            why = f"its certificate is refused: {_plain(cause.verify_message or str(cause))}"
            cure = "name who signed it with ?cafile=, and the host as in the certificate"
        case ssl.SSLError():
            why = f"TLS fails: {_OF_OPENSSL.get(cause.reason, cause.reason or cause)}"
            cure = "check that the port speaks TLS, and ?certfile= and ?keyfile="
        case ProbableAuthenticationError():
            why = f"it refuses the user {address.user!r} or the password"
            cure = "check both in the URL"
        case ProbableAccessDeniedError():
            why = f"it refuses the vhost {address.vhost!r} to the user {address.user!r}"
            cure = "check the name in the URL, or add the vhost and the user's permissions"
        case ConnectionClosedByBroker() if cause.reply_code in (_ACCESS_REFUSED, _NOT_ALLOWED):
            why = f"it refuses us: {_plain(cause.reply_text)}"
            cure = "check user, password and vhost in the URL"
        case ConnectionClosedByBroker():
            why = f"it has closed the connection: {_plain(cause.reply_text)}"
            cure = "look at its log; it is connected to again"
        case ChannelClosedByBroker() if cause.reply_code == _ACCESS_REFUSED:
            why = f"the user {address.user!r} lacks a permission: {_plain(cause.reply_text)}"
            cure = "grant configure, write and read on the names with our prefix"
        case ChannelClosedByBroker() if cause.reply_code == _NOT_FOUND:
            why = f"something is missing there: {_plain(cause.reply_text)}"
            cure = "let a user declare it who may"
        case ChannelClosedByBroker():
            why = f"it has closed the channel: {_plain(cause.reply_text)}"
            cure = "look at its log; another one is opened"
        case IncompatibleProtocolError() if address.tls is not None:
            # With TLS 1.3 a client learns only afterwards that its certificate was missed.
            why = "it ends the talk as soon as TLS stands"
            cure = (
                "give it a certificate of an authority that it knows (?certfile=, ?keyfile=), "
                "and check the port"
            )
        case IncompatibleProtocolError():
            why = "what answers there does not speak AMQP 0-9-1"
            cure = "check host and port, and amqp:// or amqps://"
        case AMQPHeartbeatTimeout():
            why = "it has given no sign for too long"
            cure = "check the network between here and there"
        case StreamLostError():
            why = _plain(str(cause))
            cure = "look at the server and the network; it is connected to again"
        case AMQPConnectorStackTimeout():
            why = "it takes connections and does not answer"
            cure = "look at the server, or check host and port in the URL"
        case OSError():
            why = cause.strerror or str(cause) or "it does not answer"
            cure = "start it, or check host and port in the URL"
        case AMQPError() | AMQPConnectorException():
            why = _plain(str(cause)) or "it does not answer"
            cure = "start it, or check host and port in the URL"
        case _:
            why = _plain(f"something unexpected has happened: {cause!r}")
            cure = "tell who maintains this"
    return Unreachable(f"the broker {address.shown} cannot be used: {why}; {cure}")


def _cause(error: BaseException) -> BaseException:
    """The innermost of the errors that pika has wrapped into one another, the latest try first."""
    within = (*reversed(getattr(error, "exceptions", ())), getattr(error, "exception", None))
    for each in (*within, *error.args):
        if isinstance(each, BaseException):
            return _cause(each)
    return error


def _plain(text: str) -> str:
    """In one line, not too long, to go on after."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 200 else line[:199] + "…"
