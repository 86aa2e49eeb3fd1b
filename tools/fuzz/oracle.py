"""What a stream must come to: read slowly and plainly, by no code of the worker."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

_ERROR_KINDS = frozenset(
    {
        *("unauthorized", "forbidden", "chatflow_not_found", "bad_request", "rate_limited"),
        *("endpoint_unavailable", "endpoint_error"),
    }
)
_LONGEST_KEY_BYTES = 255
_OF_KEYS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
_KNOWN_NAMES = frozenset(
    {
        *("start", "retry", "error", "end", "other", "token", "sourceDocuments", "usedTools"),
        *("metadata", "thinking", "calledTools", "agentReasoning", "nextAgent", "agentFlowEvent"),
        *("nextAgentFlow", "agentFlowExecutedData", "artifacts", "fileAnnotations", "action"),
        *("usageMetadata", "tool", "abort", "tts_start", "tts_data", "tts_end", "agent_trace"),
    }
)
# Too large, these fail the job, and so does a frame that has no name.
_NEEDED = (None, "token", "metadata", "error", "end")
_MOST_TIMES = 64
_SAYS_NOTHING = ("", "null", '""', "[done]", '"[done]"', "ping", "heartbeat", "keepalive")
# Whether line ends count for a frame's length is nobody's business.
_NEAR_BYTES = 2


@dataclass(slots=True)
class Expected:
    """What must come of a stream.

    Attributes:
        endings: `completed`, or the kinds of error that are right.
        events: Name and data of what must be shown, `start`, `error` and `end` left out.
        text: The tokens, joined.
        sure: False where a length is so near to a limit that `too_large` is right, too.
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
        body: Its bytes.
        chat_id: The chat whose routing keys the names of events must fit.
        question: What was asked.
        max_frame_bytes: Limit of one frame.
        max_answer_bytes: Limit of the text, as JSON without its quotes.
    """
    reader = _Reader(chat_id, question, max_answer_bytes, escaped=b"\\u" in body or b"\\/" in body)
    came = reader.came
    for lines, whole in _blocks(body):
        size = sum(len(line) + 1 for line in lines)
        name = _name_of_large(lines) if size > max_frame_bytes - _NEAR_BYTES else None
        if (
            size - 1 > max_frame_bytes
            and name not in _NEEDED
            and size < _MOST_TIMES * max_frame_bytes
        ):
            if whole:
                reader.show_without_data(name or "")
            continue
        if size > max_frame_bytes + _NEAR_BYTES:
            came.endings = frozenset({"too_large"})
            break
        came.sure &= size < max_frame_bytes - _NEAR_BYTES or name not in _NEEDED
        event = _event(lines) if whole else None
        endings = event and (reader.ended_by(*event) or reader.failed_by(*event))
        if endings:
            came.endings = frozenset(endings)
            break
        if event is not None:
            reader.show(*event)
    return came


class _Reader:
    """Reads the events of one stream, in order."""

    def __init__(
        self, chat_id: str, question: str, max_answer_bytes: int, *, escaped: bool
    ) -> None:
        self.came = Expected()
        self._chat_id = chat_id
        self._question = question.strip()
        self._max_answer_bytes = max_answer_bytes
        self._escaped = escaped
        self._succeeded = False

    def ended_by(self, name: str, data: object) -> Collection[str]:
        """Say as what this event ends the stream, if it does."""
        if name == "?":
            return {"stream_cut"}
        if name == "error":
            return _ERROR_KINDS
        if name == "end":
            return {"completed" if self._succeeded else "no_answer"}
        return ()

    def failed_by(self, name: str, data: object) -> Collection[str]:
        """Say what is wrong with this event, if anything is."""
        if name == "metadata" and isinstance(data, dict):
            told = data.get("question")
            if isinstance(told, str) and told.strip() != self._question:
                return {"stream_mixed"}
        if name == "token" and isinstance(data, str):
            least, most = _length(self.came.text + data, escaped=self._escaped)
            if least > self._max_answer_bytes:
                return {"too_large"}
            self.came.sure &= most <= self._max_answer_bytes
        return ()

    def show(self, name: str, data: Any) -> None:  # noqa: ANN401 - JSON
        """Take what consumers must see of this event."""
        if name == "start":
            return
        self._succeeded |= name == "metadata"
        if name == "token" and isinstance(data, str):
            self.came.text += data
        if name == "metadata" and isinstance(data, dict):
            data["chatId"] = self._chat_id
        if _may_not_keep_its_name(name, data, self._chat_id):
            name, data = "other", {"name": name, "data": data}
        self.came.events.append((name, data))

    def show_without_data(self, name: str) -> None:
        """Take an event that is too large: it is seen without its data."""
        if name == "start":
            return
        if _may_not_keep_its_name(name, "", self._chat_id):
            name = "other"
        self.came.events.append((name, None))


def _blocks(body: bytes) -> Iterator[tuple[list[bytes], bool]]:
    """Give the lines between blank lines, and whether a blank line follows them."""
    *lines, rest = re.split(rb"\r\n|\r|\n", body.removeprefix(b"\xef\xbb\xbf"))
    block: list[bytes] = []
    for line in lines:
        if line:
            block.append(line)
        elif block:
            yield block, True
            block = []
    yield [*block, rest], False


def _name_of_large(lines: list[bytes]) -> str | None:
    """Find what a frame is called in its first 1024 bytes, without which it cannot be left out."""
    name = ""
    for line in b"\n".join(lines)[:1024].split(b"\n"):
        if line.startswith(b"event:"):
            name = line[6:].removeprefix(b" ").decode("utf-8", "replace")
        if line.startswith(b"data:") or line == b"data":
            if name not in ("", "message"):
                return name
            said = line[5:].decode("utf-8", "replace").lstrip(" \t\r\n\x0b\x0c")
            found = re.match(
                r'\{[ \t\r\n\x0b\x0c]*"event"[ \t\r\n\x0b\x0c]*:[ \t\r\n\x0b\x0c]*', said
            )
            try:
                named, _ = json.JSONDecoder(strict=False).raw_decode(
                    said, found.end() if found else 0
                )
            except ValueError:
                return None
            return (_clean(named) or None) if found and isinstance(named, str) else None
        if line == b"event":
            name = ""
    return None


def _event(lines: list[bytes]) -> tuple[str, Any] | None:
    """Read one frame: its name and data; the name `?` if it makes no sense, None if it is none."""
    data: list[bytes] = []
    name = b""
    for line in lines:
        key, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if key == b"data":
            data.append(value)
        if key == b"event":
            name = value
    if not data:
        return None
    text = b"\n".join(data).decode("utf-8", "replace")
    if name in (b"", b"message"):
        return None if _is_nothing(text) else _enveloped(text)
    named = name.decode("utf-8", "replace")
    if not text.strip() and named not in _KNOWN_NAMES:
        return None
    return _plain(named, text)


def _is_nothing(text: str) -> bool:
    said = text.strip(" \t\n\r\x0b\x0c")
    return said.lower().replace("keep-", "keep") in _SAYS_NOTHING or (
        said[:1] + said[1:-1].strip(" \t\n\r\x0b\x0c") + said[-1:] in ("{}", "[]")
    )


def _enveloped(text: str) -> tuple[str, Any]:
    try:
        told = json.loads(text, strict=False, parse_constant=_refuse)
    except ValueError:
        return "?", None
    if not isinstance(told, dict) or not isinstance(told.get("event"), str):
        return "?", None
    name, data = _clean(told["event"]), _clean(told.get("data"))
    if name == "token" and (joined := _joined(data)) is not None:
        return name, joined
    return name, data


def _joined(data: object) -> str | None:
    """Join the parts of a token that are text; None if none is, and it is no empty list."""
    parts = data if isinstance(data, list) else [data] if isinstance(data, dict) else None
    if parts is None:
        return None
    texts = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and "text" in str(part.get("type", "text")):
            text = part.get("text")
            text = text.get("value") if isinstance(text, dict) else text
            texts += [text] if isinstance(text, str) else []
    return "".join(texts) if texts or data == [] else None


def _plain(name: str, text: str) -> tuple[str, Any]:
    if name in {"token", "error", "start", "thinking"}:
        return name, text
    try:
        return name, _clean(json.loads(text, parse_constant=_refuse))
    except ValueError:
        return name, text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _clean(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Replace halves of characters, wherever they are."""
    match value:
        case str():
            return re.sub("[\ud800-\udfff]", "\ufffd", value)
        case list():
            return [_clean(member) for member in value]
        case dict():
            return {_clean(name): _clean(member) for name, member in value.items()}
        case _:
            return value


def _may_not_keep_its_name(name: str, data: object, chat_id: str) -> bool:
    if name == "token":
        return not isinstance(data, str)
    key = f"chat.{_escaped(chat_id)}.{_escaped(name)}"
    return name in {"", "retry", "other"} or len(key) > _LONGEST_KEY_BYTES


def _escaped(name: str) -> str:
    return "".join(
        chr(byte) if byte in _OF_KEYS else f"%{byte:02X}" for byte in name.encode("utf-8")
    )


def _length(text: str, *, escaped: bool) -> tuple[int, int]:
    """Say how long a text is as JSON, at least and at most."""
    least = len(json.dumps(text, ensure_ascii=False).encode()) - 2
    return least, 6 * len(text.encode("utf-16-le")) // 2 if escaped else least
