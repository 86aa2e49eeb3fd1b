"""Job → HTTP → the bytes of the answer; the HTTP library's errors become our own.

The endpoint's habits that shape this file are in docs/endpoint.md.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from time import monotonic
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import structlog
from typing_extensions import override

from aimicromind_worker.core.endpoint.errors import (
    AnswerTooLarge,
    CallFailed,
    ChatflowNotFound,
    EmptyResponse,
    EndpointUnavailable,
    HeadersOverdue,
    Misconfigured,
    is_from_gateway,
)
from aimicromind_worker.core.endpoint.exchange import (
    EventStream,
    FlowFacts,
    PredictionCall,
    Response,
    WholeAnswer,
)
from aimicromind_worker.core.endpoint.failures import (
    error_text,
    failure_of_status,
    read_retry_after,
    unknown_flow,
)
from aimicromind_worker.http.response import (
    beginning,
    body_of,
    chunks,
    close,
    content_type_of,
    failure_before_answer,
    no_address,
    refuse_redirect,
)
from aimicromind_worker.http.transport import PushTransport
from aimicromind_worker.tls import context

log = structlog.get_logger()

_FLOW_FACTS_LAST_S = 300.0
_FLOWS_REMEMBERED = 1000
_PREFLIGHT_TIMEOUT_S = 5.0
_PART_BYTES = 64 * 1024
_ABORT_TIMEOUT_S = 5.0
_WITHOUT_BODY = (httpx.codes.NO_CONTENT, httpx.codes.RESET_CONTENT)
_SILENT = "it does not say what kind of flow it is"
# What an address or a body raises that makes no sense.
_ODD = (OSError, ValueError, RecursionError, httpx.InvalidURL)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where predictions are made, and how to get in.

    Attributes:
        base_url: Scheme, host and perhaps a path, without a slash at the end.
        prediction_path: With `{chatflowId}` in it.
        api_key: Gives what is sent as a bearer token, for each request; never shown.
        connect_timeout: For a TCP and TLS connection.
        first_byte_timeout: For the response headers of a flow that streams.
        max_answer_bytes: Largest JSON answer.
        ca_file: Certificates to trust instead of the system's.
        client_certificate: PEM file with certificate and key.
    """

    base_url: str
    prediction_path: str
    api_key: Callable[[], str | None]
    connect_timeout: timedelta
    first_byte_timeout: timedelta
    max_answer_bytes: int
    ca_file: Path | None = None
    client_certificate: Path | None = None

    def with_key(self, request: httpx.Request) -> httpx.Request:
        """Add the API key to a request."""
        if key := self.api_key():
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    @override
    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"


@dataclass(frozen=True, slots=True)
class Ping:
    """What came of asking for `/api/v1/ping`: the server says `pong`."""

    http_status: int
    body: bytes = field(repr=False)

    @property
    def is_of_the_api(self) -> bool:
        """Whether the API may have answered; a page or a missing path is somebody else's."""
        return self.http_status != httpx.codes.NOT_FOUND and self.body.lstrip()[:1] != b"<"


class _Streaming(msgspec.Struct):
    isStreaming: bool  # noqa: N815 - the endpoint's name


class _Uploads(msgspec.Struct):
    isRAGFileUploadAllowed: bool  # noqa: N815 - the endpoint's name


_Answer = TypeVar("_Answer", _Streaming, _Uploads)


class _CachedFacts(NamedTuple):
    facts: FlowFacts
    until: float


