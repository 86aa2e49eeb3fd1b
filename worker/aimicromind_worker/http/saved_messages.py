"""The endpoint's saved messages over HTTP, where the key may read them."""

import asyncio
from datetime import timedelta
from time import monotonic

import httpx
import structlog

from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import EndpointUnavailable
from aimicromind_worker.http.response import chunks, content_type_of, failure_before_answer

log = structlog.get_logger()

_TIMEOUT_S = 10.0
_CLOSED_FOR = timedelta(minutes=5)
_FLOWS_REMEMBERED = 1000
# What the messages of one call may take beside its answer: documents and tools.
_ROOM = 4


class SavedMessages:
    """Reads messages with the client of the predictions. One for the process."""

    def __init__(
        self, client: httpx.AsyncClient, base_url: str, max_answer_bytes: int, *, has_key: bool
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            client: What the predictions go by; it adds the key.
            base_url: The server's address.
            max_answer_bytes: Largest answer.
            has_key: Whether there is a key; the endpoint shows messages to nobody else.
        """
        self._client = client
        self._base_url = base_url
        self._max_bytes = max_answer_bytes * _ROOM
        self._has_key = has_key
        self._closed: dict[str, float] = {}

    async def messages(self, chatflow_id: str, endpoint_chat_id: str) -> bytes | None:
        """Return the messages of a chat, oldest first; None where they may not be read.

        Raises:
            EndpointUnavailable: The endpoint does not answer, or not with these.
        """
        if not self._has_key or monotonic() < self._closed.get(chatflow_id, 0.0):
            return None
        url = f"{self._base_url}/api/v1/chatmessage/{chatflow_id}"
        asked = {"chatId": endpoint_chat_id, "order": "ASC"}
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._client.stream("GET", url, params=asked) as response,
            ):
                if _is_closed(response):
                    self._close(chatflow_id, response.status_code)
                    return None
                if response.status_code != httpx.codes.OK:
                    raise EndpointUnavailable(
                        because="its messages cannot be read now",
                        http_status=response.status_code,
                    )
                return await self._whole(response)
        except CallFailed as error:
            raise EndpointUnavailable(because=error.words) from error
        except (TimeoutError, httpx.HTTPError, OSError, ValueError) as error:
            raise EndpointUnavailable(because=failure_before_answer(error).words) from error

    async def _whole(self, response: httpx.Response) -> bytes | None:
        body = bytearray()
        async for chunk in chunks(response):
            body += chunk
            if len(body) > self._max_bytes:
                return None
        return bytes(body)

    def _close(self, chatflow_id: str, http_status: int) -> None:
        """Ask no more about a flow for a while: the key may not read, or there is no such path."""
        if len(self._closed) >= _FLOWS_REMEMBERED:
            self._closed.clear()
        self._closed[chatflow_id] = monotonic() + _CLOSED_FOR.total_seconds()
        log.warning("recovery.off", chatflow_id=chatflow_id, http_status=http_status)


def _is_closed(response: httpx.Response) -> bool:
    refused = response.status_code in {
        httpx.codes.UNAUTHORIZED,
        httpx.codes.FORBIDDEN,
        httpx.codes.NOT_FOUND,
        httpx.codes.METHOD_NOT_ALLOWED,
    }
    return refused or (
        response.status_code == httpx.codes.OK and content_type_of(response) != "application/json"
    )
