"""An attempt's voice: numbers events and publishes them on a attempt_publisher of any publisher."""

import json
import time
from typing import Any

from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.job.numbering import NumberedEvent, Numbering
from aimicromind_worker.runs.ports import Publisher


class Speaker:
    """Publishes the events of one attempt.

    Attributes:
        attempt_publisher: The attempt_publisher that they take.
    """

    def __init__(self, publisher: Publisher, job_id: str = "job", **address: Any) -> None:  # noqa: ANN401 - named in Address
        usual: dict[str, Any] = {
            "chat_id": "chat",
            "chatflow_id": "flow",
            "attempt": 1,
            "correlation_id": job_id,
        }
        where = Address(**(usual | address))
        self.attempt_publisher = publisher.attempt_publisher(where)
        self._numbering = Numbering(job_id, where.chat_id, where.chatflow_id, where.attempt)

    def record(self, name: str, data: object = None) -> NumberedEvent:
        """Write what the journal gets of the next event."""
        record = self._numbering.record(_event(name, data), time.time())
        self.attempt_publisher.record(record)
        return record

    def say(self, name: str, data: object = "") -> NumberedEvent:
        return self.publish(self._numbering.stamp(_event(name, data), time.time()))

    def publish(self, event: NumberedEvent) -> NumberedEvent:
        self.attempt_publisher.publish(event)
        return event


def _event(name: str, data: object) -> EndpointEvent:
    return EndpointEvent(name, json.dumps(data, ensure_ascii=False).encode())
