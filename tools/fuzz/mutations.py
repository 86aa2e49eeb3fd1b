"""Make a mutated recording from a number: its bytes, its chunks, and how it ends."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Final

from aimicromind_testing import frame
from tools.fuzz.streams import a_stream

MAX_FRAME_BYTES: Final = 16 * 1024
MAX_ANSWER_BYTES: Final = 32 * 1024

_LARGEST_BYTES = 64 * 1024
_BAD_BYTES = (
    *(b"\xff", b"\xc3", b"\xf0\x9f\x98", b"\x80", b"\xed\xa0\xbd", b"\xc0\x80", b"\xf5\x80"),
    *(b"\x00", b"\x1f", b"\x7f", b"\xe2\x80\xa8", b"\xc2\x85", b"\xef\xbb\xbf"),
    *(b"\\ud83d", b"\\ude00\\ud83d", b"\\u0000", b"\\ud83d\\ude00", b"\\x"),
)
_FRAMES = (
    frame("end", "[DONE]"),
    frame("error", "429 Too Many Requests"),
    frame("error", {"message": "no string"}),
    frame("metadata", {"question": "the question of another run"}),
    frame("metadata", {"question": "of another run", "chatMessageId": 7}),
    frame("metadata", {}),
    frame("start", "a copy of the first token"),
    frame("token", {"no": "string"}),
    frame("token", ""),
    frame("token", []),
    frame("token", [{"type": "text", "text": "part"}, {"type": "image_url"}]),
    frame("token", ["part", {"text": "of it"}]),
    frame("token", [{"type": "tool_use"}]),
    frame("retry", "of a flow"),
    frame("", 1),
    frame("a.name*of#its~own ü", [None]),
    frame("x" * 300, 1),
    frame("usedTools", [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}]),
    b"event: token\ndata: plain\n\n",
    b"event: error\ndata: plain 401\n\n",
    b"event: end\ndata\n\n",
    b"data\n\n",
    b"data: {}\n\n",
    b"data: [DONE]\n\n",
    b"event: ping\ndata:\n\n",
    b"event: token\ndata:\n\n",
    b"data: not json\n\n",
    b":heartbeat\n\n",
    b"id: 7\nretry: 5\n\n",
    b"\n\n\n",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One mutated recording.

    Attributes:
        label: Name of the stream, and of its mutations.
        mutations: Names of the mutations, in order.
        body: The whole stream.
        chunks: The same, cut into chunks.
        question: The question of the job.
        breaks: Whether the connection is cut after it, instead of the body's regular end.
    """

    label: str
    mutations: tuple[str, ...]
    body: bytes
    chunks: tuple[bytes, ...]
    question: str
    breaks: bool


def case(seed: int, number: int) -> Case:
    """Return a case; equal arguments return equal cases."""
    chance = Random(f"{seed}:{number}")
    name, body, question = a_stream(chance)
    mutations = tuple(chance.choices(tuple(_MUTATIONS), k=chance.choice((0, 1, 1, 1, 2, 3))))
    for mutation in mutations:
        body = _MUTATIONS[mutation](body, chance)
    label = f"{name} {'+'.join(mutations) or 'as recorded'}"
    return Case(label, mutations, body, _cut(body, chance), question, chance.random() < 0.5)


def _cut(body: bytes, chance: Random) -> tuple[bytes, ...]:
    """Cut a stream into chunks: into one, at a few places, or into small equal pieces."""
    match chance.randrange(4):
        case 0:
            places = []
        case 1:
            size = chance.choice((1, 2, 3, 7, 64)) if len(body) < 5000 else 1000
            places = list(range(size, len(body), size))
        case _:
            count = chance.randrange(1, 20)
            places = sorted(chance.randrange(len(body) + 1) for _ in range(count))
    edges = [0, *places, len(body)]
    chunks = (body[start:end] for start, end in pairwise(edges))
    return tuple(chunk for chunk in chunks if chunk)


def _place(body: bytes, chance: Random) -> int:
    return chance.randrange(len(body) + 1)


def _insert(body: bytes, piece: bytes, chance: Random) -> bytes:
    place = _place(body, chance)
    return body[:place] + piece + body[place:]


