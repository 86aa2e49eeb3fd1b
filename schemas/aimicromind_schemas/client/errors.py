"""Errors between a client and the broker. None quotes a job or an event."""

from collections.abc import Sequence


class ClientError(Exception):
    """Base of the client's errors."""


class BrokerUnreachable(ClientError, ConnectionError):
    """No broker answered at any address within the time given."""

    def __init__(self, failures: Sequence[str], named_by: str) -> None:
        """Write the sentence.

        Args:
            failures: HOST:PORT of each address, with the reason in brackets.
            named_by: What holds the addresses, such as the name of a setting.
        """
        super().__init__(
            f"no broker answers at {'; '.join(failures)}: start it, or check {named_by}"
        )


class BrokerGone(ClientError, ConnectionError):
    """The connection closed during an operation."""

    def __init__(self) -> None:
        super().__init__("the connection to the broker closed")


class BrokerRefused(ClientError):
    """The broker answers with an error that another try does not change.

    Attributes:
        remedy: What to do about it; empty where that is not known.
    """

    def __init__(self, reason: str, where: str = "", remedy: str = "") -> None:
        """Write the sentence.

        Args:
            reason: The broker's reply text.
            where: HOST:PORT of the broker, where it refuses the connection itself.
            remedy: What to do about it.
        """
        self.remedy = remedy
        subject = f"the broker at {where} refuses the connection" if where else "the broker refuses"
        words = " ".join(reason.split())
        super().__init__(f"{subject}: {words}" + (f" ({remedy})" if remedy else ""))


class BrokerTlsRefused(ClientError):
    """One side of a TLS connection rejects the other, which another try does not change.

    Attributes:
        remedy: What to do about it.
    """

    def __init__(self, where: str, reason: str, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(f"no TLS connection to the broker at {where} ({reason}): {remedy}")


class JobNotTaken(ClientError):
    """The broker returned or nacked a job or a cancel request: it has no effect."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not taken: {reason}")


class NobodyReceives(JobNotTaken):
    """The exchange does not exist, or no queue is bound to it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no {name} on the broker, or no queue bound to it; has a worker run?"
        )


class QueueFull(JobNotTaken):
    """The queue is full: the broker nacked the message."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the queue {name} is full; try again later")


class NotConfirmed(ClientError, ConnectionError):
    """The connection closed before the confirm, or the confirm is overdue.

    Attributes:
        job_id: The job. Submit it again with this id: of two jobs with one id, one runs.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"the broker did not confirm {job_id}, which it may have or not: send it again, "
            "with the same job id"
        )


class NothingToListenTo(ClientError):
    """The exchange of events does not exist."""

    def __init__(self, exchange: str) -> None:
        super().__init__(f"there is no exchange {exchange} on the broker; has a worker run?")


class NoSuchQueue(ClientError):
    """The queue does not exist."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no queue {name} on the broker")


class NoEventLog(ClientError):
    """Earlier events cannot be read: the stream does not exist."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"there is no event log {stream} on the broker, thus no earlier event can be read: "
            "set AIMICROMIND_EVENTS_LOG of the workers to true"
        )


class NoEndYet(ClientError, TimeoutError):
    """The job has not ended in the time given; it may still run."""

    def __init__(self, job_id: str, within_s: float) -> None:
        super().__init__(f"{job_id} has not ended within {within_s:g} s")


class CannotAnswer(ClientError):
    """The flow does not wait for this answer of a person."""

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(f"{job_id} cannot be answered: {reason}")


class EndNotReadable(ClientError):
    """The job ended, and its `end` has a shape that this version does not know."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the end of {job_id} has a shape that this version does not know")
