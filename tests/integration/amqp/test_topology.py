import asyncio
import json
from dataclasses import replace
from typing import Any, Final

import pytest
import pytest_asyncio
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import DeliveryError

from aimicromind_schemas import EVENT_NAMES, PARTITIONS, Names, routing_key
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.declaring import compare, declare
from aimicromind_worker.amqp.differences import TopologyDiffers
from aimicromind_worker.amqp.topology import Retention, topology
from tests.integration.wire import Wire
from tests.support import erlang
from tests.support.amqp import (
    BEAT,
    WITHIN_S,
    delete_exchange,
    delete_queue,
    exists,
    put_job,
)

LOG: Final = Retention("1h", 10_000_000)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def powerless(broker: PrivateBroker) -> str:
    """Give the address of a user who may connect and do nothing else."""
    return await erlang.add_user(
        broker, "powerless", "s3cr3t", configure="^$", write="^$", read="^$"
    )


@pytest.mark.parametrize("turns", range(8))
async def test_declaring_ends_in_whichever_turn_of_the_loop_it_is_cancelled(
    broker: PrivateBroker, names: Names, turns: int
) -> None:
    async with connect([broker.url], "test", BEAT) as connection:
        declaring = asyncio.create_task(declare(connection, topology(names, LOG)))
        in_the_middle = connection.wire.heard + 7
        while connection.wire.heard < in_the_middle:  # noqa: ASYNC110 - each turn counts
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)

        declaring.cancel()
        await asyncio.wait((declaring,), timeout=WITHIN_S)

        assert declaring.cancelled()


async def test_queues_are_declared_with_the_arguments_of_the_contract(wire: Wire) -> None:
    queues = await _queues(wire.broker, wire.names)

    assert all(it.pop("x-queue-leader-locator") == "balanced" for it in queues.values())
    assert queues == {
        wire.names.jobs: {
            "x-queue-type": "quorum",
            "x-delivery-limit": 20,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": wire.names.jobs_reaped,
            "x-dead-letter-strategy": "at-least-once",
        },
        wire.names.jobs_reaped: {
            "x-queue-type": "quorum",
            "x-delivery-limit": 1_000_000,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": wire.names.jobs_dead,
            "x-dead-letter-strategy": "at-least-once",
        },
        wire.names.jobs_dead: {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000},
        **{
            f"{wire.names.jobs}.delay.{seconds}": {
                "x-queue-type": "quorum",
                "x-delivery-limit": 20,
                "x-message-ttl": seconds * 1000,
                "x-overflow": "reject-publish",
                "x-dead-letter-exchange": wire.names.jobs,
                "x-dead-letter-strategy": "at-least-once",
            }
            for seconds in (2, 10, 30, 60, 120, 300, 600)
        },
        wire.names.journal: {
            "x-queue-type": "stream",
            "x-max-age": "7D",
            "x-max-length-bytes": 2_000_000_000,
            "x-stream-max-segment-size-bytes": 50_000_000,
        },
        wire.names.endings: {
            "x-queue-type": "stream",
            "x-max-age": "7D",
            "x-max-length-bytes": 2_000_000_000,
            "x-stream-max-segment-size-bytes": 50_000_000,
        },
        wire.names.control_log: {
            "x-queue-type": "stream",
            "x-max-age": "7D",
            "x-max-length-bytes": 100_000_000,
            "x-stream-max-segment-size-bytes": 5_000_000,
        },
        **{
            wire.names.events_log_stream(partition): {
                "x-queue-type": "stream",
                "x-max-age": "1h",
                "x-max-length-bytes": 2_500_000,
                "x-stream-max-segment-size-bytes": 1_000_000,
            }
            for partition in range(4)
        },
    }


async def test_declaring_again_changes_nothing(wire: Wire) -> None:
    await wire.put(b"job")

    await declare(wire.connection, topology(wire.names, LOG))

    assert (await wire.first_in(wire.names.jobs)).body == b"job"


async def test_missing_queue_is_declared_beside_those_that_exist(wire: Wire) -> None:
    await delete_queue(wire.connection, wire.names.journal)

    await declare(wire.connection, topology(wire.names, LOG))

    assert await exists(wire.connection, wire.names.journal)


async def test_event_log_can_be_switched_off(names: Names, connection: AbstractConnection) -> None:
    wanted = topology(names, None)
    await declare(connection, wanted)

    assert not await exists(connection, names.events_log_stream())
    assert await exists(connection, names.journal)
    assert {finding.state for finding in await compare(connection, wanted)} == {"as expected"}


async def test_all_that_differs_is_named_at_once_with_what_is_left_over(
    names: Names, connection: AbstractConnection
) -> None:
    differing = (names.jobs, names.journal, names.control_log)
    async with connection.channel() as channel:
        for name in (*differing, names.events_log):
            await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})

    with pytest.raises(TopologyDiffers) as refused:
        await declare(connection, topology(names, LOG))

    told = str(refused.value)
    assert all(f"queue {name} is different" in told for name in differing)
    assert f"queue {names.events_log} is left over" in told
    assert names.jobs_dead not in told


