import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimicromind_schemas import (
    CancelRequest,
    ChatCancel,
    InvalidCancel,
    JobCancel,
    chat_fits,
    decode_cancel,
)
from tests.unit.schemas.samples import SECRET
from tests.unit.schemas.strategies import ids, json_values, texts

AT = datetime(2026, 11, 22, 13, 20, 0, 123456, tzinfo=UTC)
requests = st.builds(JobCancel, ids) | st.builds(
    ChatCancel,
    texts.filter(lambda text: bool(text) and chat_fits(text)),
    st.datetimes(timezones=st.just(UTC)),
)


def refusal(*, submitted_at: object = None, **cancel: object) -> str:
    body = {"cancel": cancel, "submittedAt": submitted_at}
    with pytest.raises(InvalidCancel) as caught:
        decode_cancel(json.dumps(body).encode())
    return str(caught.value)


@given(requests)
def test_request_is_read_as_it_was_written(request: CancelRequest) -> None:
    assert decode_cancel(request.encode()) == request


def test_requests_have_the_form_of_the_contract() -> None:
    job, chat = JobCancel("j-1").encode(), ChatCancel("c-1", AT).encode()

    assert json.loads(job) == {"cancel": {"jobId": "j-1"}}
    assert json.loads(chat) == {
        "cancel": {"chatId": "c-1"},
        "submittedAt": "2026-11-22T13:20:00.123456Z",
    }


def test_time_with_another_offset_is_the_same_moment() -> None:
    local = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert ChatCancel("c-1", local).encode() == ChatCancel("c-1", AT).encode()


def test_request_is_read_as_a_job_is() -> None:
    body = b'{"cancel":{"jobId":12345.0}}'

    assert decode_cancel(body) == JobCancel("12345")
    assert decode_cancel(b"\xef\xbb\xbf" + body) == JobCancel("12345")
    assert decode_cancel(body.decode().encode("utf-16")) == JobCancel("12345")


def test_long_request_is_not_built() -> None:
    with pytest.raises(InvalidCancel, match="at most 65536 bytes"):
        decode_cancel(b'{"cancel":{"jobId":"j"},"x":[' + b"[]," * 30_000 + b"[]]}")


def test_null_and_empty_count_as_absent_and_unknown_members_are_skipped() -> None:
    body = b'{"cancel":{"jobId":"j","chatId":null,"why":1},"submittedAt":"","by":"me"}'

    assert decode_cancel(body) == JobCancel("j")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({}, "either jobId or chatId"),
        ({"jobId": "j", "chatId": "c"}, "either jobId or chatId"),
        ({"jobId": 7.5}, "jobId takes a string"),
        ({"jobId": "a b"}, "jobId takes 1 to 128"),
        ({"chatId": ["c"], "submitted_at": "2026-11-22T13:20:00Z"}, "chatId takes a string"),
        ({"chatId": "." * 77, "submitted_at": "2026-11-22T13:20:00Z"}, "at most 228 bytes"),
        ({"chatId": "c"}, "submittedAt"),
        ({"chatId": "c", "submitted_at": "2026-11-22T13:20:00"}, "submittedAt"),
        ({"chatId": "c", "submitted_at": 1795355994}, "submittedAt"),
    ],
)
def test_refusal_says_what_to_send(named: dict[str, object], said: str) -> None:
    assert said in refusal(**named)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"cancel":"j"}', b"{}"])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidCancel, match="Not a valid cancel request"):
        decode_cancel(body)


def test_refusal_quotes_no_value() -> None:
    said = refusal(jobId=f"{SECRET} ") + refusal(chatId="c", submitted_at=SECRET)

    assert SECRET not in said


@given(st.binary() | json_values.map(lambda value: json.dumps({"cancel": value}).encode()))
@example(b'{"cancel":' * 10_000)
@example(b'{"cancel":{"chatId":"\\ud800"},"submittedAt":"2026-11-22T13:20:00Z"}')
def test_any_body_is_a_request_or_refused(body: bytes) -> None:
    with suppress(InvalidCancel):
        decode_cancel(body)


def test_time_without_an_offset_is_refused_where_a_request_is_made() -> None:
    with pytest.raises(InvalidCancel, match="submittedAt"):
        ChatCancel("c-1", AT.replace(tzinfo=None))
