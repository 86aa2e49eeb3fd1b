"""Make an odd message from a number: any headers, properties and body that a broker accepts."""

import json
import struct
from dataclasses import dataclass
from random import Random
from typing import Any, Final
from uuid import UUID

from aimicromind_schemas import Names
from tests.support.amqp_bytes import FLAGS, HEADERS_FLAG, MODE_FLAG, TIME_FLAG, WIDTHS
from tests.support.raw import Raw, RawProperties, named, nested, table

CHAT: Final = "odd"
"""Chat of the odd events."""

_LARGE_BYTES = 17 * 1024 * 1024
_EXPIRATION, _REPLY_TO, _USER_ID = 1 << 8, 1 << 9, 1 << 4
# The broker closes the channel of a publisher that sends them with a wrong type.
_NEVER = (b"CC", b"BCC")
_NAMES = (
    *(b"", b"a", b"x-death", b"x-delivery-count", b"x-stream-offset", b"x-aimicromind-guard"),
    *(b"x-aimicromind-attempt", b"x-aimicromind-deadline", b"x-aimicromind-submitted-at"),
    *(b"traceparent", b"x-stream-filter-value", b"x-aimicromind-marker", b"x-aimicromind-kind"),
)
_TEXTS: tuple[bytes, ...] = (
    *(b"", b"\xff\xfe", b"\x00", b"9" * 60, "Ünïcode".encode()),
    b"0001-01-01T00:00:00+23:59",
)
_BODIES: tuple[bytes, ...] = (
    *(b"", b"{}", b"[]", b"null", b"\xff\xfe", b"\x00", b"[" * 5_000, b'{"a":' * 5_000),
    *(b"[" + b"9" * 5_000 + b"]", b'"\\ud83d"', b"1e999", b"NaN", b"[" + b"[]," * 2_000 + b"1]"),
)
_NAMES_OF_JOBS = {"chatflowId": "odd", "chatId": CHAT}
_JOB: dict[str, Any] = _NAMES_OF_JOBS | {"question": "Why?"}
_EVENT: dict[str, Any] = _NAMES_OF_JOBS | {"jobId": "odd", "attempt": 1, "seq": 0}
_TURN: dict[str, Any] = {
    "turn": "next",
    "chatId": CHAT,
    "worker": f"aimicromind.pool.{UUID(int=1)}",
    "jobs": [
        {
            "jobId": "odd",
            "worker": "aimicromind.pool." + "x" * 300,
            "submittedSeconds": 0,
            "waitedSeconds": 1e300,
        }
    ],
}
_REQUEST: dict[str, Any] = {
    "catchUp": {"chatId": CHAT, "jobId": "odd", "after": {"attempt": 1, "seq": 0}}
}
_STATUS: dict[str, Any] = {"status": {"jobId": "odd"}}
_VALUES: tuple[Any, ...] = (
    *("", "x", -1, 2**70, 1.5, True, None, [], {}, [[1]], {"a": {"b": []}}),
    "0001-01-01T00:00Z",
)
# RabbitMQ 3.10 fails on a decimal in a stream, and each version on a float that is NaN.
_IN_STREAMS = "".join(kind for kind in WIDTHS if kind not in "Dfd")


@dataclass(frozen=True)
class Destination:
    """An exchange or queue for odd messages, and its share of them in percent."""

    name: str
    percent: int


_DESTINATIONS: Final = (
    Destination("events", 42),
    Destination("control", 36),
    Destination("jobs", 8),
    Destination("jobs.reaped", 2),
    Destination("control.log", 2),
    Destination("journal", 2),
    Destination("pool", 6),
    Destination("mailbox of the chat", 2),
)


def odd_message(seed: int, number: int, names: Names) -> tuple[str, Raw]:
    """Return a message, and the name of its destination; equal arguments return equal ones."""
    chance = Random(f"{seed}:{number}")
    shares = [it.percent for it in _DESTINATIONS]
    place = chance.choices([it.name for it in _DESTINATIONS], shares)[0]
    exchange, key = {
        "events": (names.events, f"chat.{CHAT}.".encode() + _short(chance)[:100]),
        "control": (names.control, b""),
        "jobs": ("", names.jobs.encode()),
        "jobs.reaped": ("", names.jobs_reaped.encode()),
        "control.log": ("", names.control_log.encode()),
        "journal": ("", names.journal.encode()),
        "pool": (names.pool, b""),
        "mailbox of the chat": ("", names.chat_lease(CHAT).encode()),
    }[place]
    kinds = _IN_STREAMS if place not in {"jobs", "jobs.reaped"} else f"{_IN_STREAMS}D"
    flags, properties = _properties(chance, kinds)
    body = _body(chance, number)
    return place, Raw(body, RawProperties(flags, properties), key, exchange)


