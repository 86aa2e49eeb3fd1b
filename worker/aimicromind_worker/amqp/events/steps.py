"""Name what the publisher does with messages, as the resend buffer tells it."""

from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from aimicromind_worker.amqp.events.resend_buffer import PendingMessage


class Do(Enum):
    """What the publisher does with a message.

    Attributes:
        SEND: Send it for the first time.
        SEND_AGAIN: Send it once more.
        SEND_STRAIGHT: Send it to the endings alone, past the consumers' exchange.
        PASS_OVER: Count it: its address does not get it again.
        SETTLE: Forget it; it needs no more sending.
    """

    SEND = auto()
    SEND_AGAIN = auto()
    SEND_STRAIGHT = auto()
    PASS_OVER = auto()
    SETTLE = auto()


class Step(NamedTuple):
    """One step of the publisher.

    Attributes:
        do: What to do.
        message: With which message; None: with the one that was reported.
    """

    do: Do
    message: "PendingMessage | None" = None


Steps = tuple[Step, ...]
# What is usual is a constant: nothing is allocated for an event that is sent and confirmed.
NOTHING: Final[Steps] = ()
SEND: Final[Steps] = (Step(Do.SEND),)
SETTLE: Final[Steps] = (Step(Do.SETTLE),)
SEND_AGAIN: Final[Steps] = (Step(Do.SEND_AGAIN),)
SEND_STRAIGHT: Final[Steps] = (Step(Do.SEND_STRAIGHT),)
PASS_OVER: Final[Steps] = (Step(Do.PASS_OVER), Step(Do.SETTLE))
PASS_OVER_END: Final[Steps] = (Step(Do.PASS_OVER), Step(Do.SEND_STRAIGHT))
