"""Answer many questions by few readings of streams: those who ask meanwhile share the next one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, Generic, TypeVar

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.errors import BrokerGone, ClientError
from aimicromind_schemas.client.transport.opening import most_channels
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection

Question = TypeVar("Question")

_MOST_READINGS: Final = 4
_CHANNELS_OF_ONE: Final = 2
# One to count partitions, one to look up handles.
_OTHER_CHANNELS: Final = 2
# Those who lost the same connection ask within one turn of the event loop.
_GATHER_S: Final = 0.005


class Readings:
    """The connection on which streams are read, a few at a time."""

    def __init__(self, connection: ClientConnection) -> None:
        """Prepare; the connection is opened for the first reading.

        Args:
            connection: It carries nothing else: a stream is sent as fast as it is read.
        """
        self._connection = connection
        self._running = 0
        self._waiting = 0
        self._free = asyncio.Event()

    @property
    def is_crowded(self) -> bool:
        """Whether somebody waits for a reading to end."""
        return self._waiting > 0

    async def connection(self) -> GuardedConnection:
        """Return the connection, which never publishes; open it if it was lost.

        Raises:
            BrokerUnreachable: No broker answers.
            BrokerRefused: A limit is reached.
        """
        return await self._connection.connection()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[GuardedConnection]:
        """Wait until one more reading may begin, and yield the connection for it.

        Raises:
            BrokerUnreachable: No broker answers.
            BrokerRefused: A limit is reached.
        """
        connection = await self._connection.connection()
        free = most_channels(connection) - _OTHER_CHANNELS
        most = max(1, min(_MOST_READINGS, free // _CHANNELS_OF_ONE))
        self._waiting += 1
        try:
            while self._running >= most:
                self._free.clear()
                await self._free.wait()
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            yield await self._connection.connection()
        finally:
            self._running -= 1
            self._free.set()


class Batches(Generic[Question]):
    """Runs each reading for all who have asked before it begins."""

    def __init__(
        self,
        readings: Readings,
        read: Callable[[list[Question], GuardedConnection], Awaitable[None]],
        fail: Callable[[list[Question], ClientError], None],
    ) -> None:
        """Prepare.

        Args:
            readings: Where to read.
            read: Answers questions, and tells each asker itself.
            fail: Tells askers that `read` raised this error, or could not begin.
        """
        self._readings = readings
        self._read = read
        self._fail = fail
        self._waiting: list[Question] = []
        self._running: set[asyncio.Task[None]] = set()
        self._gathers = False

    @property
    def is_crowded(self) -> bool:
        """Whether somebody waits for a reading to end."""
        return self._readings.is_crowded

    def ask(self, question: Question) -> None:
        """Put a question, which is answered by the next reading."""
        self._waiting.append(question)
        if not self._gathers:
            self._gathers = True
            task = asyncio.create_task(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def withdraw(self, question: Question) -> None:
        """Forget a question for which no reading has begun."""
        if question in self._waiting:
            self._waiting.remove(question)

    async def close(self) -> None:
        """End all readings."""
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _run(self) -> None:
        questions: list[Question] | None = None
        try:
            await asyncio.sleep(_GATHER_S)
            async with self._readings.one() as connection:
                questions = self._gathered()
                if questions:
                    await self._read(questions, connection)
        except ClientError as error:
            self._fail(self._gathered() if questions is None else questions, error)
        except asyncio.CancelledError:
            self._fail(self._gathered() if questions is None else questions, BrokerGone())
            raise

    def _gathered(self) -> list[Question]:
        questions, self._waiting = self._waiting, []
        self._gathers = False
        return questions
