import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aio_pika
import psutil
import pytest
import pytest_asyncio

from aimicromind_testing import (
    BrokerDidNotStart,
    CommandFailed,
    PrivateBroker,
    find_rabbitmq_server,
)
from aimicromind_testing.broker.probe import speaks_amqp

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120),
    pytest.mark.skipif(find_rabbitmq_server() is None, reason="RabbitMQ is not installed"),
]

STARTS_A_BROKER = """
import asyncio
from aimicromind_testing import PrivateBroker

async def main():
    broker = PrivateBroker()
    async with broker:
        print(broker.node_name, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker() -> AsyncIterator[PrivateBroker]:
    async with PrivateBroker() as broker:
        yield broker


async def test_queues_of_all_kinds_are_declared(broker: PrivateBroker) -> None:
    async with asyncio.timeout(20), await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        for kind in ("classic", "quorum", "stream"):
            await channel.declare_queue(
                f"of-{kind}", durable=True, arguments={"x-queue-type": kind}
            )

    listed = await broker.rabbitmqctl("list_queues", "name", "type")
    assert {"of-classic", "of-quorum", "of-stream"} < set(listed.split())


async def test_failing_command_is_raised_with_what_it_printed(broker: PrivateBroker) -> None:
    with pytest.raises(CommandFailed, match="no_such_command"):
        await broker.rabbitmqctl("no_such_command")


async def test_suspended_broker_is_silent_until_it_is_resumed(broker: PrivateBroker) -> None:
    broker.suspend()
    try:
        assert not await speaks_amqp(broker.port)
    finally:
        broker.resume()

    assert await speaks_amqp(broker.port)


async def test_durable_data_outlives_a_restart_and_a_kill(broker: PrivateBroker) -> None:
    await publish_to_quorum_queue(broker.url, "kept")

    await broker.restart()
    assert await first_message(broker.url, "kept") == b"durable"

    await broker.kill()
    assert not await speaks_amqp(broker.port)
    await broker.start()
    assert await first_message(broker.url, "kept") == b"durable"


async def test_interrupted_process_leaves_nothing_behind() -> None:
    process = await start_python(STARTS_A_BROKER)
    node_name = await printed_line(process)
    folders = {home_of(found) for found in processes_of(node_name)}
    assert {found.name() for found in processes_of(node_name)} >= {"beam.smp", "epmd"}

    process.send_signal(signal.SIGINT)

    assert await asyncio.wait_for(process.wait(), 45) != 0
    await all_ended(node_name)
    assert [folder for folder in folders if folder.exists()] == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of the end")
async def test_killed_process_leaves_no_process_behind() -> None:
    process = await start_python(STARTS_A_BROKER)
    node_name = await printed_line(process)
    folders = {home_of(found) for found in processes_of(node_name)}

    process.kill()

    await asyncio.wait_for(process.wait(), 25)
    await all_ended(node_name)
    for folder in folders:
        shutil.rmtree(folder)


async def test_broker_that_cannot_start_says_why() -> None:
    with pytest.raises(BrokerDidNotStart, match="no_such_setting"):
        async with PrivateBroker(settings={"no_such_setting": "1"}):
            pass


async def test_missing_server_is_said() -> None:
    with pytest.raises(BrokerDidNotStart, match="/nowhere"):
        async with PrivateBroker(server=Path("/nowhere/rabbitmq-server")):
            pass


async def test_server_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIVATE_BROKER_SERVER", "/nowhere/rabbitmq-server")

    with pytest.raises(BrokerDidNotStart, match="/nowhere"):
        async with PrivateBroker():
            pass


async def publish_to_quorum_queue(url: str, queue: str) -> None:
    async with asyncio.timeout(20), await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"durable", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, queue)


async def first_message(url: str, queue: str) -> bytes:
    """Wait for a message and look at it; when the connection is closed, the broker requeues it."""
    async with asyncio.timeout(20), await aio_pika.connect(url) as connection:
        waiting = await (await connection.channel()).get_queue(queue)
        while (message := await waiting.get(fail=False)) is None:  # noqa: ASYNC110 - it may be requeued late
            await asyncio.sleep(0.05)
        return message.body


async def start_python(code: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def printed_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 60)
    assert line
    return line.decode().strip()


def processes_of(node_name: str) -> list[psutil.Process]:
    """Find all that was started for a node: each has its name in its environment."""
    return [found for found in psutil.process_iter() if environment(found, "NODENAME") == node_name]


def environment(process: psutil.Process, name: str) -> str | None:
    try:
        return process.environ().get(f"RABBITMQ_{name}")
    except psutil.Error:
        return None


def home_of(process: psutil.Process) -> Path:
    return Path(process.environ()["HOME"])


async def all_ended(node_name: str) -> None:
    waited = await asyncio.to_thread(psutil.wait_procs, processes_of(node_name), timeout=10)
    assert waited[1] == []
