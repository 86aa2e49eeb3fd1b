"""What the endpoint says of a flow: whether it streams, and whose documents it answers from."""

import asyncio
from time import monotonic
from typing import NamedTuple, TypeVar

import httpx
import msgspec

from aimicromind_worker.core.endpoint.call_failed import CallFailed, is_from_gateway
from aimicromind_worker.core.endpoint.errors import ChatflowNotFound, EndpointUnavailable
from aimicromind_worker.core.endpoint.exchange import FlowFacts
from aimicromind_worker.core.endpoint.failures import unknown_flow
from aimicromind_worker.http.response import beginning

_FACTS_LAST_S = 300.0
_FLOWS_REMEMBERED = 1000
_TIMEOUT_S = 5.0
_SILENT = "it does not say what kind of flow it is"
# What an address or a body raises that makes no sense.
_ODD = (OSError, ValueError, RecursionError, httpx.InvalidURL)


class _Streaming(msgspec.Struct):
    isStreaming: bool  # noqa: N815 - the endpoint's name


class _Uploads(msgspec.Struct):
    isRAGFileUploadAllowed: bool  # noqa: N815 - the endpoint's name


_Answer = TypeVar("_Answer", _Streaming, _Uploads)


class _CachedFacts(NamedTuple):
    facts: FlowFacts
    until: float


class FlowLookup:
    """Asks about flows. One for the process; any number of questions at once."""

    def __init__(self, client: httpx.AsyncClient, base_url: str) -> None:
        self._client = client
        self._base_url = base_url
        self._flows: dict[str, _CachedFacts] = {}

    async def facts(self, chatflow_id: str) -> FlowFacts:
        """Ask what kind of flow it is; the answer is kept for a few minutes.

        An unknown flow would otherwise hang: asked to stream, the endpoint never answers.

        Raises:
            ChatflowNotFound: The endpoint says that there is no such flow.
            EndpointUnavailable: Nothing says whose documents it uses, and something may soon.
        """
        known = self._flows.get(chatflow_id)
        if known is not None and monotonic() < known.until:
            return known.facts
        streams, documents = await asyncio.gather(
            self._asked_of(chatflow_id, "chatflows-streaming", _Streaming),
            self._asked_of(chatflow_id, "chatflows-uploads", _Uploads),
        )
        if isinstance(streams, ChatflowNotFound):
            raise streams
        own_documents = known is not None and known.facts.own_documents
        if isinstance(documents, _Uploads):
            own_documents = documents.isRAGFileUploadAllowed
        facts = FlowFacts(
            streams=streams.isStreaming if isinstance(streams, _Streaming) else None,
            own_documents=own_documents,
        )
        if isinstance(documents, EndpointUnavailable):
            if known is None and facts.streams is not None:
                # Called with another chatId, it might answer without the conversation's documents.
                raise documents
        elif facts.streams is not None:
            if len(self._flows) >= _FLOWS_REMEMBERED:
                self._flows.clear()
            self._flows[chatflow_id] = _CachedFacts(facts, monotonic() + _FACTS_LAST_S)
        return facts

    async def _asked_of(
        self, chatflow_id: str, path: str, kind: type[_Answer]
    ) -> _Answer | ChatflowNotFound | EndpointUnavailable | None:
        """Ask one thing of a flow; None where the endpoint does not know the question."""
        url = f"{self._base_url}/api/v1/{path}/{chatflow_id}"
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._client.stream("GET", url) as response,
            ):
                body = await beginning(response)
        except (TimeoutError, CallFailed, httpx.HTTPError, *_ODD):
            return EndpointUnavailable(because=_SILENT, request_sent=False)
        status = response.status_code
        if is_from_gateway(status) or status == httpx.codes.TOO_MANY_REQUESTS:
            return EndpointUnavailable(because=_SILENT, request_sent=False)
        if status != httpx.codes.OK:
            return unknown_flow(body.decode(errors="replace"))
        try:
            return msgspec.json.decode(body, type=kind)
        except _ODD:
            return None
