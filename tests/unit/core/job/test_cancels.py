from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import CancelRequest, ChatCancel, JobCancel
from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.cancels import Cancels, covers
from aimicromind_worker.core.job.message_facts import MessageFacts
from tests.support.builders import MODERATE, a_ticket

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)
moments = st.integers(-3_000_000, 3_000_000).map(lambda number: NOON + number * MICROSECOND)
few_ids = st.sampled_from(["a", "b", "c"])
few_requests = st.builds(JobCancel, few_ids) | st.builds(
    ChatCancel, few_ids, st.integers(0, 5).map(lambda number: NOON + number * SECOND)
)


def submitted(at: datetime | None, **fields: object) -> Ticket:
    return a_ticket(MessageFacts(submitted_at=at), **fields)


@pytest.mark.parametrize("taken_before", [True, False])
@pytest.mark.parametrize("at", [None, NOON])
def test_request_by_job_covers_that_job_whenever_it_came(
    at: datetime | None,
    taken_before: bool,  # noqa: FBT001 - given by pytest
) -> None:
    assert covers(JobCancel("job"), submitted(at), taken_before=taken_before)
    assert not covers(JobCancel("other"), submitted(at), taken_before=taken_before)


@pytest.mark.parametrize("taken_before", [True, False])
@pytest.mark.parametrize(
    ("at", "covered"),
    [(NOON - MICROSECOND, True), (NOON, True), (NOON + MICROSECOND, False)],
)
def test_request_by_chat_covers_what_was_submitted_up_to_its_time(
    at: datetime,
    covered: bool,  # noqa: FBT001 - given by pytest
    taken_before: bool,  # noqa: FBT001 - given by pytest
) -> None:
    request = ChatCancel("chat", NOON)

    assert covers(request, submitted(at), taken_before=taken_before) == covered
    assert not covers(request, submitted(at, chatId="other"), taken_before=taken_before)


@given(moments, moments)
def test_whole_second_never_spares_a_job_that_was_submitted_before(
    job_at: datetime, cancel_at: datetime
) -> None:
    exact = submitted(job_at)
    rounded = submitted(job_at.replace(microsecond=0))
    request = ChatCancel("chat", cancel_at)

    if covers(request, exact, taken_before=False):
        assert covers(request, rounded, taken_before=False)
    if covers(request, rounded, taken_before=False):
        assert job_at < cancel_at + SECOND


@pytest.mark.parametrize("taken_before", [True, False])
def test_job_of_unknown_time_is_covered_if_it_was_taken_before(
    taken_before: bool,  # noqa: FBT001 - given by pytest
) -> None:
    request = ChatCancel("chat", NOON)

    assert covers(request, submitted(None), taken_before=taken_before) == taken_before


def test_job_without_a_chat_is_covered_by_its_own_id() -> None:
    assert covers(ChatCancel("job", NOON), submitted(NOON, chatId=None), taken_before=False)


@MODERATE
@given(st.lists(few_requests, max_size=12), few_ids, few_ids, st.integers(-1, 6))
def test_what_is_kept_covers_what_any_request_did(
    requests: list[CancelRequest], job_id: str, chat_id: str, second: int
) -> None:
    cancels = Cancels()
    for request in requests:
        cancels.keep(request, NOON)
    ticket = submitted(NOON + second * SECOND, jobId=job_id, chatId=chat_id)

    assert cancels.cover(ticket) == any(
        covers(request, ticket, taken_before=False) for request in requests
    )
    assert len(cancels) <= 6


def test_oldest_requests_go_first() -> None:
    cancels = Cancels(most=2)
    for job_id in ("first", "second", "first", "third"):
        cancels.keep(JobCancel(job_id), NOON)

    kept = [it for it in ("first", "second", "third") if cancels.cover(submitted(None, jobId=it))]
    assert kept == ["first", "third"]


def test_requests_grow_too_old() -> None:
    cancels = Cancels(kept_for=timedelta(hours=1))
    cancels.keep(JobCancel("old"), NOON)
    cancels.keep(JobCancel("new"), NOON + timedelta(minutes=59))
    cancels.keep(JobCancel("newest"), NOON + timedelta(minutes=61))

    assert not cancels.cover(submitted(None, jobId="old"))
    assert cancels.cover(submitted(None, jobId="new"))
    assert len(cancels) == 2
