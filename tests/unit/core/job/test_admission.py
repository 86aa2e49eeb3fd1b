import gzip
import json
import zlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import FailureKind, chat_fits, is_job_id
from aimicromind_worker.core.job.admission import (
    Admission,
    Rejected,
    Ticket,
    Unnamed,
    admit,
    faulty,
)
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState, moment
from tests.support.builders import BRIEF, LIFETIME, MAX_JOB_BYTES, NAMES, SECRET, a_job, a_ticket

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOON, LATER = NOW + timedelta(minutes=1), NOW + timedelta(minutes=2)


def gz(text: bytes, level: int = 9) -> bytes:
    return gzip.compress(text, level, mtime=0)


def admitted(body: bytes, **facts: Any) -> Admission:  # noqa: ANN401 - named in MessageFacts
    return admit(body, MessageFacts(**facts), NAMES, NOW, LIFETIME, MAX_JOB_BYTES)


def ticket(body: bytes, **facts: Any) -> Ticket:  # noqa: ANN401 - see admitted
    admission = admitted(body, **facts)
    assert isinstance(admission, Ticket)
    return admission


def rejected(body: bytes, **facts: Any) -> Rejected:  # noqa: ANN401 - see admitted
    admission = admitted(body, **facts)
    assert isinstance(admission, Rejected)
    return admission


def test_job_names_itself_and_its_chat() -> None:
    it = ticket(a_job(jobId="job", chatId="räum"), message_id="message")

    assert (it.job_id, it.chat_id) == ("job", "räum")


def test_message_id_stands_in_for_a_missing_job_id() -> None:
    it = ticket(a_job(jobId=None, chatId=None), message_id="message-1")

    assert (it.job_id, it.chat_id) == ("message-1", "message-1")


def test_job_id_stands_in_for_a_missing_chat_id() -> None:
    assert ticket(a_job(chatId=None)).chat_id == "job"


@pytest.mark.parametrize("message_id", [None, ""])
def test_job_without_any_name_is_unnamed(message_id: str | None) -> None:
    assert admitted(a_job(jobId=None), message_id=message_id) == Unnamed()


@pytest.mark.parametrize("message_id", ["a b", "ä", "a/b", "a\n", "m" * 129, f"{SECRET}!"])
def test_message_id_that_is_no_job_id_is_refused(message_id: str) -> None:
    it = rejected(a_job(jobId=None), message_id=message_id)

    assert it.kind == FailureKind.INVALID_JOB
    assert "message_id" in it.message
    assert SECRET not in it.message
    assert it.chat_id == "chat"


def test_message_id_must_fit_in_keys_where_it_names_the_chat() -> None:
    message_id = "." * 128

    refused = rejected(a_job(jobId=None, chatId=None), message_id=message_id)
    fine = ticket(a_job(jobId=None, chatId="chat"), message_id=message_id)

    assert refused.kind == FailureKind.INVALID_JOB
    assert refused.chat_id is None
    assert fine.job_id == message_id


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"{}", a_job(question=None)])
def test_body_that_is_no_job_is_refused(body: bytes) -> None:
    assert rejected(body).kind == FailureKind.INVALID_JOB


def test_job_that_is_too_long_is_refused_and_its_chat_told() -> None:
    body = a_job(question=SECRET * MAX_JOB_BYTES)

    it = rejected(body)

    assert (it.kind, it.chat_id, it.job_id) == (FailureKind.TOO_LARGE, "chat", "job")
    assert str(MAX_JOB_BYTES) in it.message


def test_longest_job_is_admitted() -> None:
    body = a_job().ljust(MAX_JOB_BYTES)

    assert ticket(body).job_id == "job"
    assert rejected(body + b" ").kind == FailureKind.TOO_LARGE


@pytest.mark.parametrize("own", ["aimicromind.jobs", "aimicromind.jobs.dead", "aimicromind.x"])
def test_reply_to_one_of_our_own_queues_is_refused(own: str) -> None:
    it = rejected(a_job(), reply_to=own)

    assert it.kind == FailureKind.INVALID_JOB
    assert "reply_to" in it.message


@pytest.mark.parametrize("other", ["aimicromind", "aimicromindful.jobs", "reply", "amq.gen-1"])
def test_reply_to_another_queue_is_fine(other: str) -> None:
    assert ticket(a_job(), reply_to=other).facts.reply_to == other


