"""The JSON answer of a flow that cannot stream → the events it would have streamed."""

from collections.abc import Iterator

import msgspec

from aimicromind_worker.core.errors import EndpointError
from aimicromind_worker.core.frames import EndpointEvent, mended

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


def events_of(body: bytes) -> Iterator[EndpointEvent]:
    """Read a whole JSON answer as if it had been streamed: token, its companions, metadata, end.

    Raises:
        EndpointError: The body is not an answer.
    """
    try:
        members = _members(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise EndpointError("the response is not a JSON object") from error
    yield EndpointEvent("token", _text(members))
    for name in _BEFORE_METADATA:
        data = bytes(members.get(name, b"null"))
        if data != b"null":
            yield EndpointEvent(name, data)
    kept = {name: members[name] for name in _METADATA if name in members}
    yield EndpointEvent("metadata", msgspec.json.encode(kept))
    yield EndpointEvent("end", b'"[DONE]"')


def readable(body: bytes) -> bytes:
    """Return a JSON answer as JSON in valid UTF-8; one that is so already stays as it is."""
    try:
        _read(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return mended(body)
    return body


def _read(body: bytes) -> dict[str, msgspec.Raw]:
    body.decode()
    return msgspec.json.decode(body, type=dict[str, msgspec.Raw])


def _members(body: bytes) -> dict[str, msgspec.Raw]:
    """Read the object's members; half an emoji in one of them costs no more than itself."""
    try:
        return _read(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _read(mended(body))


def _text(members: dict[str, msgspec.Raw]) -> bytes:
    """Find the answer's text; a flow that answers with structure has it under `json`."""
    try:
        if "text" in members:
            return msgspec.json.encode(msgspec.json.decode(members["text"], type=str))
        if "json" in members:
            return msgspec.json.encode(bytes(members["json"]).decode())
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EndpointError("the answer's text is not a string") from error
    raise EndpointError("the JSON response holds no answer")
