"""Compute the events and the ending that a stream must lead to, with no code of the worker."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from tools.fuzz.plain_frames import blocks, event_in, name_of_large

_ERROR_KINDS = frozenset(
    {
        *("unauthorized", "forbidden", "chatflow_not_found", "bad_request", "rate_limited"),
        *("endpoint_unavailable", "endpoint_error"),
    }
)
_LONGEST_KEY_BYTES = 255
_UNESCAPED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
# A frame with one of these names, or without a name, fails the job if it is too large.
_NEEDED = (None, "token", "metadata", "error", "end")
_MOST_TIMES = 64
# Whether line ends count for a frame's length is not specified.
_NEAR_BYTES = 2


@dataclass(slots=True)
class Expected:
    """Events and ending that a stream must lead to.

    Attributes:
        endings: `completed`, or the kinds of error that are correct.
        events: Name and data of each event to publish, without `start`, `error` and `end`.
        text: The tokens, joined.
        sure: False where a length is so near to a limit that `too_large` is correct, too.
    """

    endings: frozenset[str] = frozenset({"stream_cut"})
    events: list[tuple[str, Any]] = field(default_factory=list)
    text: str = ""
    sure: bool = True


def expected(
    body: bytes, chat_id: str, question: str, max_frame_bytes: int, max_answer_bytes: int
) -> Expected:
    """Read a whole stream.

    Args:
        body: Bytes of the stream, in UTF-8 or not.
        chat_id: The chat; names of events must fit into its routing keys.
        question: The question of the job.
        max_frame_bytes: Limit of one frame.
        max_answer_bytes: Limit of the text, as JSON without its quotes.
    """
    reader = _StreamReader(
        chat_id, question, max_answer_bytes, escaped=b"\\u" in body or b"\\/" in body
    )
    found = reader.expected
    for lines, whole in blocks(body):
        size = sum(len(line) + 1 for line in lines)
        name = name_of_large(lines) if size > max_frame_bytes - _NEAR_BYTES else None
        if (
            size - 1 > max_frame_bytes
            and name not in _NEEDED
            and size < _MOST_TIMES * max_frame_bytes
        ):
            if whole:
                reader.show_without_data(name or "")
            continue
        if size > max_frame_bytes + _NEAR_BYTES:
            found.endings = frozenset({"too_large"})
            break
        found.sure &= size < max_frame_bytes - _NEAR_BYTES or name not in _NEEDED
        event = event_in(lines) if whole else None
        endings = event and (reader.ended_by(*event) or reader.failed_by(*event))
        if endings:
            found.endings = frozenset(endings)
            break
        if event is not None:
            reader.show(*event)
    return found


class _StreamReader:
    """Reads the events of one stream, in order."""

    def __init__(
        self, chat_id: str, question: str, max_answer_bytes: int, *, escaped: bool
    ) -> None:
        self.expected = Expected()
        self._chat_id = chat_id
        self._question = question.strip()
        self._max_answer_bytes = max_answer_bytes
        self._escaped = escaped
        self._succeeded = False

    def ended_by(self, name: str, data: object) -> Collection[str]:
        """Return the correct endings, if this event ends the stream."""
        if name == "?":
            return {"stream_cut"}
        if name == "error":
            return _ERROR_KINDS
        if name == "end":
            return {"completed" if self._succeeded else "no_answer"}
        return ()

    def failed_by(self, name: str, data: object) -> Collection[str]:
        """Return the correct kinds of error, if this event fails the job."""
        if name == "metadata" and isinstance(data, dict):
            told = data.get("question")
            if isinstance(told, str) and told.strip() != self._question:
                return {"stream_mixed"}
        if name == "token" and isinstance(data, str):
            least, most = _length(self.expected.text + data, escaped=self._escaped)
            if least > self._max_answer_bytes:
                return {"too_large"}
            self.expected.sure &= most <= self._max_answer_bytes
        return ()

    def show(self, name: str, data: Any) -> None:  # noqa: ANN401 - JSON
        """Add what consumers must receive of this event."""
        if name == "start":
            return
        self._succeeded |= name == "metadata"
        if name == "token" and isinstance(data, str):
            self.expected.text += data
        if name == "metadata" and isinstance(data, dict):
            data["chatId"] = self._chat_id
        if _may_not_keep_its_name(name, data, self._chat_id):
            name, data = "other", {"name": name, "data": data}
        self.expected.events.append((name, data))

    def show_without_data(self, name: str) -> None:
        """Add an event that is too large, which consumers receive without its data."""
        if name == "start":
            return
        if _may_not_keep_its_name(name, "", self._chat_id):
            name = "other"
        self.expected.events.append((name, None))


def _may_not_keep_its_name(name: str, data: object, chat_id: str) -> bool:
    if name == "token":
        return not isinstance(data, str)
    key = f"chat.{_escaped(chat_id)}.{_escaped(name)}"
    return name in {"", "retry", "other"} or len(key) > _LONGEST_KEY_BYTES


def _escaped(name: str) -> str:
    return "".join(
        chr(byte) if byte in _UNESCAPED else f"%{byte:02X}" for byte in name.encode("utf-8")
    )


def _length(text: str, *, escaped: bool) -> tuple[int, int]:
    """Return the least and the greatest length in bytes of a text as JSON."""
    least = len(json.dumps(text, ensure_ascii=False).encode()) - 2
    return least, 6 * len(text.encode("utf-16-le")) // 2 if escaped else least
