"""Write the contract as AsyncAPI 3.0: channels, operations, messages, and AMQP bindings."""

from collections.abc import Mapping
from typing import Final

import yaml
from typing_extensions import override

from aimicromind_schemas import Names
from aimicromind_worker.amqp.topology import Queue, Retention, topology
from aimicromind_worker.app.settings import Settings
from tools.contract.asyncapi_messages import BINDING, messages, schemas
from tools.contract.schema_files import schema_name
from tools.contract.shapes import EVENT_CLASSES, Shape
from tools.version import current

_NAMES: Final = Names()
_HEAD: Final = "# Written by `make contract`, not by hand.\n"


def asyncapi() -> str:
    """Return the document as YAML."""
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "AiMicromind predictions on RabbitMQ",
            "version": current(),
            "description": "Jobs go in, every event of their answers comes out. The highest "
            "`attempt` wins (its `start` replaces what was shown), the first `end` of a job ends "
            "it.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": messages(), "schemas": schemas()},
    }
    return _HEAD + yaml.dump(
        document, Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True
    )


class _Plain(yaml.SafeDumper):
    """Writes equal parts in full each time, instead of YAML anchors."""

    @override
    def ignore_aliases(self, data: object) -> bool:
        return True


def _channels() -> Shape:
    exchanges = {it.name: it.type for it in topology(_NAMES, None).exchanges}
    return {
        "jobs": {
            "address": _NAMES.jobs,
            "description": "Where jobs are put: the exchange with any routing key, or the queue "
            "of the same name through the default exchange.",
            "messages": {"job": _message_reference("job")},
            "bindings": _exchange(_NAMES.jobs, exchanges),
            "x-queues": _queues(_NAMES.jobs),
        },
        "events": _events_channel(exchanges),
        "control": {
            "address": _NAMES.control,
            "description": "Where cancel requests are put, with any routing key.",
            "messages": {"cancel": _message_reference("cancel")},
            "bindings": _exchange(_NAMES.control, exchanges),
            "x-queues": _queues(_NAMES.control),
        },
        "deadJobs": {
            "address": _NAMES.jobs_dead,
            "description": "Jobs that failed for good, as they were put in.",
            "messages": {"deadJob": _message_reference("deadJob")},
            "bindings": _queue(_NAMES.jobs_dead),
            "x-queues": _queues(_NAMES.jobs_dead),
        },
        **_catching_up_channels(),
        **_status_channels(exchanges),
    }


def _catching_up_channels() -> Shape:
    return {
        "mailbox": {
            "address": f"{_NAMES.prefix}.chat.{{hash}}",
            "description": "Where requests to catch up are put, through the default exchange and "
            "`mandatory`: what comes back was for a chat that nobody holds. The worker that runs "
            "a job of the chat declares it.",
            "parameters": {
                "hash": {"description": "First 32 hexadecimal digits of the chatId's SHA-256."}
            },
            "messages": {"catchUp": _message_reference("catchUp")},
            "bindings": _own_queue(),
            "x-queues": {},
        },
        "snapshots": {
            "address": None,
            "description": "The queue that a request names as `reply_to`.",
            "messages": {"snapshot": _message_reference("snapshot")},
            "bindings": _own_queue(),
            "x-queues": {},
        },
    }


def _status_channels(exchanges: Mapping[str, str]) -> Shape:
    return {
        "pool": {
            "address": _NAMES.pool,
            "description": "Where requests for the status are put, with any routing key. An "
            "exclusive queue of each worker is bound to it.",
            "messages": {"status": _message_reference("status")},
            "bindings": _exchange(_NAMES.pool, exchanges),
            "x-queues": {},
        },
        "reports": {
            "address": None,
            "description": "The queue that a request for the status names as `reply_to`.",
            "messages": {"workerReport": _message_reference("workerReport")},
            "bindings": _own_queue(),
            "x-queues": {},
        },
    }


def _events_channel(exchanges: Mapping[str, str]) -> Shape:
    names = {name: schema_name(name) for name in EVENT_CLASSES} | {"generic": "event.generic"}
    return {
        "address": "chat.{chatId}.{event}",
        "description": "The address is a routing key. Bind `chat.<chatId>.#` for one chat, "
        "`chat.*.end` for every ending.",
        "parameters": {
            "chatId": {
                "description": "The chat. Every byte outside A-Z a-z 0-9 _ - is written %XX."
            },
            "event": {"description": "Name of the event, written in the same way."},
        },
        "messages": {name: _message_reference(each) for name, each in names.items()},
        "bindings": _exchange(_NAMES.events, exchanges),
        "x-queues": _queues(_NAMES.events),
    }


def _exchange(name: str, types: Mapping[str, str]) -> Shape:
    exchange = {"name": name, "type": types[name], "durable": True, "autoDelete": False}
    return {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": BINDING}}


def _queue(name: str) -> Shape:
    queue = {"name": name, "durable": True, "exclusive": False, "autoDelete": False}
    return {"amqp": {"is": "queue", "queue": queue, "bindingVersion": BINDING}}


def _own_queue() -> Shape:
    queue = {"durable": False, "exclusive": True}
    return {"amqp": {"is": "queue", "queue": queue, "bindingVersion": BINDING}}


def _queues(exchange: str) -> Shape:
    """Describe the queues bound to an exchange: AsyncAPI's binding has no field for arguments."""
    return {
        queue.name: {"durable": True, "arguments": dict(queue.arguments), "bindings": keys}
        for queue in _all_queues()
        if (keys := [it.key for it in queue.bindings if it.source == exchange])
    }


def _all_queues() -> list[Queue]:
    fields = Settings.model_fields
    log = Retention(
        fields["events_log_max_age"].default, int(fields["events_log_max_bytes"].default)
    )
    return sorted(topology(_NAMES, log).queues, key=lambda queue: queue.name)


def _message_reference(name: str) -> Shape:
    return {"$ref": f"#/components/messages/{name}"}


def _operations() -> Shape:
    persistent = {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": BINDING}}
    acknowledged = {"amqp": {"ack": True, "bindingVersion": BINDING}}
    return {
        "takeJob": _operation("receive", "jobs", "The worker takes a job.", acknowledged),
        "publishEvent": _operation(
            "send",
            "events",
            "The worker publishes an event.",
            {"amqp": {"deliveryMode": 2, "timestamp": True, "bindingVersion": BINDING}},
        ),
        "takeCancel": _operation("receive", "control", "Each worker hears a request.", None),
        "takeCatchUp": _operation(
            "receive", "mailbox", "The worker that holds the chat hears a request.", None
        ),
        "publishSnapshot": _operation(
            "send", "snapshots", "It answers, in order with the events.", None
        ),
        "takeStatus": _operation("receive", "pool", "Each worker hears a request.", None),
        "publishReport": _operation("send", "reports", "It answers with its status.", None),
        "parkJob": _operation("send", "deadJobs", "The worker dead-letters a job.", persistent),
    }


def _operation(action: str, channel: str, summary: str, bindings: Shape | None) -> Shape:
    operation = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
    }
    return operation if bindings is None else operation | {"bindings": bindings}
