"""A consumer that outlives its broker: durable queue, manual acknowledgement, comes back."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self

import pika
from pika.exceptions import AMQPError

from tests.support.consumer import Message

# That a broker is away is what its users are made for; pika tells each attempt.
logging.getLogger("pika").setLevel(logging.CRITICAL)

_PREFETCH: Final = 300
_PAUSE_S: Final = 0.2
_CLOSE_TIMEOUT_S: Final = 15.0
_BOUND_WITHIN_S: Final = 20.0


class SteadyConsumer:
    """A thread that reads one queue, in order, whatever becomes of its connection.

    Attributes:
        queue: Its name; it stays when the consumer leaves.
        connected: How often it connected.
    """

    def __init__(
        self,
        url: str,
        exchange: str,
        queue: str,
        take: Callable[[Message], object],
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare; the exchange must be there when it is entered.

        Args:
            url: The broker.
            exchange: Bound with `#`.
            queue: Declared durable.
            take: Called in the thread, for each message as it comes, redelivered ones too.
            arguments: The queue's.
        """
        self.queue = queue
        self.connected = 0
        self._url = url
        self._exchange = exchange
        self._take = take
        self._arguments = arguments
        self._leaving = threading.Event()
        self._bound = threading.Event()
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"consumer of {queue}")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._bound.wait(_BOUND_WITHIN_S), "the consumer could not bind its queue"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.set()
        self._thread.join(_CLOSE_TIMEOUT_S)
        assert not self._thread.is_alive()
        if self._fault is not None and error is None:
            raise self._fault

    def _run(self) -> None:
        while not self._leaving.is_set():
            try:
                self._consume()
            except (AMQPError, OSError):
                time.sleep(_PAUSE_S)
            except BaseException as fault:  # noqa: BLE001 - the thread's owner raises it
                self._fault = fault
                return

    def _consume(self) -> None:
        parameters = pika.URLParameters(self._url)
        parameters.heartbeat = 10
        parameters.socket_timeout = parameters.stack_timeout = 5
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            channel.queue_declare(self.queue, durable=True, arguments=self._arguments)
            channel.queue_bind(self.queue, self._exchange, "#")
            channel.basic_qos(prefetch_count=_PREFETCH)
            self.connected += 1
            self._bound.set()
            self._read(channel)
        finally:
            if connection.is_open:
                connection.close()

    def _read(self, channel: Any) -> None:  # noqa: ANN401 - pika has no types
        untold, last = 0, 0
        for method, properties, body in channel.consume(self.queue, inactivity_timeout=0.2):
            if method is not None:
                self._take(Message.of(method, properties, body))
                untold, last = untold + 1, method.delivery_tag
            if untold and (method is None or untold * 4 >= _PREFETCH):
                # Not tag 0, which would be all that came, also what was not taken yet.
                channel.basic_ack(last, multiple=True)
                untold = 0
            if self._leaving.is_set() and method is None:
                channel.cancel()
                return
