"""One call as the endpoint saw it: what was asked, how far the answer got, what the run said."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(slots=True, eq=False)
class Call:
    """A prediction request and its fate. The endpoint writes it; tests and scripts read it.

    The answer is the client's side of it: `live`, `ended`, `bytes_sent`. The run is the
    server's, which goes on when its client has gone: `said`, `run_ended`.
    """

    flow: str
    json: Mapping[str, Any]
    """The request's body."""
    headers: Mapping[str, str]
    """The request's headers, names in lower case."""
    chat_id: str
    """Where the stream goes: `chatId`, else the session asked for, else one made up here."""
    session_id: str
    """Whose memory is used: `overrideConfig.sessionId`, else the chat."""
    started: float = field(default_factory=time.monotonic)
    """Seconds of `time.monotonic`."""
    ended: float | None = None
    """When the answer was over for its client, for whatever reason; None while it runs."""
    run_ended: float | None = None
    """When the run was over, for whatever reason; None while it goes on or hangs."""
    bytes_sent: int = 0
    """To its client, of the body, without chunk framing; also what other runs of its chat said."""
    said: bytearray = field(default_factory=bytearray)
    """What its run said of the body, whoever received it, if anyone."""
    body: bytes = field(default=b"", repr=False)
    """The request's body, as it came."""
    aborted: bool = False
    """An abort request ended its run."""
    client_gone: bool = False
    """The client closed the connection before the answer was over."""

    @classmethod
    def of(
        cls, flow: str, json: Mapping[str, Any], headers: Mapping[str, str], body: bytes = b""
    ) -> Self:
        """Read a request as the real server does."""
        asked = (json.get("overrideConfig") or {}).get("sessionId")
        chat_id = json.get("chatId") or asked or str(uuid.uuid4())
        session_id = asked or chat_id
        return cls(flow, json, headers, chat_id=chat_id, session_id=session_id, body=body)

    @property
    def question(self) -> str:
        """What was asked; empty when a form or a human's decision was sent instead."""
        return str(self.json.get("question", ""))

    @property
    def live(self) -> bool:
        """Whether the client still waits for the answer or its rest."""
        return self.ended is None