def _properties(chance: Random, kinds: str) -> tuple[int, bytes]:
    flags = {flag for flag in FLAGS if chance.random() < 0.3} - {_USER_ID}
    if chance.random() < 0.8:
        flags.add(HEADERS_FLAG)
    low = chance.choice((0, 0, 0, 2))
    return sum(flags) | low, b"".join(
        _property(chance, it, kinds) for it in sorted(flags, reverse=True)
    )


def _property(chance: Random, flag: int, kinds: str) -> bytes:
    match flag:
        case int() if flag == HEADERS_FLAG:
            return table(_headers(chance, kinds))
        case int() if flag == TIME_FLAG:
            return chance.randbytes(8)
        case int() if flag == MODE_FLAG:
            return bytes([chance.choice((1, 2))])
        case int() if flag == MODE_FLAG >> 1:
            return chance.randbytes(1)
        case int() if flag == _EXPIRATION:
            return named(chance.choice((b"0", b"1", b"1000", b"4294967295")), b"")
        case int() if flag == _REPLY_TO:
            return named(chance.choice((b"", b"nobody", b"\xff")), b"")
        case _:
            return named(_short(chance), b"")


def _headers(chance: Random, kinds: str) -> bytes:
    kind = chance.random()
    if kind < 0.03:
        return named(
            b"deep", nested(chance.choice((7, 8, 9, 600, 2_000)), chance.choice((b"F", b"A")))
        )
    if kind < 0.04:
        return b"".join(named(b"%d" % it, b"V") for it in range(chance.choice((1_000, 10_000))))
    if kind < 0.045:
        return named(b"long", b"S" + table(b"x" * chance.choice((60_000, 120_000))))
    return _fields(chance, kinds, chance.randrange(4))


def _fields(chance: Random, kinds: str, depth: int) -> bytes:
    return b"".join(
        named(name, _value(chance, kinds, depth))
        for _ in range(chance.randrange(5))
        if (name := chance.choice((*_NAMES, _short(chance)))) not in _NEVER
    )


def _value(chance: Random, kinds: str, depth: int) -> bytes:
    kind = chance.choice([*kinds, "f", "d", "S", "x", *("FA" if depth else "")])
    if kind in {"f", "d"}:
        return struct.pack(f">c{kind}", kind.encode(), chance.uniform(-1e30, 1e30))
    tag: bytes = kind.encode()
    if kind in WIDTHS:
        return tag + chance.randbytes(WIDTHS[kind])
    if kind == "F":
        return b"F" + table(_fields(chance, kinds, depth - 1))
    if kind == "A":
        inner = b"".join(_value(chance, kinds, depth - 1) for _ in range(chance.randrange(4)))
        return b"A" + table(inner)
    return tag + table(chance.choice((*_TEXTS, chance.randbytes(20))))


def _short(chance: Random) -> bytes:
    return chance.choice((*_TEXTS, chance.randbytes(chance.randrange(256))))


def _body(chance: Random, number: int) -> bytes:
    if number % 20_000 == 7:
        return b"x" * _LARGE_BYTES
    kind = chance.random()
    if kind < 0.4:
        return chance.choice(_BODIES)
    if kind < 0.5:
        return chance.randbytes(chance.randrange(200))
    fields = dict(chance.choice((_JOB, _EVENT, _TURN, _REQUEST, _STATUS)))
    others = ("jobId", "cancel", "time", "event", "data", "turn", "jobs", "catchUp", "status")
    for name in chance.choices([*fields, *others], k=2):
        fields[name] = chance.choice(_VALUES)
    body = json.dumps(fields).encode()
    return body[: chance.randrange(len(body))] if kind > 0.9 else body
