from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.header import ContentHeader

from aimicromind_schemas.client.transport.labels import Labels, correlation_of, labels_of

_short = st.text(max_size=40).filter(lambda it: len(it.encode("utf-8", "ignore")) < 200)
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_fields = st.dictionaries(
    st.text("abcx-", min_size=1, max_size=20),
    st.one_of(st.integers(-(2**31), 2**31 - 1), _text, st.booleans(), st.none()),
    max_size=5,
)
_properties = st.fixed_dictionaries(
    {},
    optional={
        "message_id": _text,
        "message_type": _text,
        "correlation_id": _text,
        "content_type": _text,
        "app_id": _text,
        "delivery_mode": st.sampled_from([1, 2]),
        "timestamp": st.just(datetime(2026, 11, 26, tzinfo=UTC)),
    },
)


@given(properties=_properties, before=_fields, chat_id=st.none() | _text, after=_fields)
def test_labels_are_what_the_publisher_wrote(
    properties: dict[str, Any],
    before: dict[str, Any],
    chat_id: str | None,
    after: dict[str, Any],
) -> None:
    named = {} if chat_id is None else {"x-stream-filter-value": chat_id}
    written = commands.Basic.Properties(**properties, headers={**before, **named, **after})
    header = ContentHeader(0, 100, written).marshal()

    labels = labels_of(header)

    message_id, kind = (properties.get(name, "") for name in ("message_id", "message_type"))
    assert labels == Labels(chat_id, message_id, kind)
    assert correlation_of(header) == properties.get("correlation_id", "")


@given(header=st.binary(max_size=200))
def test_header_that_nobody_can_read_has_few_labels_and_raises_nothing(header: bytes) -> None:
    assert isinstance(labels_of(header), Labels)
    assert isinstance(correlation_of(header), str)
