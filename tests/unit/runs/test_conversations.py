"""Jobs of one conversation whose flow is called under the conversation's own chatId."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aimicromind_testing import frame
from aimicromind_worker.core.endpoint.errors import EndpointUnavailable
from aimicromind_worker.core.endpoint.exchange import FlowFacts
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.open_run import OpenRun, OpenRuns, RunsKnown
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.outcome import Cancelled, Completed, Delayed, Unfinished, Waits
from aimicromind_worker.runs.recovery import Recovery
from aimicromind_worker.runs.run import JobRun
from tests.support.builders import END, QUESTION, a_ticket, dependencies, tokens, untraced
from tests.support.fakes import HANG, UNSENT, WELL, RecordingPublisher, Script, ScriptedPredictions

_NEEDS_IT = FlowFacts(streams=True, own_documents=True)
_ENDED = frame("metadata", {"chatId": "chat", "chatMessageId": "a1", "question": QUESTION}) + END
_LONGEST = timedelta(minutes=10)
_LOST = MessageFacts(carried=JobState(attempt=1, sent=True, open_attempt=1, calls=1))


class _Journal:
    """The records that workers write.

    Attributes:
        on_note: Called with each record before it is taken.
    """

    def __init__(self) -> None:
        self.runs = OpenRuns()
        self.on_note: Callable[[OpenRun], None] = lambda _: None

    async def open_runs(self, job_id: str, chat_id: str) -> RunsKnown:
        return self.runs.copy().of(job_id, chat_id)

    async def note(self, run: OpenRun) -> None:
        self.on_note(run)
        await asyncio.sleep(0)
        self.runs.take(run)


class _Messages:
    """The messages of the conversation.

    Attributes:
        refuses: Whether it does not show them, look by look; then it does.
    """

    def __init__(self) -> None:
        self.saved: list[dict[str, str]] = [{"id": "a0", "role": "apiMessage", "content": "Hello"}]
        self.refuses: list[bool] = []

    def save(self, id_: str, answer: str) -> None:
        self.saved.append({"id": f"q{id_}", "role": "userMessage", "content": "?"})
        self.saved.append({"id": f"a{id_}", "role": "apiMessage", "content": answer})

    async def messages(self, chatflow_id: str, endpoint_chat_id: str) -> bytes | None:
        if self.refuses and self.refuses.pop(0):
            raise EndpointUnavailable(http_status=500)
        return json.dumps(self.saved).encode()


class _Conversation:
    """One conversation, its jobs and what the pool and the endpoint know of it."""

    def __init__(self, *scripts: Script) -> None:
        self.predictions = ScriptedPredictions(*scripts)
        self.predictions.kinds = [_NEEDS_IT]
        self.journal = _Journal()
        self.messages = _Messages()
        self.publisher = RecordingPublisher()
        recovery = Recovery(self.messages, timedelta(seconds=1))
        self._dependencies = replace(
            dependencies(self.predictions, self.publisher, recovery=recovery),
            conversations=Conversations(self.journal, recovery, _LONGEST),
        )

    def job(self, job_id: str, facts: MessageFacts | None = None, **fields: Any) -> JobRun:  # noqa: ANN401 - see a_job
        ticket = a_ticket(facts, jobId=job_id, **fields)
        return JobRun(ticket, self._dependencies, untraced(ticket.facts.trace))

    async def break_off(self, job: JobRun, by: Callable[[], None]) -> object:
        """Run a job until its call is made, then break it off."""
        running = asyncio.create_task(job.run())
        await self.predictions.began.wait()
        await asyncio.sleep(0)
        by()
        async with asyncio.timeout(5):
            return await running


async def test_answer_of_a_lost_call_is_its_jobs_though_another_job_found_it_first() -> None:
    chat = _Conversation([tokens("half"), HANG], WELL)
    first = chat.job("first")
    assert await chat.break_off(first, first.shut_down) == Unfinished()
    assert isinstance(await chat.job("second").run(), Waits)

    chat.messages.save("1", "half and half")
    assert await chat.job("second").run() == Completed()
    chat.messages.save("2", "Once")
    assert await chat.job("first", _LOST).run() == Completed()

    assert [call.endpoint_chat_id for call in chat.predictions.calls] == ["chat", "chat"]
    assert chat.publisher.data("token")[-1] == "half and half"


async def test_answer_that_is_saved_is_not_asked_for_again_where_it_cannot_be_read_at_once() -> (
    None
):
    chat = _Conversation([tokens("half"), HANG])
    first = chat.job("first")
    assert await chat.break_off(first, first.shut_down) == Unfinished()
    chat.messages.save("1", "half and half")
    chat.messages.refuses = [False, True]

    assert await chat.job("first", _LOST).run() == Completed()

    assert len(chat.predictions.calls) == 1


@pytest.mark.parametrize("interrupted", [False, True])
async def test_answer_that_was_shown_is_read_where_its_worker_was_lost_before_the_end(
    *, interrupted: bool
) -> None:
    chat = _Conversation([tokens("Once"), _ENDED])
    lost = chat.job("first")
    if interrupted:
        chat.journal.on_note = lambda run: lost.shut_down() if run.until is None else None
    await lost.run()
    chat.messages.save("1", "Once")

    assert await chat.job("first", _LOST).run() == Completed()

    assert len(chat.predictions.calls) == 1


async def test_call_that_ended_is_over_though_the_record_of_it_was_interrupted() -> None:
    chat = _Conversation(WELL)
    first = chat.job("first")

    def cancel_once(run: OpenRun) -> None:
        if run.until is None:
            chat.journal.on_note = lambda _: None
            first.cancel()

    chat.journal.on_note = cancel_once
    with suppress(asyncio.CancelledError):
        await first.run()

    assert chat.journal.runs.last == {}


async def test_cancelled_jobs_chat_is_free_only_after_the_endpoint_was_asked_to_stop() -> None:
    chat = _Conversation([tokens("half"), HANG])
    chat.predictions.aborts.clear()
    job = chat.job("first")
    running = asyncio.create_task(chat.break_off(job, job.cancel))
    await asyncio.sleep(0.05)

    assert chat.predictions.aborted == chat.predictions.calls
    assert not running.done()
    chat.predictions.aborts.set()
    assert await running == Cancelled()


async def test_flow_that_turns_out_to_need_the_chat_id_is_called_by_whoever_knows_it() -> None:
    chat = _Conversation(UNSENT, WELL)
    chat.predictions.kinds = [FlowFacts(None), _NEEDS_IT]

    assert isinstance(await chat.job("first").run(), Delayed)
    assert await chat.job("first").run() == Completed()

    assert [call.endpoint_chat_id for call in chat.predictions.seen] == ["chat"]
