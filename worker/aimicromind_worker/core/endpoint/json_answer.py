"""Read the JSON answer of a flow that cannot stream as the events that it would have streamed.

The answer may be any JSON value, such as the object, list or number of a Custom Function.
"""

from collections.abc import Iterator

import msgspec

from aimicromind_schemas.wire import load_json
from aimicromind_worker.core.endpoint.content_parts import all_are_parts, text_of_parts
from aimicromind_worker.core.endpoint.errors import EndpointError
from aimicromind_worker.core.endpoint.failures import error_text, failure_of_text
from aimicromind_worker.core.endpoint.frames import EndpointEvent, mended

_BEFORE_METADATA = (
    "sourceDocuments",
    "usedTools",
    "artifacts",
    "fileAnnotations",
    "agentReasoning",
    "action",
)
_METADATA = (
    "chatId",
    "chatMessageId",
    "question",
    "sessionId",
    "memoryType",
    "action",
    "followUpPrompts",
    "flowVariables",
)
# The server adds these to the object of the flow's last node, before or after it saves the answer
# (its utils/buildChatflow.ts).
_ADDED = frozenset(
    {
        *("question", "chatId", "chatMessageId", "followUpPrompts", "isStreamValid"),
        *("sessionId", "memoryType", "flowVariables", "metrics"),
    }
)
# Indentation grows with the depth, thus deep nesting would multiply the length.
_LONGEST_INDENTED = 32 * 1024
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)


class _Told(msgspec.Struct):
    success: object = None
    status: object = None
    error: object = None

    @property
    def failed(self) -> bool:
        return (
            self.success is False or self.status == "error" or self.error == "Unauthorized Access"
        )


def events_of(body: bytes) -> Iterator[EndpointEvent]:
    """Yield the events of a JSON answer: token, events beside it, metadata, end.

    Raises:
        CallFailed: The body is not an answer, or reports an error.
    """
    try:
        whole = _value(body)
        members = _members(whole)
        text = msgspec.json.encode(_text(whole, members))
    except _UNREADABLE as error:
        raise EndpointError("the response is not JSON") from error
    yield EndpointEvent("token", text)
    for name in _BEFORE_METADATA:
        data = bytes(members.get(name, b"null"))
        if data != b"null":
            yield EndpointEvent(name, data)
    kept = {name: members[name] for name in _METADATA if name in members}
    yield EndpointEvent("metadata", msgspec.json.encode(kept))
    yield EndpointEvent("end", b'"[DONE]"')


def readable(body: bytes) -> bytes:
    """Return a JSON answer in valid UTF-8; one that is valid stays as it is."""
    return _value(body)


def _value(body: bytes) -> bytes:
    """Return a JSON value in valid UTF-8, repaired if need be."""
    try:
        body.decode()
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return mended(body)
    return body


def _members(whole: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of an object, none of any other value.

    Raises:
        CallFailed: The object reports an error, in a shape that the vendor's own back end checks.
    """
    if not whole.lstrip().startswith(b"{"):
        return {}
    if msgspec.json.decode(whole, type=_Told).failed:
        raise failure_of_text(error_text(whole))
    return msgspec.json.decode(whole, type=dict[str, msgspec.Raw])


def _text(whole: bytes, members: dict[str, msgspec.Raw]) -> str:
    """Return the text of the answer; another value becomes text as the server saves it."""
    for name in ("text", "json"):
        value = bytes(members.get(name, b"null"))
        if value != b"null":
            return _as_text(value) if name == "text" else value.decode()
    if members:
        own = {name: value for name, value in members.items() if name not in _ADDED}
        return _indented(msgspec.json.encode(own))
    if whole.strip() == b"null":
        raise EndpointError("the response holds no answer")
    return _as_text(whole)


def _as_text(value: bytes) -> str:
    match value.lstrip()[:1]:
        case b'"':
            return msgspec.json.decode(value, type=str)
        case b"[" if all_are_parts(read := load_json(value)):
            return text_of_parts(read) or ""
        case _:
            return _indented(value)


def _indented(value: bytes) -> str:
    """Format JSON as JavaScript's `JSON.stringify(value, null, 2)`; a long value stays as it is."""
    if len(value) > _LONGEST_INDENTED:
        return value.decode()
    return msgspec.json.format(value, indent=2).decode()
