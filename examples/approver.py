"""Ask on the terminal what flows ask a person, and send the answers.

Usage: python approver.py AMQP_URL [PREFIX]

Any number may run: each question goes to one of them, and is answered once.
"""

import asyncio
import sys
from datetime import timedelta

from aimicromind_schemas import ActionEvent
from aimicromind_schemas.client import CannotAnswer, Client, ConsumerOptions, Unprocessable

# After this time, a question goes to whoever is there then. The broker allows 30 minutes.
_OPTIONS = ConsumerOptions(at_once=1, in_order=False, time_limit=timedelta(minutes=10))


async def approve(amqp_url: str, prefix: str = "aimicromind") -> None:
    """Ask until stopped."""
    lines = await _lines()
    async with Client.open(amqp_url, prefix) as client:

        async def on_action(question: ActionEvent) -> None:
            asks = (question.data.data or {}).get("nodeLabel", "a flow")
            # `ascii` shows text from outside without its control characters.
            print(f"{asks!a} in chat {question.chat_id}: go on? [y/N]", flush=True)
            line = await lines.readline()
            if not line:
                raise EOFError("the terminal is closed")
            try:
                job_id = await client.answer(question, approve=line.strip() == b"y")
            except CannotAnswer as error:
                # No retry helps: it becomes a dead letter with this reason.
                raise Unprocessable(str(error)) from error
            end = await client.result(job_id, chat_id=question.chat_id)
            print(f"{end.data.tags['decision']}, {end.data.status}", flush=True)

        print("approving", file=sys.stderr, flush=True)
        await client.consume("approver", {"action": on_action}, _OPTIONS)


async def _lines() -> asyncio.StreamReader:
    """Read the terminal in such a way that a wait for a line can be cancelled."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


if __name__ == "__main__":
    asyncio.run(approve(*sys.argv[1:]))
