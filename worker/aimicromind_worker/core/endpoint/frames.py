"""Read the name and the data of one event from a frame, in either of two wire forms.

The endpoint writes `data:{"event":NAME,"data":DATA}`; its public documentation also shows
`event: NAME` with plain data. `answer.py` decides what the event means.

Invariants:

- Data is valid JSON in UTF-8: the bytes of the endpoint where they are valid, else repaired.
- The data of a `token` is always a JSON string.
- A frame that is no event fails the call. None is dropped, except those that say nothing.
- Only events outside `NEVER_LEFT_OUT` may lose their data because of its size.
"""

import json
import re
from typing import Annotated, Final

import msgspec

from aimicromind_schemas import EVENT_NAMES
from aimicromind_schemas.odd_json import whole_number
from aimicromind_schemas.wire import json_text, load_json, refuse_constant
from aimicromind_worker.core.endpoint.content_parts import text_of_parts
from aimicromind_worker.core.endpoint.errors import FrameTooLarge, StreamCut
from aimicromind_worker.core.endpoint.sse import Frame, LargeFrame

NEVER_LEFT_OUT: Final = frozenset({"token", "metadata", "error", "end"})
"""Events whose data an answer cannot do without."""

MOST_DATA_BYTES: Final = 12 * 1024 * 1024
"""Repairing invalid JSON makes data longer, and a message must stay below the broker's 16 MiB."""

_ENVELOPE_BEGINS = re.compile(
    rb'\s*\{\s*"event"\s*:\s*("(?:[^"\\]|\\.)+")\s*(?:,\s*"data"\s*:\s*)?', re.DOTALL
)
_LENIENT = json.JSONDecoder(parse_constant=refuse_constant, parse_int=whole_number, strict=False)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_TEXT = frozenset({"token", "error", "start", "thinking"})
# Frames that keep a connection open, and the end of OpenAI's streams.
_NOTHING = re.compile(
    rb'\s*(?:\{\s*\}|\[\s*\]|null|""|"?\[DONE\]"?|ping|heartbeat|keep-?alive)?\s*', re.IGNORECASE
)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class EndpointEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of the endpoint.

    Attributes:
        name: Any name that the endpoint wrote, or `other`.
        data: JSON in valid UTF-8, byte for byte as the endpoint wrote it where that is valid.
        duration: JSON of the member `duration` of a `thinking` event, else empty.
        renamed: Whether the endpoint wrote another name.
        truncated_bytes: Size of data that was too large, in whose place is null; else 0.
    """

    name: str
    data: bytes
    duration: bytes = b""
    renamed: bool = False
    truncated_bytes: int = 0


class _Envelope(msgspec.Struct):
    event: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    duration: msgspec.Raw = msgspec.Raw(b"")


_envelope = msgspec.json.Decoder(_Envelope).decode
_string = msgspec.json.Decoder(str).decode
_seconds = msgspec.json.Decoder(Annotated[float, msgspec.Meta(ge=0)]).decode


def may_leave_out(beginning: bytes) -> bool:
    """Return whether a large frame may lose its data, judged by its beginning."""
    named = _name_by(beginning)
    return named is not None and named[0] not in NEVER_LEFT_OUT


def read_frame(frame: Frame | LargeFrame) -> EndpointEvent | None:
    """Read one frame.

    Returns:
        None for a frame that says nothing, such as one that keeps the connection open.

    Raises:
        StreamCut: The frame has neither wire form. Its content is lost, thus the answer is
            incomplete.
    """
    if isinstance(frame, LargeFrame):
        return _without_data(frame)
    if frame.event not in {b"", b"message"}:
        return _plain(frame)
    try:
        envelope = _envelope(frame.data)
        if envelope.event == "token":
            _string(envelope.data)
            return EndpointEvent("token", bytes(envelope.data))
        data = bytes(envelope.data)
        data.decode()
        return EndpointEvent(envelope.event, data, _duration(envelope))
    except _UNREADABLE:
        return _repaired(frame.data)


def left_out(event: EndpointEvent, size_bytes: int) -> EndpointEvent:
    """Return an event without its data.

    Args:
        event: With its name.
        size_bytes: Size of the data.
    """
    return EndpointEvent(
        event.name, b"null", renamed=event.renamed, truncated_bytes=max(size_bytes, 1)
    )


def fitting(event: EndpointEvent) -> EndpointEvent:
    """Return an event without its data, or unchanged if an answer needs that data.

    Raises:
        FrameTooLarge: The needed data does not fit into a message.
    """
    if event.name not in NEVER_LEFT_OUT and event.name != "start":
        return left_out(event, len(event.data))
    if len(event.data) > MOST_DATA_BYTES:
        raise FrameTooLarge(MOST_DATA_BYTES)
    return event


def wrapped(name: str, data: bytes, truncated_bytes: int = 0) -> EndpointEvent:
    """Return an event that cannot keep its name as `other`, with the name in its data."""
    if truncated_bytes:
        return EndpointEvent("other", b"null", renamed=True, truncated_bytes=truncated_bytes)
    data = b'{"name":%b,"data":%b}' % (msgspec.json.encode(name), data)
    return EndpointEvent("other", data, renamed=True)


def mended(data: bytes) -> bytes:
    """Repair JSON with invalid UTF-8, lone surrogates or raw control characters.

    Invalid UTF-8 becomes U+FFFD, as in WHATWG Encoding.

    Raises:
        ValueError: The data differs from JSON in another way.
        RecursionError: The data is nested too deeply.
    """
    return _json(_LENIENT.decode(data.decode(errors="replace")))


def _name_by(beginning: bytes) -> tuple[str, int] | None:
    """Return the name in a frame's beginning, and the number of bytes outside of its data."""
    event, place = b"", 0
    for line in beginning.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"event":
            event = value.removeprefix(b" ")
        if field == b"data":
            place += len(line) - len(value)
            break
        place += len(line) + 1
    else:
        return None
    if event not in {b"", b"message"}:
        return event.decode(errors="replace"), place
    begun = _ENVELOPE_BEGINS.match(value)
    if begun is None:
        return None
    try:
        name = json.loads(begun[1].decode(errors="replace"), strict=False)
    except ValueError:
        return None
    # One more byte: the brace behind the data, which ends the envelope.
    return _LONE_SURROGATE.sub("\ufffd", name), place + begun.end() + 1


