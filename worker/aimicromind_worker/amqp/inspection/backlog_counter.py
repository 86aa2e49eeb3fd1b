"""Count the messages that wait on the broker for `/metrics`, by passive declares alone.

Invariants:

- No message is taken: a look at a job would count as a delivery.
- The numbers are counted on a connection of their own, which never publishes. Whatever happens to
  it, or to its channels, costs numbers only.
- It is opened for the first `/metrics`, and closed when none was requested for 2 min.
- Numbers are counted at most every 15 s. `/metrics` never waits for them.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, Never

import structlog

from aimicromind_schemas import Names
from aimicromind_schemas.client.transport.cancelling import unless_cancelled
from aimicromind_worker.amqp.connection import BrokerConnection, PermissionMissing
from aimicromind_worker.amqp.inspection.counting import counts_of
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.telemetry.backlog import Backlog, QueueTotals

log = structlog.get_logger()

_PAUSE_S: Final = 15.0
_WITHIN_S: Final = 10.0
_UNWANTED_S: Final = 120.0
# A limit of the broker may be reached: leave the connection to the workers that start.
_AFTER_FAILURE_S: Final = 60.0


class BacklogCounter:
    """Counts for `/metrics`. One for a session; `run` once."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[BrokerConnection]],
        names: Names,
        backlog: Backlog,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            connect: Opens a connection for the body; called again after each loss.
            names: The names of the queues.
            backlog: Keeps the numbers, and tells when they are wanted.
        """
        self._connect = connect
        self._names = names
        self._backlog = backlog
        self._unknown: Sequence[str] = ()

    async def run(self) -> Never:
        """Count when numbers are wanted, until cancelled."""
        while True:
            pause_s = _PAUSE_S
            try:
                await self._backlog.wanted.wait()
                await self._count_while_wanted()
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - costs numbers only
                self._backlog.forget()
                unless_cancelled()
                self._note_unknown([_sentence(error)])
                pause_s = _AFTER_FAILURE_S
            unless_cancelled()
            await asyncio.sleep(pause_s)

    async def _count_while_wanted(self) -> None:
        async with self._connect() as connection:
            unless_cancelled()
            while await self._is_wanted():
                async with asyncio.timeout(_WITHIN_S):
                    self._backlog.keep(await self._totals(connection))
                unless_cancelled()
                await asyncio.sleep(_PAUSE_S)

    async def _is_wanted(self) -> bool:
        """Wait for a request; return whether one came in time."""
        try:
            async with asyncio.timeout(_UNWANTED_S):
                await self._backlog.wanted.wait()
        except TimeoutError:
            return False
        self._backlog.wanted.clear()
        return True

    async def _totals(self, connection: BrokerConnection) -> QueueTotals:
        names = self._names
        delays = [names.jobs_delay(delay) for delay in RETRY_DELAYS]
        unknown: list[str] = []
        totals = QueueTotals(
            backlog=await _ready_in(connection, [names.jobs], unknown),
            delayed=await _ready_in(connection, delays, unknown),
            dead=await _ready_in(connection, [names.jobs_dead], unknown),
        )
        self._note_unknown(unknown)
        return totals

    def _note_unknown(self, reasons: Sequence[str]) -> None:
        """Log why numbers are not known, if that has changed."""
        if reasons and self._unknown != reasons:
            log.warning("backlog.unknown", reasons=reasons)
        self._unknown = reasons


async def _ready_in(
    connection: BrokerConnection, queues: Sequence[str], unknown: list[str]
) -> int | None:
    """Return the messages of several queues, one queue after the other; None if one is not known.

    Args:
        connection: A connection of which one channel is used at a time.
        queues: The names of the queues.
        unknown: Gets a sentence for each queue that is not known.
    """
    total: int | None = 0
    for queue in queues:
        try:
            counts = await counts_of(connection, queue)
        except PermissionMissing as error:
            unknown.append(str(error))
            total = None
        else:
            if counts is None:
                unknown.append(f"there is no queue {queue}")
            total = None if counts is None or total is None else total + counts.ready
    return total


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
