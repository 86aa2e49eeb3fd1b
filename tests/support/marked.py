"""Answers whose every token names its job, call and place, so that a foreign one is seen."""

import re
from collections.abc import Iterable, Iterator

from aimicromind_testing import Call, Script, Step, answer
from tests.support.checker import EndpointCall


def question(job_id: str, tokens: int = 8, rate: float = 0) -> str:
    """Ask for so many tokens, so many a second; 0 is as fast as the client reads."""
    return f"{job_id} n={tokens} rate={rate:g}"


def said(asked: str, chat_id: str) -> list[str]:
    """Give the tokens of the whole answer to a question that was asked for this endpoint chat."""
    numbers = dict(re.findall(r"\b(n|rate)=([\d.]+)", asked))
    mark = f"{job_of(asked)}/{chat_id[:8]}"
    return [f"{mark}/{number} " for number in range(int(numbers.get("n", 0)))]


def job_of(asked: str) -> str:
    """Name the job that asked."""
    return asked.partition(" ")[0]


def marked(before: Iterable[Step] = (), after: Iterable[Step] = ()) -> Script:
    """Answer what `question` asks for."""
    before, after = tuple(before), tuple(after)

    def steps(call: Call) -> Iterator[Step]:
        tokens = said(call.question, call.chat_id)
        rate = re.search(r"\brate=([\d.]+)", call.question)
        pace = float(rate[1]) if rate else 0.0
        script = answer(
            len(tokens), rate=pace, token=tokens.__getitem__, before=before, after=after
        )
        yield from script.steps(call)

    return Script(steps)


def calls_seen(calls: Iterable[Call]) -> list[EndpointCall]:
    """Say what an endpoint saw, all of whose answers were marked."""
    return [
        EndpointCall(
            job_of(call.question),
            call.chat_id,
            call.session_id,
            call.started,
            call.ended,
            said(call.question, call.chat_id),
        )
        for call in calls
    ]
