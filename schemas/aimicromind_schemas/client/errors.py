"""What can go wrong between a client and the broker. No error quotes a job or an event."""

from collections.abc import Sequence


class ClientError(Exception):
    """Any of the errors below."""


class BrokerUnreachable(ClientError, ConnectionError):
    """No broker answered, at none of the addresses and as long as it was tried."""

    def __init__(self, failures: Sequence[str], named_by: str) -> None:
        """Write the sentence.

        Args:
            failures: Each address, with what is wrong there.
            named_by: What the addresses come from.
        """
        super().__init__(
            f"no broker answers at {'; '.join(failures)}: start it, or check {named_by}"
        )


class BrokerGone(ClientError, ConnectionError):
    """The connection closed while it was used."""

    def __init__(self) -> None:
        super().__init__("the connection to the broker closed")


class BrokerRefused(ClientError):
    """The broker answers and refuses: waiting would not help.

    Attributes:
        remedy: What to do about it, where that is known.
    """

    def __init__(self, reason: str, where: str = "", remedy: str = "") -> None:
        """Write the sentence, in the broker's words.

        Args:
            reason: Those.
            where: Its address, where it refuses the connection itself.
            remedy: What to do about it.
        """
        self.remedy = remedy
        subject = f"the broker at {where} refuses the connection" if where else "the broker refuses"
        words = " ".join(reason.split())
        super().__init__(f"{subject}: {words}" + (f" ({remedy})" if remedy else ""))


class BrokerTlsRefused(ClientError):
    """One side of a TLS connection does not accept the other: waiting would not help.

    Attributes:
        remedy: What to do about it.
    """

    def __init__(self, where: str, reason: str, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(f"no TLS connection to the broker at {where} ({reason}): {remedy}")


class JobNotTaken(ClientError):
    """The broker did not take a job or a cancel request: nobody will act on it."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"not taken: {reason}")


class NobodyReceives(JobNotTaken):
    """There is no exchange or queue that it could go to."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no {name} on the broker, or no queue behind it; has a worker run?"
        )


class QueueFull(JobNotTaken):
    """The queue refuses more."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the queue {name} is full; try again later")


class NotConfirmed(ClientError, ConnectionError):
    """Whether the broker took it is not known: the connection closed, or it did not answer.

    Attributes:
        job_id: The job. Submit it again under this id: of two with one id, one runs.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"the broker did not confirm {job_id}: it may be taken or not; "
            "with the same job id it can be sent again without harm"
        )


class NothingToListenTo(ClientError):
    """There is no exchange that events come by."""

    def __init__(self, exchange: str) -> None:
        super().__init__(f"there is no exchange {exchange} on the broker; has a worker run?")


class NoSuchQueue(ClientError):
    """There is no queue of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no queue {name} on the broker")


class NoEventLog(ClientError):
    """What was published before cannot be read: the event log is switched off."""

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"there is no event log {stream} on the broker, so that nothing can be read from "
            "before; it is switched on by AIMICROMIND_EVENTS_LOG of the workers"
        )


class NoEndYet(ClientError, TimeoutError):
    """A job did not end in the time given; it may go on."""

    def __init__(self, job_id: str, within_s: float) -> None:
        super().__init__(f"{job_id} has not ended within {within_s:g} s")


class EndNotReadable(ClientError):
    """The job ended, and its `end` has a shape that this version does not know."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the end of {job_id} has a shape that this version does not know")
