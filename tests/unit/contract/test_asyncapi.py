"""What AsyncAPI's own parser does not look into: `make test-contract` has the rest."""

from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from aimicromind_schemas import EVENT_NAMES, PARTITIONS, Names, parse_routing_key, routing_key
from aimicromind_worker.amqp.topology import topology
from tools.contract.places import ASYNCAPI, examples

DOCUMENT: dict[str, Any] = yaml.safe_load(ASYNCAPI.read_text())
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]


def validator(shape: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(shape | {"components": DOCUMENT["components"]})


@pytest.mark.parametrize("name", MESSAGES)
def test_examples_are_of_the_shape_they_stand_at(name: str) -> None:
    message = MESSAGES[name]

    for example in message.get("examples", []):
        validator(message["payload"]).validate(example["payload"])
        if "headers" in example:
            validator(message["headers"]).validate(example["headers"])
            assert not validator(message["headers"]).is_valid({})
        assert not validator(message["payload"]).is_valid({})


def test_each_example_is_shown() -> None:
    shown = [example["name"] for it in MESSAGES.values() for example in it.get("examples", [])]

    assert sorted(shown) == sorted(examples())


def test_each_event_has_its_message() -> None:
    messages = DOCUMENT["channels"]["events"]["messages"]

    assert messages.keys() == EVENT_NAMES | {"generic"}
    for name, message in messages.items():
        assert message == {"$ref": f"#/components/messages/event.{name}"}


def test_address_of_events_is_their_routing_key() -> None:
    key = DOCUMENT["channels"]["events"]["address"].format(chatId="c-1", event="end")

    assert key == routing_key("c-1", "end")
    assert parse_routing_key(key) == ("c-1", "end")


def test_queues_and_exchanges_are_those_that_the_worker_declares() -> None:
    declared = topology(Names(), None)
    queues = {queue.name: dict(queue.arguments) for queue in declared.queues}
    exchanges = {exchange.name: exchange.type for exchange in declared.exchanges}
    channels = DOCUMENT["channels"].values()

    for channel in channels:
        if "exchange" in channel["bindings"]["amqp"]:
            exchange = channel["bindings"]["amqp"]["exchange"]
            assert exchanges[exchange["name"]] == exchange["type"]
    described = {
        name: queue["arguments"]
        for channel in channels
        for name, queue in channel["x-queues"].items()
    }
    for partition in range(PARTITIONS):
        described.pop(Names().events_log_stream(partition))
    assert described.items() <= queues.items()
    assert described.keys() >= {Names().jobs, Names().endings, Names().jobs_dead}