def test_refusal_quotes_nothing_of_the_job() -> None:
    it = rejected(a_job(chatflowId=f"/{SECRET}", overrideConfig=SECRET, tags={"a": [SECRET]}))

    assert SECRET not in repr(it)


def test_refused_job_is_told_to_the_chat_of_its_job_id_where_it_names_none() -> None:
    assert rejected(a_job(question=None, chatId=None)).chat_id == "job"
    assert rejected(b"{", message_id="message").chat_id == "message"
    assert rejected(a_job(chatId=None), reply_to="aimicromind.jobs").chat_id == "job"


def test_copies_of_a_nameless_refused_job_have_one_name() -> None:
    names = [rejected(body).job_id for body in (b"{", b"{", b"[", b'{"jobId": 7}')]

    assert names[0] == names[1]
    assert len(set(names)) == 3


@BRIEF
@given(
    body=st.binary(max_size=30)
    | st.dictionaries(
        st.sampled_from(["jobId", "chatId", "chatflowId", "question"]), st.text() | st.integers()
    ).map(lambda fields: json.dumps(fields).encode()),
    message_id=st.none() | st.text() | st.text(".", max_size=200),
)
def test_whatever_is_not_unnamed_can_be_told_of(body: bytes, message_id: str | None) -> None:
    admission = admitted(body, message_id=message_id)

    if isinstance(admission, Unnamed):
        return
    assert is_job_id(admission.job_id)
    assert admission.chat_id is None or chat_fits(admission.chat_id)
    assert admission.chat_id is not None or not chat_fits(admission.job_id)


@pytest.mark.parametrize(
    ("facts", "before"),
    [
        ({}, 0),
        ({"redelivered": True}, 1),
        ({"redelivered": True, "deliveries_before": 3}, 3),
        ({"carried": JobState(attempt=2)}, 2),
        ({"carried": JobState(attempt=2), "deliveries_before": 1}, 3),
        ({"carried": JobState(attempt=2), "redelivered": True}, 3),
    ],
)
def test_attempts_before_are_those_carried_and_the_deliveries_since(
    facts: dict[str, int], before: int
) -> None:
    assert ticket(a_job(), **facts).before.attempt == before


@pytest.mark.parametrize(
    ("facts", "called"),
    [
        ({}, False),
        ({"carried": JobState(attempt=1)}, False),
        ({"carried": JobState(calls=1)}, False),
        ({"carried": JobState(sent=True)}, True),
        ({"deliveries_before": 1}, True),
        ({"redelivered": True}, True),
    ],
)
def test_job_that_a_worker_had_may_have_been_called(facts: dict[str, int], called: bool) -> None:  # noqa: FBT001 - given by pytest
    assert ticket(a_job(), **facts).before.sent is called


def test_job_lives_as_long_as_the_worker_allows() -> None:
    assert ticket(a_job()).deadline == NOW + LIFETIME


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"expiresAt": SOON.isoformat()}, {"expires_at": LATER}),
        ({"expiresAt": LATER.isoformat()}, {"expires_at": SOON}),
        ({"expiresAt": LATER.isoformat()}, {"carried": JobState(deadline=SOON)}),
        ({}, {"expires_at": LATER, "carried": JobState(deadline=SOON)}),
        ({"expiresAt": SOON.astimezone(timezone(timedelta(hours=5))).isoformat()}, {}),
    ],
)
def test_earliest_end_counts(fields: dict[str, str], facts: dict[str, datetime]) -> None:
    assert ticket(a_job(**fields), **facts).deadline == SOON


def test_no_end_is_later_than_the_workers_own() -> None:
    late = NOW + 2 * LIFETIME

    it = ticket(a_job(expiresAt=late.isoformat()), expires_at=late, carried=JobState(deadline=late))

    assert it.deadline == NOW + LIFETIME


@pytest.mark.parametrize("text", [None, "", "soon", "2026-11-22T12:00:00", "2026-11-22"])
def test_what_is_no_moment_is_none(text: str | None) -> None:
    assert moment(text) is None


@given(st.datetimes(timezones=st.just(UTC)))
def test_moment_is_read_as_a_worker_wrote_it(time: datetime) -> None:
    assert moment(time.isoformat()) == time


