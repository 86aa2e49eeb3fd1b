"""Compare the channels that a broker allows on a connection with those that a worker needs."""

from aimicromind_worker.amqp.connection import BrokerConnection

_ASKED_AT_ONCE = 16
# Jobs, dead-lettered jobs, control, job ownership, the journal, three more streams that are read,
# and held chat locks.
_OTHERS = 9
_HOLDING = 4
# Where a broker allows fewer channels, locks are held on one.
_MANY = 64
# Used where the broker sets no limit.
_HIGHEST_NUMBER = 65_535

LEAST = _OTHERS + 1
"""Fewest channels on the connection of the jobs."""

LEAST_OF_EVENTS = 3
"""Fewest channels on the connection of the events."""

NEEDED = (
    f"a worker needs two connections, {LEAST} channels on one and {LEAST_OF_EVENTS} on the "
    "other, one more with one channel where jobs have a reply_to, and one more where /metrics is "
    "read; two queues of its own, and one for each job that it runs"
)
"""What a worker needs, for the text that an operator reads where a limit is reached."""


class TooFewChannels(Exception):
    """The broker allows fewer channels on a connection than a worker needs."""

    def __init__(self, allowed: int) -> None:
        super().__init__(
            f"the broker allows {allowed} channels on a connection, and a worker needs {LEAST}: "
            "raise channel_max in its rabbitmq.conf"
        )


def highest_channel(connection: BrokerConnection) -> int:
    """Return the highest number that a channel of a connection may have."""
    return connection.inner.connection_tune.channel_max or _HIGHEST_NUMBER


def check_channels(connection: BrokerConnection) -> None:
    """Check that a connection may have the channels that a worker needs.

    Raises:
        TooFewChannels: It may not.
    """
    if (allowed := highest_channel(connection)) < LEAST:
        raise TooFewChannels(allowed)


def holding_channels(connection: BrokerConnection) -> int:
    """Return on how many channels chat locks are held.

    The broker works on one request of a channel at a time, so that more channels hold more locks a
    second (`python -m benchmarks.chat_locks`).
    """
    return _HOLDING if highest_channel(connection) >= _MANY else 1


def asked_at_once(connection: BrokerConnection) -> int:
    """Return how many chat locks may be requested at once, each on a channel of its own."""
    return max(1, min(_ASKED_AT_ONCE, highest_channel(connection) - _OTHERS))


class ExtraChannels:
    """How many channels more a worker may open: each for a consumer of one more job.

    Attributes:
        are_refused: Whether the broker closed the connection for one of them: a limit of the
            virtual host or of the user is reached.
    """

    def __init__(self) -> None:
        self.are_refused = False

    def on(self, connection: BrokerConnection) -> int:
        """Return how many may be opened on a connection of the jobs."""
        taken = _OTHERS + _HOLDING + asked_at_once(connection)
        return 0 if self.are_refused else max(0, highest_channel(connection) - taken)
