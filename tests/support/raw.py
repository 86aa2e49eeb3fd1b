"""Messages as other clients write them: what a Python library would never write, too.

aio_pika gives each message a message_id, pika does not. Properties go out as bytes, so that
whatever a broker's own parser takes can be published.
"""

import asyncio
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pika

MESSAGE_ID, TIMESTAMP, HEADERS, DELIVERY_MODE = 1 << 7, 1 << 6, 1 << 13, 1 << 12


class RawProperties(pika.BasicProperties):  # type: ignore[misc] # pika has no types
    """Properties as bytes: the flags, and what follows them."""

    def __init__(self, flags: int, data: bytes) -> None:
        super().__init__()
        self._bytes = [struct.pack(">H", flags), data]

    def encode(self) -> list[bytes]:
        return [*self._bytes]  # pika adds to it


@dataclass(frozen=True)
class Raw:
    """One message."""

    body: bytes
    properties: pika.BasicProperties
    key: str | bytes
    exchange: str = ""


def table(fields: bytes) -> bytes:
    return struct.pack(">I", len(fields)) + fields


def named(name: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + value


def nested(depth: int, kind: bytes = b"F") -> bytes:
    """Write a value that holds tables or arrays in each other, so many."""
    value = b"t\1"
    for _ in range(depth):
        value = kind + table(named(b"", value) if kind == b"F" else value)
    return value


def headers(*fields: bytes) -> RawProperties:
    return RawProperties(HEADERS | DELIVERY_MODE, table(b"".join(fields)) + b"\2")


async def put_raw(port: int, queue: str, body: bytes, **properties: Any) -> None:  # noqa: ANN401 - as pika takes them
    """Put a message on a queue with just these properties, and see to it that it is there."""
    message = Raw(body, pika.BasicProperties(delivery_mode=2, **properties), queue)
    await asyncio.to_thread(publish, port, [message])


def publish(port: int, messages: Iterable[Raw]) -> None:
    """Publish messages, each confirmed."""
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for message in messages:
            channel.basic_publish(
                message.exchange, message.key, message.body, message.properties, mandatory=True
            )
