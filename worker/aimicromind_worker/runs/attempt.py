"""Publish the events of one attempt of a job, numbered from 0, within the attempt's time limit."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta

from aimicromind_schemas import EndStatus
from aimicromind_worker.core.catching_up.kept_events import KeptEvents
from aimicromind_worker.core.endpoint.answer import Answer
from aimicromind_worker.core.endpoint.errors import AttemptOverdue, StreamCut
from aimicromind_worker.core.endpoint.exchange import (
    Address,
    Body,
    EventStream,
    Response,
    WholeAnswer,
)
from aimicromind_worker.core.endpoint.frames import (
    MOST_DATA_BYTES,
    EndpointEvent,
    fitting,
    may_leave_out,
    read_frame,
)
from aimicromind_worker.core.endpoint.json_answer import events_of, readable
from aimicromind_worker.core.endpoint.request import expected_question
from aimicromind_worker.core.endpoint.saved_answer import SavedAnswer, missing, whole
from aimicromind_worker.core.endpoint.sse import Frame, LargeFrame, SseDecoder
from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.milestones import MILESTONES, Recorder, record_of_end
from aimicromind_worker.core.job.numbering import Numbering
from aimicromind_worker.runs.idle_timeout import IdleTimeout, Watched
from aimicromind_worker.runs.limits import Limits
from aimicromind_worker.runs.ports import Publisher
from aimicromind_worker.telemetry.tracing import Span


class Attempt:
    """One attempt of a job. Use it from the job's task only.

    Attributes:
        number: The attempt's number, from 1; 0 for the `end` of a job that was never run.
        calls: The number of calls begun within it.
        timeout: The longest time of the attempt, its silent calls included.
        answer: The answer as far as it was published.
        first_output_after: The time from the first call to the first output; None before both.
        first_output_at: The time of the first output, aware; None before.
        span: The attempt's trace span, whose context its events carry.
        kept: Its events, for followers that come late.
        begins_job: Whether its first event is the first that this worker publishes of the job.
    """

    def __init__(
        self, ticket: Ticket, number: int, publisher: Publisher, limits: Limits, span: Span
    ) -> None:
        job = ticket.job
        self.number = number
        self.span = span
        self.calls = 0
        self.begins_job = False
        self.answer = Answer(
            ticket.chat_id,
            expected_question(job),
            job.tags or {},
            redelivered=ticket.facts.redelivered,
            max_answer_bytes=limits.max_answer_bytes,
        )
        longest_s = limits.attempt_timeout.total_seconds()
        self.timeout = timedelta(seconds=min(job.timeout_seconds or longest_s, longest_s))
        self.first_output_after: timedelta | None = None
        self.first_output_at: datetime | None = None
        self._recorder = Recorder()
        self._began_at: float | None = None
        self._scope: asyncio.Timeout | None = None
        self._asks_for_json = ticket.blind
        self._max_frame_bytes = limits.max_frame_bytes
        self._numbering = Numbering(ticket.job_id, ticket.chat_id, job.chatflow_id, number)
        self.kept = KeptEvents(self._numbering, limits.max_answer_bytes)
        self._attempt_publisher = publisher.attempt_publisher(
            Address(
                chat_id=ticket.chat_id,
                chatflow_id=job.chatflow_id,
                attempt=number,
                correlation_id=ticket.facts.correlation_id or ticket.job_id,
                reply_to=ticket.facts.reply_to,
                traceparent=span.context.get("traceparent"),
            )
        )

    @property
    def next_seq(self) -> int:
        """The number of the next event, which equals the number of events so far."""
        return self._numbering.next_seq

    def locate(self) -> str | None:
        """Return the job's handle, which is looked for until its first event is published."""
        if self.begins_job and not self._numbering.next_seq and self.answer.handle is None:
            self.answer.handle = self._attempt_publisher.handle
        return self.answer.handle

    def publish(self, event: EndpointEvent) -> None:
        """Publish an event under the next number; a milestone's record goes first."""
        now = time.time()
        if event.name in MILESTONES:
            self.locate()
            # The answer takes an event in before it is published.
            record = self._recorder.record_of(event, acted=self.answer.side_effect)
            if record is not None:
                self._attempt_publisher.record(self._numbering.record(record, now))
        self._attempt_publisher.publish(self._numbering.stamp(event, now))
        self.kept.add(event, now)

    def record_begin(self) -> None:
        """Record the attempt, once, before it shows anything."""
        record = None if self.next_seq else self._recorder.record_of_begin()
        if record is not None:
            self._attempt_publisher.record(self._numbering.record(record, time.time()))

    def record_end(self, status: EndStatus) -> None:
        """Record that the job ends, before the `end` is published as the next event."""
        record = self._numbering.record(record_of_end(status), time.time())
        self._attempt_publisher.record(record)

    async def confirmed(self) -> None:
        """Wait until the broker has answered for every event and record of the attempt.

        Raises:
            ConnectionError: The broker did not answer in time.
        """
        await self._attempt_publisher.confirmed()

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Limit the body to the rest of the attempt's time, which begins with its first call.

        Raises:
            AttemptOverdue: The attempt's time is over.
        """
        if self._began_at is None:
            self._began_at = time.monotonic()
        scope = asyncio.timeout(self._began_at + self.timeout.total_seconds() - time.monotonic())
        self._scope = scope
        try:
            async with scope:
                yield
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise AttemptOverdue(self.timeout) from error

    @contextmanager
    def _not_counting(self) -> Iterator[None]:
        """Stop the attempt's clock while the body runs: it waits for the broker."""
        scope, waits_since = self._scope, time.monotonic()
        ends = scope.when() if scope is not None else None
        if scope is None or self._began_at is None or ends is None or scope.expired():
            yield
            return
        scope.reschedule(None)
        try:
            yield
        finally:
            waited_s = time.monotonic() - waits_since
            self._began_at += waited_s
            scope.reschedule(ends + waited_s)

    async def show(self, response: Response, idle_watch: IdleTimeout) -> None:
        """Publish the events of a response as they come, until the endpoint ends the answer.

        Args:
            response: The response of one call.
            idle_watch: The idle timeout for a stream.

        Raises:
            CallFailed: The answer is an error, or it broke off before its end.
        """
        match response:
            case EventStream(body):
                async with idle_watch.watch() as watched:
                    await self._show_stream(body, watched)
            case WholeAnswer(body):
                for event in events_of(body):
                    self._show(event, self._max_frame_bytes)
                if self._asks_for_json:
                    self.answer.keep_whole(readable(body))

    async def _show_stream(self, body: Body, watched: Watched) -> None:
        decoder = SseDecoder(self._max_frame_bytes, may_leave_out)
        left: Iterator[Frame | LargeFrame] = iter(())

        def show_left() -> bool:
            answer, publisher, shows = self.answer, self._attempt_publisher, False
            while not (answer.complete or publisher.full):
                frame = next(left, None)
                if frame is None:
                    if shows:
                        watched.progressed()
                    return True
                event = read_frame(frame)
                if event is not None:
                    shows = True
                    self._show(event)
            return False

        def take(chunk: bytes) -> bool:
            nonlocal left
            left = decoder.frames(chunk)
            return show_left()

        while await body.pump(take):
            while not show_left():
                if self.answer.complete:
                    return
                watched.paused()
                with self._not_counting():
                    await self._attempt_publisher.room()
                watched.progressed()
        raise StreamCut("it ended before the endpoint ended it")

    def show_saved(self, saved: SavedAnswer, endpoint_chat_id: str) -> None:
        """Publish the part of a saved answer that the attempt has not published yet.

        Args:
            saved: An answer that begins with the text published so far.
            endpoint_chat_id: The chatId of the call that it answers.

        Raises:
            CallFailed: The answer is longer than the limit.
        """
        self.answer.begin_call(endpoint_chat_id)
        for event in missing(saved, self.answer.text, self.answer.parts):
            self._show(event, self._max_frame_bytes)
        if self._asks_for_json:
            self.answer.keep_whole(whole(saved, endpoint_chat_id))

    def _show(self, event: EndpointEvent, most_bytes: int = MOST_DATA_BYTES) -> None:
        """Publish the endpoint's next event, without its data if that is above the limit."""
        if not self.answer.shown:
            self.locate()
        for published in self.answer.follow(event):
            if len(published.data) > most_bytes:
                self.publish(fitting(published))
            else:
                self.publish(published)
        if self.first_output_after is None and self.answer.output and self._began_at is not None:
            self.first_output_after = timedelta(seconds=time.monotonic() - self._began_at)
            self.first_output_at = datetime.now(UTC)
            self.span.note("first_output")
