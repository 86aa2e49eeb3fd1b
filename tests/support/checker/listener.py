"""What one consumer received, folded as it comes, and judged when the run is over."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tests.support.checker.facts import Asked, Span, Violation, covered
from tests.support.checker.fold import JobFold
from tests.support.checker.form import faults_of_form
from tests.support.consumer import Message


class Listener:
    """Judges the messages of one queue that accepted all of them. Not for several threads.

    Attributes:
        jobs: What came of each.
        events: Messages that came, physical duplicates included.
        ended: How many jobs have ended.
    """

    def __init__(self, name: str, exchange: str, asked: Mapping[str, Asked]) -> None:
        """Begin with nothing.

        Args:
            name: The consumer's, for what is said of it.
            exchange: What all its messages must have been published to.
            asked: The jobs that may be spoken of; a job is added before it is published.
        """
        self.name = name
        self.jobs: dict[str, JobFold] = {}
        self.events = 0
        self.ended = 0
        self._exchange = exchange
        self._asked = asked
        self._wrong: list[Violation] = []

    def take(self, message: Message) -> None:
        """Take in the next message."""
        self.events += 1
        job_id = str(message.event.get("jobId"))
        asked = self._asked.get(job_id)
        if asked is None:
            self._wrong.append(Violation("form", f"nobody asked for this {message.name}", job_id))
            return
        faults = list(faults_of_form(asked, message, self._exchange))
        for fault in faults:
            attempt, seq = message.event.get("attempt"), message.event.get("seq")
            self._wrong.append(Violation("form", fault, job_id, attempt, seq))
        if not faults:
            job = self.jobs.setdefault(job_id, JobFold(job_id))
            had_ended = job.end is not None
            job.take(message)
            self.ended += job.end is not None and not had_ended

    @property
    def copies(self) -> int:
        """Physical duplicates."""
        return sum(job.copies for job in self.jobs.values())

    def has_ended(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        return job is not None and job.end is not None

    def statuses(self) -> Counter[str]:
        return Counter(job.end.status for job in self.jobs.values() if job.end is not None)

    def violations(self, fencing: Sequence[Span]) -> Iterator[Violation]:
        """Judge all that came, now that nothing more comes.

        Args:
            fencing: When a worker may not have known yet that it had lost its jobs.
        """
        yield from self._wrong
        for job_id, asked in self._asked.items():
            job = self.jobs.get(job_id)
            if asked.confirmed_at is not None and (job is None or job.end is None):
                came = "nothing" if job is None else f"attempts {list(job.attempts)}"
                yield Violation("I1", f"it has no end; what came: {came}", job_id, where=self.name)
            if job is not None:
                yield from job.violations()
                yield from (wrong for at, wrong in job.late if not covered(at, fencing))
