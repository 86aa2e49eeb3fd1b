"""`doctor` on brokers and endpoints that are well, and on others."""

import asyncio
import json
import os
import pty
import re
import termios
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from pamqp.common import FieldTable

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, ScriptedEndpoint, answer
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.app.broker import needed_topology
from tests.integration.ops.test_cli import COMMAND, run
from tests.integration.stage import Stage
from tests.support import erlang
from tests.support.amqp import delete_queue
from tests.support.http import raw_server


async def diagnosis(*arguments: str, **settings: str) -> tuple[int | None, dict[str, Any]]:
    """Give the exit code, and what was found by what it is about."""
    ran = await run("doctor", "--json", *arguments, **settings)
    findings = [json.loads(line) for line in ran.out.splitlines()]
    return ran.exit_code, {it["about"]: it for it in findings}


def settings_for(stage: Stage, **changed: str) -> Mapping[str, str]:
    usual = {
        "amqp_url": stage.broker.url,
        "base_url": stage.endpoint.url,
        "prefix": stage.names.prefix,
        "api_key": "key",
    }
    return usual | changed


async def test_all_is_well(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(1))
    await declare(stage.connection, needed_topology(stage.settings()))

    code, found = await diagnosis("--flow", "flow", **settings_for(stage))

    assert code == 0
    well = (
        *("broker", "topology", "permissions", "publishing"),
        *("endpoint", "flow flow", "saved answers"),
    )
    assert {name: found[name]["state"] for name in well} == dict.fromkeys(well, "ok")
    assert found["subscribers"]["state"] == "not checked"
    assert all(it["remedy"] for it in found.values() if it["state"] in {"problem", "warning"})


async def test_user_who_may_not_publish_events_is_told_and_nothing_is_published(
    stage: Stage,
) -> None:
    user, exchange = f"user-{uuid4().hex[:8]}", stage.names.events
    url = await erlang.add_user(stage.broker, user)
    allowed = r"^(chat\.|[0-9]+$)"
    async with stage.listening() as chats:
        states = {}
        for topics in ("^nothing$", allowed):
            await stage.broker.rabbitmqctl("set_topic_permissions", user, exchange, topics, ".*")
            _, found = await diagnosis(**settings_for(stage, amqp_url=url))
            states[topics] = found["publishing"]

    assert states["^nothing$"]["state"] == "problem"
    assert allowed in states["^nothing$"]["remedy"]
    assert states[allowed]["state"] == "ok"
    assert not chats.inbox.messages


async def test_alarm_of_the_broker_is_told_and_does_not_stop_the_command(stage: Stage) -> None:
    await declare(stage.connection, needed_topology(stage.settings()))
    await erlang.set_memory_limit(stage.broker, 0.0001)
    try:
        code, found = await diagnosis(**settings_for(stage))
    finally:
        await erlang.set_memory_limit(stage.broker, 0.6)

    assert code == 0
    assert "alarm" in found["publishing"]["detail"]
    assert found["limits"]["state"] == "ok"


PAGE = b"Content-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 404 Not Found\r\n" + PAGE, "no such path (HTTP 404)"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "no such path (HTTP 404)"),
        (b"HTTP/1.1 200 OK\r\n" + PAGE, "a page (HTTP 200)"),
        (b"HTTP/1.1 521 Down\r\n" + PAGE, "a gateway answers"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "(HTTP 503)"),
    ],
)
async def test_address_that_is_not_the_api_is_a_problem(
    stage: Stage, answer: bytes, told: str
) -> None:
    async with raw_server(answer) as server:
        code, found = await diagnosis(**settings_for(stage, base_url=server.url))

    assert code == 1
    assert found["endpoint"]["state"] == "problem"
    assert told in found["endpoint"]["detail"]
    assert found["endpoint"]["remedy"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\npong",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_api_that_answers_is_no_problem(stage: Stage, answer: bytes) -> None:
    async with raw_server(answer) as server:
        _, found = await diagnosis(**settings_for(stage, base_url=server.url))

    assert found["endpoint"]["state"] == "ok"


async def test_base_url_with_the_path_of_the_api_is_refused(stage: Stage) -> None:
    wrong = f"{stage.endpoint.url}/api/v1/prediction"
    for command in ("doctor", "run"):
        ran = await run(command, **settings_for(stage, base_url=wrong))

        assert ran.exit_code == 2
        assert f"without the API path: {stage.endpoint.url}" in ran.err


async def test_lines_of_a_terminal_break_between_words() -> None:
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (24, 80))
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "doctor"),
        env={
            "AIMICROMIND_AMQP_URL": "amqp://127.0.0.1:1/",
            "AIMICROMIND_BASE_URL": "http://[::1]:1",
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=its,
    )
    os.close(its)
    await asyncio.wait_for(process.wait(), 30)
    said = os.read(ours, 100_000).decode()
    os.close(ours)

    lines = _plain(said).splitlines()
    assert max(map(len, lines)) <= 80
    assert {line[:13].strip() for line in lines} <= {"", "problem", "warning", "not checked", "ok"}


