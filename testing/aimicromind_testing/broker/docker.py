"""A throwaway RabbitMQ in a container, for machines that have Docker and no `rabbitmq-server`.

Written for Docker's command line; not tried where this was written, which has no engine.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from aimicromind_testing.broker.private import BrokerDidNotStart
from aimicromind_testing.broker.probe import speaks_amqp

_IMAGE = "rabbitmq:4"
_COMMAND_TIMEOUT_S = 15.0
# The first start may have to fetch the image.
_FIRST_START_TIMEOUT_S = 300.0
_START_DEADLINE = timedelta(seconds=60)
_PROBE_PAUSE_S = 0.25


async def docker_answers() -> bool:
    """Return whether there is a Docker engine to start a container with."""
    if shutil.which("docker") is None:
        return False
    try:
        await _docker("info", "--format", "{{.ID}}")
    except BrokerDidNotStart:
        return False
    return True


@asynccontextmanager
async def docker_broker() -> AsyncIterator[str]:
    """Run a container for the body, and give the broker's URL.

    Raises:
        BrokerDidNotStart: Docker could not start it, or it does not answer.
    """
    container = await _docker(
        "run", "--detach", "--rm", "--publish", "127.0.0.1::5672", _IMAGE,
        within_s=_FIRST_START_TIMEOUT_S,
    )  # fmt: skip
    try:
        address = await _docker("port", container, "5672/tcp")
        port = int(address.splitlines()[0].rpartition(":")[2])
        await _until_it_answers(port)
        yield f"amqp://guest:guest@127.0.0.1:{port}/"
    finally:
        await _docker("stop", "--time", "5", container)


async def _until_it_answers(port: int) -> None:
    try:
        async with asyncio.timeout(_START_DEADLINE.total_seconds()):
            while not await speaks_amqp(port):  # noqa: ASYNC110 - a port rings no bell
                await asyncio.sleep(_PROBE_PAUSE_S)
    except TimeoutError as error:
        raise BrokerDidNotStart("the broker in the container does not answer") from error


async def _docker(*arguments: str, within_s: float = _COMMAND_TIMEOUT_S) -> str:
    process = await asyncio.create_subprocess_exec(
        "docker",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(within_s):
            output, errors = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise BrokerDidNotStart(f"docker {arguments[0]} took more than {within_s:g} s") from error
    if process.returncode != 0:
        raise BrokerDidNotStart(f"docker {arguments[0]} failed", errors.decode(errors="replace"))
    return output.decode().strip()
