"""Run RabbitMQ in a container, on machines that have Docker and no `rabbitmq-server`.

No test covers this module: it has not been tried with a Docker engine.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from aimicromind_testing.broker.probe import until_it_speaks_amqp
from aimicromind_testing.broker.programs import BrokerDidNotStart

_IMAGE = "rabbitmq:4"
_COMMAND_TIMEOUT_S = 15.0
# The first start may pull the image.
_FIRST_START_TIMEOUT_S = 300.0
_START_DEADLINE = timedelta(seconds=60)


async def docker_answers() -> bool:
    """Return whether the Docker engine answers."""
    if shutil.which("docker") is None:
        return False
    try:
        await _docker("info", "--format", "{{.ID}}")
    except BrokerDidNotStart:
        return False
    return True


@asynccontextmanager
async def docker_broker() -> AsyncIterator[str]:
    """Run a container for the time of the body, and yield the broker's `amqp://` address.

    Raises:
        BrokerDidNotStart: Docker did not start it, or the broker does not answer within 60 s.
    """
    container = await _docker(
        "run", "--detach", "--rm", "--publish", "127.0.0.1::5672", _IMAGE,
        within_s=_FIRST_START_TIMEOUT_S,
    )  # fmt: skip
    try:
        address = await _docker("port", container, "5672/tcp")
        port = int(address.splitlines()[0].rpartition(":")[2])
        try:
            await until_it_speaks_amqp(port, _START_DEADLINE)
        except TimeoutError as error:
            reason = f"no answer within {_START_DEADLINE.total_seconds():g} s"
            raise BrokerDidNotStart(f"the broker in the container: {reason}") from error
        yield f"amqp://guest:guest@127.0.0.1:{port}/"
    finally:
        await _docker("stop", "--time", "5", container)


async def _docker(*arguments: str, within_s: float = _COMMAND_TIMEOUT_S) -> str:
    """Run a command of Docker, and return its output without surrounding white space."""
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
        reason = f"docker {arguments[0]} ended with exit code {process.returncode}"
        raise BrokerDidNotStart(reason, errors.decode(errors="replace"))
    return output.decode().strip()
