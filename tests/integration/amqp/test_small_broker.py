"""Brokers that give little, and peers that are none: it works, or one sentence says why not."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from aimicromind_schemas import Names
from aimicromind_schemas.client import BrokerRefused, BrokerUnreachable, Client
from aimicromind_schemas.client.transport import opening, peer
from aimicromind_testing import PrivateBroker, ScriptedEndpoint, answer
from aimicromind_worker.amqp.channels import LEAST, TooFewChannels
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.declaring import QueueLimitReached, declare
from aimicromind_worker.amqp.topology import Retention, topology
from aimicromind_worker.app.settings import Settings
from tests.integration.ops.test_cli import run
from tests.integration.stage import Stage
from tests.integration.workers import Running, working
from tests.support import erlang
from tests.support.amqp import BEAT, WITHIN_S
from tests.support.builders import a_job
from tests.support.consumer import give_back_unsettled

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
# Queues that stay, queues of one worker, and locks of chats.
DURABLE, OWN = 17, 2


@asynccontextmanager
async def stage_on(
    broker: PrivateBroker, url: str, endpoint: ScriptedEndpoint, names: Names
) -> AsyncIterator[Stage]:
    async with connect([url], "test", BEAT) as connection:
        yield Stage(broker, endpoint, names, connection)


def settings_at(url: str, endpoint: ScriptedEndpoint, names: Names) -> Settings:
    return Settings.read(amqp_url=url, base_url=endpoint.url, prefix=names.prefix)


@pytest_asyncio.fixture
async def vhost(broker: PrivateBroker) -> AsyncIterator[str]:
    """A virtual host of the test's own."""
    name = f"small-{uuid4().hex[:8]}"
    await erlang.add_vhost(broker, name)
    await erlang.permit(broker, "guest", name)
    yield name
    await erlang.delete_vhost(broker, name)


async def limit(broker: PrivateBroker, vhost: str, what: str, most: int) -> None:
    await erlang.limit_vhost(broker, vhost, {what: most})


async def user_with_channels(broker: PrivateBroker, most: int) -> str:
    """Add a user who may open so many channels, and return its address."""
    user = f"user-{uuid4().hex[:8]}"
    url = await erlang.add_user(broker, user)
    await erlang.limit_user(broker, user, {"max-channels": most})
    return url


async def found(url: str, endpoint: ScriptedEndpoint) -> dict[str, dict[str, str]]:
    """Return what `doctor` says of the limits and of the broker."""
    ran = await run("doctor", "--json", amqp_url=url, base_url=endpoint.url)
    assert "Traceback" not in ran.err
    findings = [json.loads(line) for line in ran.out.splitlines()]
    return {it["about"]: it for it in findings}


@pytest.mark.parametrize("most", [LEAST - 1, LEAST])
async def test_worker_works_with_few_channels_or_says_how_many_it_needs(
    most: int, endpoint: ScriptedEndpoint, names: Names
) -> None:
    endpoint.flow("flow", answer(3, rate=10))
    async with (
        PrivateBroker(settings={"channel_max": str(most)}) as broker,
        stage_on(broker, broker.url, endpoint, names) as stage,
    ):
        settings = stage.settings(concurrency=32)
        if most < LEAST:
            with pytest.raises(TooFewChannels, match=f"allows {most} .* needs {LEAST}"):
                await Running(settings).ended()
            said = await found(broker.url, endpoint)
            assert said["limits"]["state"] == "problem"
            assert f"needs {LEAST}" in said["limits"]["detail"]
            return
        async with stage.listening() as chats:
            for number in range(40):
                await stage.put(a_job(jobId=f"job-{number}", chatId=f"chat-{number}"))
            # It is looked up in the journal, beside all that goes on.
            give_back_unsettled(broker.url, names.jobs)
            async with working(settings) as running:
                ends = [await chats.end_of(f"job-{number}") for number in range(40)]
        said = await found(broker.url, endpoint)

    assert {end["status"] for end in ends} == {"completed"}
    assert running.times_ready == 1
    assert said["limits"]["state"] == "ok"


