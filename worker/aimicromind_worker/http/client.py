"""Call the prediction endpoint, and translate statuses and HTTP errors into failures of a call.

docs/endpoint.md describes the behaviour of the endpoint that this client has to handle.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import quote

import httpx
import structlog

from aimicromind_worker.core.endpoint.call_failed import CallFailed, is_from_gateway
from aimicromind_worker.core.endpoint.errors import (
    AnswerTooLarge,
    EmptyResponse,
    HeadersOverdue,
    Misconfigured,
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
)
from aimicromind_worker.http.endpoint import Endpoint, Ping
from aimicromind_worker.http.flow_facts import FlowLookup
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

_FLOWS_REMEMBERED = 1000
_PREFLIGHT_TIMEOUT_S = 5.0
_PART_BYTES = 64 * 1024
_ABORT_TIMEOUT_S = 5.0
_WITHOUT_BODY = (httpx.codes.NO_CONTENT, httpx.codes.RESET_CONTENT)
# What httpx and codecs raise for an address, a header or a body that they cannot read.
_UNREADABLE = (OSError, ValueError, RecursionError, httpx.InvalidURL)


class EndpointClient:
    """Calls the endpoint. One for the process; any number of calls at once.

    Attributes:
        client: Sends all requests except prediction calls; adds the API key.
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
        self._flow_lookup = FlowLookup(client, endpoint.base_url)
        self._aborting: set[asyncio.Task[object]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, endpoint: Endpoint) -> AsyncIterator["EndpointClient"]:
        """Open the client that all calls share."""
        transport = PushTransport(context(endpoint.ca_file, endpoint.client_certificate))
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
        """Return whether a flow streams and what documents it uses; kept for 5 minutes.

        Raises:
            ChatflowNotFound: The endpoint has no such flow.
            EndpointUnavailable: The endpoint does not answer now whose documents the flow uses.
        """
        return await self._flow_lookup.facts(chatflow_id)

    async def answers(self) -> bool:
        """Return whether the server itself answers, and not a gateway in its place."""
        got = await self.ping()
        return got is not None and not is_from_gateway(got.http_status)

    async def ping(self) -> "Ping | None":
        """Request `/api/v1/ping`, which needs no key; None without an answer."""
        url = f"{self._endpoint.base_url}/api/v1/ping"
        try:
            async with asyncio.timeout(_PREFLIGHT_TIMEOUT_S), self.client.stream("GET", url) as got:
                return Ping(got.status_code, await beginning(got))
        except (TimeoutError, CallFailed, httpx.HTTPError, *_UNREADABLE):
            return None

    @asynccontextmanager
    async def call(self, call: PredictionCall) -> AsyncIterator[Response]:
        """Make one prediction call, and release its connection after the body.

        Raises:
            CallFailed: There is no answer, or reading it in the body failed.
        """
        response = await self._send(self._request(call), streams=call.streams)
        try:
            await refuse_redirect(response)
            yield await self._read(response)
        finally:
            await close(response)

    def abort(self, call: PredictionCall) -> asyncio.Task[object]:
        """Ask the endpoint to stop the run that a call began.

        Some flows stop, others run to their end (docs/endpoint.md).

        Returns:
            A task that ends with the endpoint's answer, or after 5 s.
        """
        aborting: asyncio.Task[object] = asyncio.create_task(self._abort(call))
        self._aborting.add(aborting)
        aborting.add_done_callback(self._aborting.discard)
        return aborting

    async def _abort(self, call: PredictionCall) -> None:
        flow, chat_id = quote(call.chatflow_id, safe=""), quote(call.endpoint_chat_id, safe="")
        url = f"{self._endpoint.base_url}/api/v1/chatmessage/abort/{flow}/{chat_id}"
        try:
            async with (
                asyncio.timeout(_ABORT_TIMEOUT_S),
                self.client.stream("PUT", url) as response,
            ):
                log.debug("abort.answered", http_status=response.status_code)
        except (TimeoutError, CallFailed, httpx.HTTPError, *_UNREADABLE) as error:
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
        except _UNREADABLE as error:
            raise no_address() from error

    async def _send(self, request: httpx.Request, *, streams: bool) -> httpx.Response:
        limit = self._endpoint.first_byte_timeout
        try:
            async with asyncio.timeout(limit.total_seconds() if streams else None):
                # Not by `client`: its cookies and redirects cost CPU, and are not wanted.
                return await self._transport.handle_async_request(self._endpoint.with_key(request))
        except TimeoutError as error:
            raise HeadersOverdue(limit) from error
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise failure_before_answer(error) from error

    async def _read(self, response: httpx.Response) -> Response:
        """Decide by status and Content-Type what the response is: an HTML page may have 200."""
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
        """Return the message in the JSON of an error; any other body may hold an answer."""
        if content_type != "application/json":
            return ""
        try:
            async with asyncio.timeout(_PREFLIGHT_TIMEOUT_S):
                return error_text(await beginning(response))
        except (TimeoutError, CallFailed):
            return ""


async def _written(call: PredictionCall) -> AsyncIterator[bytes]:
    """Yield the request in small copies, once there is a connection.

    Copies of whole jobs would add up while many calls wait for their sockets.
    """
    call.sending.begun = True
    for piece in call.body:
        for at in range(0, len(piece), _PART_BYTES):
            yield bytes(piece[at : at + _PART_BYTES])


@lru_cache(_FLOWS_REMEMBERED)
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)