def _without_data(frame: LargeFrame) -> EndpointEvent:
    named = _name_by(frame.beginning)
    if named is None:
        raise StreamCut(f"a frame of {frame.size_bytes} bytes is not an event")
    name, beside_bytes = named
    return left_out(EndpointEvent(name, b""), frame.size_bytes - beside_bytes)


def _plain(frame: Frame) -> EndpointEvent | None:
    """Read the form `event: NAME`; its data is text, or JSON for names that mean structure."""
    name = frame.event.decode(errors="replace")
    text = frame.data.decode(errors="replace")
    # WHATWG HTML 9.2.6 drops an event without data, but a known name alone says something.
    if not text.strip() and name not in EVENT_NAMES:
        return None
    if name not in _PLAIN_TEXT:
        try:
            return EndpointEvent(name, _json(load_json(text.encode())))
        except (ValueError, RecursionError):
            pass
    return EndpointEvent(name, _json(text))


def _duration(envelope: _Envelope) -> bytes:
    """Return the time that the model thought, in seconds as JSON; empty if there is none."""
    if envelope.event != "thinking":
        return b""
    try:
        _seconds(envelope.duration)
    except msgspec.DecodeError:
        return b""
    return bytes(envelope.duration)


def _repaired(data: bytes) -> EndpointEvent | None:
    if _NOTHING.fullmatch(data):
        return None
    try:
        envelope = _envelope(mended(data))
    except (ValueError, *_UNREADABLE) as error:
        raise StreamCut(f"a frame of {len(data)} bytes is not an event") from error
    content = bytes(envelope.data)
    if envelope.event == "token" and not content.startswith(b'"'):
        text = text_of_parts(_LENIENT.decode(content.decode()))
        if text is None:
            return wrapped("token", content)
        return EndpointEvent("token", msgspec.json.encode(text))
    return EndpointEvent(envelope.event, content, _duration(envelope))


def _json(value: object) -> bytes:
    return _LONE_SURROGATE.sub("\ufffd", json_text(value)).encode()