@pytest.mark.parametrize("partitions", [1, 4])
async def test_event_log_is_a_super_stream_bound_to_the_events(
    broker: PrivateBroker, names: Names, connection: AbstractConnection, partitions: int
) -> None:
    await declare(connection, topology(names, LOG, partitions=partitions))

    listed = await broker.rabbitmqctl(
        *("list_bindings", "source_name", "destination_name", "routing_key", "arguments"),
        *("--formatter", "json"),
    )
    bound = {
        (it["source_name"], it["destination_name"], it["routing_key"], *plain.items())
        for it in json.loads(listed)
        if it["source_name"] in {names.events, names.events_log}
        and (plain := _plain(it["arguments"])) is not None
        and it["destination_name"] != names.endings
    }
    assert bound == {
        binding
        for partition in range(partitions)
        for stream in (names.events_log_stream(partition),)
        for binding in (
            (names.events, stream, "#" if partitions == 1 else str(partition)),
            (names.events_log, stream, str(partition), ("x-stream-partition-order", partition)),
        )
    }


@pytest.mark.parametrize(("there", "wanted"), [(1, 4), (4, 1), (2, 3), (3, 2)])
async def test_other_number_of_partitions_is_one_error_that_names_the_remedy(
    names: Names, connection: AbstractConnection, there: int, wanted: int
) -> None:
    await declare(connection, topology(names, LOG, partitions=there))

    with pytest.raises(TopologyDiffers) as refused:
        await declare(connection, topology(names, LOG, partitions=wanted))

    said = str(refused.value)
    assert said.count(" is different ") == 1
    assert f"super stream {names.events_log} is different (it has {there} partitions" in said
    assert f"set AIMICROMIND_EVENTS_LOG_PARTITIONS to {there}; or" in said
    assert not await exists(
        connection, names.events_log_stream(max(there, wanted) - 1 + (there > wanted))
    )


@pytest.mark.parametrize("deleted", [0, 1, 3])
async def test_deleted_partition_is_declared_again(
    names: Names, connection: AbstractConnection, deleted: int
) -> None:
    await declare(connection, topology(names, LOG))
    await delete_queue(connection, names.events_log_stream(deleted))

    await declare(connection, topology(names, LOG))

    assert await exists(connection, names.events_log_stream(deleted))


async def test_partition_gets_what_names_it_and_a_consumer_gets_all_once(wire: Wire) -> None:
    numbers = [0, 3, 1, 1, 2]
    async with wire.connection.channel() as channel:
        every = await channel.declare_queue(exclusive=True)
        for key in ("#", "chat.#", "chat.a.*"):
            await every.bind(wire.names.events, key)
        exchange = await channel.get_exchange(wire.names.events)
        for number in numbers:
            message = Message(b"", type=str(number), headers={"BCC": [str(number)], "attempt": 1})
            await exchange.publish(message, "chat.a.token")
        came = [await every.get() for _ in numbers]
        assert await every.get(fail=False) is None

    assert [message.type for message in came] == [str(it) for it in numbers]
    assert all("BCC" not in message.headers for message in came)
    for number in range(4):
        async with wire.reading(wire.names.events_log_stream(number)) as partition:
            await partition.received(numbers.count(number))
        assert {message.type for message in partition.messages} == {str(number)}
        assert all("BCC" not in message.headers for message in partition.messages)


async def test_full_queue_of_jobs_refuses_its_producer(
    names: Names, connection: AbstractConnection
) -> None:
    await declare(connection, topology(names, LOG, jobs_max_length=2))

    async def put_many() -> None:
        # A quorum queue takes a few more than its limit before it refuses.
        for _ in range(50):
            await put_job(connection, names, b"job")

    with pytest.raises(DeliveryError):
        await put_many()


@pytest.mark.parametrize(
    ("exchange", "other"),
    [("events", ExchangeType.FANOUT), ("control", ExchangeType.TOPIC)],
)
async def test_exchange_of_another_type_is_named(
    names: Names, connection: AbstractConnection, exchange: str, other: ExchangeType
) -> None:
    name = getattr(names, exchange)
    async with connection.channel() as channel:
        await channel.declare_exchange(name, other, durable=True)

    with pytest.raises(TopologyDiffers, match=f"exchange {name} is different.*'type'"):
        await declare(connection, topology(names, LOG))


async def test_user_without_permission_can_compare_nothing(powerless: str, names: Names) -> None:
    async with connect([powerless], "test", BEAT) as connection:
        findings = await compare(connection, topology(names, LOG))

    assert "as expected" not in {finding.state for finding in findings}


async def test_user_who_may_not_declare_takes_what_is_there(
    powerless: str, declared: Names
) -> None:
    wanted = topology(declared, LOG)
    async with connect([powerless], "test", BEAT) as connection:
        await declare(connection, wanted)
        findings = await compare(connection, wanted)

    assert {finding.state for finding in findings} == {"not compared"}


