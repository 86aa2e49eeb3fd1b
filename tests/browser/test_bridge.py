"""The page of examples/bridge.py in a real browser."""

import shutil
from collections.abc import AsyncIterator

import aio_pika
import pytest
import pytest_asyncio

pytest.importorskip("playwright", reason="no playwright: run `make test-browser`")

from playwright.async_api import Page, async_playwright, expect

from aimicromind_schemas import encode, event_from
from aimicromind_testing import Stall, answer, error_answer, send
from tests.integration.bridge import Bridge, bridging
from tests.integration.stage import Stage
from tests.support.proxy import Proxy

pytestmark = pytest.mark.timeout(90)

SOON = 20_000
"""Milliseconds that a browser is waited for, on a machine that has much to do."""

TEXT = "".join(f"line {number} <b>\u2028\n" for number in range(60))
TOOLS = send("usedTools", [{"tool": "calculator", "toolInput": {"input": "6*7"}}])
START = {"tags": {}, "redelivered": False, "upstream": ""}
# Without an end, which would bring the whole text once more.
SLOW = answer(60, rate=30, token="line {} <b>\u2028\n".format, after=[TOOLS, Stall()])


@pytest_asyncio.fixture
async def page() -> AsyncIterator[Page]:
    """A tab of a Chromium without a window; what goes wrong in its scripts fails the test."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no Chromium: the page is not tried in a browser")
    faults: list[str] = []
    async with async_playwright() as started:
        browser = await started.chromium.launch(executable_path=program)
        opened = await browser.new_page(viewport={"width": 900, "height": 720})
        opened.on("pageerror", lambda error: faults.append(str(error)))
        yield opened
        await browser.close()
    assert faults == []


async def test_answer_is_shown_once_although_the_page_is_loaded_again(
    stage: Stage, page: Page
) -> None:
    stage.endpoint.flow("flow", SLOW)
    async with stage.working() as chats, bridging(stage) as bridge:
        await _ask(page, bridge, "What is a queue for?")
        await expect(page.locator(".answer")).to_contain_text("line 9 ", timeout=SOON)
        await page.reload()
        await expect(page.locator(".answer")).to_contain_text("line 19 ", timeout=SOON)
        await page.reload()
        await expect(page.locator(".tools")).to_contain_text("calculator", timeout=SOON)
        shown = await page.locator(".answer").all_text_contents()
        await page.get_by_role("button", name="Stop").click()
        await _ended(page, "cancelled")
        end = await chats.end_of_only_job()
        await page.reload()
        await _ended(page, "cancelled")
        shown_later = await page.locator(".answer").all_text_contents()

    assert shown == shown_later == [end["text"]] == [TEXT]
    assert await page.locator(".question").all_text_contents() == ["What is a queue for?"]
    assert await page.locator(".tools li").all_text_contents() == ["calculator"]


async def test_answer_is_shown_once_although_the_connection_breaks(
    stage: Stage, page: Page
) -> None:
    stage.endpoint.flow("flow", SLOW)
    async with stage.working(), bridging(stage) as bridge, Proxy(_port(bridge)) as between:
        await _ask(page, bridge, "Why?", between.port)
        await expect(page.locator(".answer")).to_contain_text("line 9 ", timeout=SOON)
        between.reset()
        await expect(page.locator(".tools")).to_contain_text("calculator", timeout=SOON)

        assert await page.locator(".answer").all_text_contents() == [TEXT]


async def test_new_attempt_replaces_what_was_shown(stage: Stage, page: Page) -> None:
    retry = {"kind": "stream_cut", "message": "it was cut", "nextAttempt": 2, "delaySeconds": 1}
    async with stage.listening(), bridging(stage) as bridge:
        where = await _asked(page, bridge)
        await _publish(stage, where, (1, 0), "start", START)
        await _publish(stage, where, (1, 1), "token", "old ")
        await _publish(stage, where, (1, 2), "retry", retry)
        await expect(page.locator(".over .answer")).to_have_text("old ", timeout=SOON)
        await expect(page.locator(".note")).to_contain_text("it was cut; trying again")
        await _publish(stage, where, (2, 0), "start", START)
        await _publish(stage, where, (2, 1), "token", "new ")
        await expect(page.locator("section:not(.over) .answer")).to_have_text("new ", timeout=SOON)


async def test_failed_answer_says_why_and_the_next_question_can_be_asked(
    stage: Stage, page: Page
) -> None:
    stage.endpoint.flow("flow", error_answer("401 Unauthorized"), answer(3))
    async with stage.working(), bridging(stage) as bridge:
        await _ask(page, bridge, "Why?")
        await _ended(page, "failed · the key was refused")
        await page.get_by_role("textbox").fill("And now?")
        await page.keyboard.press("Enter")
        await _ended(page, "completed")

        assert await page.locator(".answer").all_text_contents() == ["", "tok0 tok1 tok2 "]


async def test_missing_events_are_told_and_come_with_the_end(stage: Stage, page: Page) -> None:
    end = {"status": "completed", "attempts": 1, "calls": 1, "events": 5, "text": "one two three "}
    end |= {"durationSeconds": 1, "recovered": False, "tags": {}}
    async with stage.listening(), bridging(stage) as bridge:
        where = await _asked(page, bridge)
        await _publish(stage, where, (1, 0), "start", START)
        await _publish(stage, where, (1, 1), "token", "one ")
        await _publish(stage, where, (1, 3), "token", "three ")
        await expect(page.locator(".note")).to_contain_text("missing", timeout=SOON)
        before = await page.locator(".answer").text_content()
        await _publish(stage, where, (1, 4), "end", end)
        await _ended(page, "completed")

        assert before == "one three "
        assert await page.locator(".answer").text_content() == "one two three "


async def _ask(page: Page, bridge: Bridge, question: str, port: int | None = None) -> None:
    await page.goto(bridge.url if port is None else f"http://127.0.0.1:{port}")
    await page.get_by_role("textbox").fill(question)
    await page.get_by_role("button", name="Ask").click()


async def _ended(page: Page, how: str) -> None:
    await expect(page.locator(".note").last).to_contain_text(how, timeout=SOON)


def _port(bridge: Bridge) -> int:
    return int(bridge.url.rpartition(":")[2])


async def _asked(page: Page, bridge: Bridge) -> str:
    """Ask, and give where the answer is."""
    async with page.expect_response("**/questions") as reply:
        await _ask(page, bridge, "Why?")
    where: str = (await (await reply.value).json())["answer"]
    return where


async def _publish(
    stage: Stage, where: str, place: tuple[int, int], event: str, data: object
) -> None:
    """Publish an event of the answer in place of a worker."""
    _, _, chat_id, _, job_id = where.partition("?")[0].split("/")
    names = {"chatId": chat_id, "jobId": job_id, "chatflowId": "flow", "event": event}
    said = {"attempt": place[0], "seq": place[1], "data": data, "time": "2026-01-01T00:00:00Z"}
    made = encode(event_from(names | said))
    message = aio_pika.Message(made.body, headers=dict(made.properties.headers))
    async with stage.connection.channel() as channel:
        exchange = await channel.get_exchange(stage.names.events, ensure=False)
        await exchange.publish(message, made.routing_key)
