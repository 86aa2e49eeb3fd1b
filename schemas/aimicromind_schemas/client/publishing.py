"""Publish jobs and cancel requests, each confirmed before the call returns."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import aio_pika
from aio_pika.abc import AbstractChannel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelNotFoundEntity, DeliveryError

from aimicromind_schemas.client.connection import TIMEOUT_S, ClientConnection, broker_errors
from aimicromind_schemas.client.errors import (
    BrokerGone,
    NobodyReceives,
    NotConfirmed,
    QueueFull,
)
from aimicromind_schemas.client.transport.publishing import publish_confirmed
from aimicromind_schemas.messages.cancel import CancelRequest
from aimicromind_schemas.messages.job import SUBMITTED_HEADER, PredictionJob
from aimicromind_schemas.routing import Names


class ConfirmedChannel:
    """A channel with publisher confirms, which is opened again after a loss."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._opening = asyncio.Lock()
        self._channel: AbstractChannel | None = None

    async def opened(self) -> AbstractChannel:
        """Return the channel, which is open.

        Raises:
            BrokerGone: The connection closed.
            BrokerUnreachable: No broker answers.
            BrokerRefused: A limit is reached.
        """
        async with self._opening:
            connection = await self._connection.connection()
            if self._channel is None or self._channel.is_closed:
                with broker_errors():
                    async with asyncio.timeout(TIMEOUT_S):
                        self._channel = await connection.channel()
            return self._channel

    async def close(self) -> None:
        """Close the channel, if it is open."""
        channel, self._channel = self._channel, None
        if channel is not None:
            with suppress(BrokerGone), broker_errors():
                async with asyncio.timeout(TIMEOUT_S):
                    await channel.close()


class JobPublisher:
    """Publishes over one channel."""

    def __init__(self, connection: ClientConnection, names: Names) -> None:
        self._names = names
        self._channel = ConfirmedChannel(connection)

    async def submit(
        self, job: PredictionJob, job_id: str, reply_to: str | None, correlation_id: str | None
    ) -> None:
        """Publish a job, and return once the broker has confirmed it.

        Raises:
            NobodyReceives: The exchange or the queue of jobs does not exist.
            QueueFull: The broker nacked the job.
            NotConfirmed: The connection closed, or no confirm came within 10 s.
            BrokerUnreachable: No broker answers; nothing was sent.
            BrokerRefused: The user lacks a permission.
        """
        now = datetime.now(UTC)
        message = aio_pika.Message(
            job.encode(),
            headers={SUBMITTED_HEADER: now.isoformat(timespec="microseconds")},
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=job_id,
            timestamp=now,
            reply_to=reply_to,
            correlation_id=correlation_id,
        )
        await self._publish(message, self._names.jobs, "", job_id)

    async def cancel(self, request: CancelRequest, what: str) -> None:
        """Publish a cancel request; running and later workers receive it once this returns.

        Args:
            request: The request.
            what: Id of the job or chat, for errors.

        Raises:
            NobodyReceives: The exchange of cancel requests does not exist.
            NotConfirmed: The connection closed, or no confirm came within 10 s.
            BrokerUnreachable: No broker answers; nothing was sent.
            BrokerRefused: The user lacks a permission.
        """
        message = aio_pika.Message(
            request.encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await self._publish(message, self._names.control, "", what)

    async def _publish(self, message: aio_pika.Message, exchange: str, key: str, what: str) -> None:
        try:
            channel = await self._channel.opened()
        except BrokerGone as error:
            raise NotConfirmed(what) from error
        try:
            with broker_errors():
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        answer = await publish_confirmed(channel, message, exchange, key)
                except ChannelNotFoundEntity as error:
                    raise NobodyReceives(exchange) from error
                except DeliveryError as error:
                    raise QueueFull(exchange) from error
        except BrokerGone as error:
            raise NotConfirmed(what) from error
        if isinstance(answer, DeliveredMessage):
            raise NobodyReceives(exchange)
