"""What a client does with jobs: submit them, wait for their ends, cancel and answer them."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from aimicromind_schemas.client.errors import (
    BrokerRefused,
    BrokerUnreachable,
    JobNotTaken,
    NoEndYet,
)
from aimicromind_schemas.client.jobs.handles import Submitted, begin_of
from aimicromind_schemas.client.jobs.human_answer import HumanAnswer
from aimicromind_schemas.client.jobs.job_id import made_at, new_job_id
from aimicromind_schemas.client.parts import Parts
from aimicromind_schemas.client.past.log_place import CLOCK_SLACK
from aimicromind_schemas.client.services import Services
from aimicromind_schemas.messages.cancel import ChatCancel, JobCancel
from aimicromind_schemas.messages.endpoint_events import ActionEvent
from aimicromind_schemas.messages.job import PredictionJob
from aimicromind_schemas.messages.worker_events import EndEvent


class Jobs(Services):
    """The part of a client for jobs; see `Client`."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._expects_ends = False

    async def submit(
        self,
        job: PredictionJob,
        *,
        reply_to: str | None = None,
        correlation_id: str | None = None,
    ) -> Submitted:
        """Publish a job, and return once the broker has confirmed it.

        Args:
            job: The request. One without a `job_id` gets a new one. One without `after` gets the
                job that this client submitted to the chat before it, within the last hour, unless
                the broker did not confirm that one, or its `end` was seen.
            reply_to: A queue that receives a copy of each event of the job.
            correlation_id: Sent back in the property `correlation_id` of each event.

        Returns:
            The job's id, which is a `str` with the attribute `handle`.

        Raises:
            NobodyReceives: The queue does not exist: no worker has run, or `topology declare`.
            QueueFull: The queue is full: submit later.
            NotConfirmed: The broker did not confirm. Submit the job again, with the same id.
            BrokerUnreachable: No broker answers; nothing was sent.
            BrokerRefused: The user lacks a permission.
        """
        job_id = job.job_id or new_job_id()
        if self._expects_ends:
            await self._parts.results.expect(job_id, job.chat_id or job_id)
        return await self._submit(job, job_id, reply_to, correlation_id)

    async def result(
        self,
        job_id: str,
        *,
        chat_id: str | None = None,
        handle: str | None = None,
        within: timedelta = timedelta(minutes=10),
    ) -> EndEvent:
        """Wait for the `end` of a job, which may have been published already.

        Once a client was asked for a result, it listens for the `end` of each job before it submits
        the job; up to 10,000 jobs, and 32 MiB of ends that nobody asked for yet. For other jobs,
        the stream of endings is searched from its end backwards. It does not depend on the event
        log; its retention is a setting of the workers.

        Args:
            job_id: The job.
            chat_id: Its chat, where another client submitted it. Without it, the endings of all
                chats are received while it waits.
            handle: Handle of the job. A job that ended long ago is found faster with it, unless its
                id says when it was made, as those of `submit` do.
            within: How long to wait.

        Raises:
            NoEndYet: The job has not ended in time.
            EndNotReadable: Its `end` has a shape that this version does not know.
            NothingToListenTo: The exchange of events does not exist: no worker has run.
            BrokerUnreachable: No broker answered within `patience`.
            BrokerRefused: The user lacks a permission, or a limit is reached.
        """
        known = self._parts.submitted.chat_of(job_id)
        self._expects_ends |= known is not None
        told = None if handle is None else begin_of(handle)
        return await self._end_of(job_id, chat_id or known, told or made_at(job_id), within)

    async def cancel(self, *, job_id: str | None = None, chat_id: str | None = None) -> None:
        """Cancel a job, or the jobs of a chat that were submitted until now.

        The `end` of each then has the status `cancelled`, unless the job has ended before.

        Raises:
            ValueError: Both or neither are named, or it is no valid id.
            NobodyReceives: The exchange does not exist: no worker has run.
            NotConfirmed: The broker did not confirm. Cancel again.
            BrokerUnreachable: No broker answers; nothing was sent.
            BrokerRefused: The user lacks a permission.
        """
        match job_id, chat_id:
            case str(job), None:
                await self._parts.publishing.cancel(JobCancel(job), job)
            case None, str(chat):
                await self._parts.publishing.cancel(ChatCancel(chat, datetime.now(UTC)), chat)
            case _:
                raise ValueError("name either a job by job_id or a chat by chat_id")

    async def answer(
        self,
        question: ActionEvent,
        *,
        approve: bool,
        feedback: str | None = None,
        expires_after: timedelta = timedelta(hours=1),
        override_config: dict[str, Any] | None = None,
        within: timedelta = timedelta(minutes=1),
    ) -> Submitted:
        """Answer a flow that waits for a person, by a job in the same chat.

        A question is answered once: all answers have the same job id, and the first one runs. The
        `end` of that job has the tag `decision`, which is `approved` or `rejected`: whoever was
        late reads there what was decided.

        Args:
            question: The event `action`. The flow waits once its job has ended.
            approve: Whether the flow goes on with what it asked for, or is told that it may not.
            feedback: What the person says beside. Agent flows of version 2 take it.
            expires_after: How long after the question it may be answered. Workers remember ended
                jobs for `AIMICROMIND_JOB_LIFETIME_SECONDS`, an hour: with more than that, a late
                second answer could run.
            override_config: That of the job that asked, such as its `sessionId`.
            within: How long to wait for the end of the job that asked.

        Returns:
            The id of the job that answers; follow it, or wait for its result.

        Raises:
            CannotAnswer: The question has expired, its job does not wait for an answer, or the
                attempt that asked was superseded.
            NoEndYet: The job that asked has not ended in time.
            ValueError: There is feedback, and the flow takes none.
            JobNotTaken, NotConfirmed, BrokerUnreachable, BrokerRefused: See `submit`.
        """
        answer = HumanAnswer(question, approve, feedback, expires_after, override_config)
        job = answer.job(datetime.now(UTC))
        since = question.time - CLOCK_SLACK
        answer.check(await self._end_of(question.job_id, question.chat_id, since, within))
        return await self.submit(job)

    async def _submit(
        self, job: PredictionJob, job_id: str, reply_to: str | None, correlation_id: str | None
    ) -> Submitted:
        handle = await self._parts.handles.before(job.chat_id or job_id)
        try:
            async with self._parts.submitted.submitting(job, job_id) as named:
                await self._parts.publishing.submit(named, job_id, reply_to, correlation_id)
        except (JobNotTaken, BrokerUnreachable, BrokerRefused):
            self._parts.results.forget(job_id)
            raise
        return Submitted(job_id, handle)

    async def _end_of(
        self, job_id: str, chat_id: str | None, since: datetime | None, within: timedelta
    ) -> EndEvent:
        try:
            async with asyncio.timeout(within.total_seconds()):
                end = await self._parts.results.end_of(job_id, chat_id, since)
        except TimeoutError as error:
            raise NoEndYet(job_id, within.total_seconds()) from error
        self._parts.submitted.ended(end)
        return end
