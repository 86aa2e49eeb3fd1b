"""What a run leaves in the log: every milestone of every job, and nothing that was said."""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from aimicromind_schemas import Names
from aimicromind_testing import (
    Head,
    PrivateBroker,
    Script,
    ScriptedEndpoint,
    Stall,
    answer,
    error_answer,
    html_page,
    send,
    whole_answer,
)
from aimicromind_testing.broker.private import CommandFailed
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage, set_up
from tests.support import erlang
from tests.support.consumer import publish
from tests.support.processes import WorkerProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES: Final = Names("test-logs")
MARK: Final = "s3cr3t"
USER: Final = "logged-user"
PASSWORD: Final = f"{MARK}-password"
API_KEY: Final = f"{MARK}-key"
TOOL: Final = send("usedTools", [{"tool": MARK, "toolInput": {"q": MARK}, "toolOutput": MARK}])


def spoken(number: int) -> str:
    return f"{MARK}-token-{number} "


def add_flows(endpoint: ScriptedEndpoint) -> None:
    whole = answer(3, token=spoken)
    unfinished = (Head(), send("token", spoken(0)))
    endpoint.flow("whole", answer(3, token=spoken, after=[TOOL]))
    endpoint.flow("cut", answer(3, token=spoken).cut(after_sends=2), whole)
    endpoint.flow("json", whole_answer(spoken(0), {"usedTools": [{"tool": MARK}]}), streaming=False)
    endpoint.flow("error", error_answer(f"cannot answer {MARK}-question"))
    endpoint.flow("late-error", error_answer(f"cannot answer {MARK}-question", tokens=2))
    endpoint.flow("html", html_page())
    endpoint.flow("broken", Script.of(*unfinished, send("usedTools", MARK)), whole)
    endpoint.flow("lost", Script.of(*unfinished, Stall()), whole)
    endpoint.flow("left", Script.of(*unfinished, Stall()))


def secret_job(flow: str) -> Job:
    return a_job(
        flow,
        {"headers": {"note": MARK}, "type": MARK},
        question=f"{MARK}-question",
        tags={"tag": f"{MARK}-tag"},
        history=[{"role": "userMessage", "content": f"{MARK}-history"}],
        overrideConfig={"vars": {"secret": f"{MARK}-variable"}},
        leadEmail=f"{MARK}@example.org",
        unknownField=MARK,
    )


