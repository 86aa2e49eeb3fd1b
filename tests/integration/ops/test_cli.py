"""The installed command, as an operator runs it."""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from aio_pika.abc import AbstractConnection

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, answer, error_answer
from tests.integration.stage import Stage
from tests.integration.wire import Wire
from tests.integration.workers import working
from tests.support.amqp import delete_queue, exists

COMMAND: Final = str(Path(sys.executable).with_name("aimicromind-worker"))
DEADLINE_S: Final = 20.0
NOBODY: Final = "amqp://guest:h1dden@127.0.0.1:1/"


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    exit_code: int | None
    out: str
    err: str


async def run(*arguments: str, **settings: str) -> Ran:
    """Run the command with these settings and no others."""
    return await run_program(COMMAND, *arguments, **settings)


async def run_with(answer: str, *arguments: str, **settings: str) -> Ran:
    """Run the command with something to read on its standard input."""
    return await run_program(COMMAND, *arguments, answer=answer, **settings)


async def run_program(*command: str, answer: str | None = None, **settings: str) -> Ran:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={f"AIMICROMIND_{name.upper()}": value for name, value in settings.items()},
        stdin=asyncio.subprocess.DEVNULL if answer is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(
            process.communicate(answer.encode() if answer else None), DEADLINE_S
        )
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise
    ran = Ran(process.returncode, out.decode(), err.decode())
    assert "Traceback" not in ran.err, ran.err
    return ran


def settings_for(broker: PrivateBroker, names: Names) -> Mapping[str, str]:
    return {"amqp_url": broker.url, "prefix": names.prefix}


async def test_module_says_its_version() -> None:
    ran = await run_program(sys.executable, "-m", "aimicromind_worker", "--version")

    assert ran.exit_code == 0
    assert version("aimicromind-worker") in ran.out


async def test_help_names_commands_and_exit_codes() -> None:
    ran = await run("--help")

    assert ran.exit_code == 0
    assert {"run", "submit", "topology"} <= set(ran.out.split())
    assert "Exit codes" in ran.out


async def test_topology_is_missing_then_declared_then_as_expected(
    broker: PrivateBroker, names: Names, connection: AbstractConnection
) -> None:
    settings = settings_for(broker, names)

    before = await run("topology", "check", **settings)
    declared = await run("topology", "declare", **settings)
    after = await run("topology", "check", **settings)

    assert (before.exit_code, declared.exit_code, after.exit_code) == (1, 0, 0)
    assert f"queue {names.jobs} is missing" in before.out
    assert f"queue {names.jobs} is as expected" in after.out
    assert await exists(connection, names.jobs)


async def test_topology_is_shown_without_a_broker(names: Names) -> None:
    settings = {"amqp_url": NOBODY, "prefix": names.prefix}
    ran, plain = await asyncio.gather(
        run("topology", "show", "--json", **settings),
        run("topology", "show", **settings, events_log="false"),
    )

    shown = json.loads(ran.out)
    assert names.jobs in {queue["name"] for queue in shown["queues"]}
    exchanges = {it["name"]: it["type"] for it in shown["exchanges"]}
    assert (exchanges[names.events], exchanges[names.control]) == ("topic", "fanout")
    assert names.events_log_stream() in {queue["name"] for queue in shown["queues"]}
    assert names.journal in plain.out
    assert names.events_log not in plain.out
    assert (ran.exit_code, plain.exit_code) == (0, 0)


async def test_submitted_job_is_on_the_queue(wire: Wire) -> None:
    settings = settings_for(wire.broker, wire.names)
    options = ("--chat", "chat", "--after", "before", "--json")

    ran = await run("submit", "flow", "Why?", *options, **settings)

    said = json.loads(ran.out)
    job = await wire.first_in(wire.names.jobs)
    assert ran.exit_code == 0
    assert said["chatId"] == "chat"
    assert job.message_id == said["jobId"]
    assert json.loads(job.body) == {
        "chatflowId": "flow",
        "question": "Why?",
        "chatId": "chat",
        "jobId": said["jobId"],
        "after": "before",
    }
    assert job.timestamp is not None
    submitted_at = datetime.fromisoformat(str(job.headers["x-aimicromind-submitted-at"]))
    assert submitted_at.replace(microsecond=0) == job.timestamp


