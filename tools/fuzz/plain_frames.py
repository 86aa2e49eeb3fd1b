"""Read the frames of an event stream slowly and plainly, with no code of the worker."""

import json
import re
from collections.abc import Iterator
from typing import Any

_KNOWN_NAMES = frozenset(
    {
        *("start", "retry", "error", "end", "other", "token", "sourceDocuments", "usedTools"),
        *("metadata", "thinking", "calledTools", "agentReasoning", "nextAgent", "agentFlowEvent"),
        *("nextAgentFlow", "agentFlowExecutedData", "artifacts", "fileAnnotations", "action"),
        *("usageMetadata", "tool", "abort", "tts_start", "tts_data", "tts_end", "agent_trace"),
    }
)
_SAYS_NOTHING = ("", "null", '""', "[done]", '"[done]"', "ping", "heartbeat", "keepalive")
_NAMED_WITHIN_BYTES = 1024


def blocks(body: bytes) -> Iterator[tuple[list[bytes], bool]]:
    """Yield the lines of each frame, and whether a blank line ends it."""
    *lines, rest = re.split(rb"\r\n|\r|\n", body.removeprefix(b"\xef\xbb\xbf"))
    block: list[bytes] = []
    for line in lines:
        if line:
            block.append(line)
        elif block:
            yield block, True
            block = []
    yield [*block, rest], False


def name_of_large(lines: list[bytes]) -> str | None:
    """Return the event name in the first bytes of a large frame; None if it has none."""
    name = ""
    for line in b"\n".join(lines)[:_NAMED_WITHIN_BYTES].split(b"\n"):
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


def event_in(lines: list[bytes]) -> tuple[str, Any] | None:
    """Return name and data of a frame; the name `?` if it is invalid, None if it has no event."""
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
    """Join the text parts of a token; None without any, except for an empty list."""
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
    """Return a value with U+FFFD for each lone surrogate."""
    match value:
        case str():
            return re.sub("[\ud800-\udfff]", "\ufffd", value)
        case list():
            return [_clean(member) for member in value]
        case dict():
            return {_clean(name): _clean(member) for name, member in value.items()}
        case _:
            return value
