"""An HTTP response's bytes and errors → ours. What status and content mean is left to others."""

from collections.abc import AsyncIterator

import aiohttp
import httpx

from aimicromind_worker.core.errors import (
    CallFailed,
    EndpointUnavailable,
    Misconfigured,
    StreamCut,
    TlsRefused,
)

_BEGINNING_BYTES = 16 * 1024


async def beginning(response: httpx.Response) -> bytes:
    """Read as much of a body as an error's text may take."""
    body = bytearray()
    async for chunk in chunks(response):
        body += chunk
        if len(body) > _BEGINNING_BYTES:
            break
    return bytes(body[:_BEGINNING_BYTES])


async def chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """Give the body as it comes, decompressed, cut anywhere.

    Raises:
        StreamCut: The connection broke.
        Misconfigured: The body is encoded otherwise than was asked for.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "deflate"}:
        # Layers multiply: two of them make gigabytes of kilobytes.
        raise Misconfigured("the endpoint's answer is encoded in a way that was not asked for")
    compressed = encoding != "identity"
    coming = response.aiter_bytes() if compressed else response.aiter_raw()
    try:
        async for chunk in coming:
            yield chunk
    except (httpx.HTTPError, aiohttp.ClientError, OSError) as error:
        raise StreamCut(_sentence(error)) from error


async def close(response: httpx.Response) -> None:
    """Give the connection up or back, whatever state it is in."""
    try:
        await response.aclose()
    except (httpx.HTTPError, aiohttp.ClientError, OSError, TimeoutError):
        return


def failure_before_answer(error: Exception) -> CallFailed:
    """Tell a request that never left from one that the endpoint may have seen.

    httpx-aiohttp gives both a refused connection and a lost one the name ConnectTimeout, so
    the aiohttp error behind it decides.
    """
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error
    match cause:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return TlsRefused(_sentence(cause))
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return EndpointUnavailable(_sentence(cause), request_sent=False)
        case aiohttp.InvalidURL() | ValueError():
            return Misconfigured("the endpoint's address is not a URL")
        case _:
            return EndpointUnavailable(f"no response, {_sentence(cause)}")


def _sentence(error: BaseException) -> str:
    """Say what happened without the text of the bytes that came."""
    if isinstance(error, httpx.HTTPError) and error.__cause__ is not None:
        error = error.__cause__
    match error:
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or type(error.os_error).__name__
            return f"cannot connect to {error.host}:{error.port} ({reason})"
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before the response"
        case aiohttp.ClientPayloadError():
            return "the connection was closed within the answer"
        case OSError():
            return "the connection was reset"
        case _:
            return type(error).__name__
