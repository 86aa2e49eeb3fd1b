"""One job as its events tell it."""

from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_schemas import Event, Gap, event_from
from aimicromind_worker.ops.following.job_view import JobView, folded
from tests.unit.ops.test_views import END

BEGAN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def event(at_s: float, name: str, data: object, attempt: int = 1) -> Event:
    names = {"jobId": "job", "chatId": "chat", "chatflowId": "flow", "attempt": attempt}
    time = (BEGAN + timedelta(seconds=at_s)).isoformat()
    return event_from(names | {"seq": 0, "event": name, "data": data, "time": time})


def shown(*events: Event | Gap) -> list[str]:
    job = JobView("job")
    return [line for it in events for line in job.take(it)]


def test_end_tells_when_the_tokens_came_and_how_fast() -> None:
    tokens = [event(1 + number / 2, "token", "word ") for number in range(5)]

    lines = shown(*tokens, event(4, "end", END | {"durationSeconds": 4}))

    assert lines == [
        "12:00:04 5 tokens, 2.0 a second, the first after 1.00 s",
        "12:00:04 end: completed, 1 attempt(s), 1 call(s), 3 events, 4.00 s",
    ]


def test_tokens_of_an_earlier_attempt_do_not_count() -> None:
    again = [event(2, "token", "b", attempt=2), event(3, "end", END, attempt=2)]

    lines = shown(event(0, "token", "a"), event(1, "token", "a"), *again)

    assert "12:00:03 1 token, the first after 0.00 s" in lines


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        ({"tool": "calculator"}, "calculator"),
        (
            {"tool": "calculator", "toolInput": {"input": "6*7"}, "toolOutput": "42"},
            'calculator {"input": "6*7"} → 42',
        ),
        (
            {"tool": "read", "toolOutput": "x" * 1234},
            f"read → {'x' * 80}… (1,234 characters)",
        ),
        ({"tool": "read", "toolOutput": "two\nlines"}, r"read → two\nlines"),
    ],
)
def test_tool_has_its_input_and_output_folded(tool: dict[str, object], line: str) -> None:
    assert shown(event(0, "usedTools", [tool])) == [f"12:00:00 usedTools: {line}"]


def test_question_is_shown_once_the_endpoint_tells_it() -> None:
    lines = shown(event(0, "metadata", {"question": "Why?\nAnd how?"}))

    assert lines == [r"question: Why?\nAnd how?"]


def test_pause_for_a_human_is_told_at_the_end() -> None:
    assert shown(event(0, "end", END | {"waitsFor": "human"}))[-1].endswith("waits for: human")


def test_gap_has_no_time() -> None:
    assert shown(Gap("job", "chat", 1, range(2, 5))) == ["3 events are missing here"]


def test_short_text_is_not_folded() -> None:
    assert folded("x" * 80) == "x" * 80
