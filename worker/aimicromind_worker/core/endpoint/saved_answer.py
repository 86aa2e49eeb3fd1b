"""Find a call's answer among saved messages, and the events that an attempt has not yet published.

Invariants:

- Where the last message before the call is known, only messages behind it count.
- A saved answer continues an attempt only if its text begins with what the attempt published.
- What continues an attempt is published once: the rest of the text, then missing parts, metadata.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from aimicromind_worker.core.endpoint.frames import EndpointEvent

ANSWER_PARTS: Final = ("sourceDocuments", "usedTools", "artifacts", "fileAnnotations", "action")
"""Events whose data the endpoint saves with an answer."""

_NOTHING = (b"", b"null", b"[]", b"{}", b'""')


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """An answer as the endpoint saved it.

    Attributes:
        message_id: The endpoint's id of the answer.
        session_id: The conversation.
        text: The whole text.
        parts: Data of the events beside the text, as JSON, by event name.
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
    """The body is not a list of messages."""


def last_message_id(body: bytes) -> str | None:
    """Return the id of the newest message of a chat.

    Returns:
        Empty for a chat without messages; None where the newest message has no id.

    Raises:
        NotMessages: The body is not a list of messages.
    """
    messages = _messages(body)
    return (messages[-1].id or None) if messages else ""


def read_saved_answer(
    body: bytes, message_id: str | None = None, after: str = ""
) -> SavedAnswer | None:
    """Find a call's answer among the messages of its own chat.

    Args:
        body: List of messages, oldest first. Those after `after` must be of one call, unless
            `message_id` names the answer.
        message_id: The endpoint's id of the answer, if the stream has named it.
        after: Id of the last message before the call; empty if there was none.

    Returns:
        The answer; None while there is none.

    Raises:
        NotMessages: The body is not a list of messages.
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
    """Return whether a saved answer continues this text, a JSON string."""
    return _rest(saved.text, text) is not None


def missing(saved: SavedAnswer, text: bytes, shown: Container[str]) -> Iterator[EndpointEvent]:
    """Yield the events of a saved answer that an attempt has not published.

    Args:
        saved: An answer that continues the attempt's text.
        text: Tokens that the attempt published, joined, as a JSON string.
        shown: Names of the events that it published.
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
    """Return a saved answer in the form of a JSON answer; what was not saved is missing."""
    parts = {name: msgspec.Raw(data) for name, data in saved.parts.items()}
    ids = {"chatId": endpoint_chat_id, **_ids(saved)}
    return msgspec.json.encode({"text": saved.text, **parts, **ids})


def _ids(saved: SavedAnswer) -> dict[str, str]:
    session = {} if saved.session_id is None else {"sessionId": saved.session_id}
    return {"chatMessageId": saved.message_id, **session}


def _rest(saved: str, shown: bytes) -> str | None:
    """Return the text behind what was published; None where the saved text begins otherwise."""
    begun = msgspec.json.decode(shown, type=str)
    if saved.startswith(begun):
        return saved[len(begun) :]
    # The endpoint may save an answer without the white space around it.
    over = begun.removeprefix(saved)
    return "" if begun.startswith(saved) and saved and not over.strip() else None
