"""The steps with which the scripted endpoint answers a call, and scripts made of them."""

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
    """Send a part of the body: one chunk, if the body is chunked."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Unheard:
    """Write a part of the body that is saved, but not sent to the client."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until `seconds` after the due time of the previous wait, or after the call's begin.

    Thus the pace holds on average: after a slow reader, the next steps follow faster.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection (FIN); the run continues with the next steps."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection by RST, once the client's system has all bytes sent before.

    The client may still lose bytes that it has not read. The run continues with the next steps.
    """


@dataclass(frozen=True, slots=True)
class Mute:
    """Keep the connection open, and send nothing more; the run continues with the next steps."""


@dataclass(frozen=True, slots=True)
class Finish:
    """End the run, and send the end of the body; the connection serves the next request."""


@dataclass(frozen=True, slots=True)
class Crash:
    """End the run and close the connection (FIN), as a killed server does."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Keep the run waiting without end, with the connection open."""


Break: TypeAlias = Cut | Reset | Mute
"""Affects the connection, not the run."""
Ending: TypeAlias = Finish | Crash | Stall
"""Ends the run; steps after it are not done."""
Step: TypeAlias = Head | Send | Unheard | Wait | Break | Ending


def frame(event: str, data: object) -> bytes:
    """Return a frame as the real server writes it; characters such as U+2028 stay unescaped."""
    return b"message:\ndata:%b\n\n" % json_of({"event": event, "data": data})


def send(event: str, data: object) -> Send:
    """Return the step that sends one frame."""
    return Send(frame(event, data))


@dataclass(frozen=True, slots=True)
class Script:
    """The steps with which a call is answered.

    They are iterated lazily: a step is computed when it is due. The last one is followed by
    `Finish`.
    """

    steps: Callable[[Call], Iterable[Step]]
    abortable: bool = False
    """Whether an abort request ends the run, as it ends runs of agent flows."""
    saved_after: float | None = 0
    """Seconds from the run's end until its messages are saved; None for never."""

    @classmethod
    def of(cls, *steps: Step) -> Self:
        """Return a script with the same steps for every call."""
        return cls(lambda _: steps)

    def delayed(self, seconds: float) -> Self:
        """Return a copy that waits before all steps, headers included."""
        return replace(self, steps=lambda call: chain([Wait(seconds)], self.steps(call)))

    def stopped_by_abort(self) -> Self:
        """Return a copy that an abort request ends."""
        return replace(self, abortable=True)

    def saved(self, after: float) -> Self:
        """Return a copy whose messages are saved `after` seconds after the run's end."""
        return replace(self, saved_after=after)

    def forgotten(self) -> Self:
        """Return a copy whose messages are never saved."""
        return replace(self, saved_after=None)

    def cut(
        self,
        ending: Break | Ending = Cut(),
        *,
        after_bytes: int | None = None,
        after_sends: int | None = None,
    ) -> Self:
        """Return a copy that is cut once a part of the body was sent, or all of it.

        Args:
            ending: How it is cut. After a `Break` the run continues and is saved; an `Ending`
                ends the run, too.
            after_bytes: Cut after this many bytes of the body.
            after_sends: Cut after this many sends.
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
