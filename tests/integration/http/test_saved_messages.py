"""Saved messages as the endpoint shows them, or does not."""

import httpx
import pytest
from structlog.testing import capture_logs

from aimicromind_testing import Script, ScriptedEndpoint, answer, html_page, json_error
from aimicromind_worker.core.endpoint.errors import EndpointUnavailable
from aimicromind_worker.core.endpoint.saved_answer import read_saved_answer
from aimicromind_worker.http.saved_messages import SavedMessages
from tests.integration.calls import call_once

pytestmark = pytest.mark.usefixtures("no_certificates")


def saved_at(client: httpx.AsyncClient, url: str) -> SavedMessages:
    return SavedMessages(client, url, 64 * 1024, has_key=True)


async def test_answer_that_was_saved_is_read(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", answer(3))
    await call_once(endpoint)

    async with httpx.AsyncClient(verify=False) as client:
        body = await saved_at(client, endpoint.url).messages("flow", "chat")

    found = read_saved_answer(body or b"")
    assert found is not None
    assert found.text == "tok0 tok1 tok2 "


@pytest.mark.parametrize("closed", [html_page(404), json_error(403, "no")])
async def test_server_that_shows_no_messages_is_asked_for_them_once_for_each_flow(
    endpoint: ScriptedEndpoint, closed: Script
) -> None:
    endpoint.instead_of_messages = closed

    async with httpx.AsyncClient(verify=False) as client:
        memory = saved_at(client, endpoint.url)
        with capture_logs() as logs:
            said = [await memory.messages(flow, "chat") for flow in ("first", "first", "second")]

    assert said == [None] * 3
    assert len(endpoint.other_requests) == 2
    off = [line["chatflow_id"] for line in logs if line["event"] == "recovery.off"]
    assert off == ["first", "second"]


async def test_server_that_fails_is_asked_again(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", answer(3))
    endpoint.instead_of_messages = json_error(503, "busy")

    async with httpx.AsyncClient(verify=False) as client:
        memory = saved_at(client, endpoint.url)
        with pytest.raises(EndpointUnavailable):
            await memory.messages("flow", "chat")
        endpoint.instead_of_messages = None

        assert await memory.messages("flow", "chat") == b"[]"
