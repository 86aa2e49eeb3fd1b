import json
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_worker.core.dead_job import Choice, NotReplayable, read_dead_job, replayed

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BODY = b'{"chatflowId":"flow","question":"Why?","jobId":"old","extra":[1]}'
HEADERS = {
    "x-aimicromind-kind": "rate_limited",
    "x-aimicromind-message": "too many",
    "x-aimicromind-attempts": 3,
    "x-aimicromind-failed-at": "2026-01-01T00:00:00+00:00",
}


def test_parked_job_is_read() -> None:
    dead = read_dead_job(BODY, HEADERS, "message")

    assert (dead.job_id, dead.chat_id, dead.chatflow_id) == ("old", "old", "flow")
    assert (dead.kind, dead.message, dead.attempts) == ("rate_limited", "too many", 3)
    assert dead.failed_at == NOW - timedelta(days=1)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"[" * 10_000, b'{"jobId":1}'])
def test_whatever_is_parked_can_be_read(body: bytes) -> None:
    dead = read_dead_job(body, {"x-aimicromind-failed-at": "long ago"}, None)

    assert (dead.job_id, dead.kind, dead.failed_at) == ("", "unknown", None)
    with pytest.raises(NotReplayable):
        replayed(body, dead)


def test_replayed_job_has_a_new_id_and_is_else_the_same() -> None:
    job_id, body = replayed(BODY, read_dead_job(BODY, HEADERS, None))

    assert job_id != "old"
    assert json.loads(body) == {**json.loads(BODY), "jobId": job_id, "chatId": "old"}


def test_job_replayed_again_has_the_same_id_and_one_that_failed_again_another() -> None:
    dead = read_dead_job(BODY, HEADERS, None)
    later = {**HEADERS, "x-aimicromind-failed-at": "2026-01-01T00:00:01+00:00"}

    assert replayed(BODY, dead) == replayed(BODY, dead)
    assert replayed(BODY, read_dead_job(BODY, later, None))[0] != replayed(BODY, dead)[0]


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
