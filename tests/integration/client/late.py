"""A follower that comes late, with a queue of its own and the client's way to catch up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from aimicromind_schemas import Event, Gap, Reader, chat_binding, decode
from aimicromind_schemas.client.past.catching_up import CatchUp, CatchUpState, ask
from aimicromind_schemas.messages.catch_up import SNAPSHOT, CatchUpRequest
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S


class LateFollower:
    """Follows one chat from the middle.

    Attributes:
        catch_up: Its request.
        items: What a reader that applies the rule for consumers has of it.
        parts: The answer's messages.
    """

    def __init__(self, channel: AbstractChannel, stage: Stage, request: CatchUpRequest) -> None:
        self.catch_up = CatchUp(request)
        self.items: list[Event | Gap] = []
        self.parts: list[AbstractIncomingMessage] = []
        self.reply_to = ""
        self._channel = channel
        self._stage = stage
        self._reader = Reader()
        self._correlation_id = uuid4().hex
        self._news = asyncio.Condition()

    async def listen(self) -> None:
        """Bind a queue to the chat, and take what comes."""
        queue = await self._channel.declare_queue(exclusive=True)
        await queue.bind(self._stage.names.events, chat_binding(self.catch_up.request.chat_id))
        await queue.consume(self._take, no_ack=True)
        self.reply_to = queue.name

    async def asks(self) -> bool:
        """Ask the worker, and return whether one holds the chat."""
        names, request = self._stage.names, self.catch_up.request
        return await ask(self._channel, names, request, self.reply_to, self._correlation_id)

    async def answered(self) -> CatchUpState:
        """Wait until the answer is whole."""
        await self._until_true(lambda: self.catch_up.state is not CatchUpState.WAITING)
        return self.catch_up.state

    async def is_answered(self) -> bool:
        """Wait as long as a follower does before it asks again, and return whether it need not."""
        try:
            await asyncio.wait_for(self.answered(), 1)
        except TimeoutError:
            return False
        return True

    async def ended(self) -> list[Event | Gap]:
        """Wait for the `end` of the job."""
        await self._until_true(lambda: any(_ends(it) for it in self.items))
        return self.items

    async def _until_true(self, holds: object) -> None:
        assert callable(holds)
        async with asyncio.timeout(WITHIN_S), self._news:
            await self._news.wait_for(lambda: bool(holds()))

    async def _take(self, message: AbstractIncomingMessage) -> None:
        if message.type == SNAPSHOT:
            assert message.correlation_id == self._correlation_id
            self.parts.append(message)
            self._read(self.catch_up.take(message.body))
            if self.catch_up.state is not CatchUpState.WAITING:
                self._read(self.catch_up.rest())
        elif self.catch_up.state is CatchUpState.WAITING:
            self.catch_up.hold(decode(message.body))
        else:
            self._read([decode(message.body)])
        async with self._news:
            self._news.notify_all()

    def _read(self, events: list[Event]) -> None:
        for event in events:
            self.items += self._reader.take(event)


def _ends(item: Event | Gap) -> bool:
    return not isinstance(item, Gap) and item.event == "end"


@asynccontextmanager
async def late_follower(stage: Stage, request: CatchUpRequest) -> AsyncIterator[LateFollower]:
    """Have a follower whose queue is bound, and which has not asked."""
    async with stage.connection.channel() as channel:
        follower = LateFollower(channel, stage, request)
        await follower.listen()
        yield follower
