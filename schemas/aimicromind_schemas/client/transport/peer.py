"""Find out what answers at an address, and with which reply text a broker there rejects us.

aiormq drops the reply text of a broker that closes the connection instead of opening a virtual
host. It also has no words for a peer that is no broker. Thus a second, short handshake asks again.
"""

import asyncio
import ssl
from typing import Final, NamedTuple

from aiormq.connection import DEFAULT_PORTS
from pamqp import commands
from pamqp.base import Frame
from pamqp.exceptions import PAMQPException
from pamqp.frame import marshal, unmarshal
from pamqp.header import ProtocolHeader
from yarl import URL

_WITHIN_S: Final = 2.0
_HEADER: Final = ProtocolHeader().marshal()
_LONGEST_FRAME: Final = 131_072
# First byte of a method's frame (AMQP 0-9-1, 2.3.5); type and version of a TLS alert (RFC 8446).
_METHOD, _TLS_ALERT = b"\x01", b"\x15\x03"


class Peer(NamedTuple):
    """What answers at an address.

    Attributes:
        is_broker: Whether it speaks AMQP 0-9-1.
        words: Of a broker, the reply text with which it closes the connection; empty if it opens
            the virtual host. Of anything else, what it is and the remedy.
    """

    is_broker: bool
    words: str


def port_of(url: URL) -> int:
    """Return the port of an address, by default that of its scheme."""
    return url.port or DEFAULT_PORTS.get(url.scheme, DEFAULT_PORTS["amqp"])


async def peer_at(url: URL, tls: ssl.SSLContext | None) -> Peer | None:
    """Ask what answers at an address; takes 4 s at most.

    Returns:
        None where nothing accepts the connection, or it is closed without an answer.
    """
    try:
        async with asyncio.timeout(_WITHIN_S):
            reader, writer = await asyncio.open_connection(
                url.host, port_of(url), ssl=(tls or True) if url.scheme == "amqps" else None
            )
    except (OSError, ssl.SSLError):
        return None
    try:
        return await _asked(url, reader, writer)
    except (OSError, EOFError, ValueError, PAMQPException):
        return None
    finally:
        writer.transport.abort()


async def _asked(
    url: URL, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Peer | None:
    """Send a protocol header, and judge the peer by what it sends first."""
    first = b""
    try:
        async with asyncio.timeout(_WITHIN_S):
            writer.write(_HEADER)
            while len(first) < len(_HEADER) and (more := await reader.read(len(_HEADER))):
                first += more
            if first.startswith(_METHOD):
                return Peer(is_broker=True, words=await _reply_text(url, first, reader, writer))
    except TimeoutError:
        if not first:
            words = "it accepts the connection and sends nothing: name the broker's port"
            return Peer(is_broker=False, words=words)
    return Peer(is_broker=False, words=_kind(first)) if first else None


def _kind(first: bytes) -> str:
    if first == _HEADER:
        return "it sends back what it is sent: name the broker's port"
    if first.startswith(b"AMQP"):
        spoken = ".".join(map(str, first[5:8]))
        return f"it speaks AMQP {spoken}: enable AMQP 0-9-1 there, or name another broker"
    if first.startswith(b"HTTP"):
        return "it is an HTTP server: name the broker's port for AMQP"
    if first.startswith(_TLS_ALERT):
        return "it speaks TLS: begin the address with amqps://"
    return "it does not speak AMQP 0-9-1: name the broker's port"


async def _reply_text(
    url: URL, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> str:
    """Log in; return the reply text of a broker that closes the connection, empty if none does."""
    mechanism = url.query.get("auth", "plain").upper()
    login = f"\0{url.user or ''}\0{url.password or ''}" if mechanism == "PLAIN" else ""
    start_ok = commands.Connection.StartOk({}, mechanism, login)
    frame = await _frame(reader, first)
    while not isinstance(frame, commands.Connection.OpenOk):
        match frame:
            case commands.Connection.Start():
                writer.write(marshal(start_ok, 0))
            case commands.Connection.Tune():
                tuned = commands.Connection.TuneOk(frame.channel_max, frame.frame_max, 0)
                opened = commands.Connection.Open(url.path[1:] or "/")
                writer.write(marshal(tuned, 0) + marshal(opened, 0))
            case commands.Connection.Close():
                return " ".join((frame.reply_text or "").split())
            case _:
                return ""
        frame = await _frame(reader)
    return ""


async def _frame(reader: asyncio.StreamReader, begun: bytes = b"") -> Frame | None:
    head = begun + await reader.readexactly(max(0, 7 - len(begun)))
    size = min(int.from_bytes(head[3:7]), _LONGEST_FRAME) + 8
    frame = unmarshal(head + await reader.readexactly(size - len(head)))[2]
    return frame if isinstance(frame, Frame) else None
