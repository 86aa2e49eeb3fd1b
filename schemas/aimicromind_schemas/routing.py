"""Names of exchanges and queues, and the routing key of every event of a chat.

Worker and consumers take their names from here, so that they cannot disagree.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final
from urllib.parse import unquote_to_bytes

from aimicromind_schemas.vocabulary import EVENT_NAMES

MAX_KEY_BYTES: Final = 255
"""AMQP 0-9-1, 4.2.5.3: a routing key is a short string."""

JOURNAL_BINDINGS: Final = (
    "chat.*.start",
    "chat.*.retry",
    "chat.*.error",
    "chat.*.end",
    "chat.*.usedTools",
    "chat.*.calledTools",
    "chat.*.action",
)
"""What the journal keeps: enough to know how far a job got, and whether it acted on the world."""

_LONGEST_EVENT_NAME: Final = max(EVENT_NAMES, key=len)
_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]*")
_ESCAPABLE: Final = re.compile(rb"[^A-Za-z0-9_-]")
_KEY: Final = re.compile(r"chat\.([A-Za-z0-9_%-]*)\.([A-Za-z0-9_%-]*)")


class RoutingKeyTooLong(ValueError):
    """Chat id and event name, once escaped, do not fit in a routing key."""

    def __init__(self, length_bytes: int) -> None:
        self.length_bytes = length_bytes
        super().__init__(
            f"The routing key would take {length_bytes} bytes, {MAX_KEY_BYTES} are allowed; "
            "use a shorter chat id or event name."
        )


class NotAChatKey(ValueError):
    """A routing key that no event of a chat has."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"{key!r} does not have the form chat.<chatId>.<event>.")


@dataclass(frozen=True, slots=True)
class Names:
    """The exchanges and queues of one installation; installations differ by their prefix."""

    prefix: str = "aimicromind"

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            message = f"The prefix takes 1 to 64 of A-Z a-z 0-9 _ . - and is {self.prefix!r}."
            raise ValueError(message)

    @property
    def jobs(self) -> str:
        """Exchange and queue that producers publish jobs to."""
        return f"{self.prefix}.jobs"

    def jobs_delay(self, delay: timedelta) -> str:
        """Queue in which jobs wait for that long, in whole seconds, before they come again."""
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
        """Exclusive queue of the worker that runs a job of this chat."""
        return f"{self.prefix}.chat.{sha256(chat_id.encode()).hexdigest()[:32]}"

    @property
    def events(self) -> str:
        """Topic exchange that consumers bind to."""
        return f"{self.prefix}.events"

    @property
    def events_log(self) -> str:
        """Super stream of all events, for those who come late or come back: its exchange."""
        return f"{self.prefix}.events.log"

    def events_log_stream(self, partition: int = 0) -> str:
        """Return the name of one partition of the event log."""
        return f"{self.events_log}-{partition}"

    @property
    def journal(self) -> str:
        """Stream of the events in `JOURNAL_BINDINGS`, the memory of the worker pool."""
        return f"{self.prefix}.journal"

    @property
    def endings(self) -> str:
        """Stream of every `end`, for results."""
        return f"{self.prefix}.endings"

    @property
    def pool(self) -> str:
        """Fanout exchange between workers; each has an exclusive queue on it."""
        return f"{self.prefix}.pool"

    @property
    def control(self) -> str:
        """Fanout exchange that takes cancel requests."""
        return f"{self.prefix}.control"

    @property
    def control_log(self) -> str:
        """Stream of cancel requests, read by workers that start later."""
        return f"{self.prefix}.control.log"


def routing_key(chat_id: str, event: str) -> str:
    """Address an event of a chat: `chat.<chatId>.<event>`.

    Raises:
        RoutingKeyTooLong: The key would pass 255 bytes.
        UnicodeEncodeError: A lone surrogate, which has no bytes to escape. A ValueError too.
    """
    key = f"chat.{_escaped(chat_id)}.{_escaped(event)}"
    if len(key) > MAX_KEY_BYTES:
        raise RoutingKeyTooLong(len(key))
    return key


def parse_routing_key(key: str) -> tuple[str, str]:
    """Undo `routing_key`: chat id and event name.

    Raises:
        NotAChatKey: `routing_key` writes no such key.
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
    """Return whether every event named in the contract has a routing key in this chat."""
    try:
        routing_key(chat_id, _LONGEST_EVENT_NAME)
    except ValueError:
        return False
    return True


def chat_binding(chat_id: str) -> str:
    """Binding key that matches all events of one chat.

    Raises:
        UnicodeEncodeError: A lone surrogate, which has no bytes to escape.
    """
    return f"chat.{_escaped(chat_id)}.#"


def _escaped(word: str) -> str:
    if _PLAIN.fullmatch(word):
        return word
    return _ESCAPABLE.sub(lambda byte: b"%%%02X" % ord(byte[0]), word.encode()).decode("ascii")