async def test_virtual_host_with_one_connection_is_said_with_what_is_needed(
    broker: PrivateBroker, vhost: str, endpoint: ScriptedEndpoint, names: Names
) -> None:
    url = broker.url + vhost
    await limit(broker, vhost, "max-connections", 1)
    settings = settings_at(url, endpoint, names)

    with pytest.raises(BrokerRefused, match=r"limit \(1\) is reached.*two connections"):
        await Running(settings).ended()
    said = await found(url, endpoint)

    assert "limit (1) is reached" in said["limits"]["detail"]
    assert "two connections" in said["limits"]["remedy"]


@pytest.mark.parametrize("most", [8, DURABLE, DURABLE + OWN - 1])
async def test_virtual_host_with_too_few_queues_is_said_with_what_is_needed(
    most: int, broker: PrivateBroker, vhost: str, endpoint: ScriptedEndpoint, names: Names
) -> None:
    url = broker.url + vhost
    await limit(broker, vhost, "max-queues", most)
    settings = settings_at(url, endpoint, names)
    refusal = QueueLimitReached if most < DURABLE else BrokerRefused
    said_before = await found(url, endpoint)

    with pytest.raises(refusal, match=rf"queue limit in vhost '{vhost}' \({most}\) is reached"):
        await Running(settings).ended()
    said_after = await found(url, endpoint)

    for said in (said_before, said_after):
        assert f"({most}) is reached" in said["limits"]["detail"]
        assert "queues of its own" in said["limits"]["remedy"]


async def test_jobs_wait_for_a_lock_where_the_virtual_host_has_no_room_for_more(
    broker: PrivateBroker, vhost: str, endpoint: ScriptedEndpoint, names: Names
) -> None:
    url = broker.url + vhost
    endpoint.flow("flow", answer(3, rate=10))
    async with stage_on(broker, url, endpoint, names) as stage, stage.listening() as chats:
        settings = stage.settings(amqp_url=url)
        # That of the listener as well, and one lock.
        await limit(broker, vhost, "max-queues", DURABLE + OWN + 2)
        with capture_logs() as logs:
            async with working(settings) as running:
                for number in range(4):
                    await stage.put(a_job(jobId=f"job-{number}", chatId=f"chat-{number}"))
                ends = [await chats.end_of(f"job-{number}") for number in range(4)]

    assert {end["status"] for end in ends} == {"completed"}
    assert running.times_ready == 1
    assert "chat_lock.no_queue" in [line["event"] for line in logs]


async def test_jobs_wait_without_more_channels_where_the_user_may_have_no_more(
    broker: PrivateBroker, endpoint: ScriptedEndpoint, names: Names
) -> None:
    url = await user_with_channels(broker, 40)
    endpoint.flow("flow", answer(3, rate=100))
    async with stage_on(broker, broker.url, endpoint, names) as stage, stage.listening() as chats:
        # More jobs than channels, before any of them can have ended.
        for number in range(60):
            await stage.put(a_job(jobId=f"job-{number}", chatId="chat"))
        with capture_logs() as logs:
            async with working(stage.settings(amqp_url=url, concurrency=60)) as running:
                ends = [await chats.end_of(f"job-{number}") for number in range(60)]

    assert {end["status"] for end in ends} == {"completed"}
    assert [line["event"] for line in logs].count("jobs.no_channel") == 1
    assert running.times_ready == 2


