from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from aimicromind_schemas import (
    EVENT_NAMES,
    Event,
    GenericEvent,
    Message,
    RoutingKeyTooLong,
    decode,
    encode,
    routing_key,
)
from aimicromind_worker.amqp.events.frames import EventFrames
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.numbering import NumberedEvent
from tests.support.builders import BRIEF, as_stamped
from tests.unit.core.endpoint.any_event import any_event

CHANNEL = 1
SMALLEST_FRAME_MAX, USUAL_FRAME_MAX = 4096, 131_072


def has_key(event: Event) -> bool:
    try:
        return bool(routing_key(event.chat_id, event.event))
    except RoutingKeyTooLong:
        return False


unicode_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
chat_ids = unicode_texts | st.text("ab.*#", min_size=60, max_size=76)
correlation_ids = unicode_texts | st.just("c" * 255)
events_in_chats = st.builds(
    lambda event, chat_id: event.model_copy(update={"chat_id": chat_id}), any_event, chat_ids
).filter(has_key)
traceparents = st.none() | st.just(f"00-{'a' * 32}-{'b' * 16}-01")


def frames_of(
    event: Event,
    *,
    correlation_id: str = "c",
    traceparent: str | None = None,
    frame_max: int = USUAL_FRAME_MAX,
    partition: int | None = None,
) -> EventFrames:
    address = Address(
        chat_id=event.chat_id,
        chatflow_id=event.chatflow_id,
        attempt=event.attempt,
        correlation_id=correlation_id,
        traceparent=traceparent,
    )
    return EventFrames(address, "aimicromind.events", CHANNEL, frame_max, partition)


def read_frames(data: bytes) -> Iterator[tuple[int, object]]:
    """Give size and content of each frame, as a library reads them."""
    while data:
        size, channel, content = frame.unmarshal(data)
        assert channel == CHANNEL
        yield size, content
        data = data[size:]


def read_content(data: bytes) -> tuple[ContentHeader, list[tuple[int, bytes]]]:
    (_, header), *parts = read_frames(data)
    assert isinstance(header, ContentHeader)
    bodies = []
    for size, part in parts:
        assert isinstance(part, ContentBody)
        bodies.append((size, part.value))
    return header, bodies


def read_publish(data: bytes) -> commands.Basic.Publish:
    (_, publish), *_ = read_frames(data)
    assert isinstance(publish, commands.Basic.Publish)
    return publish


def content_to_chat(frames: EventFrames, event: NumberedEvent) -> bytes:
    """Return what follows the publish frame."""
    written = frames.to_chat(event)
    size, _ = next(read_frames(written))
    return written[size:]


def expected_properties(message: Message) -> dict[str, object]:
    """Give the codec's properties as AMQP carries them, whose times are whole seconds."""
    wanted = message.properties
    unset = dict.fromkeys(("content_encoding", "priority", "reply_to", "expiration", "user_id"))
    return unset | {
        "content_type": wanted.content_type,
        "headers": dict(wanted.headers),
        "delivery_mode": wanted.delivery_mode,
        "correlation_id": wanted.correlation_id,
        "message_id": wanted.message_id,
        "timestamp": wanted.timestamp.replace(microsecond=0),
        "message_type": wanted.type,
        "app_id": wanted.app_id,
    }


def a_long_event(size: int, name: str = "note") -> Event:
    fields = {"jobId": "j", "chatId": "c", "chatflowId": "f", "attempt": 1, "seq": 0}
    return GenericEvent.model_validate(
        fields | {"time": "2026-11-22T12:00:00Z", "event": name, "data": "x" * size}
    )


@BRIEF
@given(
    event=events_in_chats,
    correlation_id=correlation_ids,
    traceparent=traceparents,
    frame_max=st.sampled_from([SMALLEST_FRAME_MAX, USUAL_FRAME_MAX]),
)
def test_frames_say_what_the_codec_says(
    event: Event, correlation_id: str, traceparent: str | None, frame_max: int
) -> None:
    stamped = as_stamped(event)

    frames = frames_of(
        event, correlation_id=correlation_id, traceparent=traceparent, frame_max=frame_max
    )
    header, parts = read_content(frames.content(stamped))

    message = encode(event, correlation_id=correlation_id, traceparent=traceparent)
    properties = {name: getattr(header.properties, name) for name in expected_properties(message)}
    assert properties == expected_properties(message)
    assert header.body_size == len(stamped.body)
    assert b"".join(part for _, part in parts) == stamped.body
    assert decode(stamped.body) == event


