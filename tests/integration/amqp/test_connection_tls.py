"""The broker is reached by TLS, and each side looks whom it has before it."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from aimicromind_schemas import EndStatus, Names, PredictionJob
from aimicromind_schemas.client import BrokerTlsRefused, Client
from aimicromind_testing import BrokerTls, PrivateBroker, ScriptedEndpoint, answer
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.amqp.topology import Exchange, Topology
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.tls import context
from tests.integration.ops.test_cli import run
from tests.integration.outgoing import publishing_at
from tests.integration.speaker import Speaker
from tests.integration.workers import working
from tests.support.amqp import BEAT, WITHIN_S, close_connections, listening
from tests.support.certificates import HOST, Authority

pytestmark = [pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="module")]

_COMMANDS: Final = [
    "topology declare",
    "topology check",
    "submit flow Why?",
    "follow chat --within 0.1",
    "cancel --chat chat",
    "dead list",
]
_NO_ENDPOINT: Final = {"base_url": "http://127.0.0.1:1", "health_port": "0"}


@dataclass(frozen=True)
class Secured:
    """A broker that is reached by TLS and asks for a certificate."""

    broker: PrivateBroker
    ours: Authority
    others: Authority

    def url(self, host: str = HOST, port: int | None = None) -> str:
        return f"amqps://guest:guest@{host}:{port or self.broker.tls_port}/"

    def trust(self) -> ssl.SSLContext:
        """What a client needs to get in."""
        return context(self.ours.ca_file, self.ours.client("client"))

    def settings(self, names: Names) -> dict[str, str]:
        """Say the same to a command."""
        return {
            "amqp_url": self.url(),
            "amqp_ca_file": str(self.ours.ca_file),
            "amqp_client_certificate": str(self.ours.client("client")),
            "prefix": names.prefix,
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    ours, others = Authority(folder / "ours"), Authority(folder / "others")
    tls = BrokerTls(*ours.server(HOST), asks_for=ours.ca_file)
    async with PrivateBroker(tls=tls) as broker:
        yield Secured(broker, ours, others)


async def refusal(secured: Secured, url: str, tls: ssl.SSLContext) -> str:
    """Connect in vain, as worker and as client, and give what is said."""
    with pytest.raises(BrokerTlsRefused) as refused:
        async with connect([url], "test", BEAT, tls):
            pass
    with pytest.raises(BrokerTlsRefused) as refused_client:
        async with Client.open(url, tls=tls):
            pass
    assert str(refused.value) == str(refused_client.value)
    assert "guest" not in str(refused.value)
    return str(refused.value)


async def test_events_go_out_by_tls(secured: Secured, names: Names) -> None:
    wanted = Topology((Exchange(names.events),), ())
    async with connect([secured.broker.url], "test", BEAT) as connection:
        await declare(connection, wanted)
        async with (
            listening(connection, names.events) as box,
            publishing_at(secured.url(), names, wanted, tls=secured.trust()) as way,
        ):
            speaker = Speaker(way.publisher)
            for _ in range(200):
                speaker.say("token", "word " * 1000)
            await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
            await box.received(200)


async def test_job_is_put_in_carried_and_followed_by_tls(secured: Secured, names: Names) -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", answer(3))
        settings = Settings.read(base_url=endpoint.url, **secured.settings(names))
        async with (
            working(settings),
            Client.open(secured.url(), names.prefix, tls=secured.trust()) as client,
        ):
            job_id = await client.submit(PredictionJob(chatflow_id="flow", question="Why?"))
            end = await client.result(job_id)

    assert end.data.status is EndStatus.COMPLETED


async def test_broker_of_another_ca_is_not_trusted(secured: Secured) -> None:
    tls = context(secured.others.ca_file, secured.ours.client("client"))

    said = await refusal(secured, secured.url(), tls)

    assert f"{HOST}:{secured.broker.tls_port}" in said
    assert "AIMICROMIND_AMQP_CA_FILE" in said


async def test_broker_of_another_name_is_not_trusted(secured: Secured) -> None:
    said = await refusal(secured, secured.url("localhost"), secured.trust())

    assert "localhost" in said
    assert "AIMICROMIND_AMQP_URL" in said


@pytest.mark.parametrize("shows", ["nothing", "one of another CA"])
async def test_broker_that_does_not_trust_us_says_so(secured: Secured, shows: str) -> None:
    shown = None if shows == "nothing" else secured.others.client("stranger")

    said = await refusal(secured, secured.url(), context(secured.ours.ca_file, shown))

    assert "AIMICROMIND_AMQP_CLIENT_CERTIFICATE" in said


async def test_port_without_tls_is_told(secured: Secured) -> None:
    said = await refusal(secured, secured.url(port=secured.broker.port), secured.trust())

    assert "AIMICROMIND_AMQP_URL" in said
    assert "amqp://" in said


async def test_address_that_refuses_is_passed_over_for_the_next(secured: Secured) -> None:
    urls = [secured.url(port=secured.broker.port), secured.url()]

    async with connect(urls, "test", BEAT, secured.trust()) as connection:
        assert not connection.is_closed
    async with Client.open(urls, tls=secured.trust()) as client:
        assert client is not None


async def test_certificate_is_read_for_each_connection(
    secured: Secured, names: Names, tmp_path: Path
) -> None:
    shown = tmp_path / "client.pem"
    good, bad = secured.ours.client("client"), secured.others.client("stranger")
    shutil.copyfile(good, shown)
    settings = secured.settings(names) | _NO_ENDPOINT | {"amqp_client_certificate": str(shown)}
    async with working(Settings.read(**settings)) as running:
        shutil.copyfile(bad, shown)
        await close_connections(secured.broker, "aimicromind-worker jobs")
        await running.not_ready("AIMICROMIND_AMQP_CLIENT_CERTIFICATE")

        shutil.copyfile(good, shown)
        await running.ready(times=2)


@pytest.mark.timeout(240)
async def test_every_command_comes_by_tls(secured: Secured, names: Names) -> None:
    settings = secured.settings(names) | _NO_ENDPOINT

    ran = {command: await run(*command.split(), **settings) for command in _COMMANDS}
    doctor = await run("doctor", **settings)

    assert {command: it.exit_code for command, it in ran.items()} == dict.fromkeys(_COMMANDS, 0)
    assert "ok  broker" in doctor.out


@pytest.mark.timeout(240)
async def test_every_command_says_in_one_sentence_which_setting_is_wrong(
    secured: Secured, names: Names
) -> None:
    settings = secured.settings(names) | _NO_ENDPOINT
    settings["amqp_ca_file"] = str(secured.others.ca_file)
    commands = ["run", *_COMMANDS]

    ran = {command: await run(*command.split(), **settings) for command in commands}
    doctor = await run("doctor", **settings)

    assert {command: it.exit_code for command, it in ran.items()} == dict.fromkeys(commands, 2)
    for it in ran.values():
        said = it.err.splitlines()[-1]
        assert said.startswith("aimicromind-worker: no TLS connection to the broker at")
        assert "AIMICROMIND_AMQP_CA_FILE" in said
        assert "guest" not in it.err
        assert [line for line in it.err.splitlines()[:-1] if not line.startswith("{")] == []
    assert doctor.exit_code == 1
    assert "problem  broker: no TLS connection" in doctor.out
