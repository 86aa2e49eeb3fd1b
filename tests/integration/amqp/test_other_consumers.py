"""Events in the hands of other client libraries: FastStream with our models, amqplib in Node.

pika is what the tests of whole workers consume with.
"""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from aimicromind_schemas import EndEvent, TokenEvent
from aimicromind_testing import answer
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S
from tests.support.builders import a_job
from tools.contract.places import TYPESCRIPT
from tools.generated import TOP

TOOLS = TOP / ".tools" / "contract"
MODULES = TOOLS / "node_modules"


async def test_faststream_hands_events_over_as_our_models(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    broker = RabbitBroker(stage.broker.url, logger=None)
    exchange = RabbitExchange(stage.names.events, type=ExchangeType.TOPIC, durable=True)
    tokens: asyncio.Queue[TokenEvent] = asyncio.Queue()
    ended: asyncio.Future[EndEvent] = asyncio.get_running_loop().create_future()

    @broker.subscriber(_queue(stage, "token"), exchange)  # type: ignore[untyped-decorator]
    async def on_token(event: TokenEvent) -> None:
        tokens.put_nowait(event)

    @broker.subscriber(_queue(stage, "end"), exchange)  # type: ignore[untyped-decorator]
    async def on_end(event: EndEvent) -> None:
        ended.set_result(event)

    async with stage.working(), asyncio.timeout(WITHIN_S):
        await broker.start()
        try:
            await stage.put(a_job(jobId="job"))
            end = await ended
            texts = sorted([await tokens.get() for _ in range(3)], key=lambda it: it.seq)
        finally:
            await broker.stop()

    assert (end.job_id, end.data.text) == ("job", "tok0 tok1 tok2 ")
    assert "".join(it.data for it in texts) == end.data.text


@pytest.mark.skipif(
    not (MODULES / "amqplib").exists(), reason="npm could not be had: Node was not tried"
)
async def test_typescript_example_prints_a_chat(stage: Stage, tmp_path: Path) -> None:
    program = await asyncio.to_thread(_compiled, tmp_path)
    stage.endpoint.flow("flow", answer(3).cut(after_sends=2), answer(3))
    async with stage.working():
        following = await asyncio.create_subprocess_exec(
            *("node", str(program), stage.broker.url, "chat", stage.names.prefix),
            env={**os.environ, "NODE_PATH": str(MODULES)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert following.stderr is not None
        try:
            async with asyncio.timeout(WITHIN_S):
                assert await following.stderr.readline() == b"following\n"
                await stage.put(a_job(jobId="job", chatId="chat"))
                said, _ = await following.communicate()
        finally:
            if following.returncode is None:
                following.kill()
                await following.wait()

    shown, _, last = said.decode().partition("(again)\n")
    assert "tok0 tok1 tok2 ".startswith(shown.strip())
    assert last == "tok0 tok1 tok2 \ncompleted\n"


def _queue(stage: Stage, event: str) -> RabbitQueue:
    # FastStream takes queues of one name for one queue, the empty name included.
    name = f"{stage.names.prefix}.{event}s"
    return RabbitQueue(name, exclusive=True, routing_key=f"chat.*.{event}")


def _compiled(folder: Path) -> Path:
    """Compile the example as strictly as TypeScript can."""
    shutil.copy(TOP / "examples/consumer.ts", folder)
    shutil.copy(TYPESCRIPT, folder / "aimicromind.ts")
    (folder / "node_modules").symlink_to(MODULES)
    options = {
        "strict": True,
        "noImplicitReturns": True,
        "target": "es2022",
        "module": "commonjs",
        "types": ["node"],
        "skipLibCheck": True,
    }
    settings = {"compilerOptions": options, "include": ["*.ts"]}
    (folder / "tsconfig.json").write_text(json.dumps(settings))
    compiler = MODULES / "typescript/bin/tsc"
    done = subprocess.run(
        ["node", compiler, "--project", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return folder / "consumer.js"
