"""Count lost and repeated events of a flood during which the connection of events is reset."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from aimicromind_schemas import Names
from benchmarks.parts.tally import Series
from benchmarks.turns.loads import FLOOD, Load
from benchmarks.turns.queues import queues
from benchmarks.turns.turn import Stage, jobs, working
from benchmarks.turns.workers import PRODUCT
from tests.support.consumer import Consumer, Message
from tests.support.proxy import Proxy

_LOAD: Final = Load(20, FLOOD, 1000)
_PUBLISHES: Final = "events"
_WITHIN_S: Final = 120.0


class CutFlood(msgspec.Struct, frozen=True):
    """Figures of a flood with resets.

    Attributes:
        cuts: Number of resets.
        events: Messages received, repeats included.
        lost: Events that were never received.
        disordered: Events received after a later one.
        repeated: Repeats with the same `message_id` and the same bytes.
        altered: Repeats with another `message_id` or other bytes.
    """

    cuts: int
    events: int
    lost: int
    disordered: int
    repeated: int
    altered: int

    @property
    def wrong(self) -> int:
        """Number of wrong events; a repeat with the same bytes is allowed."""
        return self.lost + self.disordered + self.altered


async def flood_with_cuts(stage: Stage, cuts: int = 3) -> CutFlood:
    """Run a flood, and reset the connection `cuts` times, after equal parts of the events."""
    place = stage.place(_LOAD.streams)
    expected = _LOAD.streams * _LOAD.events_of_a_job
    async with Proxy(stage.broker.port) as proxy, queues(place, PRODUCT):
        with Consumer(place.amqp_url, Names(place.prefix).events, "#") as consumer:
            async with working(stage, replace(place, amqp_url=proxy.url), PRODUCT):
                await PRODUCT.send(place, jobs("job", _LOAD.streams, _LOAD))
                for part in range(1, cuts + 1):
                    awaited = expected * part // (cuts + 1)

                    def came(awaited: int = awaited) -> bool:
                        return len(consumer.messages) >= awaited

                    await consumer.until(came, _WITHIN_S)
                    proxy.reset(_PUBLISHES)
                names = [job["jobId"] for job in jobs("job", _LOAD.streams, _LOAD)]
                await consumer.ended(*names, within_s=_WITHIN_S)
                await asyncio.sleep(1)
        return judge(consumer.messages, cuts)


def judge(messages: Sequence[Message], cuts: int) -> CutFlood:
    """Compare the messages received with those expected."""
    first: dict[str, bytes] = {}
    series: defaultdict[str, Series] = defaultdict(Series)
    repeated = altered = 0
    for message in messages:
        identity = str(message.properties["message_id"])
        if identity not in first:
            first[identity] = message.body
            series[str(message.event["jobId"])].take(int(message.event["seq"]))
        elif first[identity] == message.body:
            repeated += 1
        else:
            altered += 1
    seen = series.values()
    never_seen = (_LOAD.streams - len(seen)) * _LOAD.events_of_a_job
    return CutFlood(
        cuts,
        len(messages),
        sum(it.lost(_LOAD.events_of_a_job) for it in seen) + never_seen,
        sum(it.disordered for it in seen),
        repeated,
        # A repeat with another message_id has a sequence number that was counted before.
        altered + sum(it.repeated for it in seen),
    )
