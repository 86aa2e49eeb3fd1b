"""Answer requests about flows, messages and keys as the real server does, in scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aimicromind_testing.endpoint.answers import (
    error_answer,
    html_page,
    json_answer,
    json_error,
    never_answers,
    status_answer,
)
from aimicromind_testing.endpoint.call import Call
from aimicromind_testing.endpoint.memory import Memory
from aimicromind_testing.endpoint.script import Script

_UNAUTHORIZED = "Error: predictionsServices.buildChatflow - Unauthorized"
_NO_KEY = json_answer(401, {"error": "Unauthorized Access"})
_NO_SUCH_FLOW = "Error: chatflowsService.checkIfChatflowIsValidForStreaming - Chatflow {} not found"


@dataclass(slots=True)
class ScriptedFlow:
    """A flow, with the number of its calls so far.

    Attributes:
        scripts: Answers to the first, second, ... call; the last one repeats.
        streaming: Whether it streams; None where the server does not know the question.
        own_documents: Whether it answers from documents of a conversation, or a script that
            answers that question.
        calls: Number of calls.
    """

    scripts: tuple[Script, ...]
    streaming: bool | None
    own_documents: bool | Script
    calls: int = 0

    def next_script(self) -> Script:
        """Count a call, and return its answer."""
        self.calls += 1
        return self.scripts[min(self.calls, len(self.scripts)) - 1]


class Api:
    """The server's API, apart from connections and runs.

    Attributes:
        flows: The flows by their ids.
    """

    def __init__(self, api_key: str | None, memory: Memory) -> None:
        self.flows: dict[str, ScriptedFlow] = {}
        self._api_key = api_key
        self._memory = memory

    def prediction(self, call: Call) -> Script:
        """Return the answer to a prediction request; an unknown flow is never answered."""
        streaming = bool(call.json.get("streaming"))
        flow = self.flows.get(call.flow)
        if flow is None:
            reason = f"Chatflow {call.flow} not found in the database!"
            return never_answers() if streaming else json_error(404, reason)
        if not self._knows_the_key(call.headers):
            return error_answer(_UNAUTHORIZED) if streaming else json_error(500, _UNAUTHORIZED)
        return flow.next_script()

    def other(
        self, method: str, path: Sequence[str], query: str, headers: Mapping[str, str]
    ) -> Script:
        """Return the answer to any other request.

        Args:
            method: HTTP method.
            path: Segments of the path after `/api/v1/`, decoded.
            query: The query, as sent.
            headers: Names in lower case.
        """
        match [method, *path]:
            case ["POST", "prediction", _]:
                return json_error(400, "Unexpected token in JSON")
            case ["GET", "ping"]:
                return status_answer(200, b"pong")
            case ["GET", "chatflows-streaming", flow_id]:
                return self._whether_it_streams(flow_id)
            case ["GET", "chatflows-uploads", flow_id]:
                return self._what_may_be_uploaded(flow_id)
            case ["GET", "chatmessage", flow_id]:
                return self._messages(flow_id, dict(parse_qsl(query)), headers)
            case [_, "predictions", *_] if "authorization" not in headers:
                return _NO_KEY
            case [_, "predictions", *_]:
                return html_page(200)
            case _:
                return html_page(404)

    def _whether_it_streams(self, flow_id: str) -> Script:
        flow = self.flows.get(flow_id)
        if flow is None:
            return json_error(500, _NO_SUCH_FLOW.format(flow_id))
        if flow.streaming is None:
            return html_page(404)
        return json_answer(200, {"isStreaming": flow.streaming})

    def _what_may_be_uploaded(self, flow_id: str) -> Script:
        flow = self.flows.get(flow_id)
        if flow is None:
            return json_error(500, _NO_SUCH_FLOW.format(flow_id))
        if isinstance(flow.own_documents, Script):
            return flow.own_documents
        if flow.streaming is None:
            return html_page(404)
        allowed = {
            "isSpeechToTextEnabled": False,
            "isImageUploadAllowed": False,
            "isRAGFileUploadAllowed": flow.own_documents,
            "imgUploadSizeAndTypes": [],
            "fileUploadSizeAndTypes": [],
        }
        return json_answer(200, allowed)

    def _messages(
        self, flow_id: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Script:
        if not self._knows_the_key(headers):
            return _NO_KEY
        newest_first = query.get("order") == "DESC"
        chat_id = query.get("chatId", "")
        return json_answer(200, self._memory.messages(flow_id, chat_id, newest_first=newest_first))

    def _knows_the_key(self, headers: Mapping[str, str]) -> bool:
        return not self._api_key or headers.get("authorization") == f"Bearer {self._api_key}"
