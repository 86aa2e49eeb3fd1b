"""Find out what answers at an address, and what a broker there has against us, in its own words.

aiormq drops the words of a broker that closes the connection instead of opening a virtual host,
and knows no other peer than a broker. A second, short handshake asks once more.
"""

import asyncio
import ssl
from typing import Final, NamedTuple

from pamqp import commands
from pamqp.base import Frame
from pamqp.exceptions import PAMQPException
from pamqp.frame import marshal, unmarshal
from pamqp.header import ProtocolHeader
from yarl import URL

_WITHIN_S: Final = 2.0
_HEADER: Final = ProtocolHeader().marshal()
_LONGEST_FRAME: Final = 131_072
_PORTS: Final = {"amqp": 5672, "amqps": 5671}
# The first byte of an AMQP 0-9-1 frame that carries a method, and the record type of a TLS alert.
_METHOD, _TLS_ALERT = b"\x01", b"\x15\x03"


class Peer(NamedTuple):
    """What answers.

    Attributes:
        is_broker: Whether it speaks AMQP 0-9-1.
        words: What it is instead, or why the broker closes the connection; empty if it does not.
    """

    is_broker: bool
    words: str


async def peer_at(url: URL, tls: ssl.SSLContext | None) -> Peer | None:
    """Ask who answers at an address.

    Returns:
        None where nothing can be told: it closes the connection without a word, or is gone.
    """
    try:
        async with asyncio.timeout(_WITHIN_S):
            port = url.port or _PORTS.get(url.scheme, 5672)
            reader, writer = await asyncio.open_connection(
                url.host, port, ssl=(tls or True) if url.scheme == "amqps" else None
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
    first = b""
    try:
        async with asyncio.timeout(_WITHIN_S):
            writer.write(_HEADER)
            while len(first) < len(_HEADER) and (more := await reader.read(len(_HEADER))):
                first += more
            if first.startswith(_METHOD):
                return Peer(is_broker=True, words=await _objection(url, first, reader, writer))
    except TimeoutError:
        if not first:
            return Peer(is_broker=False, words="it accepts the connection and says nothing")
    return Peer(is_broker=False, words=_kind(first)) if first else None


def _kind(first: bytes) -> str:
    if first == _HEADER:
        return "it sends back what it is sent: it is no broker"
    if first.startswith(b"AMQP"):
        spoken = ".".join(map(str, first[5:8]))
        return f"it speaks AMQP {spoken}, and not AMQP 0-9-1: let it speak that, or name another"
    if first.startswith(b"HTTP"):
        return "it is an HTTP server: name the broker's port for AMQP"
    if first.startswith(_TLS_ALERT):
        return "it speaks TLS: begin the address with amqps://"
    return "it does not speak AMQP 0-9-1: it is no broker"


async def _objection(
    url: URL, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> str:
    """Return why the broker does not open the virtual host; empty if it does."""
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