async def test_comparison_finds_everything_as_expected(wire: Wire) -> None:
    wanted = topology(wire.names, LOG)

    findings = await compare(wire.connection, wanted)

    assert {finding.state for finding in findings} == {"as expected"}
    assert [finding.name for finding in findings if finding.kind == "queue"] == [
        queue.name for queue in wanted.queues
    ]
    assert [finding.name for finding in findings if finding.kind == "exchange"] == [
        exchange.name for exchange in wanted.exchanges
    ]


async def test_comparison_finds_what_is_missing_and_creates_nothing(
    names: Names, connection: AbstractConnection
) -> None:
    findings = await compare(connection, topology(names, LOG))

    assert {finding.state for finding in findings} == {"missing"}
    assert {finding.state for finding in await compare(connection, topology(names, LOG))} == {
        "missing"
    }


async def test_comparison_finds_what_is_different(wire: Wire) -> None:
    await delete_queue(wire.connection, wire.names.jobs)
    await delete_exchange(wire.connection, wire.names.jobs_dead)
    async with wire.connection.channel() as channel:
        await channel.declare_queue(wire.names.jobs, durable=True)
        await channel.declare_exchange(wire.names.jobs_dead, ExchangeType.DIRECT, durable=True)

    findings = await compare(wire.connection, topology(wire.names, LOG))

    different = {(it.kind, it.name): it.detail for it in findings if it.state != "as expected"}
    assert different.keys() == {("queue", wire.names.jobs), ("exchange", wire.names.jobs_dead)}
    assert all("PRECONDITION_FAILED" in detail for detail in different.values())


async def test_changed_log_size_is_a_difference(wire: Wire) -> None:
    findings = await compare(wire.connection, topology(wire.names, replace(LOG, max_age="2h")))

    assert {it.name for it in findings if it.state == "different"} == {
        wire.names.events_log_stream(partition) for partition in range(PARTITIONS)
    }


async def test_streams_keep_what_they_are_for(wire: Wire) -> None:
    said = [*sorted(EVENT_NAMES - {"end"}), "of-its-own", "end"]
    async with wire.connection.channel() as channel:
        exchange = await channel.get_exchange(wire.names.events)
        for name in said:
            message = Message(b"", type=name, headers={"BCC": ["0"]})
            await exchange.publish(message, routing_key("a.b", name))
        await channel.default_exchange.publish(Message(b"", type="record"), wire.names.journal)

    async with (
        wire.reading(wire.names.journal) as journal,
        wire.reading(wire.names.events_log_stream()) as log,
        wire.reading(wire.names.endings) as endings,
    ):
        await log.received(len(said))
        await endings.received(1)
        await journal.received(1)

    assert [message.type for message in log.messages] == said
    assert [message.type for message in endings.messages] == ["end"]
    assert [message.type for message in journal.messages] == ["record"]


async def test_journal_that_an_earlier_version_bound_is_unbound(wire: Wire) -> None:
    keys = [f"chat.*.{name}" for name in ("start", "retry", "error", "end", "usedTools")]
    async with wire.connection.channel() as channel:
        journal = await channel.get_queue(wire.names.journal)
        for key in keys:
            await journal.bind(wire.names.events, key)

    await declare(wire.connection, topology(wire.names, LOG))

    bindings = await wire.broker.rabbitmqctl(
        *("list_bindings", "source_name", "destination_name", "--formatter", "json")
    )
    sources = {
        it["source_name"]
        for it in json.loads(bindings)
        if it["destination_name"] == wire.names.journal
    }
    assert sources <= {""}


async def test_control_log_keeps_requests_whatever_their_routing_key(wire: Wire) -> None:
    async with wire.connection.channel() as channel:
        exchange = await channel.get_exchange(wire.names.control)
        for key in ("", "any.key"):
            await exchange.publish(Message(b"request"), key)

    async with wire.reading(wire.names.control_log) as log:
        assert [message.body for message in await log.received(2)] == [b"request"] * 2


async def test_rejected_job_is_reaped_and_a_rejected_reaped_job_is_dead(wire: Wire) -> None:
    await wire.put(b"job", message_id="job-1")

    async with wire.connection.channel() as channel:
        for name in (wire.names.jobs, wire.names.jobs_reaped):
            await wire.until_in_queue(name, 1)
            message = await (await channel.get_queue(name)).get()
            assert message is not None
            await message.reject(requeue=False)

    assert (await wire.first_in(wire.names.jobs_dead)).message_id == "job-1"


async def _queues(broker: PrivateBroker, names: Names) -> dict[str, Any]:
    columns = ("name", "durable", "arguments")
    listed = json.loads(await broker.rabbitmqctl("list_queues", *columns, "--formatter", "json"))
    mine = [queue for queue in listed if queue["name"].startswith(f"{names.prefix}.")]
    assert all(queue["durable"] for queue in mine)
    return {queue["name"]: _plain(queue["arguments"]) for queue in mine}


def _plain(arguments: object) -> dict[str, Any]:
    """Read arguments as rabbitmqctl writes them: an object, or a list of name, type and value."""
    if isinstance(arguments, dict):
        return arguments
    assert isinstance(arguments, list)
    return {argument[0]: argument[-1] for argument in arguments}
