"""A stream's messages, read from the bytes of its channel."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.common import FieldValue
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader

from aimicromind_schemas.client.transport.demultiplexer import FrameDemultiplexer
from aimicromind_schemas.client.transport.message_guard import LONGEST_BODY_BYTES
from aimicromind_schemas.client.transport.stream_frames import StreamFrames, StreamMessage
from tests.support.amqp_bytes import content_headers

_CHANNEL, _OTHER = 7, 8
_PART = 500
_DELIVER = marshal(commands.Basic.Deliver("tag", 1, exchange="", routing_key="key"), _CHANNEL)


class Reading:
    """A connection that is read from bytes, and what came of that."""

    def __init__(self, *wanted: bytes, every: int = 3) -> None:
        self.written: list[bytes] = []
        self.messages: list[StreamMessage] = []
        self.demultiplexer = FrameDemultiplexer(lambda: 0.0)
        self.frames = StreamFrames(
            _CHANNEL, self.written.append, self.messages.append, wanted, every
        )
        self.demultiplexer.streams[_CHANNEL] = self.frames

    @property
    def acknowledged(self) -> list[tuple[int, bool]]:
        """The tags that were acknowledged, and whether with all before."""
        acks = [unmarshal(each)[2] for each in self.written]
        return [
            (ack.delivery_tag or 0, ack.multiple)
            for ack in acks
            if isinstance(ack, commands.Basic.Ack)
        ]


def headers(offset: int, **others: FieldValue) -> ContentHeader:
    properties = commands.Basic.Properties(
        content_type="application/json",
        headers={**others, "x-stream-offset": offset},
        message_id=f"job-{offset}",
    )
    return ContentHeader(body_size=0, properties=properties)


def message(offset: int, body: bytes, **others: FieldValue) -> bytes:
    header = headers(offset, **others)
    header.body_size = len(body)
    parts = (body[at : at + _PART] for at in range(0, len(body), _PART))
    return b"".join(
        (
            _DELIVER,
            marshal(header, _CHANNEL),
            *(marshal(ContentBody(part), _CHANNEL) for part in parts),
        )
    )


bodies = st.lists(st.binary(max_size=1500), max_size=8)


@given(bodies, st.lists(st.integers(0, 20_000), max_size=12))
def test_messages_cut_anywhere_are_read_whole_and_in_order(
    sent: list[bytes], places: list[int]
) -> None:
    reading = Reading()
    others = marshal(commands.Basic.Ack(1), _OTHER)
    data = b"".join(message(offset, body) + others for offset, body in enumerate(sent))
    cuts = sorted({0, *(place for place in places if place < len(data)), len(data)})

    left = b"".join(reading.demultiplexer.part(data[begin:end]) for begin, end in pairwise(cuts))

    assert [it.body for it in reading.messages] == sent
    assert [it.offset for it in reading.messages] == list(range(len(sent)))
    assert left.count(others) == len(sent)


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5))
def test_all_are_counted_and_acknowledged_in_bulk_also_those_that_nobody_wants(
    mine: list[bool], every: int
) -> None:
    reading = Reading(b"mine", b"ours", every=every)

    for offset, is_mine in enumerate(mine):
        reading.demultiplexer.part(message(offset, b"body", chat="mine" if is_mine else "other"))

    assert [it.offset for it in reading.messages] == [at for at, it in enumerate(mine) if it]
    assert reading.frames.count == len(mine)
    assert reading.acknowledged == [(tag, True) for tag in range(every, len(mine) + 1, every)]


def test_nothing_is_acknowledged_while_it_is_held() -> None:
    reading = Reading(every=2)
    reading.frames.held = True
    for offset in range(5):
        reading.demultiplexer.part(message(offset, b""))

    assert reading.acknowledged == []
    reading.frames.held = False
    reading.frames.acknowledge()
    reading.frames.acknowledge()
    assert reading.acknowledged == [(5, True)]


def test_what_is_no_delivery_is_left_to_aiormq() -> None:
    reading = Reading()
    closed = marshal(commands.Channel.Close(406, "text", 0, 0), _CHANNEL)

    assert reading.demultiplexer.part(message(0, b"body") + closed) == closed
    assert reading.frames.count == 1


@given(content_headers())
def test_whatever_a_header_says_costs_nobody_else(payload: bytes) -> None:
    reading = Reading()
    size = int.from_bytes(payload[4:12])
    odd = payload if size < 1000 else payload[:4] + bytes(8) + payload[12:]
    frame = b"\2" + _CHANNEL.to_bytes(2) + len(odd).to_bytes(4) + odd + b"\xce"
    body = marshal(ContentBody(b"x" * size), _CHANNEL) if 0 < size < 1000 else b""

    reading.demultiplexer.part(_DELIVER + frame + body + message(1, b"next"))

    assert reading.messages[0].offset >= -1
    assert (reading.messages[-1].body, reading.messages[-1].offset) == (b"next", 1)


@pytest.mark.parametrize(
    "made_up", ["\x0fx-stream-offsetl" + "\0" * 8, bytearray(b"\x0fx-stream-offsetl" + bytes(8))]
)
def test_offset_within_another_header_is_not_taken_for_the_brokers(made_up: FieldValue) -> None:
    reading = Reading()

    reading.demultiplexer.part(message(41, b"body", first=made_up))

    assert reading.messages[0].offset == 41


@pytest.mark.parametrize("odd", [b"", b"\0", bytes(14), bytes(12) + b"\x20\0", b"\xff" * 40])
def test_header_that_cannot_be_read_has_no_offset(odd: bytes) -> None:
    assert StreamMessage(odd, b"").offset == -1


def test_body_beyond_the_largest_is_skipped_and_counted() -> None:
    reading = Reading()
    header = headers(0)
    header.body_size = LONGEST_BODY_BYTES + 1
    parts = marshal(ContentBody(bytes(LONGEST_BODY_BYTES // 4)), _CHANNEL) * 4

    reading.demultiplexer.part(_DELIVER + marshal(header, _CHANNEL) + parts)
    assert reading.frames.count == 0
    reading.demultiplexer.part(marshal(ContentBody(b"x"), _CHANNEL) + message(1, b"next"))

    assert [it.offset for it in reading.messages] == [1]
    assert reading.frames.count == 2
