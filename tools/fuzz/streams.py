"""Choose the event stream that a case begins with: a recording, or one of two written by hand."""

from functools import cache
from random import Random

from aimicromind_testing import Recording, recording_names

_RARE_ABOVE_BYTES = 10_000
_DEFAULT_QUESTION = "Why?"
_PLAIN = (
    b"event: token\ndata: Once upon\ndata: a time\n\nevent: thinking\ndata: hm\n\n"
    b'event: metadata\ndata: {"chatId": "c"}\n\nevent: end\ndata: [DONE]\n\n'
)
_THINKING = (
    b':heartbeat\n\ndata:{"event":"thinking","data":"hm","duration":1.5}\n\n'
    b'message\ndata:{"event":"token","data":"so"}\n\n'
    b'data:{"event":"metadata","data":{}}\n\nmessage\ndata:{"event":"end","data":"[DONE]"}\n\n'
)


@cache
def _streams() -> tuple[tuple[str, bytes, str], ...]:
    recordings = map(Recording.load, recording_names())
    streams = [(it.name, it.body, _question(it)) for it in recordings if it.frames()]
    return (
        *streams,
        ("plain form", _PLAIN, _DEFAULT_QUESTION),
        ("older server", _THINKING, _DEFAULT_QUESTION),
    )


def _question(recording: Recording) -> str:
    told = [it["data"] for it in recording.frames() if it["event"] == "metadata"]
    return (told and told[-1].get("question")) or _DEFAULT_QUESTION


def a_stream(chance: Random) -> tuple[str, bytes, str]:
    """Return name, bytes and question of a stream; a long one rarely, because it takes long."""
    while True:
        name, body, question = chance.choice(_streams())
        if len(body) < _RARE_ABOVE_BYTES or chance.random() < 0.02:
            return name, body, question
