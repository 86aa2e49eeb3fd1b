"""A flood during which the connection of events is cut, again and again: what comes, and how."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from aimicromind_schemas import Names
from benchmarks.loads import FLOOD, Load
from benchmarks.queues import queues
from benchmarks.tally import Series
from benchmarks.turn import Stage, jobs, working
from benchmarks.workers import PRODUCT
from tests.support.consumer import Consumer, Message
from tests.support.proxy import Proxy

_LOAD: Final = Load(20, FLOOD, 1000)
_PUBLISHES: Final = "events"
_WITHIN_S: Final = 120.0


class Cut(msgspec.Struct, frozen=True):
    """What a flood with cuts gave.

    Attributes:
        cuts: How often the connection was reset.
        events: Messages that came, repeats included.
        lost: Events that never came.
        disordered: Events that came first after one that belongs behind them.
        repeated: Messages that came again with the same message_id and the same bytes.
        altered: Messages that came again otherwise.
    """

    cuts: int
    events: int
    lost: int
    disordered: int
    repeated: int
    altered: int

    @property
    def wrong(self) -> int:
        """How many events are not as they should be; repeats may be."""
        return self.lost + self.disordered + self.altered


async def flood_with_cuts(stage: Stage, cuts: int = 3) -> Cut:
    """Cut each time when a part of the events has come."""
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


def judge(messages: Sequence[Message], cuts: int) -> Cut:
    """Compare what came with what should have come."""
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
    return Cut(
        cuts,
        len(messages),
        sum(it.lost(_LOAD.events_of_a_job) for it in seen) + never_seen,
        sum(it.disordered for it in seen),
        repeated,
        # An event that came again under another message_id repeats its number.
        altered + sum(it.repeated for it in seen),
    )
