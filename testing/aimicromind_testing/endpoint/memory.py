"""The server's saved messages of each chat, in the form of its API."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import NAMESPACE_OID, uuid5

from aimicromind_testing.endpoint.call import Call

_LISTS = ("usedTools", "sourceDocuments", "artifacts")

Message: TypeAlias = dict[str, Any]


class Memory:
    """The saved messages of all flows: a question and an answer for each run that answered.

    A run answered if it wrote `metadata`, or the JSON of a flow that cannot stream. Messages are
    derived on request, from the bytes that their runs wrote.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], list[tuple[Call, float]]] = {}

    def expect(self, call: Call, saved_after: float) -> None:
        """Save a run's messages `saved_after` seconds after its end."""
        self._runs.setdefault((call.flow, call.chat_id), []).append((call, saved_after))

    def messages(self, flow: str, chat_id: str, *, newest_first: bool = False) -> list[Message]:
        """Return the messages of a chat, sorted by `createdDate`."""
        found = [
            message
            for call, saved_after in self._runs.get((flow, chat_id), [])
            if call.run_ended is not None and time.monotonic() >= call.run_ended + saved_after
            for message in _messages(call, call.run_ended + saved_after)
        ]
        found.sort(key=lambda it: it["createdDate"])
        return found[::-1] if newest_first else found


def _messages(call: Call, saved: float) -> list[Message]:
    """Return question and answer of a run; nothing if it did not answer."""
    answer = _answer(bytes(call.said))
    if answer is None:
        return []
    question = {**dict.fromkeys(answer), "role": "userMessage", "content": call.question}
    return [_of(call, question, call.started), _of(call, answer, saved)]


def _of(call: Call, message: Message, created: float) -> Message:
    seconds = time.time() - time.monotonic() + created
    date = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    made_up = uuid5(NAMESPACE_OID, f"{call.chat_id} {call.started} {message['role']}")
    return {
        **message,
        "id": message["id"] or str(made_up),
        "chatflowid": call.flow,
        "chatId": call.chat_id,
        "sessionId": call.session_id,
        "createdDate": date.replace("+00:00", "Z"),
    }


def _answer(said: bytes) -> Message | None:
    """Return the answer in the bytes of a run; None if there is none."""
    frames = list(_frames(said))
    if not frames:
        return _whole_answer(said)
    by_event: dict[str, list[Any]] = {}
    for frame in frames:
        by_event.setdefault(str(frame.get("event")), []).append(frame.get("data"))
    if "metadata" not in by_event:
        return None
    metadata = by_event["metadata"][-1]
    content = "".join(token for token in by_event.get("token", ()) if isinstance(token, str))
    return _api_message(metadata, content) | {
        "action": by_event.get("action", [None])[-1],
        **{name: _joined(by_event.get(name, [])) for name in _LISTS},
    }


def _whole_answer(said: bytes) -> Message | None:
    value = _json(said)
    if not (isinstance(value, dict) and "chatMessageId" in value and "text" in value):
        return None
    names = ("action", *_LISTS)
    return _api_message(value, value["text"]) | {name: value.get(name) for name in names}


def _api_message(metadata: object, content: str) -> Message:
    id_ = metadata.get("chatMessageId") if isinstance(metadata, dict) else None
    return {"id": id_, "role": "apiMessage", "content": content}


def _joined(lists: list[Any]) -> list[Any] | None:
    """Join the lists of several frames; None without any, as the real server has it."""
    return [item for part in lists for item in part] if lists else None


def _frames(said: bytes) -> Iterator[dict[str, Any]]:
    # bytes.splitlines splits at CR and LF only, as text/event-stream does.
    for line in said.splitlines():
        if line.startswith(b"data:") and isinstance(value := _json(line[len(b"data:") :]), dict):
            yield value


def _json(text: bytes) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
