"""The endpoint's memory of one call → its answer, and what of it an attempt has not shown yet."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from aimicromind_worker.core.endpoint.frames import EndpointEvent

ANSWER_PARTS: Final = ("sourceDocuments", "usedTools", "artifacts", "fileAnnotations", "action")
"""Events that the endpoint keeps with an answer."""

_NOTHING = (b"", b"null", b"[]", b"{}", b'""')


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """An answer as the endpoint keeps it.

    Attributes:
        message_id: The endpoint's id of it.
        session_id: The conversation it belongs to.
        text: The whole text.
        parts: What came with the text, by the name of its event, as JSON.
    """

    message_id: str
    session_id: str | None
    text: str = field(repr=False)
    parts: Mapping[str, bytes] = field(repr=False)


class _Message(msgspec.Struct):
    role: str = ""
    id: str = ""
    content: str | None = None
    sessionId: str | None = None  # noqa: N815 - the endpoint's name
    sourceDocuments: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the endpoint's name
    usedTools: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the endpoint's name
    artifacts: msgspec.Raw = msgspec.Raw()
    fileAnnotations: msgspec.Raw = msgspec.Raw()  # noqa: N815 - the endpoint's name
    action: msgspec.Raw = msgspec.Raw()


class NotMessages(ValueError):
    """What came is no list of messages."""


def last_message_id(body: bytes) -> str | None:
    """Return the id of the newest message of a chat, empty where there is none.

    Returns:
        None where that message has no id.

    Raises:
        NotMessages: The body is no list of messages.
    """
    messages = _messages(body)
    return (messages[-1].id or None) if messages else ""


def read_saved_answer(
    body: bytes, message_id: str | None = None, after: str = ""
) -> SavedAnswer | None:
    """Find a call's answer among the messages of its own chat.

    Args:
        body: The messages as the endpoint lists them, oldest first. Those after `after` are of
            one call, or `message_id` says which one is meant.
        message_id: The endpoint's id of the answer, where the stream has named it.
        after: The id of the last message before the call; empty: there was none.

    Returns:
        The answer; None as long as there is none.

    Raises:
        NotMessages: The body is anything else.
    """
    messages = _messages(body)
    if after:
        places = [place for place, message in enumerate(messages) if message.id == after]
        messages = messages[places[-1] + 1 :] if places else []
    answers = [
        message
        for message in messages
        if message.role == "apiMessage" and message_id in {None, message.id}
    ]
    if not answers:
        return None
    found = answers[-1]
    parts = {name: bytes(getattr(found, name)) for name in ANSWER_PARTS}
    shown = {name: data for name, data in parts.items() if data not in _NOTHING}
    return SavedAnswer(found.id, found.sessionId, found.content or "", shown)


def _messages(body: bytes) -> list[_Message]:
    try:
        return msgspec.json.decode(body, type=list[_Message])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotMessages from error


def continues(saved: SavedAnswer, text: bytes) -> bool:
    """Return whether an attempt that showed this text, a JSON string, can go on to the answer."""
    return _rest(saved.text, text) is not None


def missing(saved: SavedAnswer, text: bytes, shown: Container[str]) -> Iterator[EndpointEvent]:
    """Yield what the attempt has not shown of a saved answer that continues its text.

    Args:
        saved: The answer.
        text: What the attempt showed, joined, as a JSON string.
        shown: Names of the events that it showed.
    """
    rest = _rest(saved.text, text)
    if rest:
        yield EndpointEvent("token", msgspec.json.encode(rest))
    for name, data in saved.parts.items():
        if name not in shown:
            yield EndpointEvent(name, data)
    if "metadata" not in shown:
        yield EndpointEvent("metadata", msgspec.json.encode(_ids(saved)))


def whole(saved: SavedAnswer, endpoint_chat_id: str) -> bytes:
    """Write a saved answer in the form of the endpoint's JSON answers, as far as it was saved."""
    parts = {name: msgspec.Raw(data) for name, data in saved.parts.items()}
    ids = {"chatId": endpoint_chat_id, **_ids(saved)}
    return msgspec.json.encode({"text": saved.text, **parts, **ids})


def _ids(saved: SavedAnswer) -> dict[str, str]:
    session = {} if saved.session_id is None else {"sessionId": saved.session_id}
    return {"chatMessageId": saved.message_id, **session}


def _rest(saved: str, shown: bytes) -> str | None:
    """Return what follows what was shown; None where the saved text does not begin with it."""
    begun = msgspec.json.decode(shown, type=str)
    if saved.startswith(begun):
        return saved[len(begun) :]
    # The endpoint may save an answer without the space around it.
    over = begun.removeprefix(saved)
    return "" if begun.startswith(saved) and saved and not over.strip() else None
