"""What a worker answers to probes, in good times and bad."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.process.stage import Stage
from tests.support.probes import OK, READY, probe, turns
from tests.support.processes import WorkerProcess, Workers

_BACK_AT_WORK_WITHIN_S = 10.0
_A_FEW_SECONDS = 5.0
# A stream that was declared just before RabbitMQ 3.10 is killed stays down after its return.
_DECLARED_FOR_GOOD_AFTER_S = 3.0


async def test_readiness_follows_the_broker_and_liveness_does_not(
    names: Names, tmp_path: Path
) -> None:
    async with PrivateBroker() as broker, one_worker(broker, names, tmp_path) as worker:
        url = await (await worker.ready()).health_url()
        assert await probe(f"{url}/readyz") == READY
        await asyncio.sleep(_DECLARED_FOR_GOOD_AFTER_S)

        await broker.kill()

        body = await turns(f"{url}/readyz", 503, _A_FEW_SECONDS)
        assert (body["status"], len(body["reasons"])) == ("failing", 1)
        assert await probe(f"{url}/livez") == OK
        await broker.start()
        assert await turns(f"{url}/readyz", 200, _BACK_AT_WORK_WITHIN_S) == READY[1]
        assert await probe(f"{url}/livez") == OK


async def test_worker_that_stands_still_gives_no_answer(stage: Stage) -> None:
    worker = await stage.ready_worker()
    url = await worker.health_url()

    worker.signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        await probe(f"{url}/livez")
    worker.signal(signal.SIGCONT)

    assert await probe(f"{url}/livez") == OK


async def test_there_are_no_other_paths_and_no_log_of_probes(stage: Stage) -> None:
    worker = await stage.ready_worker(LOG_LEVEL="debug")
    url = await worker.health_url()
    before = worker.stderr

    gave = [await probe(url + path) for path in ("/", "/livez/", "/readyz/x", "/metrics/x")]

    assert [status for status, _ in gave] == [404] * 4
    assert worker.stderr == before


async def test_port_that_is_taken_is_one_sentence(stage: Stage) -> None:
    url = await (await stage.ready_worker()).health_url()
    address = url.removeprefix("http://")

    worker = await stage.workers.start(HEALTH_PORT=address.rpartition(":")[2])

    assert await worker.exits() == 2
    said = worker.only_sentence()
    assert said.startswith(f"the health endpoints cannot listen on {address} (Address already in")
    assert "AIMICROMIND_HEALTH_PORT" in said
    assert await probe(f"{url}/readyz") == READY


@pytest.mark.parametrize("host", ["203.0.113.1", "no..host"])
async def test_host_that_is_not_ours_is_one_sentence(host: str, stage: Stage) -> None:
    worker = await stage.workers.start(HEALTH_HOST=host)

    assert await worker.exits() == 2
    assert f"cannot listen on {host}:0" in worker.only_sentence()


async def test_open_probe_does_not_hold_the_end_and_the_port_is_free_after_it(stage: Stage) -> None:
    worker = await stage.ready_worker()
    url = await worker.health_url()
    port = url.rpartition(":")[2]
    _, idle = await asyncio.open_connection("127.0.0.1", int(port))
    _, unfinished = await asyncio.open_connection("127.0.0.1", int(port))
    unfinished.write(b"GET /livez HTTP/1.1\r\nHost:")
    await unfinished.drain()

    worker.signal(signal.SIGTERM)
    assert await worker.exits(3) == 0

    await stage.ready_worker(HEALTH_PORT=port)
    assert await probe(f"{url}/readyz") == READY
    for connection in (idle, unfinished):
        connection.close()


@asynccontextmanager
async def one_worker(
    broker: PrivateBroker, names: Names, folder: Path
) -> AsyncIterator[WorkerProcess]:
    """Run a worker that never calls an endpoint; it must end in good order."""
    settings = {"AMQP_URL": broker.url, "PREFIX": names.prefix, "BASE_URL": "http://127.0.0.1"}
    async with Workers(folder, settings) as workers:
        worker = await workers.start()
        yield worker
        worker.signal(signal.SIGTERM)
        assert await worker.exits() == 0