async def test_before_the_first_worker_one_warning_says_that_nothing_exists(stage: Stage) -> None:
    code, found = await diagnosis(**settings_for(stage))

    assert code == 0
    assert found["topology"]["state"] == "warning"
    assert not [about for about in found if about.startswith("queue ")]


async def test_queue_that_was_deleted_is_named(stage: Stage) -> None:
    await declare(stage.connection, needed_topology(stage.settings()))
    await delete_queue(stage.connection, stage.names.jobs_dead)

    code, found = await diagnosis(**settings_for(stage))

    assert code == 0
    assert found[f"queue {stage.names.jobs_dead}"]["state"] == "warning"


@pytest.mark.parametrize(
    ("changed", "about"),
    [
        ({"amqp_url": "amqp://guest:h1dden@127.0.0.1:1/"}, "broker"),
        ({"base_url": "http://127.0.0.1:1"}, "endpoint"),
    ],
)
async def test_what_does_not_answer_is_a_problem(
    stage: Stage, changed: Mapping[str, str], about: str
) -> None:
    code, found = await diagnosis(**settings_for(stage, **changed))

    assert (code, found[about]["state"]) == (1, "problem")
    assert "h1dden" not in str(found)


async def test_wrong_password_is_a_problem(stage: Stage) -> None:
    stranger = stage.broker.url.replace("guest:guest", "guest:h1dden")

    code, found = await diagnosis(**settings_for(stage, amqp_url=stranger))

    assert (code, found["broker"]["state"]) == (1, "problem")
    assert "h1dden" not in str(found)


async def test_unknown_flow_is_a_problem(stage: Stage) -> None:
    code, found = await diagnosis("--flow", "unknown", **settings_for(stage))

    assert (code, found["flow unknown"]["state"]) == (1, "problem")


async def test_without_a_key_answers_are_not_recovered(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(1))

    code, found = await diagnosis("--flow", "flow", **settings_for(stage, api_key=""))

    assert (code, found["saved answers"]["state"]) == (0, "warning")


@pytest.fixture
async def managed() -> AsyncIterator[PrivateBroker]:
    async with PrivateBroker(management=True) as broker:
        yield broker


async def test_unsafe_queues_of_subscribers_are_named(managed: PrivateBroker) -> None:
    names = Names("doctor")
    async with (
        ScriptedEndpoint() as endpoint,
        await aio_pika.connect(managed.url) as connection,
        connection.channel() as channel,
    ):
        settings = {
            "amqp_url": managed.url,
            "base_url": endpoint.url,
            "prefix": names.prefix,
            "management_url": managed.management_url,
        }
        await run("topology", "declare", **settings)
        queues: dict[str, FieldTable] = {
            "refusing": {"x-max-length": 10, "x-overflow": "reject-publish"},
            "endless": {},
            "safe": {"x-max-length-bytes": 1_000_000},
        }
        for name, arguments in queues.items():
            queue = await channel.declare_queue(name, durable=True, arguments=arguments)
            await queue.bind(names.events, "chat.#")

        code, found = await diagnosis(**settings)

    states = {name: found[f"queue {name}"]["state"] for name in ("refusing", "endless", "safe")}
    assert states == {"refusing": "problem", "endless": "warning", "safe": "ok"}
    assert found["subscribers"]["detail"] == "3 queues of subscribers"
    assert code == 1
    assert "guest:guest" not in str(found)


def _plain(text: str) -> str:
    """Take the colours out."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
