"""Frame → endpoint event: its name and its data as JSON, from either wire form.

The endpoint writes `data:{"event":NAME,"data":DATA}`; its public documentation also shows
`event: NAME` with plain data. What an event does to the answer is left to `answer`.
"""

import json
import re
from typing import Annotated, Final

import msgspec

from aimicromind_schemas import EVENT_NAMES
from aimicromind_schemas.odd_json import whole_number
from aimicromind_schemas.wire import json_text, load_json, refuse_constant
from aimicromind_worker.core.endpoint.content_parts import text_of_parts
from aimicromind_worker.core.endpoint.errors import StreamCut
from aimicromind_worker.core.endpoint.sse import Frame, LargeFrame

NEVER_LEFT_OUT: Final = frozenset({"token", "metadata", "error", "end"})
"""Events without whose data an answer is not what the endpoint said."""

_ENVELOPE_BEGINS = re.compile(
    rb'\s*\{\s*"event"\s*:\s*("(?:[^"\\]|\\.)+")\s*(?:,\s*"data"\s*:\s*)?', re.DOTALL
)
_LENIENT = json.JSONDecoder(parse_constant=refuse_constant, parse_int=whole_number, strict=False)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN_TEXT = frozenset({"token", "error", "start", "thinking"})
# What servers and proxies send to keep a connection open, and how OpenAI's streams end.
_NOTHING = re.compile(
    rb'\s*(?:\{\s*\}|\[\s*\]|null|""|"?\[DONE\]"?|ping|heartbeat|keep-?alive)?\s*', re.IGNORECASE
)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class EndpointEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of the endpoint.

    Attributes:
        name: As the endpoint wrote it; any name is possible.
        data: JSON in valid UTF-8, byte for byte as the endpoint wrote it wherever it can be.
        duration: JSON of the member that a `thinking` event has beside its data, else empty.
        renamed: Whether the endpoint called it otherwise.
        truncated_bytes: How large the data was, where it is null since it was too large; else 0.
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
    """Return whether an answer can do without a large frame's data, by its beginning."""
    named = _name_by(beginning)
    return named is not None and named[0] not in NEVER_LEFT_OUT


def read_frame(frame: Frame | LargeFrame) -> EndpointEvent | None:
    """Read one frame. A `token` has a JSON string as data, always.

    Returns:
        None where the frame says nothing, as one that keeps the connection open.

    Raises:
        StreamCut: The frame is neither of the two wire forms; what it said is lost, so the
            answer cannot be whole.
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
    """Return an event without its data, which was so large."""
    return EndpointEvent(
        event.name, b"null", renamed=event.renamed, truncated_bytes=max(size_bytes, 1)
    )


def wrapped(name: str, data: bytes, truncated_bytes: int = 0) -> EndpointEvent:
    """Return an event that may not keep its own name the name `other`."""
    if truncated_bytes:
        return EndpointEvent("other", b"null", renamed=True, truncated_bytes=truncated_bytes)
    data = b'{"name":%b,"data":%b}' % (msgspec.json.encode(name), data)
    return EndpointEvent("other", data, renamed=True)


def mended(data: bytes) -> bytes:
    """Write as JSON what is not quite: bad UTF-8, lone surrogates, raw control characters.

    WHATWG Encoding replaces what is not UTF-8 by U+FFFD; so do we.

    Raises:
        ValueError: It is further from JSON than that.
        RecursionError: It is nested too deeply.
    """
    return _json(_LENIENT.decode(data.decode(errors="replace")))


def _name_by(beginning: bytes) -> tuple[str, int] | None:
    """Find a frame's name in either wire form, and how many bytes are none of its data."""
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
    # Behind the data stands the brace that ends the envelope.
    return _LONE_SURROGATE.sub("\ufffd", name), place + begun.end() + 1


def _without_data(frame: LargeFrame) -> EndpointEvent:
    named = _name_by(frame.beginning)
    if named is None:
        raise StreamCut(f"a frame of {frame.size_bytes} bytes is not an event")
    name, beside_bytes = named
    return left_out(EndpointEvent(name, b""), frame.size_bytes - beside_bytes)


def _plain(frame: Frame) -> EndpointEvent | None:
    """Read the form `event: NAME`, whose data is text, or JSON where the name means structure."""
    name = frame.event.decode(errors="replace")
    text = frame.data.decode(errors="replace")
    # WHATWG HTML 9.2.6: an event without data is not dispatched; our names mean something alone.
    if not text.strip() and name not in EVENT_NAMES:
        return None
    if name not in _PLAIN_TEXT:
        try:
            return EndpointEvent(name, _json(load_json(text.encode())))
        except (ValueError, RecursionError):
            pass
    return EndpointEvent(name, _json(text))


def _duration(envelope: _Envelope) -> bytes:
    """Find how long the model thought; what is no time, or stands elsewhere, is left out."""
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
