"""A producer and a consumer as others write them: AMQP and JSON, and nothing of our packages."""

import asyncio
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import pika

_CLOSE_TIMEOUT_S = 10.0
_STREAM_TIMEOUT_S = 20.0
_SENTINEL: Final = "read-so-far"
# What workers write to find the end of a stream.
_MARKER: Final = "x-aimicromind-marker"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came.

    Attributes:
        exchange: What it was published to.
        routing_key: What it was published with.
        properties: The AMQP properties that were set, by name.
        body: The bytes.
        event: The same, read as JSON.
        at: When it came, in seconds of `time.monotonic`.
    """

    exchange: str
    routing_key: str
    properties: Mapping[str, Any]
    body: bytes
    event: Mapping[str, Any]
    at: float

    @classmethod
    def of(cls, method: Any, properties: Any, body: bytes) -> Self:  # noqa: ANN401 - pika has no types
        given = {name: value for name, value in vars(properties).items() if value is not None}
        return cls(
            exchange=method.exchange,
            routing_key=method.routing_key,
            properties=given,
            body=body,
            event=json.loads(body),
            at=time.monotonic(),
        )

    @property
    def name(self) -> str:
        return str(self.event["event"])

    @property
    def data(self) -> Any:  # noqa: ANN401 - an event holds anything
        return self.event["data"]

    @property
    def attempt(self) -> int:
        return int(self.event["attempt"])


class Heard:
    """All that came to a consumer. It is taken in by one thread and waited for in an event loop.

    Attributes:
        messages: In the order in which they came.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._by_job: defaultdict[str, list[Message]] = defaultdict(list)
        self._ended: set[str] = set()
        self._lock = threading.Lock()
        self._tell: list[Callable[[], object]] = []

    def take(self, message: Message) -> None:
        """Take in the next message."""
        self.messages.append(message)
        job_id = message.event["jobId"]
        self._by_job[job_id].append(message)
        if message.name == "end":
            self._ended.add(job_id)
        with self._lock:
            for tell in self._tell:
                tell()

    def job(self, job_id: str) -> list[Message]:
        """Give what came of one job so far, in the order in which it came."""
        return list(self._by_job[job_id])

    def count(self, job_id: str, name: str) -> int:
        return sum(message.name == name for message in self.job(job_id))

    async def saw(
        self, job_id: str, name: str, count: int = 1, within_s: float = 15.0
    ) -> list[Message]:
        """Wait until so many events of this name came of a job; give all that came of it."""
        await self.until(lambda: self.count(job_id, name) >= count, within_s)
        return self.job(job_id)

    async def ended(self, *job_ids: str, within_s: float = 15.0) -> None:
        """Wait until all these jobs have ended."""
        await self.until(lambda: self._ended.issuperset(job_ids), within_s)

    async def until(self, holds: Callable[[], bool], within_s: float = 15.0) -> None:
        """Wait until something holds of what came.

        Raises:
            TimeoutError: It did not, in time; the text says what came.
        """
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(news.set)

        with self._lock:
            self._tell.append(tell)
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    await news.wait()
                    news.clear()
        except TimeoutError as error:
            came = dict(Counter(message.name for message in self.messages))
            raise TimeoutError(f"not within {within_s:g} s; what came: {came}") from error
        finally:
            with self._lock:
                self._tell.remove(tell)


