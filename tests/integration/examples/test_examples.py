"""The examples of examples, as somebody runs them."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

from aimicromind_schemas.client import ConsumerOptions
from aimicromind_testing import END, Head, Script, answer, play, send
from tests.integration.client.consuming import consumed, remove
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S, delete_queue
from tests.support.builders import a_job

_ASKED = b"job\nc76b6175-a6ce-4d7f-a920-82e87c545033"
EXAMPLES = Path(__file__).parents[3] / "examples"


@asynccontextmanager
async def running(name: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an example until the body ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / name), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def line_of(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    return (await asyncio.wait_for(stream.readline(), WITHIN_S)).decode()


async def test_persister_keeps_each_ending_once_however_many_run(
    stage: Stage, tmp_path: Path
) -> None:
    stage.endpoint.flow("flow", answer(2))
    database = str(tmp_path / "endings.db")
    arguments = (stage.broker.url, database, stage.names.prefix)
    job_ids = {f"job-{number}" for number in range(20)}
    async with (
        stage.working() as chats,
        running("persister.py", *arguments) as one,
        running("persister.py", *arguments) as other,
    ):
        assert [await line_of(it.stdout) for it in (one, other)] == ["persisting\n"] * 2
        for job_id in job_ids:
            await stage.put(a_job(jobId=job_id))
        for job_id in job_ids:
            await chats.end_of(job_id)
        kept = await _until_kept(database, len(job_ids))

    assert {job_id for job_id, _ in kept} == job_ids
    assert {text for _, text in kept} == {"tok0 tok1 "}
    await delete_queue(stage.connection, "persister")


async def test_tool_auditor_names_the_tools(stage: Stage) -> None:
    used = send("usedTools", [{"tool": "mail", "toolInput": {"to": "s3cr3t"}}, {"tool": "sum"}])
    said = send("metadata", {"chatId": "chat"})
    stage.endpoint.flow("flow", Script.of(Head(), used, send("token", "done"), said, END))
    async with (
        stage.working() as chats,
        running("tool_auditor.py", stage.broker.url, stage.names.prefix) as auditor,
    ):
        assert await line_of(auditor.stderr) == "auditing\n"
        await stage.put(a_job(jobId="job"))
        await chats.end_of("job")
        lines = [await line_of(auditor.stdout) for _ in range(2)]

    assert [json.loads(line)["tool"] for line in lines] == ["mail", "sum"]
    assert "s3cr3t" not in "".join(lines)
    await delete_queue(stage.connection, "tool-auditor")


async def test_approver_sends_what_a_person_decided(stage: Stage) -> None:
    stage.endpoint.flow("flow", play("d-hitl-1-ask", 0), play("d-hitl-2-proceed", 0))
    async with (
        stage.working() as chats,
        running("approver.py", stage.broker.url, stage.names.prefix) as approver,
    ):
        assert await line_of(approver.stderr) == "approving\n"
        await consumed(stage, name="approver")
        await stage.put(a_job(question="start please", jobId="job"))
        asked = await line_of(approver.stdout)
        assert approver.stdin is not None
        approver.stdin.write(b"y\n")
        await chats.end_of(f"answer-{sha256(_ASKED).hexdigest()}")
        said = await line_of(approver.stdout)

    assert asked == "'Human Input' in chat chat: go on? [y/N]\n"
    assert said == "approved, completed\n"
    assert stage.endpoint.calls[1].json["humanInput"]["type"] == "proceed"
    await remove(stage, ConsumerOptions(), "approver")


async def _until_kept(database: str, count: int) -> list[tuple[str, str]]:
    async with asyncio.timeout(WITHIN_S):
        while True:
            with sqlite3.connect(database, timeout=30) as kept:
                rows = kept.execute("SELECT job_id, text FROM endings").fetchall()
            if len(rows) == count:
                return rows
            await asyncio.sleep(0.05)