class EndpointClient:
    """Calls the endpoint. One for the process; any number of calls at once.

    Attributes:
        client: What all requests but the calls themselves go by; it adds the key.
    """

    def __init__(
        self, client: httpx.AsyncClient, transport: httpx.AsyncBaseTransport, endpoint: Endpoint
    ) -> None:
        self.client = client
        self._transport = transport
        self._endpoint = endpoint
        self._headers = {
            **client.headers,
            "content-type": "application/json",
            "accept": "text/event-stream, application/json",
        }
        self._extensions = {"timeout": client.timeout.as_dict()}
        self._flows: dict[str, _CachedFacts] = {}
        self._aborting: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, endpoint: Endpoint) -> AsyncIterator["EndpointClient"]:
        """Open the client that all calls share."""
        trust = context(endpoint.ca_file, endpoint.client_certificate)

        transport = PushTransport(trust)

        async with httpx.AsyncClient(
            transport=transport,
            auth=endpoint.with_key,
            headers={"Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx.Timeout(None, connect=endpoint.connect_timeout.total_seconds()),
            event_hooks={"response": [refuse_redirect]},
            trust_env=False,
        ) as client:
            predictions = cls(client, transport, endpoint)
            try:
                yield predictions
            finally:
                for aborting in predictions._aborting:
                    aborting.cancel()

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
        facts = FlowFacts(
            streams=streams.isStreaming if isinstance(streams, _Streaming) else None,
            own_documents=isinstance(documents, _Uploads) and documents.isRAGFileUploadAllowed,
        )
        if isinstance(documents, EndpointUnavailable):
            if known is not None:
                return FlowFacts(facts.streams, known.facts.own_documents)
            if facts.streams is not None:
                # Called with another chatId, it might answer without the conversation's documents.
                raise documents
        elif facts.streams is not None:
            if len(self._flows) >= _FLOWS_REMEMBERED:
                self._flows.clear()
            self._flows[chatflow_id] = _CachedFacts(facts, monotonic() + _FLOW_FACTS_LAST_S)
        return facts

    async def _asked_of(
        self, chatflow_id: str, path: str, kind: type[_Answer]
    ) -> _Answer | ChatflowNotFound | EndpointUnavailable | None:
        """Ask one thing of a flow; None where the endpoint does not know the question."""
        url = f"{self._endpoint.base_url}/api/v1/{path}/{chatflow_id}"
        try:
            async with (
                asyncio.timeout(_PREFLIGHT_TIMEOUT_S),
                self.client.stream("GET", url) as response,
            ):
                body = await beginning(response)
        except (TimeoutError, CallFailed, httpx.HTTPError, *_ODD):
            return EndpointUnavailable(because=_SILENT, request_sent=False)
        if is_from_gateway(response.status_code):
            return EndpointUnavailable(because=_SILENT, request_sent=False)
        if response.status_code != httpx.codes.OK:
            return unknown_flow(body.decode(errors="replace"))
        try:
            return msgspec.json.decode(body, type=kind)
        except _ODD:
            return None

    async def answers(self) -> bool:
        """Ask for anything, and say whether something answers that is no gateway's apology."""
        got = await self.ping()
        return got is not None and not is_from_gateway(got.http_status)

    async def ping(self) -> "Ping | None":
        """Ask for the one path of the API that needs no key; None where nothing answers."""
        url = f"{self._endpoint.base_url}/api/v1/ping"
        try:
            async with asyncio.timeout(_PREFLIGHT_TIMEOUT_S), self.client.stream("GET", url) as got:
                return Ping(got.status_code, await beginning(got))
        except (TimeoutError, CallFailed, httpx.HTTPError, *_ODD):
            return None

    @asynccontextmanager
    async def call(self, call: PredictionCall) -> AsyncIterator[Response]:
        """Make one prediction call. Leaving the context closes its connection.

        Raises:
            CallFailed: No answer came, or the stream broke off; also from within the context.
        """
        response = await self._send(self._request(call), streams=call.streams)
        try:
            await refuse_redirect(response)
            yield await self._read(response)
        finally:
            await close(response)

    def abort(self, call: PredictionCall) -> None:
        """Ask the endpoint to stop what a call began, and wait for nothing.

        Some flows stop at that, others run on to their end (docs/endpoint.md).
        """
        aborting = asyncio.create_task(self._abort(call))
        self._aborting.add(aborting)
        aborting.add_done_callback(self._aborting.discard)

    async def _abort(self, call: PredictionCall) -> None:
        flow, chat_id = quote(call.chatflow_id, safe=""), quote(call.endpoint_chat_id, safe="")
        url = f"{self._endpoint.base_url}/api/v1/chatmessage/abort/{flow}/{chat_id}"
        try:
            async with (
                asyncio.timeout(_ABORT_TIMEOUT_S),
                self.client.stream("PUT", url) as response,
            ):
                log.debug("abort.answered", http_status=response.status_code)
        except (TimeoutError, CallFailed, httpx.HTTPError, *_ODD) as error:
            log.info("abort.failed", error=type(error).__name__)

    def _request(self, call: PredictionCall) -> httpx.Request:
        length = sum(map(len, call.body))
        path = self._endpoint.prediction_path.replace("{chatflowId}", call.chatflow_id)
        try:
            return httpx.Request(
                "POST",
                _url(self._endpoint.base_url + path),
                content=_written(call),
                headers={**self._headers, **call.trace, "content-length": str(length)},
                extensions=self._extensions,
            )
        except _ODD as error:
            raise no_address() from error

    async def _send(self, request: httpx.Request, *, streams: bool) -> httpx.Response:
        limit = self._endpoint.first_byte_timeout
        try:
            async with asyncio.timeout(limit.total_seconds() if streams else None):
                # The client's way adds cookies and redirects, which nobody wants, at some cost.
                return await self._transport.handle_async_request(self._endpoint.with_key(request))
        except TimeoutError as error:
            raise HeadersOverdue(limit) from error
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise failure_before_answer(error) from error

    async def _read(self, response: httpx.Response) -> Response:
        """Decide by status and Content-Type what came (an HTML page comes with 200, too)."""
        content_type = content_type_of(response)
        if not response.is_success:
            wait = read_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
            text = await self._error_text(response, content_type)
            raise failure_of_status(response.status_code, text, retry_after=wait)
        if response.status_code in _WITHOUT_BODY:
            raise EmptyResponse(response.status_code)
        match content_type:
            case "text/event-stream":
                return EventStream(body_of(response))
            case "application/json":
                return WholeAnswer(await self._whole(response))
            case _:
                raise Misconfigured(
                    f"the endpoint answered with {content_type or 'no content type'}",
                    http_status=response.status_code,
                )

    async def _whole(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in chunks(response):
            body += chunk
            if len(body) > self._endpoint.max_answer_bytes:
                raise AnswerTooLarge(self._endpoint.max_answer_bytes)
        return bytes(body)

    async def _error_text(self, response: httpx.Response, content_type: str) -> str:
        """Read what an error says in its JSON; any other body may hold anything, an answer too."""
        if content_type != "application/json":
            return ""
        try:
            async with asyncio.timeout(_PREFLIGHT_TIMEOUT_S):
                return error_text(await beginning(response))
        except (TimeoutError, CallFailed):
            return ""


async def _written(call: PredictionCall) -> AsyncIterator[bytes]:
    """Copy a part at a time: a job may be long, and many jobs wait for their sockets at once.

    It is begun once there is a connection.
    """
    call.sending.begun = True
    for piece in call.body:
        for at in range(0, len(piece), _PART_BYTES):
            yield bytes(piece[at : at + _PART_BYTES])


@lru_cache(_FLOWS_REMEMBERED)
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)