async def test_followed_job_is_shown_to_its_end(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    settings = settings_for(stage.broker, stage.names)
    async with working(stage.settings()):
        ran, plain = await asyncio.gather(
            run("submit", "flow", "Why?", "--follow", "--json", **settings),
            run("submit", "flow", "Why?", "--follow", **settings),
        )

    events: list[dict[str, Any]] = [json.loads(line) for line in ran.out.splitlines()]
    assert [it["event"] for it in events] == ["start", *["token"] * 3, "metadata", "end"]
    assert events[-1]["data"]["text"] == "tok0 tok1 tok2 "
    assert "completed" in plain.out
    assert "tok0 tok1 tok2" in plain.out
    assert (ran.exit_code, plain.exit_code) == (0, 0)


async def test_followed_job_that_fails_is_not_achieved(stage: Stage) -> None:
    stage.endpoint.flow("flow", error_answer("Unauthorized"))
    async with working(stage.settings()):
        settings = settings_for(stage.broker, stage.names)
        ran = await run("submit", "flow", "Why?", "--follow", "--json", **settings)

    assert ran.exit_code == 1
    assert [json.loads(line)["event"] for line in ran.out.splitlines()] == ["error", "end"]


async def test_followed_job_that_nobody_runs_is_left_after_a_while(wire: Wire) -> None:
    settings = settings_for(wire.broker, wire.names)

    ran = await run("submit", "flow", "Why?", "--follow", "--within", "0.5", **settings)

    assert ran.exit_code == 1
    assert "has not ended within 0.5 s" in ran.err


async def test_job_where_nothing_is_declared_is_not_taken(
    broker: PrivateBroker, names: Names
) -> None:
    settings = settings_for(broker, names)

    both = await asyncio.gather(
        run("submit", "flow", "Why?", **settings),
        run("submit", "flow", "Why?", "--follow", **settings),
    )

    assert [ran.exit_code for ran in both] == [1, 1]
    assert all("has a worker run?" in ran.err for ran in both)


async def test_followed_job_without_a_queue_is_not_taken(wire: Wire) -> None:
    await delete_queue(wire.connection, wire.names.jobs)

    ran = await run("submit", "flow", "Why?", "--follow", **settings_for(wire.broker, wire.names))

    assert ran.exit_code == 1
    assert f"there is no {wire.names.jobs}" in ran.err


async def test_wrong_use_is_told_apart() -> None:
    uses = [["submit", "../flow", "Why?"], ["submit", "flow"]]

    ran = await asyncio.gather(*(run(*arguments, amqp_url=NOBODY) for arguments in uses))

    assert [(it.exit_code, it.out) for it in ran] == [(2, "")] * len(uses)


async def test_settings_that_are_wrong_are_named_without_their_values() -> None:
    ran = await run(
        "run",
        amqp_url="http://user:h1dden@host",
        base_url="http://user:h1dden@host",
        api_key="h1dden",
        concurrency="h1dden",
        prediction_path="h1dden",
    )

    assert ran.exit_code == 2
    for name in ("AMQP_URL", "BASE_URL", "CONCURRENCY", "PREDICTION_PATH"):
        assert f"AIMICROMIND_{name}" in ran.err
    assert "h1dden" not in ran.err


async def test_silence_in_place_of_a_broker_is_told() -> None:
    commands = [["topology", "declare"], ["submit", "flow", "Why?"]]

    ran = await asyncio.gather(*(run(*command, amqp_url=NOBODY) for command in commands))

    assert [it.exit_code for it in ran] == [3] * len(commands)
    assert all("no broker answers at 127.0.0.1:1" in it.err for it in ran)
    assert "h1dden" not in "".join(it.err + it.out for it in ran)


async def test_refusing_broker_and_misspelt_setting_are_told(broker: PrivateBroker) -> None:
    settings = {
        "amqp_url": broker.url.replace("guest:guest", "guest:h1dden"),
        "base_url": "http://127.0.0.1:1",
        "concurency": "misspelt",
        "health_port": "0",
    }

    worker, submit = await asyncio.gather(
        run("run", **settings), run("submit", "flow", "Why?", **settings)
    )

    for ran in (worker, submit):
        assert ran.exit_code == 4
        assert "refuses" in ran.err
        assert "h1dden" not in ran.err + ran.out
    [warning] = [json.loads(line) for line in worker.err.splitlines() if "setting.unknown" in line]
    assert warning["name"] == "AIMICROMIND_CONCURENCY"
    assert warning["did_you_mean"] == "AIMICROMIND_CONCURRENCY"
    meant = "AIMICROMIND_CONCURENCY is no setting: did you mean AIMICROMIND_CONCURRENCY?"
    assert meant in submit.err


async def test_settings_are_shown_with_their_origins_and_without_secrets() -> None:
    ran = await run("settings", "show", amqp_url=NOBODY, base_url="http://server", api_key="h1dden")
    wrong = await run("settings", "show", amqp_url=NOBODY)

    rows = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines()}
    assert ran.exit_code == 0
    assert rows["AIMICROMIND_AMQP_URL"] == ["environment", "amqp://guest:***@127.0.0.1:1/"]
    assert rows["AIMICROMIND_CONCURRENCY"] == ["default", "32"]
    assert "h1dden" not in ran.out + ran.err + wrong.out + wrong.err
    assert (wrong.exit_code, "AIMICROMIND_BASE_URL is not set" in wrong.err) == (2, True)