async def test_client_with_too_few_channels_is_told(broker: PrivateBroker, names: Names) -> None:
    url = await user_with_channels(broker, 2)
    async with connect([broker.url], "test", BEAT) as connection:
        await declare(connection, topology(names, Retention("1h", 1_000_000)))

    async def follow() -> None:
        async with (
            Client.open(url, names.prefix) as client,
            client.follow(chat_id="chat", from_start=True) as items,
        ):
            async for _ in items:
                pass

    with pytest.raises(BrokerRefused, match=r"user limit of \(2\).*up to 14 channels"):
        await asyncio.wait_for(follow(), WITHIN_S)


@pytest.mark.parametrize(
    ("user", "path", "words", "remedy"),
    [
        ("guest:h1dden", "", "Login was refused", "check user and password"),
        ("nobody:h1dden", "", "Login was refused", "check user and password"),
        ("guest:guest", "nope", "vhost nope not found", "add that virtual host"),
        ("stranger:h1dden", "", "access to vhost '/' refused", "grant the user permissions"),
    ],
)
async def test_refusal_is_told_in_the_broker_s_words_with_what_to_do(
    user: str, path: str, words: str, remedy: str, broker: PrivateBroker
) -> None:
    listed = await broker.rabbitmqctl("list_users")
    if "stranger" not in listed:
        await broker.rabbitmqctl("add_user", "stranger", "h1dden")
    url = broker.url.replace("guest:guest", user) + path

    with pytest.raises(BrokerRefused) as by_worker:
        async with connect([url], "test", BEAT):
            pass
    with pytest.raises(BrokerRefused) as by_client:
        async with Client.open(url):
            pass

    for refused in (by_worker.value, by_client.value):
        assert words in str(refused)
        assert remedy in refused.remedy
        assert "h1dden" not in str(refused)


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await reader.read()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while got := await reader.read(100):
        writer.write(got)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def amqp_1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"AMQP\x03\x01\x00\x00")
    await reader.read()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(7, 207)) * 5)
    await reader.read()


async def broken_frame(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)
    writer.write(b"\x01\x00\x00\x00\x00\x00\x08\xff\xff\xff\xff\xff\xff\xff\xff\xce")
    await reader.read()


async def hanging_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(8)


PEERS = [
    (http, "an HTTP server"),
    (echo, "sends back what it is sent"),
    (silence, "sends nothing"),
    (amqp_1, "speaks AMQP 1.0.0"),
    (garbage, "does not speak AMQP"),
    (broken_frame, "closed the connection"),
    (hanging_up, "closed the connection"),
]


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"amqp://guest:h1dden@127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.parametrize(("handler", "words"), PEERS)
async def test_peer_that_is_no_broker_is_told_for_what_it_is(
    handler: Handler, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PATIENCE_S", 1.0)
    monkeypatch.setattr(peer, "_WITHIN_S", 1.0)
    async with served(handler) as url:
        with pytest.raises(BrokerUnreachable, match=words) as by_worker:
            async with connect([url], "test", BEAT):
                pass
        with pytest.raises(BrokerUnreachable, match=words):
            async with Client.open(url):
                pass

    assert "h1dden" not in str(by_worker.value)
    assert "AIMICROMIND_AMQP_URL" in str(by_worker.value)


@pytest.mark.parametrize("handler", [amqp_1, http])
@pytest.mark.parametrize(
    "command", [("topology", "check"), ("dead", "list"), ("submit", "f", "q"), ("follow", "c")]
)
async def test_each_command_says_one_sentence_where_no_broker_answers(
    command: tuple[str, ...], handler: Handler
) -> None:
    async with served(handler) as url:
        ran = await run(*command, amqp_url=url)

    assert ran.exit_code == 3
    assert ran.err.startswith("aimicromind-worker: no broker answers at 127.0.0.1:")
    assert ran.err.count("\n") == 1


async def test_doctor_says_what_answers_instead_of_a_broker(endpoint: ScriptedEndpoint) -> None:
    async with served(amqp_1) as url:
        said = await found(url, endpoint)

    assert said["broker"]["state"] == "problem"
    assert "speaks AMQP 1.0.0" in said["broker"]["detail"]
