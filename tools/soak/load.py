"""Submit the jobs of a soak, with a limit for those without an end."""

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import pika
from pika.exceptions import AMQPError

from tests.support.checker import Asked
from tests.support.marked import question
from tools.soak.endpoint import FLOW

# Parts of all messages: jobs of few chats, each after the one before it; repeats of ended jobs.
_HOT_PART = 0.3
_COPIED_PART = 0.05
_HOT_CHATS = 6
_PAUSE_S = 0.2
_CLOSE_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Order:
    """The jobs to submit.

    Attributes:
        queue: Queue of jobs.
        jobs: Number of jobs.
        ahead: Most jobs without an end at a time.
        seed: Decides the length and the rate of their answers.
    """

    queue: str
    jobs: int
    ahead: int
    seed: int


class Producer:
    """A thread that submits jobs.

    A job without a confirm is not submitted again, because it may be on the queue.

    Attributes:
        submitted: Number of published jobs, with and without a confirm.
        unconfirmed: Number of published jobs without a confirm.
        copied: Number of messages that repeat a job.
        done: Set once all were published.
    """

    def __init__(
        self,
        url: str,
        order: Order,
        asked: dict[str, Asked],
        ended: Callable[[], int],
        has_ended: Callable[[str], bool],
    ) -> None:
        """Prepare.

        Args:
            url: Address of the broker.
            order: The jobs to submit.
            asked: Each job is added here before it is published.
            ended: Returns how many jobs have ended.
            has_ended: Returns whether a job has ended.
        """
        self.submitted = 0
        self.unconfirmed = 0
        self.copied = 0
        self.done = threading.Event()
        self._url = url
        self._order = order
        self._asked = asked
        self._ended = ended
        self._has_ended = has_ended
        self._bodies: dict[str, dict[str, str]] = {}
        self._last_of_chat: dict[str, str] = {}
        self._random = random.Random(order.seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join(_CLOSE_TIMEOUT_S)
        assert not self._thread.is_alive()

    @property
    def confirmed(self) -> int:
        return self.submitted - self.unconfirmed

    def _run(self) -> None:
        while self.submitted < self._order.jobs and not self._stopped.is_set():
            try:
                self._submit_some()
            except (AMQPError, OSError):
                time.sleep(_PAUSE_S)
        self.done.set()

    def _submit_some(self) -> None:
        parameters = pika.URLParameters(self._url)
        parameters.heartbeat = 10
        parameters.socket_timeout = parameters.stack_timeout = 5
        parameters.blocked_connection_timeout = 10
        connection = pika.BlockingConnection(parameters)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            while self.submitted < self._order.jobs and not self._stopped.is_set():
                if self.confirmed - self._ended() >= self._order.ahead:
                    connection.process_data_events(0.02)
                elif self._random.random() < _COPIED_PART:
                    self._repeat_one(channel)
                else:
                    self._submit_one(channel)
        finally:
            if connection.is_open:
                connection.close()

    def _submit_one(self, channel: Any) -> None:  # noqa: ANN401 - pika has no types
        self.submitted += 1
        job_id, chat_id, after = f"job-{self.submitted:06d}", f"chat-{self.submitted:06d}", ""
        tokens, rate = self._random.randint(1, 20), self._random.choice([0, 10, 20, 40])
        if self._random.random() < _HOT_PART:
            chat_id = f"hot-{self._random.randrange(_HOT_CHATS)}"
            after, self._last_of_chat[chat_id] = self._last_of_chat.get(chat_id, ""), job_id
            tokens, rate = min(tokens, 4), 40
        job = {
            "jobId": job_id,
            "chatId": chat_id,
            "chatflowId": FLOW,
            "question": question(job_id, tokens, rate),
            "after": after,
        }
        self._bodies[job_id] = job
        asked = self._asked[job_id] = Asked(job_id, chat_id, FLOW, after=after)
        try:
            self._publish(channel, job)
        except (AMQPError, OSError):
            self.unconfirmed += 1
            raise
        asked.confirmed_at = time.monotonic()

    def _repeat_one(self, channel: Any) -> None:  # noqa: ANN401 - pika has no types
        """Publish a job of the last hundred again; if it has ended, sometimes for another chat."""
        job_id = f"job-{max(1, self.submitted - self._random.randrange(100)):06d}"
        job = self._bodies.get(job_id)
        if job is None:
            return
        if self._has_ended(job_id) and self._random.random() < 1 / 2:
            job = job | {"chatId": f"copy-{job_id}"}
        self.copied += 1
        self._publish(channel, job)

    def _publish(self, channel: Any, job: dict[str, str]) -> None:  # noqa: ANN401 - pika has no types
        channel.basic_publish(
            "",
            self._order.queue,
            json.dumps(job).encode(),
            pika.BasicProperties(delivery_mode=2, message_id=job["jobId"]),
            mandatory=True,
        )
