"""Read the answers of a real server, recorded byte for byte, from the folder `recordings`."""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, Self, TypeAlias

RecordedEnding: TypeAlias = Literal["complete", "truncated", "hangs"]

_FOLDER = files("aimicromind_testing") / "recordings"

_BODY, _HEAD, _TIMING = ".sse", ".headers", ".timing.json"

_ENDINGS: dict[str, RecordedEnding] = {
    "terminal chunk": "complete",
    "content-length reached": "complete",
    "FIN WITHOUT terminal chunk": "truncated",
    "timeout": "hangs",
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """One part of a body, as the recording client read it."""

    seconds: float
    """Time since the request was sent."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Recording:
    """One answer: its bytes, when each part was received, and how it ended."""

    name: str
    status: int
    headers: tuple[tuple[str, str], ...]
    """As the server wrote them, in order."""
    body: bytes
    """Without chunk framing."""
    arrivals: tuple[Arrival, ...]
    """The body's parts in order; together they are the body."""
    ending: RecordedEnding
    """`hangs`: the connection stayed open, and nothing more was received."""

    @classmethod
    def load(cls, name: str) -> Self:
        """Read a recording by a name of `recording_names`.

        Raises:
            FileNotFoundError: There is no recording of this name.
        """
        body = (_FOLDER / f"{name}{_BODY}").read_bytes()
        status_line, *lines = _lines(name)
        arrivals, ending = _timing(name, body)
        return cls(
            name=name,
            status=int(status_line.split(" ")[1]),
            headers=tuple(_header(line) for line in lines if line),
            body=body,
            arrivals=arrivals,
            ending=ending,
        )

    def frames(self) -> list[dict[str, Any]]:
        """Return the JSON of each frame, read without the worker's code, to compare with.

        Comments are left out. An answer that is no event stream has no frames.
        """
        if ("Content-Type", "text/event-stream") not in self.headers:
            return []
        blocks = self.body.decode().split("\n\n")
        lines = (line for block in blocks for line in block.split("\n"))
        return [
            json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")
        ]


def recording_names() -> list[str]:
    """Return the names of all recordings, sorted."""
    found = (entry.name for entry in _FOLDER.iterdir())
    return sorted(name.removesuffix(_BODY) for name in found if name.endswith(_BODY))


def _lines(name: str) -> list[str]:
    return (_FOLDER / f"{name}{_HEAD}").read_bytes().decode("latin-1").split("\r\n")


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name, value


def _timing(name: str, body: bytes) -> tuple[tuple[Arrival, ...], RecordedEnding]:
    file = _FOLDER / f"{name}{_TIMING}"
    if not file.is_file():
        frames = body.split(b"\n\n")[:-1]
        return tuple(Arrival(0.0, len(frame) + 2) for frame in frames), "complete"
    timing = json.loads(file.read_bytes())
    # A third item marks the reads that are not of the body.
    arrivals = tuple(Arrival(read[0], read[1]) for read in timing["reads"] if len(read) == 2)  # noqa: PLR2004
    return arrivals, next(kind for text, kind in _ENDINGS.items() if timing["end"].startswith(text))
