"""`follow` and `cancel`, as an operator runs them beside a real worker."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping

import pytest

from aimicromind_schemas import PredictionJob
from aimicromind_testing import answer
from tests.integration.ops.test_cli import COMMAND, run, settings_for
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S


@pytest.fixture
def settings(stage: Stage) -> Mapping[str, str]:
    return settings_for(stage.broker, stage.names)


def a_job(job_id: str, chat_id: str | None = None, flow: str = "flow") -> bytes:
    return PredictionJob(chatflow_id=flow, question="Why?", job_id=job_id, chat_id=chat_id).encode()


async def test_job_that_has_ended_is_shown_from_its_start(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    stage.endpoint.flow("flow", answer(3))
    async with stage.working() as chats:
        for job_id in ("before", "wanted"):
            await stage.put(a_job(job_id, "chat"))
            await chats.end_of(job_id)

    wanted = ("follow", "chat", "--job", "wanted", "--from-start", "--within", "15")
    ran = await run(*wanted, "--json", **settings)
    plain = await run(*wanted, **settings)

    events = [json.loads(line) for line in ran.out.splitlines()]
    assert [it["event"] for it in events] == ["start", *["token"] * 3, "metadata", "end"]
    assert {it["jobId"] for it in events} == {"wanted"}
    assert "tok0 tok1 tok2" in plain.out
    assert plain.out.startswith("-- earlier events\n")
    assert (ran.exit_code, plain.exit_code) == (0, 0)


async def test_chat_is_followed_until_somebody_stops_it(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    stage.endpoint.flow("flow", answer(1))
    async with stage.working() as chats:
        following = await asyncio.create_subprocess_exec(
            *(COMMAND, "follow", "chat", "--from-start", "--json"),
            env={f"AIMICROMIND_{name.upper()}": value for name, value in settings.items()},
            stdout=asyncio.subprocess.PIPE,
            stderr=sys.stderr,
        )
        assert following.stdout is not None
        ends: set[str] = set()
        try:
            async with asyncio.timeout(WITHIN_S):
                for job_id in ("first", "second"):
                    await stage.put(a_job(job_id, "chat"))
                    await chats.end_of(job_id)
                while len(ends) < 2:
                    event = json.loads(await following.stdout.readline())
                    ends |= {event["jobId"]} if event["event"] == "end" else set()
                following.send_signal(signal.SIGINT)
                code = await following.wait()
        finally:
            if following.returncode is None:
                following.kill()
                await following.wait()

    assert ends == {"first", "second"}
    assert code == 0


async def test_earlier_events_are_told_from_live_ones(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    stage.endpoint.flow("flow", answer(1))
    async with stage.working() as chats:
        await stage.put(a_job("before", "chat"))
        await chats.end_of("before")
        following = await asyncio.create_subprocess_exec(
            *(COMMAND, "follow", "chat", "--from-start"),
            env={f"AIMICROMIND_{name.upper()}": value for name, value in settings.items()},
            stdout=asyncio.subprocess.PIPE,
            stderr=sys.stderr,
        )
        assert following.stdout is not None
        lines: list[str] = []
        try:
            async with asyncio.timeout(WITHIN_S):
                while "live from here" not in "".join(lines):
                    lines.append((await following.stdout.readline()).decode())
                await stage.put(a_job("after", "chat"))
                while "after: " not in "".join(lines) or "end:" not in lines[-1]:
                    lines.append((await following.stdout.readline()).decode())
        finally:
            following.kill()
            await following.wait()

    told = [number for number, line in enumerate(lines) if line.startswith("-- ")]
    assert lines[0] == "-- earlier events\n"
    assert [lines[number] for number in told][1:] == ["-- live from here, after 4 earlier events\n"]
    assert all("job before: " in line for line in lines[1 : told[1]])
    assert all("job after: " in line for line in lines[told[1] + 1 :])


async def test_quiet_chat_is_followed_as_long_as_was_said(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    async with stage.working():
        whole = await run("follow", "chat", "--within", "0.5", **settings)
        one = await run("follow", "chat", "--job", "nobody", "--within", "0.5", **settings)

    assert whole.exit_code == 0
    assert (one.exit_code, "has not ended within 0.5 s" in one.err) == (1, True)


@pytest.mark.parametrize("named", [("--job", "job"), ("--chat", "chat")])
async def test_running_job_is_cancelled(
    stage: Stage, settings: Mapping[str, str], named: tuple[str, str]
) -> None:
    stage.endpoint.flow("flow", answer(100_000, rate=20))
    async with stage.working() as chats:
        # Without the header, a job of the same second counts as submitted before a request.
        await stage.put(a_job("job", "chat"))
        await chats.shows("token")

        ran = await run("cancel", *named, **settings)
        end = await chats.end_of("job")

    assert (ran.exit_code, "asked to cancel" in ran.out) == (0, True)
    assert end["status"] == "cancelled"


@pytest.mark.parametrize("wrong", [(), ("--job", "job", "--chat", "chat"), ("--job", "")])
async def test_cancel_names_one_of_both(
    stage: Stage, settings: Mapping[str, str], wrong: tuple[str, ...]
) -> None:
    assert (await run("cancel", *wrong, **settings)).exit_code == 2


async def test_cancel_that_nobody_hears_is_told(stage: Stage, settings: Mapping[str, str]) -> None:
    ran = await run("cancel", "--job", "job", **settings)

    assert (ran.exit_code, "has a worker run?" in ran.err) == (1, True)
