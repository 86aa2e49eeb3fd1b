"""Run a Prometheus of one's own, and query it."""

import asyncio
import json
import math
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Self

import httpx

_READY_WITHIN_S: Final = 30.0
_END_WITHIN_S: Final = 20.0
_ASK_AGAIN_S: Final = 0.5


class NotInstalled(Exception):
    """Prometheus is not on this machine."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"there is no `{program}` on the PATH: on Debian, `apt-get install prometheus` has it; "
            "its service need not run"
        )


class DidNotStart(Exception):
    """Prometheus ended, or did not become ready in time."""

    def __init__(self, log: Path) -> None:
        super().__init__(f"Prometheus did not start:\n{log.read_text()}")


def program(name: str) -> str:
    """Return the path of a program.

    Raises:
        NotInstalled: There is none.
    """
    found = shutil.which(name)
    if found is None:
        raise NotInstalled(name)
    return found


class Prometheus:
    """A running Prometheus; `scraping` starts it."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def scraping(
        cls, targets: Mapping[str, Mapping[str, str]], rules: Path, folder: Path
    ) -> AsyncIterator[Self]:
        """Scrape each target once a second while the body runs.

        Args:
            targets: By `host:port`, the labels that its series get, unless they have them.
            rules: A file of rules.
            folder: For its configuration, its data and its log.

        Raises:
            DidNotStart: It does not run.
        """
        config = folder / "prometheus.yaml"
        config.write_text(json.dumps(_config(targets, rules)))
        port = _free_port()
        with (folder / "prometheus.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                stdout=log,
                stderr=log,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as client:
                await _until_ready(client, process, folder / "prometheus.log")
                yield cls(client)
        finally:
            await _end(process)

    async def values(self, query: str) -> list[float]:
        """Return the values of a query's series now; those that are no number are left out."""
        got = await self._client.get("/api/v1/query", params={"query": query})
        answer = got.json()
        if answer["status"] != "success":
            raise ValueError(f"{answer.get('error')}: {query}")
        numbers = [float(series["value"][1]) for series in answer["data"]["result"]]
        return [it for it in numbers if not math.isnan(it)]

    async def has_values(self, query: str, within_s: float) -> list[float]:
        """Wait until a query has values, and return them; none after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not (found := await self.values(query)):  # noqa: ASYNC110 - it does not tell
                    await asyncio.sleep(_ASK_AGAIN_S)
                return found
        return []

    async def alert_is(self, name: str, *, firing: bool, within_s: float) -> bool:
        """Wait until an alert fires, or fires no more; return whether that came in time."""
        query = f'ALERTS{{alertname="{name}", alertstate="firing"}}'
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while bool(await self.values(query)) is not firing:  # noqa: ASYNC110 - see above
                    await asyncio.sleep(_ASK_AGAIN_S)
                return True
        return False


def _config(targets: Mapping[str, Mapping[str, str]], rules: Path) -> dict[str, object]:
    each = [{"targets": [target], "labels": labels} for target, labels in targets.items()]
    scraped = {"job_name": "scraped", "honor_labels": True, "static_configs": each}
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [scraped],
    }


async def _until_ready(
    client: httpx.AsyncClient, process: asyncio.subprocess.Process, log: Path
) -> None:
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            while process.returncode is None:
                with suppress(httpx.TransportError):
                    if (await client.get("/-/ready")).is_success:
                        return
                await asyncio.sleep(_ASK_AGAIN_S)
    except TimeoutError:
        pass
    raise DidNotStart(log)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_END_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
