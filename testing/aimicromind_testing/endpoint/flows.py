"""The demo's flows, one for each kind of answer, and a flow whose question sets the load."""

import re
from collections.abc import Iterator, Mapping

from aimicromind_testing.endpoint.answers import answer, error_answer
from aimicromind_testing.endpoint.call import Call
from aimicromind_testing.endpoint.script import Script, Step, send
from aimicromind_testing.endpoint.server import ScriptedEndpoint

_TOKENS_PER_S = 15

_STORY = (
    "A queue lets a busy program say yes to everyone without serving everyone at once. "
    "Each question waits its turn, a worker takes it, and the answer goes back word by word. "
    "If the worker stops half way, the question is still in the queue, and another one takes it. "
    "So nobody has to ask twice, and nobody gets an answer that was meant for somebody else."
)
_SUM = "I used the calculator: six times seven is 42."
_FOUND = "The manual says that a quorum queue keeps its messages on more than one machine."
_PROMISE = (
    "This answer is cut off in the middle the first time. The worker notices that the end is "
    "missing, asks once more, and marks the new attempt, so that nothing is shown twice."
)

_CALCULATION = {"tool": "calculator", "toolInput": {"input": "6*7"}}
_MANUAL = {
    "pageContent": "Quorum queues replicate every message to a majority of their members.",
    "metadata": {"source": "manual.pdf", "loc": {"pageNumber": 12}},
}


def _say(text: str, *, before: list[Step] | None = None, after: list[Step] | None = None) -> Script:
    """Answer with a text, one word for each token."""
    words = re.findall(r"\S+\s*", text)
    return answer(
        len(words),
        rate=_TOKENS_PER_S,
        token=words.__getitem__,
        before=before or [],
        after=after or [],
    )


DEMO_FLOWS: Mapping[str, tuple[Script, ...]] = {
    "plain-chain": (_say(_STORY),),
    "tool-agent": (
        _say(
            _SUM,
            before=[send("calledTools", [{**_CALCULATION, "toolOutput": ""}])],
            after=[send("usedTools", [{**_CALCULATION, "toolOutput": "42"}])],
        ),
    ),
    "retrieval": (_say(_FOUND, after=[send("sourceDocuments", [_MANUAL])]),),
    "breaks-once": (_say(_PROMISE).cut(after_sends=12), _say(_PROMISE)),
    "unauthorized": (error_answer("Error: predictionsServices.buildChatflow - Unauthorized"),),
}
"""The scripts of each flow's first, second, ... call."""


def add_demo_flows(endpoint: ScriptedEndpoint) -> None:
    """Add the flows of `DEMO_FLOWS` to an endpoint."""
    for flow_id, scripts in DEMO_FLOWS.items():
        endpoint.flow(flow_id, *scripts)


def load_script() -> Script:
    """Answer as the question says: `n=300 rate=20` is 300 tokens, 20 per second.

    Without `n` it is 12 tokens. Without `rate` they are sent as fast as the client reads.
    """

    def steps(call: Call) -> Iterator[Step]:
        asked = dict(re.findall(r"\b(n|rate)=(\d+)", call.question))
        script = answer(int(asked.get("n", 12)), rate=float(asked.get("rate", 0)))
        yield from script.steps(call)

    return Script(steps)
