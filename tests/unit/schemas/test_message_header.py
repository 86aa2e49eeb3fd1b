"""Whatever a broker sends as a message's properties, pamqp reads what is made of it."""

import struct
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.header import ContentHeader

from aimicromind_schemas.client.transport.message_header import (
    DEEPEST,
    GUARD_HEADER,
    MOST_FIELDS,
    LeftOut,
    Note,
    noted,
    readable_header,
)
from tests.support.amqp_bytes import WIDTHS, content_headers
from tests.support.raw import named, nested, table

_HEADERS, _MESSAGE_ID, _MODE, _TIME = 1 << 13, 1 << 7, 1 << 12, 1 << 6
_OF_ALL_TYPES = b"".join(
    named(f"of {kind}".encode(), kind.encode() + bytes(width)) for kind, width in WIDTHS.items()
)


def header(flags: int, properties: bytes, size: int = 5) -> bytes:
    return struct.pack(">HHQH", 60, 0, size, flags) + properties


def with_headers(*fields: bytes) -> bytes:
    return header(_HEADERS, table(b"".join(fields)))


def read(payload: bytes) -> ContentHeader:
    found = ContentHeader()
    found.unmarshal(payload)
    return found


def headers_of(payload: bytes) -> dict[str, Any]:
    return dict(read(payload).properties.headers or {})


def depth_of(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case _:
            return 0


@given(content_headers())
def test_whatever_the_broker_accepts_is_read(payload: bytes) -> None:
    made = readable_header(payload)

    found = read(made)
    assert found.body_size == read(header(0, b"", found.body_size)).body_size
    assert struct.unpack_from(">Q", payload, 4) == (found.body_size,)
    assert depth_of(found.properties.headers) <= DEEPEST + 1
    assert readable_header(made) == made or noted(found.properties.headers).problem


@given(st.binary(max_size=300))
def test_bytes_that_are_no_header_at_all_are_read(payload: bytes) -> None:
    read(readable_header(payload))


@given(content_headers(), st.data())
def test_header_that_was_changed_or_cut_anywhere_is_read(
    payload: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(payload) - 1))
    octet = data.draw(st.integers(0, 255))
    changed = payload[:at] + bytes([octet]) + payload[at + 1 :]

    read(readable_header(changed))
    read(readable_header(payload[:at]))


@pytest.mark.parametrize(
    "payload",
    [
        header(0, b""),
        header(_MESSAGE_ID, b"\x03job"),
        header(_HEADERS | _MODE, table(b"") + b"\2"),
        with_headers(_OF_ALL_TYPES, named(b"text", b"S" + table(b"\xff")), named(b"", b"V")),
        with_headers(named(b"deep", nested(DEEPEST - 1)), named(b"list", nested(5, b"A"))),
        with_headers(named(b"n" * 255, b"t\1"), named(b"twice", b"t\1"), named(b"twice", b"t\0")),
        with_headers(*(named(b"%d" % it, b"t\1") for it in range(MOST_FIELDS))),
        header(_TIME, struct.pack(">Q", 1_800_000_000)),
    ],
)
def test_what_is_not_odd_stays_as_it_is(payload: bytes) -> None:
    assert readable_header(payload) == payload


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (named(b"odd", nested(DEEPEST)), "nested more than 8 deep: send it flatter"),
        (named(b"odd", nested(20_000)), "nested more than 8 deep: send it flatter"),
        (named(b"odd", nested(20_000, b"A")), "nested more than 8 deep: send it flatter"),
        (named(b"odd", b"F" + table(b"\xff")), "cannot be read"),
        (named(b"odd", b"F" + table(b"\1aS\0\0\0\x09")), "cannot be read"),
        (named(b"odd", b"A" + table(b"t")), "cannot be read"),
    ],
)
def test_value_that_cannot_be_read_is_left_out_alone(odd: bytes, said: str) -> None:
    found = headers_of(
        readable_header(with_headers(named(b"before", b"t\1"), odd, named(b"after", b"t\1")))
    )

    assert (found["before"], found["after"]) == (True, True)
    problem = noted(found).problem
    assert problem is not None
    assert problem.startswith("the header 'odd' ")
    assert said in problem


def test_table_that_cannot_be_read_on_keeps_what_came_before() -> None:
    found = headers_of(
        readable_header(with_headers(named(b"before", b"t\1"), named(b"odd", b"?"), b"\x05after"))
    )

    assert found.pop("before") is True
    assert "the header 'odd' cannot be read" in (noted(found).problem or "")
    assert found.keys() == {GUARD_HEADER}


def test_headers_beyond_a_number_are_left_out_but_those_of_the_broker() -> None:
    many = (named(b"a%d" % it, b"t\1") for it in range(10_000))
    count = named(b"x-delivery-count", b"l" + struct.pack(">q", 3))

    made_up = named(b"x-stream-offset", nested(2_000))

    found = headers_of(readable_header(with_headers(*many, count, made_up)))

    assert len(found) == MOST_FIELDS + 2
    assert found["x-delivery-count"] == 3
    assert "the header 'a1000' is beyond the first 1000 fields" in (noted(found).problem or "")


def test_text_that_is_not_utf8_keeps_its_length() -> None:
    payload = header(_HEADERS | _MESSAGE_ID, table(named(b"\xe4", b"t\1")) + b"\x04\xffaa\xfe")

    made = readable_header(payload)

    assert len(made) == len(payload)
    assert headers_of(made) == {"?": True}
    assert read(made).properties.message_id == "?aa?"


@pytest.mark.parametrize("octet", [0, 3, 255])
def test_delivery_mode_that_is_none_is_left_out(octet: int) -> None:
    assert readable_header(header(_MODE, bytes([octet]))) == header(0, b"")


@pytest.mark.parametrize("time", [253_402_300_800_000, 2**63, 2**64 - 1])
def test_time_beyond_the_calendar_is_left_out(time: int) -> None:
    written = struct.pack(">Q", time)

    assert readable_header(header(_TIME, written)) == header(0, b"")
    assert headers_of(readable_header(with_headers(named(b"at", b"T" + written)))) == {}


def test_last_time_of_the_calendar_is_read() -> None:
    found = read(readable_header(header(_TIME, struct.pack(">Q", 253_402_300_799_000))))

    assert isinstance(found.properties.timestamp, datetime)


def test_flags_without_meaning_are_cleared() -> None:
    assert readable_header(header(_MESSAGE_ID | 3, b"\x01a")) == header(_MESSAGE_ID, b"\x01a")


def test_no_producer_writes_the_guards_note() -> None:
    made_up = b"F" + table(
        named(b"problem", b"S" + table(b"x"))
        + named(b"bytes", b"l" + bytes(8))
        + named(b"digest", b"S" + table(b""))
    )

    found = headers_of(readable_header(with_headers(named(GUARD_HEADER.encode(), made_up))))

    assert found == {}


def test_body_that_is_left_out_is_told_with_its_size() -> None:
    made = readable_header(header(0, b"", 20_000_000), LeftOut(3, "abc"))

    assert read(made).body_size == 3
    assert noted(headers_of(made)) == Note(None, 20_000_000, "abc")
