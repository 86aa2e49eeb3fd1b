"""Ask the endpoint what kind of flow a flow is, and keep its answer for a few minutes."""

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
# What httpx and codecs raise for an address, a header or a body that they cannot read.
_UNREADABLE = (OSError, ValueError, RecursionError, httpx.InvalidURL)


class _Streaming(msgspec.Struct):
    isStreaming: bool  # noqa: N815 - the endpoint's name


class _Uploads(msgspec.Struct):
    isRAGFileUploadAllowed: bool  # noqa: N815 - the endpoint's name


_Answer = TypeVar("_Answer", _Streaming, _Uploads)


class _CachedFacts(NamedTuple):
    facts: FlowFacts
    until: float


class FlowLookup:
    """Looks up flows. One for the process; any number of lookups at once."""

    def __init__(self, client: httpx.AsyncClient, base_url: str) -> None:
        self._client = client
        self._base_url = base_url
        self._flows: dict[str, _CachedFacts] = {}

    async def facts(self, chatflow_id: str) -> FlowFacts:
        """Return whether a flow streams and what documents it uses; kept for 5 minutes.

        A call to an unknown flow would never end: the endpoint does not answer one that streams.

        Raises:
            ChatflowNotFound: The endpoint has no such flow.
            EndpointUnavailable: The endpoint does not answer now whose documents the flow uses.
        """
        known = self._flows.get(chatflow_id)
        if known is not None and monotonic() < known.until:
            return known.facts
        streams, documents = await asyncio.gather(
            self._ask(chatflow_id, "chatflows-streaming", _Streaming),
            self._ask(chatflow_id, "chatflows-uploads", _Uploads),
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
                # A call under another chatId could miss the documents of the conversation.
                raise documents
        elif facts.streams is not None:
            self._keep(chatflow_id, facts)
        return facts

    def _keep(self, chatflow_id: str, facts: FlowFacts) -> None:
        if len(self._flows) >= _FLOWS_REMEMBERED:
            self._flows.clear()
        self._flows[chatflow_id] = _CachedFacts(facts, monotonic() + _FACTS_LAST_S)

    async def _ask(
        self, chatflow_id: str, path: str, kind: type[_Answer]
    ) -> _Answer | ChatflowNotFound | EndpointUnavailable | None:
        """Request one fact of a flow; None where the server has no such path."""
        url = f"{self._base_url}/api/v1/{path}/{chatflow_id}"
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._client.stream("GET", url) as response,
            ):
                body = await beginning(response)
        except (TimeoutError, CallFailed, httpx.HTTPError, *_UNREADABLE):
            return EndpointUnavailable(because=_SILENT, request_sent=False)
        status = response.status_code
        if is_from_gateway(status) or status == httpx.codes.TOO_MANY_REQUESTS:
            return EndpointUnavailable(because=_SILENT, request_sent=False)
        if status != httpx.codes.OK:
            return unknown_flow(body.decode(errors="replace"))
        try:
            return msgspec.json.decode(body, type=kind)
        except _UNREADABLE:
            return None
