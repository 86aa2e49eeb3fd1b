"""Cancel requests from a real broker: those that come, and those that came before."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection
from structlog.testing import capture_logs

from aimicromind_schemas import CancelRequest, ChatCancel, JobCancel, Names
from aimicromind_schemas.client.streams.reader import StreamUnreadable
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.jobs import cancel_listener
from aimicromind_worker.amqp.jobs.cancel_listener import CancelListener, CancelListenerLost
from tests.integration.outgoing import publishing_at
from tests.integration.wire import Wire
from tests.support.amqp import BEAT, WITHIN_S, close_connections, delete_queue
from tests.support.builders import SECRET
from tests.support.waiting import until

LONG_AGO = timedelta(days=7)


class Requests:
    """The requests of one session, as they are given."""

    def __init__(self) -> None:
        self.given: list[CancelRequest] = []
        self._news = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()

    def take(self, request: CancelRequest) -> None:
        self.given.append(request)
        self._telling.add(asyncio.create_task(self._tell()))

    async def until(self, request: CancelRequest) -> None:
        async with asyncio.timeout(WITHIN_S), self._news:
            await self._news.wait_for(lambda: request in self.given)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


@asynccontextmanager
async def control_at(
    url: str, names: Names, requests: Requests, since: timedelta = LONG_AGO
) -> AsyncIterator[CancelListener]:
    async with (
        connect([url], f"jobs of {names.prefix}", BEAT) as connection,
        publishing_at(url, names) as way,
        CancelListener.open(
            connection, way.publishing, names, requests.take, datetime.now(UTC) - since
        ) as control,
    ):
        yield control


async def say(connection: AbstractConnection, names: Names, *bodies: bytes) -> None:
    """Publish as anyone may; the log has them once this returns."""
    async with connection.channel() as channel:
        exchange = await channel.get_exchange(names.control)
        for body in bodies:
            await exchange.publish(aio_pika.Message(body), "any.key")


async def queues_of(broker: PrivateBroker, names: Names) -> list[list[str]]:
    """Give name, exclusiveness and arguments of the workers' own queues."""
    listed = await broker.rabbitmqctl("list_queues", "name", "exclusive", "arguments")
    lines = [line.split("\t") for line in listed.splitlines()]
    own = f"{names.control}."
    return [it for it in lines if it[0].startswith(own) and it[0] != names.control_log]


async def test_what_came_before_is_known_once_it_is_open(wire: Wire) -> None:
    before: list[CancelRequest] = [JobCancel("first")]
    before += [ChatCancel("c", datetime.now(UTC)), JobCancel("last")]
    await say(wire.connection, wire.names, *(request.encode() for request in before))
    requests = Requests()

    async with control_at(wire.broker.url, wire.names, requests):
        assert requests.given == before


async def test_what_comes_reaches_every_worker(wire: Wire) -> None:
    one, two = Requests(), Requests()
    request = JobCancel("job")

    async with (
        control_at(wire.broker.url, wire.names, one),
        control_at(wire.broker.url, wire.names, two),
    ):
        await say(wire.connection, wire.names, request.encode())
        await one.until(request)
        await two.until(request)

    assert one.given == two.given == [request]


async def test_nothing_is_lost_between_what_came_before_and_what_comes(wire: Wire) -> None:
    said: list[CancelRequest] = []
    stop = asyncio.Event()

    async def go_on() -> None:
        async with wire.connection.channel() as channel:
            exchange = await channel.get_exchange(wire.names.control)
            while not stop.is_set():
                said.append(JobCancel(f"job-{len(said)}"))
                await exchange.publish(aio_pika.Message(said[-1].encode()), "")

    speaking = asyncio.create_task(go_on())
    for _ in range(5):
        requests = Requests()
        async with control_at(wire.broker.url, wire.names, requests):
            known = len(said)
            await until(lambda: len(said) >= known + 20)  # noqa: B023 - awaited here
            last = said[-2]
            await requests.until(last)
            assert set(said[: said.index(last)]) <= set(requests.given)
    stop.set()
    await speaking


async def test_marks_of_other_readings_are_no_requests(wire: Wire) -> None:
    requests = Requests()

    with capture_logs() as logs:
        for _ in range(2):
            async with control_at(wire.broker.url, wire.names, requests):
                pass

    assert (requests.given, logs) == ([], [])


async def test_what_is_no_request_is_told_without_its_content_and_passed_over(wire: Wire) -> None:
    wrong = json.dumps({"cancel": {"jobId": f"{SECRET} {SECRET}"}}).encode()
    requests = Requests()
    await say(wire.connection, wire.names, wrong, b"\xff", JobCancel("before").encode())

    with capture_logs() as logs:
        async with control_at(wire.broker.url, wire.names, requests):
            await say(wire.connection, wire.names, wrong, JobCancel("after").encode())
            await requests.until(JobCancel("after"))

    assert requests.given == [JobCancel("before"), JobCancel("after")]
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("cancel.malformed", "warning")
    ] * 3
    assert SECRET not in repr(logs)


async def test_queue_of_a_worker_goes_with_it_and_says_its_type(wire: Wire) -> None:
    async with control_at(wire.broker.url, wire.names, Requests()):
        ((_, exclusive, arguments),) = await queues_of(wire.broker, wire.names)

    assert exclusive == "true"
    assert "classic" in arguments
    assert await queues_of(wire.broker, wire.names) == []


async def test_deleted_queue_is_told(wire: Wire) -> None:
    async with control_at(wire.broker.url, wire.names, Requests()) as control:
        (mine,) = [line[0] for line in await queues_of(wire.broker, wire.names)]
        await wire.broker.rabbitmqctl("delete_queue", mine)

        with pytest.raises(CancelListenerLost, match="cancelled the consumer"):
            await asyncio.wait_for(control.lost(), WITHIN_S)


async def test_closed_connection_is_told(wire: Wire) -> None:
    async with control_at(wire.broker.url, wire.names, Requests()) as control:
        await close_connections(wire.broker, f"jobs of {wire.names.prefix}")

        with pytest.raises(CancelListenerLost):
            await asyncio.wait_for(control.lost(), WITHIN_S)


async def test_log_that_is_not_there_is_told(wire: Wire) -> None:
    await delete_queue(wire.connection, wire.names.control_log)

    with pytest.raises(StreamUnreadable, match=wire.names.control_log):
        async with control_at(wire.broker.url, wire.names, Requests()):
            pass


async def test_old_requests_are_read_after_the_body_has_begun(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel_listener, "_CLOCK_SLACK", timedelta())
    await say(wire.connection, wire.names, JobCancel("old").encode())
    # A stream is read from a time in whole seconds.
    await asyncio.sleep(1.5)
    requests = Requests()

    async with control_at(wire.broker.url, wire.names, requests) as control:
        at_first = list(requests.given)
        await control.read_rest()

        assert at_first == []
        assert requests.given == [JobCancel("old")]
        assert control.known_since < datetime.now(UTC) - LONG_AGO
