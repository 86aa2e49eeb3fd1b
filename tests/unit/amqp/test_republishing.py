from typing import Any

import aio_pika
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from aimicromind_worker.amqp.republishing import LEFT_OUT_HEADER, fitting, republished

SMALLEST_FRAME_MAX, USUAL_FRAME_MAX = 4096, 131_072
OWN: dict[str, str | int | bool] = {
    "x-aimicromind-kind": "chatflow_not_found",
    "x-aimicromind-message": "é" * 500,
    "x-aimicromind-attempts": 2**31,
    "x-aimicromind-failed-at": "2026-11-22T13:20:00.123456+00:00",
}
BROKERS_OWN = [
    "CC",
    "BCC",
    "x-acquired-count",
    "x-death",
    "x-delivery-count",
    "x-first-death-queue",
    "x-last-death-reason",
    "x-opt-annotation",
    "x-stream-offset",
]

scalars = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(),
    st.floats(),
    st.text(max_size=200),
    st.binary(max_size=200).map(bytearray),
    st.sampled_from([1_000, 4_000, 130_000, 200_000]).map("x".__mul__),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=40), inner, max_size=3)
    ),
    max_leaves=5,
)
headers = st.dictionaries(st.text(max_size=130), values, max_size=8)
short = st.none() | st.text(max_size=63) | st.just("x" * 255)
properties = st.fixed_dictionaries(
    {
        "content_type": short,
        "content_encoding": short,
        "correlation_id": short,
        "reply_to": short,
        "message_id": short,
        "type": short,
        "app_id": short,
        "priority": st.none() | st.integers(0, 255),
    }
)


def frame_bytes(message: aio_pika.Message) -> int:
    return len(marshal(ContentHeader(0, message.body_size, message.properties), 1))


def of(written: dict[str, Any], **properties: Any) -> aio_pika.Message:  # noqa: ANN401 - as aio_pika takes them
    return aio_pika.Message(b"job", headers=written, **properties)


@given(headers, properties, st.integers(SMALLEST_FRAME_MAX, USUAL_FRAME_MAX))
@example({f"{number:0128}": 1 for number in range(8)}, {}, SMALLEST_FRAME_MAX)
def test_whatever_is_published_again_fits_a_frame_with_all_headers_of_ours(
    written: dict[str, Any], given_properties: dict[str, Any], frame_max: int
) -> None:
    source = of(written, **given_properties)

    again = republished(source, OWN, frame_max)

    assert frame_bytes(again) <= frame_max
    assert OWN.items() <= again.headers.items()
    assert again.headers.keys() <= {*written, *OWN, LEFT_OUT_HEADER}
    assert again.correlation_id == source.correlation_id


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=2000), max_size=20), st.integers(0))
def test_only_the_largest_headers_are_left_out(written: dict[str, str], room_bytes: int) -> None:
    kept = fitting(written, room_bytes)

    def size(name: str) -> int:
        return len(name.encode()) + len(written[name].encode()) + 6

    left_out = written.keys() - kept.keys()
    total = sum(map(size, kept))
    assert total <= room_bytes
    for name in left_out:
        assert total + size(name) > room_bytes or size(name) >= max(map(size, kept), default=0)


def test_job_with_headers_that_just_fit_keeps_them_until_something_is_added() -> None:
    room = USUAL_FRAME_MAX - frame_bytes(of({})) - len(b"\x01aS1234")
    source = of({"a": "x" * room})
    assert frame_bytes(source) == USUAL_FRAME_MAX

    as_it_was = republished(source, {}, USUAL_FRAME_MAX + 100)
    with_more = republished(source, {"x-aimicromind-attempt": 1}, USUAL_FRAME_MAX)

    assert as_it_was.headers == source.headers
    assert with_more.headers == {"x-aimicromind-attempt": 1, LEFT_OUT_HEADER: 1}


def test_what_the_worker_reads_is_left_out_last() -> None:
    many = {f"header-{number}": "x" * 20 for number in range(300)}
    read = {"traceparent": "t" * 55, "x-aimicromind-submitted-at": "s" * 32}

    again = republished(of({**many, **read}), {}, SMALLEST_FRAME_MAX)

    assert read.items() <= again.headers.items()
    assert again.headers[LEFT_OUT_HEADER] == 302 - (len(again.headers) - 1)


@pytest.mark.parametrize("name", BROKERS_OWN)
def test_what_a_broker_writes_is_not_carried_over(name: str) -> None:
    again = republished(of({name: "value", f"my-{name}": "value"}), {}, USUAL_FRAME_MAX)

    assert again.headers == {f"my-{name}": "value"}


def test_headers_that_cannot_be_written_are_left_out_and_counted() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    unwritable = {"deep": nested, "float": 1e300, "n" * 129: 1, "large": 2**64}

    again = republished(of({**unwritable, "good": 1}), {}, USUAL_FRAME_MAX)

    assert again.headers == {"good": 1, LEFT_OUT_HEADER: 4}


def test_direct_reply_without_an_address_is_left_out() -> None:
    """A broker closes the channel of who publishes that and does not consume replies."""
    again = republished(of({}, reply_to="amq.rabbitmq.reply-to"), {}, USUAL_FRAME_MAX)

    assert again.reply_to is None
