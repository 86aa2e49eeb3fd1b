import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.header import ContentHeader

from aimicromind_worker.amqp.jobs.return_address import return_address
from aimicromind_worker.core.chats.return_address import ReturnAddress

texts = st.text(max_size=60)
maybe = st.none() | texts.filter(bool)


def header(**properties: object) -> bytes:
    made = commands.Basic.Properties(**properties)  # type: ignore[arg-type]  # as it takes them
    return bytes(ContentHeader(0, 2, made).marshal())


@given(maybe, maybe, st.booleans())
def test_address_is_read_among_any_other_properties(
    correlation_id: str | None,
    content_type: str | None,
    with_more: bool,  # noqa: FBT001 - hypothesis
) -> None:
    more = {"headers": {"a": [1, {"b": "c"}]}, "delivery_mode": 2, "priority": 3}
    read = return_address(
        header(
            reply_to="queue.ü",
            correlation_id=correlation_id,
            content_type=content_type,
            message_type="snapshot",
            **(more if with_more else {}),
        )
    )

    assert read == ReturnAddress("queue.ü", correlation_id or "")


@pytest.mark.parametrize("properties", [{}, {"message_id": "m", "headers": {"reply_to": "x"}}])
def test_message_without_an_address_has_none(properties: dict[str, object]) -> None:
    assert return_address(header(**properties)) is None


@given(st.binary(max_size=80))
@example(header(reply_to="x" * 30)[:-10])
@example(header(reply_to="abc").replace(b"abc", b"\xff\xfe\xfd"))
def test_bytes_that_are_no_header_have_none_and_raise_nothing(data: bytes) -> None:
    read = return_address(data)

    assert read is None or isinstance(read.queue, str)
