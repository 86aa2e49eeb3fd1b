"""The record of one call at the scripted endpoint: request, answer and run."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(slots=True, eq=False)
class Call:
    """A prediction request, and what became of it. The endpoint writes it, tests read it.

    `live`, `ended` and `bytes_sent` belong to the answer, as its client sees it. `said` and
    `run_ended` belong to the server's run, which continues when the client has gone.
    """

    flow: str
    json: Mapping[str, Any]
    """The request's body, read."""
    headers: Mapping[str, str]
    """The request's headers, names in lower case."""
    chat_id: str
    """Chat of the stream: `chatId`, else `overrideConfig.sessionId`, else a random one."""
    session_id: str
    """Session of the flow's memory: `overrideConfig.sessionId`, else the chat."""
    started: float = field(default_factory=time.monotonic)
    """When the request was read, in seconds of `time.monotonic`."""
    ended: float | None = None
    """When the answer ended for its client, for any reason; None before."""
    run_ended: float | None = None
    """When the run ended, for any reason; None before, or while it hangs."""
    bytes_sent: int = 0
    """Bytes of the body to its client, without chunk framing, those of other runs included."""
    said: bytearray = field(default_factory=bytearray)
    """Bytes of the body that its run wrote, whether or not a client received them."""
    body: bytes = field(default=b"", repr=False)
    """The request's body, as received."""
    aborted: bool = False
    """Whether an abort request ended its run."""
    client_gone: bool = False
    """Whether the client closed the connection before the answer had ended."""

    @classmethod
    def of(
        cls, flow: str, json: Mapping[str, Any], headers: Mapping[str, str], body: bytes = b""
    ) -> Self:
        """Find chat and session of a request as the real server does."""
        asked = (json.get("overrideConfig") or {}).get("sessionId")
        chat_id = json.get("chatId") or asked or str(uuid.uuid4())
        session_id = asked or chat_id
        return cls(flow, json, headers, chat_id=chat_id, session_id=session_id, body=body)

    @property
    def question(self) -> str:
        """The question; empty if a form or a human's decision was sent instead."""
        return str(self.json.get("question", ""))

    @property
    def live(self) -> bool:
        """Whether the answer has not ended for its client."""
        return self.ended is None