def _break_off(body: bytes, chance: Random) -> bytes:
    return body[: _place(body, chance)]


def _drop_beginning(body: bytes, chance: Random) -> bytes:
    return body[_place(body, chance) :]


def _flip_bits(body: bytes, chance: Random) -> bytes:
    flipped = bytearray(body or b"x")
    for _ in range(chance.randrange(1, 9)):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def _change_bytes(body: bytes, chance: Random) -> bytes:
    changed = bytearray(body or b"x")
    for _ in range(chance.randrange(1, 5)):
        changed[chance.randrange(len(changed))] = chance.choice(b'{}[]":,\\0 e-\n\r\t\x00\xff')
    return bytes(changed)


def _join(body: bytes, chance: Random) -> bytes:
    _, other, _ = a_stream(chance)
    if chance.random() < 0.5:
        return body + other
    return body[: _place(body, chance)] + other[_place(other, chance) :]


def _duplicate_lines(body: bytes, chance: Random) -> bytes:
    lines = body.split(b"\n")
    first = chance.randrange(len(lines))
    last = min(len(lines), first + chance.randrange(1, 8))
    return b"\n".join(lines[:last] + lines[first:])


def _delete_lines(body: bytes, chance: Random) -> bytes:
    lines = body.split(b"\n")
    first = chance.randrange(len(lines))
    del lines[first : first + chance.randrange(1, 8)]
    return b"\n".join(lines)


def _reorder_frames(body: bytes, chance: Random) -> bytes:
    frames = body.split(b"\n\n")
    one, other = chance.randrange(len(frames)), chance.randrange(len(frames))
    frames[one], frames[other] = frames[other], frames[one]
    return b"\n\n".join(frames)


def _giant_line(body: bytes, chance: Random) -> bytes:
    size = chance.randrange(MAX_FRAME_BYTES // 2, _LARGEST_BYTES)
    return _insert(body, chance.choice((b"data:", b":", b"")) + b"x" * size, chance)


def _giant_frame(body: bytes, chance: Random) -> bytes:
    size = chance.randrange(MAX_FRAME_BYTES // 2, MAX_FRAME_BYTES * 5 // 4)
    frames = body.split(b"\n\n")
    text = chance.choice(("x", "ü", "\n", "\u2028")) * size
    name = chance.choice(("token", "token", "usedTools", "start", "of-a-flow", "retry", "error"))
    written = json.dumps({"event": name, "data": text}, ensure_ascii=chance.random() < 0.5)
    for _ in range(chance.randrange(1, 4)):
        frames.insert(chance.randrange(len(frames)), b"data:" + written.encode()[:_LARGEST_BYTES])
    return b"\n\n".join(frames)


def _bad_bytes(body: bytes, chance: Random) -> bytes:
    for _ in range(chance.randrange(1, 4)):
        body = _insert(body, chance.choice(_BAD_BYTES), chance)
    return body


def _other_frames(body: bytes, chance: Random) -> bytes:
    frames = body.split(b"\n\n")
    place = chance.randrange(len(frames))
    before = b"".join(it + b"\n\n" for it in frames[:place])
    return before + chance.choice(_FRAMES) + b"\n\n".join(frames[place:])


def _line_ends(body: bytes, chance: Random) -> bytes:
    ends = chance.choice(((b"\r",), (b"\r\n",), (b"\r", b"\n", b"\r\n")))
    first, *lines = body.split(b"\n")
    return first + b"".join(chance.choice(ends) + line for line in lines)


def _mark(body: bytes, chance: Random) -> bytes:
    return chance.choice((b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf", b"\xef\xbb")) + body


_MUTATIONS: Final[dict[str, Callable[[bytes, Random], bytes]]] = {
    "break off": _break_off,
    "drop beginning": _drop_beginning,
    "flip bits": _flip_bits,
    "change bytes": _change_bytes,
    "join": _join,
    "duplicate lines": _duplicate_lines,
    "delete lines": _delete_lines,
    "reorder frames": _reorder_frames,
    "giant line": _giant_line,
    "giant frame": _giant_frame,
    "bad bytes": _bad_bytes,
    "other frames": _other_frames,
    "line ends": _line_ends,
    "byte order mark": _mark,
}
