"""A short fuzz run without sockets; `make fuzz` is the long one, with a worker and a broker."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from aimicromind_testing import frame
from tools.fuzz.judge import violations
from tools.fuzz.mutations import Case, case
from tools.fuzz.oracle import expected
from tools.fuzz.report import Report
from tools.fuzz.through_core import through_core

LIMIT = 1024
METADATA = frame("metadata", {"question": "Why?"})
END = frame("end", "[DONE]")


async def test_mutated_recordings_come_to_what_their_bytes_say() -> None:
    report = Report("core")

    with capture_logs():
        await through_core(20_261_122, range(2000), report)

    assert report.wrong == []
    assert {"completed", "stream_cut", "too_large", "no_answer", "stream_mixed"} <= report.endings


def test_number_gives_the_same_case_each_time() -> None:
    assert case(7, 3) == case(7, 3)
    assert len({case(7, number).body for number in range(50)}) > 40


@pytest.mark.parametrize(
    ("body", "ending"),
    [
        (METADATA + END, "completed"),
        (METADATA + END[:-1], "stream_cut"),
        (METADATA, "stream_cut"),
        (END, "no_answer"),
        (METADATA + frame("error", "no") + END, "endpoint_error"),
        (frame("metadata", {"question": "How?"}) + END, "stream_mixed"),
        (b"data: {\n\n" + METADATA + END, "stream_cut"),
        (b":" + b"x" * 2 * LIMIT + b"\n\n" + METADATA + END, "too_large"),
        (frame("token", "x" * 600) * 2 + METADATA + END, "too_large"),
        (METADATA + END + b"x" * 2 * LIMIT, "completed"),
    ],
)
def test_oracle_knows_how_a_stream_ends(body: bytes, ending: str) -> None:
    told = expected(body, "chat", "Why?", LIMIT, LIMIT)

    assert ending in told.endings
    assert told.sure


def test_oracle_tells_what_must_be_shown() -> None:
    body = frame("start", "a") + frame("token", "a") + frame("token", 1) + METADATA + END

    told = expected(body, "chat", "Why?", LIMIT, LIMIT)

    assert told.text == "a"
    other = ("other", {"name": "token", "data": 1})
    metadata = ("metadata", {"question": "Why?", "chatId": "chat"})
    assert told.events == [("token", "a"), other, metadata]


def published(*events: tuple[str, Any]) -> list[dict[str, Any]]:
    return [
        {"event": name, "data": data, "seq": seq, "attempt": 1}
        for seq, (name, data) in enumerate(events)
    ]


SAID = Case("made up", (), frame("token", "a") + METADATA + END, (), "Why?", breaks=False)
START: tuple[str, Any] = ("start", {})
NAMED = {"question": "Why?", "chatId": "chat", "endpointChatId": "call"}
SHOWN = (START, ("token", "a"), ("metadata", NAMED))
ENDED = {"status": "completed", "text": "a", "events": 4}
FAILED = ("error", {"kind": "stream_cut"})


def test_judge_is_content_with_what_was_said() -> None:
    assert list(violations(SAID, "chat", published(*SHOWN, ("end", ENDED)))) == []


@pytest.mark.parametrize(
    "events",
    [
        published(*SHOWN),
        published(*SHOWN, ("end", ENDED), ("end", ENDED)),
        published(*SHOWN[1:], ("end", ENDED | {"events": 3})),
        published(*SHOWN[:2], ("end", ENDED | {"events": 3})),
        published(*SHOWN, FAILED, ("end", ENDED | {"status": "failed", "events": 5})),
        published(*SHOWN, ("end", ENDED | {"text": "b"})),
        published(*SHOWN, ("end", ENDED | {"events": 5})),
        published(*SHOWN, ("end", ENDED | {"status": "failed"})),
        published(START, ("token", "b"), SHOWN[2], ("end", ENDED | {"text": "b"})),
        published(*SHOWN, ("end", ENDED))[1:],
    ],
    ids=[
        *("no end", "two ends", "no start", "an event is missing", "failed", "other text"),
        *("wrong count", "wrong status", "other token", "a gap"),
    ],
)
def test_judge_finds_what_is_wrong(events: list[dict[str, Any]]) -> None:
    assert list(violations(SAID, "chat", events))
