"""Names of exchanges and queues, and routing keys of events, for workers and clients alike."""

import re
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import unquote_to_bytes

from aimicromind_schemas.vocabulary import EVENT_NAMES

MAX_KEY_BYTES: Final = 255
"""AMQP 0-9-1, 4.2.5.3: a routing key is a short string."""

_LONGEST_EVENT_NAME: Final = max(EVENT_NAMES, key=len)
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONSUMER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]*")
_ESCAPABLE: Final = re.compile(rb"[^A-Za-z0-9_-]")
_KEY: Final = re.compile(r"chat\.([A-Za-z0-9_%-]*)\.([A-Za-z0-9_%-]*)")


class RoutingKeyTooLong(ValueError):
    """Chat id and event name, percent-encoded, are too long for a routing key."""

    def __init__(self, length_bytes: int) -> None:
        self.length_bytes = length_bytes
        super().__init__(
            f"The routing key would have {length_bytes} bytes, {MAX_KEY_BYTES} are allowed: "
            "use a shorter chat id or event name."
        )


class NotAChatKey(ValueError):
    """A text that is no routing key of an event."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"{key!r} does not have the form chat.<chatId>.<event>.")


@dataclass(frozen=True, slots=True)
class Names:
    """Names of the exchanges and queues of one installation.

    Raises:
        ValueError: The prefix is not 1 to 64 of A-Z a-z 0-9 _ . -
    """

    prefix: str = "aimicromind"

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(
                f"prefix is {self.prefix!r}: use 1 to 64 characters of A-Z a-z 0-9 _ . -"
            )

    @property
    def jobs(self) -> str:
        """Exchange and queue of jobs."""
        return f"{self.prefix}.jobs"

    def jobs_delay(self, delay: timedelta) -> str:
        """Return the name of the delay queue whose TTL is `delay`, in whole seconds."""
        return f"{self.prefix}.jobs.delay.{delay // timedelta(seconds=1)}"

    @property
    def jobs_reaped(self) -> str:
        """Exchange and queue of the jobs that the broker dead-lettered."""
        return f"{self.prefix}.jobs.reaped"

    @property
    def jobs_dead(self) -> str:
        """Exchange and queue of the jobs that failed for good."""
        return f"{self.prefix}.jobs.dead"

    def chat_lease(self, chat_id: str) -> str:
        """Return the name of the exclusive queue that is the chat lock of a chat."""
        return f"{self.prefix}.chat.{sha256(chat_id.encode()).hexdigest()[:32]}"

    def chat_lease_instead(self, chat_id: str) -> str:
        """Return the name of the chat lock while the first one is left on a node that is down."""
        return f"{self.prefix}.chat.{sha256(chat_id.encode()).hexdigest()[32:]}"

    @property
    def events(self) -> str:
        """Topic exchange of events."""
        return f"{self.prefix}.events"

    @property
    def events_log(self) -> str:
        """Exchange of the event log, a super stream of all events, for replay."""
        return f"{self.prefix}.events.log"

    def events_log_stream(self, partition: int = 0) -> str:
        """Return the name of one partition of the event log."""
        return f"{self.events_log}-{partition}"

    @property
    def journal(self) -> str:
        """Stream of the journal: records of how far a job got, and whether tools ran."""
        return f"{self.prefix}.journal"

    @property
    def endings(self) -> str:
        """Stream of each `end`, for results."""
        return f"{self.prefix}.endings"

    @property
    def pool(self) -> str:
        """Fanout exchange between workers; an exclusive queue of each is bound to it."""
        return f"{self.prefix}.pool"

    @property
    def control(self) -> str:
        """Fanout exchange of cancel requests."""
        return f"{self.prefix}.control"

    @property
    def control_log(self) -> str:
        """Stream of cancel requests, for workers that start later."""
        return f"{self.prefix}.control.log"

    def consumer(self, name: str) -> str:
        """Return the name of a consumer's queue, and of its exchange.

        Raises:
            ValueError: The consumer's name is not 1 to 64 of A-Z a-z 0-9 _ -
        """
        if not _CONSUMER.fullmatch(name):
            raise ValueError(
                f"the consumer's name is {name!r}: use 1 to 64 characters of A-Z a-z 0-9 _ -"
            )
        return f"{self.prefix}.consumers.{name}"

    def consumer_delay(self, name: str, delay: timedelta) -> str:
        """Return the name of a consumer's delay queue whose TTL is `delay`, in seconds."""
        return f"{self.consumer(name)}.delay.{delay.total_seconds():g}"

    def consumer_dead(self, name: str) -> str:
        """Return the name of a consumer's dead-letter queue."""
        return f"{self.consumer(name)}.dead"


def routing_key(chat_id: str, event: str) -> str:
    """Return the routing key of an event: `chat.<chatId>.<event>`, both percent-encoded.

    Raises:
        RoutingKeyTooLong: The key would have more than 255 bytes.
        UnicodeEncodeError: A lone surrogate has no UTF-8 form. This is a ValueError.
    """
    key = f"chat.{_escaped(chat_id)}.{_escaped(event)}"
    if len(key) > MAX_KEY_BYTES:
        raise RoutingKeyTooLong(len(key))
    return key


def parse_routing_key(key: str) -> tuple[str, str]:
    """Return chat id and event name of a routing key; the inverse of `routing_key`.

    Raises:
        NotAChatKey: `routing_key` returns no such key.
    """
    words = _KEY.fullmatch(key)
    if words is None:
        raise NotAChatKey(key)
    try:
        chat_id, event = (unquote_to_bytes(word).decode() for word in words.groups())
        canonical = routing_key(chat_id, event)
    except ValueError as error:
        raise NotAChatKey(key) from error
    if canonical != key:
        raise NotAChatKey(key)
    return chat_id, event


def chat_fits(chat_id: str) -> bool:
    """Return whether each name in `EVENT_NAMES` has a routing key in a chat of this id."""
    try:
        routing_key(chat_id, _LONGEST_EVENT_NAME)
    except ValueError:
        return False
    return True


def chat_binding(chat_id: str) -> str:
    """Return the binding key for all events of one chat.

    Raises:
        UnicodeEncodeError: A lone surrogate has no UTF-8 form. This is a ValueError.
    """
    return f"chat.{_escaped(chat_id)}.#"


def event_binding(event: str) -> str:
    """Return the binding key for the events of one name, in all chats.

    Raises:
        UnicodeEncodeError: A lone surrogate has no UTF-8 form. This is a ValueError.
    """
    return f"chat.*.{_escaped(event)}"


def _escaped(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    return _ESCAPABLE.sub(lambda byte: b"%%%02X" % ord(byte[0]), word.encode()).decode("ascii")
