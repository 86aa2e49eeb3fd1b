"""Read the messages that the endpoint saved of a chat, if the API key may read them."""

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
_UNREADABLE_FOR = timedelta(minutes=5)
_FLOWS_REMEMBERED = 1000
# Documents and tools of a call are saved beside its answer.
_TIMES_THE_ANSWER = 4


class SavedMessages:
    """Reads saved messages. One for the process."""

    def __init__(
        self, client: httpx.AsyncClient, base_url: str, max_answer_bytes: int, *, has_key: bool
    ) -> None:
        """Prepare.

        Args:
            client: Sends the requests; adds the API key.
            base_url: URL of the server.
            max_answer_bytes: Largest answer of a call.
            has_key: Whether an API key is set. Without one, the endpoint shows no messages.
        """
        self._client = client
        self._base_url = base_url
        self._max_bytes = max_answer_bytes * _TIMES_THE_ANSWER
        self._has_key = has_key
        self._unreadable_until: dict[str, float] = {}

    async def messages(self, chatflow_id: str, endpoint_chat_id: str) -> bytes | None:
        """Return the messages of a chat as JSON, oldest first.

        Returns:
            None where the key may not read them, the path is missing, or they are too large.

        Raises:
            EndpointUnavailable: The endpoint does not answer, or answers with another error.
        """
        if not self._has_key or monotonic() < self._unreadable_until.get(chatflow_id, 0.0):
            return None
        url = f"{self._base_url}/api/v1/chatmessage/{chatflow_id}"
        asked = {"chatId": endpoint_chat_id, "order": "ASC"}
        try:
            async with (
                asyncio.timeout(_TIMEOUT_S),
                self._client.stream("GET", url, params=asked) as response,
            ):
                if _is_unreadable(response):
                    self._mark_unreadable(chatflow_id, response.status_code)
                    return None
                if response.status_code != httpx.codes.OK:
                    raise EndpointUnavailable(
                        because="its saved messages cannot be read now",
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

    def _mark_unreadable(self, chatflow_id: str, http_status: int) -> None:
        """Stop requests for a flow for 5 minutes: the key may not read, or the path is missing."""
        if len(self._unreadable_until) >= _FLOWS_REMEMBERED:
            self._unreadable_until.clear()
        self._unreadable_until[chatflow_id] = monotonic() + _UNREADABLE_FOR.total_seconds()
        log.warning("recovery.off", chatflow_id=chatflow_id, http_status=http_status)


def _is_unreadable(response: httpx.Response) -> bool:
    refused = response.status_code in {
        httpx.codes.UNAUTHORIZED,
        httpx.codes.FORBIDDEN,
        httpx.codes.NOT_FOUND,
        httpx.codes.METHOD_NOT_ALLOWED,
    }
    return refused or (
        response.status_code == httpx.codes.OK and content_type_of(response) != "application/json"
    )
