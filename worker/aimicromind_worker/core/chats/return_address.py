"""Decide to which queue an answer may be sent on the channel of the events."""

import re
from typing import Final, NamedTuple

from aimicromind_schemas import Names

# A broker names a queue by a GUID: 16 bytes in base64.
_SERVER_NAMED: Final = re.compile(r"amq\.gen-[A-Za-z0-9_-]{22}")
_RESERVED: Final = "amq."


class ReturnAddress(NamedTuple):
    """Where the sender of a message wants the answer.

    Attributes:
        queue: The AMQP property `reply_to`.
        correlation_id: The AMQP property, which goes back with the answer.
    """

    queue: str
    correlation_id: str = ""


def is_own_queue(queue: str, names: Names) -> bool:
    """Return whether a queue is named as one of the worker's own."""
    return queue.startswith(f"{names.prefix}.")


def may_be_answered(queue: str, names: Names) -> bool:
    """Return whether an answer can be sent to a queue without harm to the events beside it.

    For some names under `amq.rabbitmq.reply-to`, a broker closes the connection of the publisher.
    """
    if not queue or is_own_queue(queue, names):
        return False
    return not queue.startswith(_RESERVED) or _SERVER_NAMED.fullmatch(queue) is not None
