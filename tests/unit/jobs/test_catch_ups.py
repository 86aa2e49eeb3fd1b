"""Requests of late followers, as one session answers them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from structlog.testing import capture_logs

from aimicromind_schemas.messages.catch_up import CatchUpRequest, decode_snapshot
from aimicromind_worker.core.catching_up.kept_events import KeptEvents
from aimicromind_worker.core.catching_up.snapshot import RunningJob
from aimicromind_worker.core.chats.return_address import ReturnAddress
from aimicromind_worker.core.job.numbering import Numbering
from aimicromind_worker.jobs.catch_ups import CatchUps
from aimicromind_worker.jobs.registry import HeldChat
from tests.support.builders import NAMES, SECRET, an_event
from tests.support.waiting import until

HERE = ReturnAddress("here", "request-7")
REQUEST = CatchUpRequest("chat").encode()


class FakeSnapshots:
    """Takes what is sent, unless a test forbids it."""

    def __init__(self) -> None:
        self.part_bytes = 1_000_000
        self.may = True
        self.avoided: set[str] = set()
        self.sent: list[tuple[ReturnAddress, bytes]] = []
        self.faults = 0

    def may_publish(self) -> bool:
        return self.may

    def avoids(self, queue: str) -> bool:
        return queue in self.avoided

    def publish(self, to: ReturnAddress, chat_id: str, body: bytes) -> None:
        assert chat_id
        if self.faults:
            self.faults -= 1
            raise ValueError(SECRET)
        self.sent.append((to, body))


class Chat:
    """A chat that is held, whose job has published so many events."""

    def __init__(self, events: int = 3) -> None:
        numbering = Numbering("job", "chat", "flow", 1)
        self.kept = KeptEvents(numbering, 1_000_000)
        self.is_lost = False
        self.running_job: RunningJob | None = RunningJob("job", 1, self.kept)
        for number in range(events):
            self.kept.add(an_event("token", f"{number}"), 1_800_000_000.0)


@asynccontextmanager
async def answering(snapshots: FakeSnapshots) -> AsyncIterator[CatchUps]:
    catch_ups = CatchUps(snapshots, NAMES)
    running = asyncio.create_task(catch_ups.run())
    try:
        yield catch_ups
    finally:
        running.cancel()


async def test_request_is_answered_with_the_events_until_then() -> None:
    snapshots = FakeSnapshots()
    async with answering(snapshots) as catch_ups:
        catch_ups.take("chat", Chat(), REQUEST, HERE)
        await until(lambda: len(snapshots.sent) == 1)

    ((to, body),) = snapshots.sent
    assert to == HERE
    assert len(decode_snapshot(body).events) == 3


async def test_holder_of_a_lock_that_runs_nothing_answers() -> None:
    snapshots = FakeSnapshots()
    async with answering(snapshots) as catch_ups:
        catch_ups.take("chat", HeldChat(), REQUEST, HERE)
        await until(lambda: len(snapshots.sent) == 1)

    assert decode_snapshot(snapshots.sent[0][1]).job_id is None


async def test_long_answer_comes_in_parts() -> None:
    snapshots = FakeSnapshots()
    snapshots.part_bytes = 500
    async with answering(snapshots) as catch_ups:
        catch_ups.take("chat", Chat(events=20), REQUEST, HERE)
        await until(lambda: bool(snapshots.sent) and is_last(snapshots.sent[-1][1]))

    parts = [decode_snapshot(body) for _, body in snapshots.sent]
    assert sum(len(it.events) for it in parts) == 20


def is_last(body: bytes) -> bool:
    part = decode_snapshot(body)
    return part.part == part.parts


async def test_answers_wait_while_events_do() -> None:
    snapshots = FakeSnapshots()
    snapshots.may = False
    async with answering(snapshots) as catch_ups:
        catch_ups.take("chat", Chat(), REQUEST, HERE)
        await asyncio.sleep(0.05)
        sent_meanwhile = len(snapshots.sent)
        snapshots.may = True
        await until(lambda: len(snapshots.sent) == 1)

    assert sent_meanwhile == 0


async def test_chat_whose_lock_is_lost_is_not_answered_for() -> None:
    snapshots, lost = FakeSnapshots(), Chat()
    lost.is_lost = True
    async with answering(snapshots) as catch_ups:
        catch_ups.take("chat", lost, REQUEST, HERE)
        catch_ups.take("other", Chat(), CatchUpRequest("other").encode(), HERE)
        await until(lambda: len(snapshots.sent) == 1)

    assert decode_snapshot(snapshots.sent[0][1]).chat_id == "other"


async def test_fault_of_one_answer_costs_no_other_and_is_logged_without_its_text() -> None:
    snapshots = FakeSnapshots()
    snapshots.faults = 1
    with capture_logs() as logs:
        async with answering(snapshots) as catch_ups:
            catch_ups.take("chat", Chat(), REQUEST, HERE)
            catch_ups.take("other", Chat(), CatchUpRequest("other").encode(), HERE)
            await until(lambda: len(snapshots.sent) == 1)

    assert SECRET not in json.dumps(logs)


async def test_what_is_no_request_of_the_chat_or_may_not_be_answered_is_left_out() -> None:
    snapshots, chat = FakeSnapshots(), Chat()
    snapshots.avoided = {"avoided"}
    with capture_logs() as logs:
        async with answering(snapshots) as catch_ups:
            for body in (b"", b"{}", SECRET.encode(), REQUEST + b" " * 5_000):
                catch_ups.take("chat", chat, body, HERE)
            catch_ups.take("chat", chat, CatchUpRequest("other").encode(), HERE)
            for queue in ("", "aimicromind.jobs", "amq.rabbitmq.reply-to.x", "avoided"):
                catch_ups.take("chat", chat, REQUEST, ReturnAddress(queue))
            await asyncio.sleep(0.05)

    assert snapshots.sent == []
    assert SECRET not in json.dumps(logs)
