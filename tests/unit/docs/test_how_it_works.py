"""The tables of docs/how-it-works.md are what the chat gets."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from aimicromind_schemas.journal.history import History
from aimicromind_schemas.routing import routing_key
from aimicromind_worker.core.endpoint.request import call_chat_id
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.jobs.settlement import settle
from tests.support.builders import ENDED_WELL, USED_TOOLS, tokens
from tests.support.fakes import (
    CUT,
    CUT_BEFORE,
    HANG,
    UNSENT,
    FakeDelivery,
    RecordingPublisher,
    Run,
    Script,
)

_PAGE = Path(__file__).parents[3] / "docs" / "how-it-works.md"
_TABLES: Final = dict(
    re.findall(r"<!-- events: ([\w ]+) -->\n((?:\|.*\n)+)", _PAGE.read_text()),
)
_WELL: Final = [tokens("Rayleigh ", "scattering."), ENDED_WELL]
_CUT_AFTER: Final[Script] = [tokens("Rayleigh "), CUT]
_JOB: Final[dict[str, Any]] = {"jobId": "j-1", "chatId": "c-1"}

Shown = list[tuple[str, int, int, Any]]


class _Saved:
    """A server that has saved the answer to the first call."""

    async def messages(self, chatflow_id: str, endpoint_chat_id: str) -> bytes | None:
        if endpoint_chat_id != call_chat_id("j-1", 1, 1):
            return b"[]"
        question = {"role": "userMessage", "content": "Why?"}
        answer = {"id": "m", "role": "apiMessage", "content": "Rayleigh scattering."}
        return json.dumps([question, answer]).encode()


async def _success() -> Shown:
    return await _told(Run(_WELL, **_JOB))


async def _cut_before_output() -> Shown:
    return await _told(Run(CUT_BEFORE, _WELL, **_JOB))


async def _cut_and_recovered() -> Shown:
    return await _told(Run(_CUT_AFTER, memory=_Saved(), **_JOB))


async def _cut_and_called_again() -> Shown:
    return await _told(Run(_CUT_AFTER, _WELL, **_JOB))


async def _cut_after_a_tool() -> Shown:
    return await _told(Run([USED_TOOLS, CUT], **_JOB))


async def _worker_lost() -> Shown:
    facts = MessageFacts(redelivered=True, deliveries_before=1, failures_before=1)
    history = History(last_attempt=1, calls=1, is_open=True)
    return await _told(Run(_WELL, facts=facts, history=history, **_JOB))


async def _endpoint_down() -> Shown:
    before = await _told(Run(UNSENT, UNSENT, **_JOB))
    return before + await _told(Run(_WELL, facts=MessageFacts(carried=JobState(attempt=1)), **_JOB))


async def _cancelled_while_it_runs() -> Shown:
    run = Run([tokens("Rayleigh "), HANG], **_JOB)
    telling = asyncio.create_task(_told(run))
    async with asyncio.timeout(5):
        while len(run.publisher.published) < 2:  # noqa: ASYNC110 - the sink has no event for it
            await asyncio.sleep(0)
    run.job.cancel()
    return await telling


async def _cancelled_in_the_queue() -> Shown:
    run = Run(**_JOB)
    run.job.cancel()
    return await _told(run)


_CASES: Final[dict[str, Callable[[], Awaitable[Shown]]]] = {
    "success": _success,
    "cut before output": _cut_before_output,
    "cut and recovered": _cut_and_recovered,
    "cut and called again": _cut_and_called_again,
    "cut after a tool": _cut_after_a_tool,
    "worker lost": _worker_lost,
    "endpoint down": _endpoint_down,
    "cancelled while it runs": _cancelled_while_it_runs,
    "cancelled in the queue": _cancelled_in_the_queue,
}


def test_each_table_has_a_case() -> None:
    assert _TABLES.keys() == _CASES.keys()


@pytest.mark.parametrize("name", _CASES)
async def test_table_is_what_the_chat_gets(name: str) -> None:
    written = [_row(line) for line in _TABLES[name].splitlines()[2:]]

    told = await _CASES[name]()

    assert [row[:3] for row in told] == [row[:3] for row in written]
    for (*_, data), (*_, fields) in zip(told, written, strict=True):
        assert fields in {None, data} if isinstance(data, str) else _has(data, fields)


def _has(data: Any, fields: dict[str, Any] | None) -> bool:  # noqa: ANN401 - JSON
    return fields is None or {name: data[name] for name in fields} == fields


def _row(line: str) -> tuple[str, int, int, Any]:
    key, attempt, seq, data = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
    return key, int(attempt), int(seq), json.loads(data) if data else None


async def _told(run: Run) -> Shown:
    """Run and settle a job; return what its chat gets."""
    await settle(run.job.progress, await run.outcome(), FakeDelivery(b""))
    return _shown(run.publisher)


def _shown(sink: RecordingPublisher) -> Shown:
    events = [json.loads(it.body) for it in sink.published]
    return [
        (routing_key(it["chatId"], it["event"]), it["attempt"], it["seq"], it["data"])
        for it in events
    ]
