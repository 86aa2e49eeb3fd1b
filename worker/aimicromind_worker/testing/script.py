"""What the endpoint does with one call, step by step: the words every answer is made of."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self, TypeAlias, assert_never

from aimicromind_worker.testing.call import Call

HEARTBEAT = b":heartbeat\n\n"

_EVENT_STREAM = (
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache"),
    ("Connection", "keep-alive"),
    ("X-Accel-Buffering", "no"),
    ("Transfer-Encoding", "chunked"),
)


@dataclass(frozen=True, slots=True)
class Head:
    """Send the status line and headers, those of an event stream by default.

    The headers decide how the body is framed: chunked, by `Content-Length`, or by the close.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = _EVENT_STREAM


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes of the body: one chunk, where the body is chunked."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on so many seconds after the previous wait should have ended, or after the call began.

    So the pace is kept on average; what a slow reader held up comes to it faster afterwards.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Finish:
    """End the body in good order; the connection serves the next request."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection (FIN) although the body is not finished."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection (RST) when the client's system has all bytes sent before.

    The client itself may drop those it has not read yet.
    """


@dataclass(frozen=True, slots=True)
class Stall:
    """Keep the connection open and say nothing more, until the client goes."""


Ending: TypeAlias = Finish | Cut | Reset | Stall
Step: TypeAlias = Head | Send | Wait | Ending


def frame(event: str, data: object) -> bytes:
    """Write a frame as the real server does, with U+2028 and the like left unescaped."""
    text = json.dumps({"event": event, "data": data}, ensure_ascii=False, separators=(",", ":"))
    return f"message:\ndata:{text}\n\n".encode()


def send(event: str, data: object) -> Send:
    """Send one frame."""
    return Send(frame(event, data))


@dataclass(frozen=True, slots=True)
class Script:
    """The steps with which a call is answered.

    They run lazily, so that a step is made when it is due. Running out of steps is a `Finish`.
    """

    steps: Callable[[Call], Iterable[Step]]
    abortable: bool = False
    """Whether an abort request stops it, as it stops agent flows."""

    @classmethod
    def of(cls, *steps: Step) -> Self:
        """Take steps that are the same for every call."""
        return cls(lambda _: steps)

    def delayed(self, seconds: float) -> Self:
        """Wait before everything else, the headers too."""
        return replace(self, steps=lambda call: chain([Wait(seconds)], self.steps(call)))

    def stopped_by_abort(self) -> Self:
        """Let an abort request stop it."""
        return replace(self, abortable=True)

    def cut(
        self,
        ending: Ending = Cut(),
        *,
        after_bytes: int | None = None,
        after_sends: int | None = None,
    ) -> Self:
        """Break off with `ending` when so much of the body, or all of it, was sent."""
        return replace(
            self,
            steps=lambda call: _cut(self.steps(call), ending, after_bytes, after_sends),
        )


def _cut(
    steps: Iterable[Step], ending: Ending, bytes_left: int | None, sends_left: int | None
) -> Iterator[Step]:
    for step in steps:
        match step:
            case Head() | Wait():
                yield step
            case Send(data):
                if bytes_left is not None:
                    data = data[:bytes_left]
                    bytes_left -= len(data)
                if sends_left is not None:
                    sends_left -= 1
                yield Send(data)
            case Finish() | Cut() | Reset() | Stall():
                break
            case _:
                assert_never(step)
        if 0 in (bytes_left, sends_left):
            break
    yield ending
