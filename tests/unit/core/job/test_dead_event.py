from datetime import UTC, datetime

from aimicromind_worker.core.dead_letters.dead_event import event_identity, read_dead_event

AT = datetime(2026, 1, 1, tzinfo=UTC)
BODY = b'{"jobId":"job","chatId":"chat","chatflowId":"flow","event":"end"}'
DEATH = {"reason": "rejected", "queue": "billing", "count": 2, "time": AT}


def test_event_that_the_broker_dead_lettered_has_its_reason_and_queue() -> None:
    dead = read_dead_event(BODY, {"x-death": [DEATH]}, "job:end")

    assert (dead.job_id, dead.chat_id, dead.event, dead.id) == ("job", "chat", "end", "job:end")
    assert (dead.kind, dead.queue, dead.attempts, dead.failed_at) == ("rejected", "billing", 2, AT)
    assert dead.message == "the queue billing dead-lettered it: rejected"


def test_headers_of_the_consumer_go_before_those_of_the_broker() -> None:
    told = {
        "x-aimicromind-kind": "handler_failed",
        "x-aimicromind-message": "no such invoice",
        "x-aimicromind-queue": "invoices",
        "x-aimicromind-attempts": 5,
    }

    dead = read_dead_event(BODY, {"x-death": [DEATH], **told}, "job:end")

    assert (dead.kind, dead.message, dead.queue, dead.attempts) == (
        *("handler_failed", "no such invoice", "invoices"),
        5,
    )


def test_whatever_is_in_the_queue_can_be_read() -> None:
    dead = read_dead_event(b"\xff", {"x-death": "none"}, None)

    assert (dead.job_id, dead.kind, dead.queue, dead.failed_at) == ("", "unknown", "", None)


def test_same_event_of_two_queues_is_two_dead_letters() -> None:
    one, other = (
        read_dead_event(BODY, {"x-death": [DEATH | {"queue": queue}]}, "job:end")
        for queue in ("billing", "audit")
    )

    assert event_identity(BODY, one) != event_identity(BODY, other)
