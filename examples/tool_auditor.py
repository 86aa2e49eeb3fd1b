"""Print a JSON line for each tool that a job used, from the events `usedTools`.

Usage: python tool_auditor.py AMQP_URL [PREFIX]
"""

import asyncio
import json
import sys

from aimicromind_schemas import UsedToolsEvent
from aimicromind_schemas.client import Client


async def audit(amqp_url: str, prefix: str = "aimicromind") -> None:
    """Print lines until stopped; a redelivered event repeats its lines."""
    async with (
        Client.open(amqp_url, prefix) as client,
        client.shared("tool-auditor", "chat.*.usedTools") as events,
    ):
        print("auditing", file=sys.stderr, flush=True)
        async for event in events:
            if not isinstance(event, UsedToolsEvent):
                continue
            for tool in filter(None, event.data):
                # Arguments and results may be secret. Names of tools are not.
                line = {"job": event.job_id, "chat": event.chat_id, "tool": tool.tool}
                print(json.dumps(line | {"at": event.time.isoformat()}), flush=True)


if __name__ == "__main__":
    asyncio.run(audit(*sys.argv[1:]))
