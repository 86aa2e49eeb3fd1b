import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_worker.core.dead_letters.dead_letter import (
    Choice,
    NotReplayable,
    identity,
    read_dead_job,
    replayed,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BODY = b'{"chatflowId":"flow","question":"Why?","jobId":"old","extra":[1]}'
HEADERS = {
    "x-aimicromind-kind": "rate_limited",
    "x-aimicromind-message": "too many",
    "x-aimicromind-attempts": 3,
    "x-aimicromind-failed-at": "2026-01-01T00:00:00+00:00",
}


def again(body: bytes, headers: Mapping[str, object], name: str | None = None) -> tuple[str, bytes]:
    """Replay what is parked."""
    dead = read_dead_job(body, headers, name)
    return replayed(body, dead, identity(body, headers, dead))


def test_parked_job_is_read() -> None:
    dead = read_dead_job(BODY, HEADERS, "message")

    assert (dead.job_id, dead.chat_id, dead.chatflow_id) == ("old", "old", "flow")
    assert (dead.kind, dead.message, dead.attempts) == ("rate_limited", "too many", 3)
    assert dead.failed_at == NOW - timedelta(days=1)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 10_000, b'{"jobId":true}'])
def test_whatever_is_parked_can_be_read(body: bytes) -> None:
    dead = read_dead_job(body, {"x-aimicromind-failed-at": "long ago"}, None)

    assert (dead.job_id, dead.kind, dead.failed_at) == ("", "unknown", None)
    with pytest.raises(NotReplayable):
        again(body, {"x-aimicromind-failed-at": "long ago"})


def test_replayed_job_has_a_new_id_and_is_else_the_same() -> None:
    job_id, body = again(BODY, HEADERS)

    assert job_id != "old"
    assert json.loads(body) == {**json.loads(BODY), "jobId": job_id, "chatId": "old"}


def test_job_that_was_parked_twice_has_the_same_new_id_whenever_it_is_replayed() -> None:
    parked_again = {
        "x-aimicromind-kind": "delivery_limit",
        "x-aimicromind-attempts": 4,
        "x-aimicromind-failed-at": "2026-01-01T00:00:01+00:00",
        "x-delivery-count": 1,
    }

    assert again(BODY, HEADERS) == again(BODY, HEADERS) == again(BODY, parked_again)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (BODY, {**HEADERS, "x-aimicromind-submitted-at": "2026-01-01T00:00:00+00:00"}),
        (BODY.replace(b"Why?", b"How?"), HEADERS),
        (BODY.replace(b"old", b"other"), HEADERS),
    ],
)
def test_job_that_was_submitted_again_or_says_something_else_has_another_new_id(
    body: bytes, headers: dict[str, object]
) -> None:
    assert again(body, headers)[0] != again(BODY, HEADERS)[0]


def test_jobs_without_an_id_are_told_from_each_other_by_the_time_of_their_failure() -> None:
    later = {**HEADERS, "x-aimicromind-failed-at": "2026-01-01T00:00:01+00:00"}
    body = BODY.replace(b'"jobId":"old",', b"")

    assert again(body, HEADERS)[0] != again(body, later)[0]
    assert again(body, HEADERS, "name")[0] == again(body, later, "name")[0]


@pytest.mark.parametrize(
    ("choice", "fits"),
    [
        (Choice(), True),
        (Choice(kind="rate_limited", flow="flow", job_id="old"), True),
        (Choice(kind="rate_limited", flow="other"), False),
        (Choice(older_than=timedelta(days=1)), True),
        (Choice(older_than=timedelta(days=1, seconds=1)), False),
        (Choice(newer_than=timedelta(days=1)), True),
        (Choice(newer_than=timedelta(hours=23)), False),
    ],
)
def test_job_is_chosen_if_all_holds(choice: Choice, *, fits: bool) -> None:
    assert choice.fits(read_dead_job(BODY, HEADERS, None), NOW) is fits


def test_job_of_unknown_age_is_neither_old_nor_new() -> None:
    dead = read_dead_job(BODY, {}, None)

    assert not Choice(older_than=timedelta()).fits(dead, NOW)
    assert not Choice(newer_than=timedelta(days=9)).fits(dead, NOW)


@pytest.mark.parametrize("number", ["12345", "12345.0"])
def test_ids_are_read_as_the_worker_reads_them(number: str) -> None:
    body = b'\xef\xbb\xbf{"chatflowId":"flow","chatId":%b,"jobId":7,"x":NaN' % number.encode()

    dead = read_dead_job(body, HEADERS, None)

    assert (dead.job_id, dead.chat_id, dead.chatflow_id) == ("7", "12345", "flow")


def test_replay_leaves_everything_else_byte_for_byte() -> None:
    body = b'{"question":"\\ud83d", "x" : [1.50, 1e999],"jobId":"old","chatflowId":"f"}\0'

    _, again = replayed(body, read_dead_job(body, HEADERS, None), "same")

    assert b'"question":"\\ud83d", "x" : [1.50, 1e999],"chatflowId":"f"}' in again
