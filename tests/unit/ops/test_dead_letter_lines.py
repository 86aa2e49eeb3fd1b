from datetime import UTC, datetime

import pytest
from rich.cells import cell_len

from aimicromind_worker.core.dead_letters.dead_event import DeadEvent
from aimicromind_worker.core.dead_letters.dead_letter import Choice, DeadLetter
from aimicromind_worker.ops.dead.choice import AmbiguousId, NoSuchDeadLetter, named_whole
from aimicromind_worker.ops.dead.lines import Lines, total_line

AT = datetime(2026, 11, 26, 19, 3, tzinfo=UTC)
WHY = "the server is over its rate limit: 429 Too Many Requests, try again in some seconds, 多多多"


def a_job(job_id: str = "5f0e7c1a-9b2d", kind: str = "rate_limited", chat: str = "") -> DeadLetter:
    return DeadLetter(job_id, chat or job_id, "91975cee-5a0f", kind, WHY, 3, AT, 100)


def an_event(job_id: str, seq: int) -> DeadEvent:
    event_id = f"{job_id}:1:{seq}"
    return DeadEvent(
        job_id, "chat", "flow", "rejected", WHY, 1, AT, 100, event_id, "token", "billing"
    )


def test_job_is_two_lines_with_the_reason_in_the_second() -> None:
    [first, second] = Lines([a_job(chat="c1")], None).of([a_job(chat="c1")])

    assert first == "5f0e7c1a  2026-11-26 19:03Z  rate_limited  flow 91975cee  chat c1"
    assert second == f"  after 3 attempts: {WHY}"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    letters = [a_job(chat="多" * 100), a_job("x" * 100, "\x1b[31m", "a\nb")]

    lines = Lines(letters, width).of(letters)

    assert len(lines) == 4
    assert max(map(cell_len, lines)) <= width
    assert not any("\x1b" in line or "\n" in line for line in lines)


def test_event_has_the_short_id_of_its_job_and_its_own_number() -> None:
    letters = [an_event("5f0e7c1a-9b2d", 1), an_event("5f0e7c1a-9b2d", 2), an_event("a", 1)]

    lines = Lines(letters, None)

    assert [lines.id_of(it) for it in letters] == ["5f0e7c1a:1:1", "5f0e7c1a:1:2", "a:1:1"]


def test_numbers_are_told_by_kind() -> None:
    letters = [a_job()] * 1200 + [a_job(kind="timeout")]

    assert total_line(letters) == "1,201 dead letters (rate_limited: 1,200, timeout: 1)"
    assert total_line([]) == "0 dead letters"


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ("5f", "5f0e7c1a-9b2d"),
        ("5f:1:2", "5f0e7c1a-9b2d:1:2"),
        ("5f0e7c1a-9b2d:1:1", "5f0e7c1a-9b2d:1:1"),
    ],
)
def test_short_id_is_that_of_a_job_or_of_an_event(given: str, whole: str) -> None:
    letters = [an_event("5f0e7c1a-9b2d", 1), an_event("5f0e7c1a-9b2d", 2), an_event("other", 2)]

    assert named_whole(Choice(job_id=given), letters).job_id == whole


def test_id_that_fits_none_or_several_is_refused() -> None:
    letters = [a_job("order-1"), a_job("order-2")]

    with pytest.raises(AmbiguousId, match="order-1, order-2"):
        named_whole(Choice(job_id="ord"), letters)
    with pytest.raises(NoSuchDeadLetter):
        named_whole(Choice(job_id="x"), letters)


def test_flow_may_be_short_too() -> None:
    assert named_whole(Choice(flow="9197"), [a_job()]).flow == "91975cee-5a0f"