class Consumer(Heard):
    """A queue of its own, bound to an exchange, and a thread that reads it.

    Without a binding it gets what is sent to its queue by name.
    """

    def __init__(self, url: str, exchange: str = "", *bindings: str) -> None:
        super().__init__()
        self.queue = ""
        self._url = url
        self._exchange = exchange
        self._bindings = bindings
        self._thread = threading.Thread(target=self._consume)

    def __enter__(self) -> Self:
        self._connection = pika.BlockingConnection(pika.URLParameters(self._url))
        self._channel = self._connection.channel()
        self.queue = self._channel.queue_declare("", exclusive=True).method.queue
        for key in self._bindings:
            self._channel.queue_bind(self.queue, self._exchange, key)
        self._channel.basic_consume(self.queue, self._take, auto_ack=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread.is_alive():
            self._connection.add_callback_threadsafe(self._channel.stop_consuming)
        self._thread.join(_CLOSE_TIMEOUT_S)
        assert not self._thread.is_alive()
        if self._connection.is_open:
            self._connection.close()

    def _consume(self) -> None:
        self._channel.start_consuming()

    def _take(self, channel: object, method: object, properties: object, body: bytes) -> None:
        self.take(Message.of(method, properties, body))


def publish(url: str, exchange: str, key: str, *jobs: tuple[bytes, Mapping[str, Any]]) -> None:
    """Publish bodies with their properties; all are on a queue once this returns."""
    with _channel(url) as channel:
        channel.confirm_delivery()
        for body, properties in jobs:
            channel.basic_publish(
                exchange, key, body, pika.BasicProperties(**properties), mandatory=True
            )


def give_back_unsettled(url: str, queue: str) -> None:
    """Take one message as a worker would, and lose the connection before it is settled."""
    with _channel(url) as channel:
        method, _, _ = channel.basic_get(queue)
        assert method is not None
        assert not method.redelivered


def lose_unsettled(url: str, queue: str) -> None:
    """Take one message, and lose the connection before it is settled."""
    with _channel(url) as channel:
        method, _, _ = channel.basic_get(queue)
        assert method is not None


def bind(url: str, queue: str, exchange: str, arguments: Mapping[str, Any] | None = None) -> None:
    """Declare a durable queue, if it is not there, and bind it to get everything."""
    with _channel(url) as channel:
        channel.queue_declare(queue, durable=True, arguments=arguments)
        channel.queue_bind(queue, exchange, "#")


def read_stream(url: str, queue: str) -> list[Message]:
    """Give all that a stream holds, from its first message to now."""
    here = str(uuid4())
    marked = pika.BasicProperties(type=_SENTINEL, message_id=here)
    messages: list[Message] = []
    with _stream_channel(url) as channel:
        channel.confirm_delivery()
        channel.basic_publish("", queue, b"", marked)
        channel.basic_qos(prefetch_count=500)
        coming = channel.consume(
            queue, arguments={"x-stream-offset": "first"}, inactivity_timeout=_STREAM_TIMEOUT_S
        )
        for method, properties, body in coming:
            if method is None:
                raise TimeoutError(f"{queue} was silent after {len(messages)} messages")
            channel.basic_ack(method.delivery_tag)
            if properties.message_id == here:
                break
            if properties.type == _SENTINEL or _MARKER in (properties.headers or {}):
                continue
            properties.headers.pop("x-stream-offset", None)
            messages.append(Message.of(method, properties, body))
    return messages


def read_log(url: str, log: str) -> list[Message]:
    """Give all that the event log holds, partition after partition."""
    with _channel(url) as channel:
        count = 0
        with suppress(pika.exceptions.ChannelClosedByBroker):
            while channel.queue_declare(f"{log}-{count}", passive=True):
                count += 1
    return [message for it in range(count) for message in read_stream(url, f"{log}-{it}")]


def cut(url: str, stream: str, sent_at: datetime) -> None:
    """Publish to a stream, as if at that time, until its first messages are removed."""
    filling = pika.BasicProperties(timestamp=int(sent_at.timestamp()))
    with _channel(url) as channel:
        channel.confirm_delivery()
        for _ in range(100):
            for _ in range(5):
                channel.basic_publish("", stream, bytes(100_000), filling)
            if _first_offset(url, stream):
                return
    raise TimeoutError(f"nothing is removed from {stream}")


def _first_offset(url: str, stream: str) -> int:
    offsets: list[int] = []

    def take(_: object, method: object, properties: Any, body: bytes) -> None:  # noqa: ANN401 - pika's
        offsets.append(properties.headers["x-stream-offset"])

    with _stream_channel(url) as channel:
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume(stream, take, arguments={"x-stream-offset": "first"})
        channel.connection.process_data_events(time_limit=1)
    # The broker ends a consumer whose first message it removes meanwhile.
    return offsets[0] if offsets else 0


def ready_messages(url: str, queue: str) -> int:
    """Count the messages of a queue that no consumer holds."""
    with _channel(url) as channel:
        return int(channel.queue_declare(queue, passive=True).method.message_count)


def message_ids(url: str, queue: str) -> set[str]:
    """Give the message ids in a queue, and leave the messages there."""
    found = set()
    with _channel(url) as channel:
        while (got := channel.basic_get(queue))[0] is not None:
            found.add(str(got[1].message_id))
    return found


def taken(url: str, queue: str) -> list[tuple[bytes, Mapping[str, Any]]]:
    """Take all messages out of a queue, and give their bodies and headers."""
    found = []
    with _channel(url) as channel:
        while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
            _, properties, body = got
            found.append((body, properties.headers or {}))
    return found


def declare_classic_queue(url: str, queue: str) -> None:
    with _channel(url) as channel:
        channel.queue_declare(queue, durable=True)


def delete(url: str, queues: Sequence[str], exchanges: Sequence[str]) -> None:
    """Delete what there is of these."""
    with _channel(url) as channel:
        for queue in queues:
            channel.queue_delete(queue)
        for exchange in exchanges:
            channel.exchange_delete(exchange)


@contextmanager
def _channel(url: str) -> Iterator[Any]:
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        yield connection.channel()


@contextmanager
def _stream_channel(url: str) -> Iterator[Any]:
    """Open a channel to read streams that others may write to meanwhile."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        # What came since is rejected by pika; streams refuse that, and the connection closes.
        with suppress(pika.exceptions.AMQPError):
            connection.close()
