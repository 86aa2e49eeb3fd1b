import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.core.endpoint.saved_answer import (
    NotMessages,
    SavedAnswer,
    continues,
    missing,
    read_saved_answer,
)
from tests.support.builders import MODERATE

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def messages(*answers: str | None, **parts: Any) -> bytes:  # noqa: ANN401 - JSON
    listed: list[dict[str, Any]] = [
        {"id": "q", "role": "userMessage", "content": "Why?", "chatId": "c", "sessionId": "s"}
    ]
    for number, content in enumerate(answers):
        said = {"id": f"a{number}", "role": "apiMessage", "content": content, "sessionId": "s"}
        listed.append(said | parts)
    return json.dumps(listed).encode()


def saved(text: str, **parts: bytes) -> SavedAnswer:
    return SavedAnswer("a0", "s", text, parts)


def shown(answer: SavedAnswer, text: str = "", *names: str) -> list[tuple[str, Any]]:
    events = missing(answer, json.dumps(text).encode(), names)
    return [(event.name, json.loads(event.data)) for event in events]


def test_answer_that_is_not_saved_yet_is_none() -> None:
    assert read_saved_answer(b"[]") is None
    assert read_saved_answer(messages()) is None


def test_answer_is_read_with_what_came_with_it() -> None:
    used = [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}]

    found = read_saved_answer(messages("Once upon", usedTools=used, artifacts=None, action={}))

    assert found is not None
    assert (found.message_id, found.session_id, found.text) == ("a0", "s", "Once upon")
    assert {name: json.loads(data) for name, data in found.parts.items()} == {"usedTools": used}


def test_answer_that_the_stream_named_is_taken_and_no_other() -> None:
    body = messages("first", "second")

    first, unknown = read_saved_answer(body, "a0"), read_saved_answer(body, "gone")

    assert first is not None
    assert first.text == "first"
    assert unknown is None


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[1]", b'"x"', b"\xff", b"[" * 100_000])
def test_anything_else_is_no_messages(body: bytes) -> None:
    with pytest.raises(NotMessages):
        read_saved_answer(body)


def test_only_what_was_not_shown_is_missing() -> None:
    answer = saved("Once upon a time", usedTools=b'[{"tool":"x"}]', sourceDocuments=b'["d"]')

    assert shown(answer, "Once upon", "start", "token", "sourceDocuments") == [
        ("token", " a time"),
        ("usedTools", [{"tool": "x"}]),
        ("metadata", {"chatMessageId": "a0", "sessionId": "s"}),
    ]


def test_nothing_is_missing_of_what_was_shown_whole() -> None:
    assert shown(saved("Once"), "Once", "metadata") == []


@MODERATE
@given(begin=texts, rest=texts)
def test_text_shown_and_text_missing_are_the_saved_text(begin: str, rest: str) -> None:
    answer = saved(begin + rest)

    assert continues(answer, json.dumps(begin).encode())
    tokens = [data for name, data in shown(answer, begin) if name == "token"]
    assert "".join([begin, *tokens]) == begin + rest


@pytest.mark.parametrize(
    ("text", "begun", "goes_on"),
    [
        ("Once", "Twice", False),
        ("Once", "Once upon", False),
        ("Once", "Once \n", True),
        ("", "Once", False),
        ("", " ", False),
        ("Once", "", True),
        ("😀 ok", "😀", True),
    ],
)
def test_saved_answer_continues_only_what_it_begins_with(
    text: str,
    begun: str,
    goes_on: bool,  # noqa: FBT001 - given by pytest
) -> None:
    assert continues(saved(text), json.dumps(begun).encode()) is goes_on
