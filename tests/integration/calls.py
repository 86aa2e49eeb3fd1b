"""Calls of the real prediction stream to real servers on loopback."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import pytest

from aimicromind_testing import ScriptedEndpoint
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.exchange import (
    EventStream,
    PredictionCall,
    Response,
    Take,
    WholeAnswer,
)
from aimicromind_worker.http.client import EndpointClient
from aimicromind_worker.http.endpoint import Endpoint

KEY: Final = "s3cr3t-key"
QUESTION: Final = "Why is the sky s3cr3t-blue?"


def an_endpoint(base_url: str, **changed: Any) -> Endpoint:  # noqa: ANN401 - named in Endpoint
    usual: dict[str, Any] = {
        "prediction_path": "/api/v1/prediction/{chatflowId}",
        "api_key": lambda: KEY,
        "connect_timeout": timedelta(seconds=5),
        "first_byte_timeout": timedelta(seconds=5),
        "max_answer_bytes": 64 * 1024,
    }
    return Endpoint(base_url=base_url, **(usual | changed))


def a_call(flow: str = "flow", **changed: Any) -> PredictionCall:  # noqa: ANN401 - named in PredictionCall
    body = {"question": QUESTION, "chatId": "chat", "streaming": True}
    usual: dict[str, Any] = {
        "endpoint_chat_id": "chat",
        "body": (json.dumps(body).encode(),),
        "streams": True,
        "trace": {},
    }
    return PredictionCall(chatflow_id=flow, **(usual | changed))


@asynccontextmanager
async def calling(
    server: ScriptedEndpoint | str,
    call: PredictionCall | None = None,
    **changed: Any,  # noqa: ANN401 - named in Endpoint
) -> AsyncIterator[Response]:
    """Make one call with a client of its own."""
    base_url = server if isinstance(server, str) else server.url
    async with (
        EndpointClient.open(an_endpoint(base_url, **changed)) as predictions,
        predictions.call(call or a_call()) as response,
    ):
        yield response


async def body_of(response: Response) -> bytes:
    """Read all that comes."""
    match response:
        case WholeAnswer(body):
            return body
        case EventStream(body):
            received = bytearray()
            await body.pump(taken_by(received))
            return bytes(received)


def taken_by(received: bytearray, *, once: bool = False) -> Take:
    """Take all that comes, or only what comes first."""

    def take(chunk: bytes) -> bool:
        received.extend(chunk)
        return not once

    return take


async def call_once(server: ScriptedEndpoint | str, **changed: Any) -> bytes:  # noqa: ANN401 - named in Endpoint
    """Make one call, read all that comes, and close."""
    async with calling(server, **changed) as response:
        return await body_of(response)


async def failure_of(server: ScriptedEndpoint | str, **changed: Any) -> CallFailed:  # noqa: ANN401 - named in Endpoint
    """Make a call that must fail, and give its error."""
    with pytest.raises(CallFailed) as failed:
        await call_once(server, **changed)
    return failed.value
