"""What the endpoint does with one call, step by step: the words every answer is made of."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self, TypeAlias, assert_never

from aimicromind_schemas.wire import json_of
from aimicromind_testing.endpoint.call import Call

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
class Unheard:
    """Say these bytes of the body without sending them: the memory has them, no client does."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on so many seconds after the previous wait should have ended, or after the call began.

    So the pace is kept on average; what a slow reader held up comes to it faster afterwards.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection (FIN); the steps that follow are the run going on without it."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection (RST) when the client's system has all bytes sent before.

    The client itself may drop those it has not read yet. The steps that follow are the run
    going on.
    """


@dataclass(frozen=True, slots=True)
class Mute:
    """Keep the connection open and send nothing more on it; the steps that follow are the run."""


@dataclass(frozen=True, slots=True)
class Finish:
    """End the run, and the body in good order; the connection serves the next request."""


@dataclass(frozen=True, slots=True)
class Crash:
    """End the run and close the connection (FIN), as the death of the server does."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Let the run hang for ever, with the connection open."""


Break: TypeAlias = Cut | Reset | Mute
"""What the connection suffers, not the run."""
Ending: TypeAlias = Finish | Crash | Stall
"""What the run ends with; no step after it is done."""
Step: TypeAlias = Head | Send | Unheard | Wait | Break | Ending


def frame(event: str, data: object) -> bytes:
    """Write a frame as the real server does, with U+2028 and the like left unescaped."""
    return b"message:\ndata:%b\n\n" % json_of({"event": event, "data": data})


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
    saved_after: float | None = 0
    """Seconds from the run's end until its messages are in the memory; None: never."""

    @classmethod
    def of(cls, *steps: Step) -> Self:
        """Take steps that are the same for every call."""
        return cls(lambda _: steps)

    def delayed(self, seconds: float) -> Self:
        """Wait before everything else, the headers too."""
        return replace(self, steps=lambda call: chain([Wait(seconds)], self.steps(call)))

    def stopped_by_abort(self) -> Self:
        """Return a copy that an abort request stops."""
        return replace(self, abortable=True)

    def saved(self, after: float) -> Self:
        """Return a copy whose messages are saved so many seconds after the run's end."""
        return replace(self, saved_after=after)

    def forgotten(self) -> Self:
        """Leave no messages in the server's memory."""
        return replace(self, saved_after=None)

    def cut(
        self,
        ending: Break | Ending = Cut(),
        *,
        after_bytes: int | None = None,
        after_sends: int | None = None,
    ) -> Self:
        """Break off with `ending` when so much of the body, or all of it, was sent.

        The run goes on to its end and is saved, unless `ending` is the run's own.
        """
        return replace(
            self,
            steps=lambda call: _cut(self.steps(call), ending, after_bytes, after_sends),
        )


def _cut(
    steps: Iterable[Step],
    ending: Break | Ending,
    bytes_left: int | None,
    sends_left: int | None,
) -> Iterator[Step]:
    steps = iter(steps)
    rest = b""
    for step in steps:
        match step:
            case Head() | Unheard() | Wait():
                yield step
            case Send(data):
                if bytes_left is not None:
                    data, rest = data[:bytes_left], data[bytes_left:]
                    bytes_left -= len(data)
                if sends_left is not None:
                    sends_left -= 1
                yield Send(data)
            case Cut() | Reset() | Mute() | Finish() | Crash() | Stall():
                break
            case _:
                assert_never(step)
        if 0 in (bytes_left, sends_left):
            break
    yield ending
    yield Send(rest)
    yield from steps