@BRIEF
@given(events_in_chats, st.integers(0, 63))
def test_event_to_its_chat_names_the_partition_and_a_copy_does_not(
    event: Event, partition: int
) -> None:
    stamped = as_stamped(event)

    frames = frames_of(event, partition=partition)
    to_chat, its_parts = read_content(content_to_chat(frames, stamped))
    to_queue, parts = read_content(frames.content(stamped))

    headers = to_queue.properties.headers or {}
    assert to_chat.properties.headers == {"BCC": [str(partition)], **headers}
    assert "BCC" not in headers
    assert its_parts == parts


def test_event_log_of_one_partition_is_named_by_no_event() -> None:
    stamped = as_stamped(a_long_event(1))
    frames = frames_of(a_long_event(1))

    assert content_to_chat(frames, stamped) == frames.content(stamped)


@BRIEF
@given(events_in_chats)
def test_event_is_published_under_the_codecs_key(event: Event) -> None:
    publish = read_publish(frames_of(event).to_chat(as_stamped(event)))

    assert publish.exchange == "aimicromind.events"
    assert publish.routing_key == encode(event).routing_key
    assert publish.mandatory == (event.event == "end")
    assert not publish.immediate


@pytest.mark.parametrize("name", sorted(EVENT_NAMES | {"note", "END", "end "}))
def test_only_an_end_must_find_a_queue(name: str) -> None:
    publish = read_publish(frames_of(a_long_event(1)).to_chat(as_stamped(a_long_event(1, name))))

    assert publish.mandatory == (name == "end")
    assert publish.routing_key == routing_key("c", name)


@pytest.mark.parametrize("name", ["note", "end"])
def test_copy_goes_to_its_queue_by_the_default_exchange(name: str) -> None:
    publish = read_publish(frames_of(a_long_event(1, name)).to_queue("reply.q-1"))

    assert (publish.exchange, publish.routing_key) == ("", "reply.q-1")
    assert not publish.mandatory


@pytest.mark.parametrize("frame_max", [SMALLEST_FRAME_MAX, USUAL_FRAME_MAX])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_long_body_is_cut_into_full_frames(frame_max: int, beyond: int, parts: int) -> None:
    longest = frame_max - 8
    envelope = len(as_stamped(a_long_event(0)).body)
    stamped = as_stamped(a_long_event(parts * longest + beyond - envelope))

    frames = frames_of(a_long_event(0), frame_max=frame_max)

    header, found = read_content(content_to_chat(frames, stamped))
    assert header.body_size == len(stamped.body) == parts * longest + beyond
    assert b"".join(part for _, part in found) == stamped.body
    assert [size for size, _ in found[:-1]] == [frame_max] * (len(found) - 1)
    assert len(found) == parts + (beyond > 0)
    assert all(size <= frame_max for size, _ in found)


def test_numbers_may_be_as_big_as_amqp_has_them() -> None:
    event = a_long_event(1).model_copy(update={"attempt": 2**62, "seq": 2**63 - 1})

    header, _ = read_content(frames_of(event).content(as_stamped(event)))

    headers = header.properties.headers
    assert headers is not None
    assert (headers["attempt"], headers["seq"]) == (2**62, 2**63 - 1)


def test_a_flow_may_use_any_number_of_names() -> None:
    frames = frames_of(a_long_event(1))

    for n in range(1000):
        event = a_long_event(1, f"n{n % 500}")
        stamped = as_stamped(event)
        header, _ = read_content(frames.content(stamped))

        assert header.properties.message_type == event.event
        assert read_publish(frames.to_chat(stamped)).routing_key == f"chat.c.{event.event}"
