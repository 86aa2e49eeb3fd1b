"""Containers of the image, as restricted as a cluster has them, on the machine's own network."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.process.stage import Stage
from tests.support.probes import turns

_ENGINE = os.environ.get("ENGINE", "podman")
_RESTRICTED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges")
# Podman gives a read-only container writable folders in memory unless told not to.
_NO_TMP = ("--read-only-tmpfs=false",) if _ENGINE == "podman" else ()


@dataclass(frozen=True, slots=True)
class Container:
    """One that runs; `port` is that of its probes."""

    name: str
    port: int

    async def ready(self) -> None:
        await turns(f"http://127.0.0.1:{self.port}/readyz", 200, within_s=20)

    async def execute(self, *command: str) -> tuple[int, str]:
        """Run a command inside, and give exit code and standard output."""
        return await engine("exec", self.name, *command, check=False)

    async def terminate(self) -> int:
        """Send SIGTERM and give the exit code."""
        await engine("kill", "--signal", "TERM", self.name)
        async with asyncio.timeout(20):
            _, code = await engine("wait", self.name)
        return int(code)


async def engine(*arguments: str, check: bool = True) -> tuple[int, str]:
    """Run docker or podman, and give exit code and standard output."""
    process = await asyncio.create_subprocess_exec(
        _ENGINE, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    assert not check or process.returncode == 0, err.decode()
    return process.returncode, out.decode().strip()


async def configuration(image: str) -> dict[str, Any]:
    """Read what the image says of itself."""
    _, text = await engine("image", "inspect", image)
    (read,) = json.loads(text)
    # Podman keeps the health check beside the rest.
    return {"Healthcheck": read.get("Healthcheck"), **read["Config"]}


@asynccontextmanager
async def running(image: str, stage: Stage) -> AsyncIterator[Container]:
    """Run the image's default command for the body, with the stage's broker and endpoint."""
    container = Container(f"aimicromind-test-{uuid4().hex[:12]}", _free_port())
    settings = {
        "AMQP_URL": stage.broker.url,
        "BASE_URL": stage.endpoint.url,
        "PREFIX": stage.names.prefix,
        "HEALTH_PORT": container.port,
    }
    given = [f"--env=AIMICROMIND_{name}={value}" for name, value in settings.items()]
    where = ("--detach", "--network=host", f"--name={container.name}")
    try:
        await engine("run", *where, *_RESTRICTED, *_NO_TMP, *given, image)
        yield container
    finally:
        # Both streams go to ours: a test that failed shows what it wrote.
        logs = await asyncio.create_subprocess_exec(_ENGINE, "logs", container.name)
        await logs.wait()
        await engine("rm", "--force", container.name, check=False)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
