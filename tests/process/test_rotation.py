"""Secrets that change while a worker runs: it takes the new ones, and is not restarted for it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from aimicromind_testing import PrivateBroker, answer
from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support import erlang
from tests.support.amqp import close_connections
from tests.support.processes import WorkerProcess

pytestmark = pytest.mark.timeout(90)

_KEY_WITHIN_S = 15.0


@dataclass(frozen=True)
class Account:
    """A user of the broker, and the folder from which a worker reads its password."""

    broker: PrivateBroker
    folder: Path
    name: str

    def write(self, password: str) -> None:
        url = f"amqp://{self.name}:{password}@127.0.0.1:{self.broker.port}/"
        replace(self.folder / "aimicromind_amqp_url", url)

    async def change(self, password: str) -> None:
        await self.broker.rabbitmqctl("change_password", self.name, password)

    async def disconnect(self) -> None:
        await close_connections(self.broker, "aimicromind-worker jobs")


def replace(file: Path, text: str) -> None:
    """Write a file at once, as a mounted Secret changes."""
    new = file.with_suffix(".new")
    new.write_text(f"{text}\n")
    new.rename(file)


@pytest_asyncio.fixture
async def account(broker: PrivateBroker, tmp_path: Path) -> Account:
    folder = tmp_path / "secrets"
    folder.mkdir()
    account = Account(broker, folder, f"user-{uuid4().hex[:8]}")
    await erlang.add_user(broker, account.name, "0ld-password")
    account.write("0ld-password")
    return account


async def a_worker(stage: Stage, account: Account) -> WorkerProcess:
    return await stage.ready_worker(AMQP_URL=None, SECRETS_DIR=account.folder)


async def completes_a_job(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        (seen,) = await stage.ended(consumer, job)
    assert seen.end["status"] == "completed"


async def refused_by_its_broker(worker: WorkerProcess) -> None:
    losses = 1
    while "refuses" not in (await worker.logged("broker.lost", count=losses))["reason"]:
        losses += 1


async def test_password_that_is_not_there_yet_is_waited_for(stage: Stage, account: Account) -> None:
    worker = await a_worker(stage, account)

    await account.change("n3w-password")
    await account.disconnect()
    await refused_by_its_broker(worker)
    account.write("n3w-password")
    await worker.logged("worker.ready", count=2)

    await completes_a_job(stage)
    assert "-password" not in worker.stderr


async def test_job_goes_on_while_its_events_wait_for_a_new_password(
    stage: Stage, account: Account
) -> None:
    worker = await a_worker(stage, account)
    stage.endpoint.flow("flow", answer(200, rate=20))
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token")
        await account.change("n3w-password")
        await close_connections(account.broker, "aimicromind-worker events")
        refused = 1
        while "refuses" not in (await worker.logged("publishing.lost", count=refused))["reason"]:
            refused += 1
        account.write("n3w-password")
        (seen,) = await stage.ended(consumer, job, within_s=40)

    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 1)
    assert len(worker.log("worker.ready")) == 1


@pytest.mark.parametrize("written", [b"", b"\xff"])
async def test_key_that_cannot_be_read_leaves_the_one_there_was(
    written: bytes, stage: Stage, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    key = folder / "aimicromind_api_key"
    replace(key, "0ld-key")
    worker = await stage.ready_worker(SECRETS_DIR=folder)

    key.write_bytes(written)
    async with asyncio.timeout(_KEY_WITHIN_S):
        while not worker.log("secrets.unreadable"):
            await completes_a_job(stage)

    assert used_key(stage) == "0ld-key"


async def test_secrets_that_make_no_sense_leave_those_there_were(
    stage: Stage, account: Account
) -> None:
    worker = await a_worker(stage, account)

    replace(account.folder / "aimicromind_amqp_url", "s3cret nonsense")
    await account.disconnect()
    unreadable = await worker.logged("secrets.unreadable")
    await worker.logged("worker.ready", count=2)

    assert "AIMICROMIND_AMQP_URL" in unreadable["reason"]
    assert "s3cret" not in worker.stderr


async def test_new_api_key_is_used_by_calls_to_come(stage: Stage, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    key = folder / "aimicromind_api_key"
    replace(key, "0ld-key")
    await stage.ready_worker(SECRETS_DIR=folder)
    await completes_a_job(stage)
    assert used_key(stage) == "0ld-key"

    replace(key, "n3w-key")
    async with asyncio.timeout(_KEY_WITHIN_S):
        while used_key(stage) != "n3w-key":
            await completes_a_job(stage)


def used_key(stage: Stage) -> str:
    """Give the key that the last call came with."""
    return stage.endpoint.calls[-1].headers["authorization"].removeprefix("Bearer ")
