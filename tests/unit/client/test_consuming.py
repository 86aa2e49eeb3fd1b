import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from pamqp import commands
from pamqp.header import ContentHeader

from aimicromind_schemas import Names
from aimicromind_schemas.client import ConsumerFailureKind, ConsumerOptions
from aimicromind_schemas.client.consuming.failures import (
    Failure,
    attempts_before,
    failed,
    returns_of,
)
from aimicromind_schemas.client.consuming.queues import ConsumerQueues
from aimicromind_schemas.client.consuming.stopping import stopped_by_sigterm
from tests.support.waiting import until

HANDLER_FAILED = ConsumerFailureKind.HANDLER_FAILED


def delivered(headers: dict[str, Any] | None) -> DeliveredMessage:
    properties = commands.Basic.Properties(headers=headers, message_id="job:end")
    header = ContentHeader(properties=properties)
    deliver = commands.Basic.Deliver("tag", 1, False, "exchange", "key")  # noqa: FBT003
    return DeliveredMessage(delivery=deliver, header=header, body=b"{}", channel=None)  # type: ignore[arg-type]


def fails() -> None:
    raise ValueError("s3cr3t")


def test_failed_event_keeps_no_header_that_could_harm() -> None:
    harmful = {"CC": ["x"], "x-death": [{"count": 1}], "traceparent": "y" * 2000, "seq": 2**70}

    message = failed(
        delivered({**harmful, "attempt": 2}), Failure(HANDLER_FAILED, "no\ud800"), 3, "queue"
    )

    headers = dict(message.headers)
    at = datetime.fromisoformat(str(headers.pop("x-aimicromind-failed-at")))
    assert datetime.now(UTC) - at < timedelta(minutes=1)
    assert headers == {
        "attempt": 2,
        "x-aimicromind-kind": "handler_failed",
        "x-aimicromind-message": "no?",
        "x-aimicromind-attempts": 3,
        "x-aimicromind-queue": "queue",
    }
    assert message.message_id == "job:end"


@pytest.mark.parametrize("value", [None, "3", -1, {}, []])
def test_odd_count_is_none(value: object) -> None:
    odd = delivered({"x-aimicromind-attempts": value, "x-delivery-count": value})

    assert (attempts_before(odd), returns_of(odd)) == (0, 0)


def test_log_says_where_a_handler_failed_and_quotes_nothing() -> None:
    with pytest.raises(ValueError, match="s3cr3t") as raised:
        fails()

    failure = Failure.of(raised.value, HANDLER_FAILED)

    assert failure.message == "ValueError: s3cr3t"
    assert failure.where.startswith("ValueError at test_consuming.py:")
    assert "s3cr3t" not in failure.where


def test_delays_follow_each_other_and_end() -> None:
    options = ConsumerOptions(retry_after=[timedelta(seconds=1), timedelta(milliseconds=2500)])
    queues = ConsumerQueues(Names(), "billing", options, ["end"])

    delays = [queues.delay(attempts) for attempts in (1, 2, 3)]

    assert delays == [
        "aimicromind.consumers.billing.delay.1",
        "aimicromind.consumers.billing.delay.2.5",
        None,
    ]


@pytest.mark.parametrize("name", ["", "a.b", "a b", "x" * 65])
def test_odd_name_of_a_consumer_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the consumer's name is"):
        Names().consumer(name)


@pytest.mark.parametrize(
    "odd",
    [
        {"at_once": 0},
        {"max_bytes": 0},
        {"time_limit": timedelta()},
        {"drain": timedelta(seconds=-1)},
        {"retry_after": [timedelta()]},
    ],
)
def test_odd_option_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ConsumerOptions(**odd)


async def test_sigterm_stops_all_consumers_of_the_process() -> None:
    stopped: list[str] = []
    with (
        stopped_by_sigterm(lambda: stopped.append("one")),
        stopped_by_sigterm(lambda: stopped.append("other")),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: len(stopped) == 2)

    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_handler_of_the_program_keeps_sigterm() -> None:
    seen: list[int] = []
    stopped: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with stopped_by_sigterm(lambda: stopped.append("one")):
            os.kill(os.getpid(), signal.SIGTERM)
            await until(lambda: seen)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert not stopped
