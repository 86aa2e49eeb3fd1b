"""What commands write on terminals, in odd encodings, and when nobody reads on."""

import asyncio
import json
import os
import pty
import signal
from collections.abc import Mapping

import pytest

from aimicromind_testing import answer
from tests.integration.ops.test_cli import COMMAND, run, settings_for
from tests.integration.ops.test_cli_dead import a_refused_job, parked
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import in_queue

_CLIPBOARD, _TITLE = "\x1b]52;c;aGk=\x07", "\x1b]0;title\x07"
_DEADLINE_S = 30.0
_JOBS = 12


@pytest.fixture
def settings(stage: Stage) -> Mapping[str, str]:
    return settings_for(stage.broker, stage.names)


async def on_a_terminal(*arguments: str, **settings: str) -> str:
    """Run the command on a terminal, and give all that it wrote there."""
    ours, its = pty.openpty()
    loop, written = asyncio.get_running_loop(), bytearray()
    loop.add_reader(ours, lambda: written.extend(os.read(ours, 65_536)))
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, *arguments),
        env=_environment(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=its,
        stderr=its,
    )
    try:
        async with asyncio.timeout(_DEADLINE_S):
            assert await process.wait() == 0, written
        await asyncio.sleep(0)
    finally:
        loop.remove_reader(ours)
        os.close(its)
        os.close(ours)
    return written.decode()


async def read_a_line_and_leave(*arguments: str, **settings: str) -> tuple[int, bytes]:
    """Run the command, read one line of what it writes, and close the pipe."""
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, *arguments),
        env=_environment(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(_DEADLINE_S):
        await process.stdout.readline()
        process.stdout._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - as `head` does
        told = await process.stderr.read()
        code = await process.wait()
    assert b"Traceback" not in told, told
    return code, told


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    named = {f"AIMICROMIND_{name.upper()}": value for name, value in settings.items()}
    return {"TERM": "xterm-256color", "COLUMNS": "200"} | named


async def test_answer_cannot_speak_to_the_terminal(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    stage.endpoint.flow("flow", answer(3, token=f"{_CLIPBOARD}{_TITLE}{{}}".format))
    async with working(stage.settings()):
        seen = await on_a_terminal("submit", "flow", "Why?", "--follow", **settings)
        lines = await on_a_terminal("submit", "flow", "Why?", "--follow", "--json", **settings)

    for written in (seen, lines):
        assert _CLIPBOARD not in written
        assert "\x1b]0;" not in written
    assert r"\x1b]52;c;aGk=\x07" in seen


@pytest.mark.parametrize(
    "chat_id", ["team[/a]", "[red]a", ":smile:", f"a{_TITLE}b", "a\nb", "a\u202eb"]
)
async def test_dead_letters_of_any_chat_are_listed(
    stage: Stage, settings: Mapping[str, str], chat_id: str
) -> None:
    await parked(stage, a_refused_job("first", chat_id), a_refused_job("second"))

    plain = await run("dead", "list", **settings)
    as_json = await run("dead", "list", "--json", **settings)
    shown = await run("dead", "show", "first", **settings)
    seen = await on_a_terminal("dead", "list", **settings)

    assert (plain.exit_code, as_json.exit_code, shown.exit_code) == (0, 0, 0)
    assert json.loads(as_json.out.splitlines()[0])["chatId"] == chat_id
    assert json.loads(shown.out)["chatId"] == chat_id
    assert "second" in plain.out
    assert "\x1b]0;" not in seen
    assert len(plain.out.splitlines()) == 2 * len({"first", "second"})
    if chat_id.isprintable():
        assert chat_id in plain.out


async def test_answer_in_an_encoding_without_its_characters_is_shown(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    stage.endpoint.flow("flow", answer(1, token="ü😀{}".format))
    async with working(stage.settings()):
        seen = [
            await _in_latin_1("submit", "flow", "Why?", "--follow", *more, **settings)
            for more in ((), ("--json",))
        ]

    assert "ü\\U0001f600" in seen[0]
    tokens = [it["data"] for it in map(json.loads, seen[1].splitlines()) if it["event"] == "token"]
    assert tokens == ["ü😀0"]


async def _in_latin_1(*arguments: str, **settings: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, *arguments),
        env=_environment(settings) | {"PYTHONIOENCODING": "latin-1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_DEADLINE_S):
        out, err = await process.communicate()
    assert process.returncode == 0, err
    return out.decode("latin-1")


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["plain", "json"])
async def test_command_whose_reader_leaves_ends_as_other_programs_do(
    stage: Stage, settings: Mapping[str, str], more: tuple[str, ...]
) -> None:
    stage.endpoint.flow("flow", answer(40, rate=20))
    async with stage.working() as chats:
        code, told = await read_a_line_and_leave(
            *("submit", "flow", "Why?", "--follow", "--job-id", "job", *more), **settings
        )
        end = await chats.end_of("job")

    assert code == -signal.SIGPIPE
    # On a busy machine the job waits for a second or more, which is told to people.
    assert all(b"worker" in line for line in told.splitlines())
    assert end["status"] == "completed"


@pytest.mark.parametrize("command", [("topology", "show"), ("settings", "show")])
async def test_command_without_a_broker_ends_in_the_same_way(command: tuple[str, str]) -> None:
    settings = {"amqp_url": "amqp://127.0.0.1:1/", "base_url": "http://server"}

    code, told = await read_a_line_and_leave(*command, **settings)

    # What is written before the reader leaves fits into the pipe.
    assert code in {0, -signal.SIGPIPE}
    assert told == b""


async def test_work_goes_on_when_its_reader_leaves(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await parked(stage, *(a_refused_job(f"job-{number}") for number in range(_JOBS)))

    code, told = await read_a_line_and_leave("dead", "replay", "--all", "--json", **settings)

    assert (code, told.decode().strip()) == (0, f"{_JOBS} replayed")
    assert await in_queue(stage.connection, stage.names.jobs) == _JOBS
    assert await in_queue(stage.connection, stage.names.jobs_dead) == 0