def test_repr_of_a_ticket_shows_no_content() -> None:
    it = a_ticket(question=SECRET, overrideConfig={"k": SECRET}, tags={"t": SECRET})

    assert SECRET not in repr(it)


def test_ending_of_a_rejected_job_is_copied_to_reply_to_unless_that_is_what_is_wrong() -> None:
    assert rejected(b"{", reply_to="mine").reply_to == "mine"
    assert rejected(a_job(), reply_to="aimicromind.jobs").reply_to is None
    assert rejected(b"{", reply_to="aimicromind.jobs").reply_to is None


COMPLETE = a_job()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"\xef\xbb\xbf" + COMPLETE, None),
        (COMPLETE.decode().encode("utf-16"), None),
        (COMPLETE + b"\0", None),
        (gz(COMPLETE), "gzip"),
        (gz(b"\xef\xbb\xbf" + COMPLETE), "GZIP"),
        (gz(COMPLETE.decode().encode("utf-16")), None),
        (zlib.compress(COMPLETE), "deflate"),
        (COMPLETE, "utf-8"),
        (COMPLETE, "br"),
    ],
)
def test_job_is_read_however_it_is_written(body: bytes, encoding: str | None) -> None:
    it = ticket(body, content_encoding=encoding)

    assert (it.job_id, it.chat_id, it.job.chatflow_id) == ("job", "chat", "flow")


NO_JOB = a_job(question=None)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"\xef\xbb\xbf" + NO_JOB, None),
        (NO_JOB.decode().encode("utf-16"), None),
        (NO_JOB.decode().encode("utf-16-be")[:-2], None),
        (NO_JOB[:-1], None),
        (NO_JOB + b"x", None),
        (NO_JOB[:-1] + b',"x":NaN}', None),
        (NO_JOB[:-1] + b',"x":"\xff"}', None),
        (NO_JOB[:-1] + b',"x":%b}' % (b"[" * 20_000 + b"]" * 20_000), None),
        (gz(NO_JOB), "gzip"),
        (gz(NO_JOB)[:-8], "gzip"),
        (gz(NO_JOB, 0)[:-9], "gzip"),
        (gz(a_job(question="x" * MAX_JOB_BYTES)), "gzip"),
        (a_job(question="x" * MAX_JOB_BYTES), None),
        (gz(NO_JOB[:-1] + b',"x":"' + b"x" * 20_000_000), "gzip"),
        (NO_JOB, "zstd"),
    ],
)
def test_chat_of_a_job_that_cannot_be_read_is_told(body: bytes, encoding: str | None) -> None:
    it = rejected(body, content_encoding=encoding)

    assert (it.job_id, it.chat_id) == ("job", "chat")


@pytest.mark.parametrize("body", [NO_JOB, gz(NO_JOB), gz(NO_JOB.decode().encode("utf-16"))])
def test_chat_of_a_job_that_a_fault_of_ours_ends_is_told(body: bytes) -> None:
    it = faulty(body, MessageFacts(content_encoding="gzip"))

    assert (it.kind, it.job_id, it.chat_id) == (FailureKind.INTERNAL, "job", "chat")


def test_text_of_a_compressed_job_is_held_to_the_limit() -> None:
    it = rejected(gz(a_job().ljust(MAX_JOB_BYTES + 1)), content_encoding="gzip")

    assert it.kind == FailureKind.TOO_LARGE
    assert ticket(gz(a_job().ljust(MAX_JOB_BYTES))).job_id == "job"


@pytest.mark.parametrize(
    ("body", "encoding", "said"),
    [
        (b"\x1b\x2a\x00", "br", "content_encoding says br"),
        (b"\x28\xb5\x2f\xfd", "zstd", "content_encoding says zstd"),
        (b"\x00", "gzip", "content_encoding says gzip, and the body is not"),
        (gz(COMPLETE)[:-5], "gzip", "breaks off"),
        (b"\x00", None, "send one JSON object"),
        (a_job(maxCalls=0), "br", "maxCalls"),
    ],
)
def test_refusal_says_what_is_wrong_with_the_encoding(
    body: bytes, encoding: str | None, said: str
) -> None:
    it = rejected(body, content_encoding=encoding)

    assert it.kind == FailureKind.INVALID_JOB
    assert said in it.message