def bad_jobs() -> list[bytes]:
    """Write jobs that are no jobs, each with something in it that must not be repeated."""
    wrong: list[dict[str, object]] = [
        {"question": [MARK]},
        {"tags": {"tag": [MARK]}},
        {"expiresAt": MARK},
        {"chatflowId": f"{MARK}/"},
        {"maxCalls": MARK},
    ]
    usual = {"chatflowId": "whole", "chatId": "bad-chat", "question": MARK}
    return [
        f'{{"chatId": "bad-chat", "question": "{MARK}'.encode(),
        *(
            json.dumps({**usual, "jobId": f"bad-{number}", **fields}).encode()
            for number, fields in enumerate(wrong)
        ),
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(
    broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[WorkerProcess]:
    """Give a worker that has gone through all kinds of jobs and has ended."""
    url = await erlang.add_user(broker, USER, PASSWORD)
    try:
        async with (
            set_up(broker, NAMES, tmp_path_factory.mktemp("logs")) as stage,
            ScriptedEndpoint(api_key=API_KEY) as endpoint,
        ):
            add_flows(endpoint)
            worker = await stage.ready_worker(
                AMQP_URL=url,
                API_KEY=API_KEY,
                BASE_URL=endpoint.url,
                LOG_LEVEL="debug",
                DRAIN_SECONDS=1,
                RECOVERY_SECONDS=1,
            )
            await carry_jobs(stage, worker)
            yield worker
    finally:
        await broker.rabbitmqctl("delete_user", USER)


async def carry_jobs(stage: Stage, worker: WorkerProcess) -> None:
    jobs = [
        secret_job(flow)
        for flow in ("whole", "cut", "json", "error", "late-error", "html", "broken")
    ]
    lost, left = secret_job("lost"), secret_job("left")
    with stage.listen() as consumer:
        stage.submit(*jobs, lost)
        publish(stage.broker.url, "", NAMES.jobs, *((body, {}) for body in bad_jobs()))
        await consumer.ended(*(job.job_id for job in jobs))
        await worker.logged("job.rejected", count=len(bad_jobs()))

        await consumer.saw(lost.job_id, "token")
        # Once one connection is closed, the worker closes the others: the tool may miss them.
        with suppress(CommandFailed):
            await stage.broker.rabbitmqctl("close_all_user_connections", USER, "testing")
        await worker.logged("worker.ready", count=2)
        await consumer.ended(lost.job_id)

        stage.submit(left)
        await consumer.saw(left.job_id, "token")
        worker.signal(signal.SIGTERM)
        assert await worker.exits() == 0


async def test_every_line_is_json(worker: WorkerProcess) -> None:
    lines = worker.log_path.read_text().splitlines()

    assert lines
    for line in lines:
        assert {"event", "level", "timestamp"} <= json.loads(line).keys()
    assert not worker.out_path.read_bytes()


async def test_every_milestone_is_there(worker: WorkerProcess) -> None:
    assert {line["event"] for line in worker.log()} >= {
        "answer.recovered",
        "broker.lost",
        "job.ended",
        "job.requeued",
        "job.dead_lettered",
        "job.rejected",
        "job.started",
        "retry.scheduled",
        "worker.draining",
        "worker.ready",
        "worker.stopped",
    }


async def test_every_line_about_a_job_names_job_and_chat(worker: WorkerProcess) -> None:
    about_jobs = [
        line
        for line in worker.log()
        if line["event"].startswith(("abort.", "answer.", "job.", "retry.", "event."))
    ]

    assert len(about_jobs) > 20
    for line in about_jobs:
        assert line["job_id"]
        assert "chat_id" in line


async def test_every_line_about_a_running_job_names_its_attempt(worker: WorkerProcess) -> None:
    running: set[str] = set()
    about_them: list[dict[str, Any]] = []
    for line in worker.log():
        if line["event"] == "broker.lost":
            running.clear()
        elif line["event"] == "job.started":
            running.add(line["job_id"])
        elif line.get("job_id") in running:
            about_them.append(line)

    assert len(about_them) > 10
    assert all("attempt" in line for line in about_them)


async def test_lines_are_for_people_on_a_terminal(tmp_path: Path) -> None:
    settings = {
        "AMQP_URL": "amqp://127.0.0.1:1",
        "BASE_URL": "http://127.0.0.1",
        "HEALTH_PORT": "0",
    }
    shown, terminal = pty.openpty()
    worker = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("aimicromind-worker"),
        "run",
        cwd=tmp_path,
        env=os.environ | {f"AIMICROMIND_{name}": value for name, value in settings.items()},
        stderr=terminal,
    )
    os.close(terminal)
    reader = asyncio.StreamReader()
    with open(shown, "rb", buffering=0) as screen:  # noqa: ASYNC230, PTH123 - a file descriptor
        pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), screen
        )
        try:
            async with asyncio.timeout(15):
                said = await reader.readuntil(b"broker.lost")
        finally:
            worker.kill()
            await worker.wait()
            pipe.close()

    line = said.splitlines()[-1]
    assert b"warning" in line
    assert b"{" not in line


async def test_nothing_that_was_said_or_kept_secret_is_there(worker: WorkerProcess) -> None:
    assert MARK not in worker.log_path.read_text()


async def test_nobody_needs_to_look_because_of_a_bad_job(worker: WorkerProcess) -> None:
    assert not worker.log(level="error")
