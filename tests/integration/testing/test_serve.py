import asyncio
import re
import signal
import sys
from collections import Counter

import httpx
import pytest

from aimicromind_testing import DEMO_FLOWS, ScriptedEndpoint, add_demo_flows, load_script

SERVE = (sys.executable, "-m", "aimicromind_testing.serve")


def events(body: str) -> Counter[str]:
    return Counter(re.findall(r'^data:\{"event":"(\w+)"', body, re.MULTILINE))


async def asked(url: str, flow: str, question: str = "q") -> str:
    """Give what a flow said, up to a cut if there is one."""
    body = {"question": question, "streaming": True, "chatId": f"chat of {flow}"}
    received = b""
    async with httpx.AsyncClient() as client, asyncio.timeout(20):
        try:
            async with client.stream("POST", f"{url}/api/v1/prediction/{flow}", json=body) as said:
                async for part in said.aiter_raw():
                    received += part
        except httpx.RemoteProtocolError:
            pass
    return received.decode()


async def test_demo_flows_show_what_a_chat_may_meet() -> None:
    async with ScriptedEndpoint() as endpoint, asyncio.TaskGroup() as tasks:
        add_demo_flows(endpoint)

        said = {
            flow: tasks.create_task(asked(endpoint.url, flow))
            for flow in DEMO_FLOWS
            if flow != "plain-chain"
        }
        seen = {flow: events(await task) for flow, task in said.items()}

    assert seen["tool-agent"].keys() >= {"calledTools", "usedTools", "metadata", "end"}
    assert seen["retrieval"]["sourceDocuments"] == 1
    assert seen["breaks-once"].keys() == {"start", "token"}
    assert seen["unauthorized"] == {"error": 1, "end": 1}


async def test_flow_that_breaks_once_is_whole_the_second_time() -> None:
    first, second = DEMO_FLOWS["breaks-once"]
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", first, second)

        await asked(endpoint.url, "flow")
        whole = await asked(endpoint.url, "flow")

    assert events(whole)["metadata"] == events(whole)["end"] == 1


async def test_question_sets_the_load() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", load_script())

        assert events(await asked(endpoint.url, "flow", "n=30 rate=100"))["token"] == 30

        (call,) = endpoint.calls
        assert 0.25 < (call.ended or 0) - call.started < 0.9


@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGTERM, ()), (signal.SIGINT, ("--host", "127.0.0.2"))]
)
async def test_served_endpoint_says_where_it_is_and_ends_on_a_signal(
    number: int, options: tuple[str, ...]
) -> None:
    process = await asyncio.create_subprocess_exec(*SERVE, *options, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        ready, url = line.split()

        assert ready == "ready"
        assert url.startswith(f"http://{options[1]}:" if options else "http://127.0.0.1:")
        assert events(await asked(url, "load", "n=3"))["token"] == 3

        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
