"""Save each `end` in SQLite, once. Any number of copies may run.

Usage: python persister.py AMQP_URL DATABASE [PREFIX]
"""

import asyncio
import sqlite3
import sys

from aimicromind_schemas import EndEvent
from aimicromind_schemas.client import Client

TABLE = """CREATE TABLE IF NOT EXISTS endings (
    job_id TEXT PRIMARY KEY, chat_id TEXT, flow TEXT, status TEXT, text TEXT, ended_at TEXT)"""
# The first `end` of a job counts, a repeat is ignored.
INSERT = "INSERT OR IGNORE INTO endings VALUES (?, ?, ?, ?, ?, ?)"


async def persist(amqp_url: str, database: str, prefix: str = "aimicromind") -> None:
    """Save ends until stopped. Without readers, the queue keeps them for a week."""
    with sqlite3.connect(database, timeout=30) as kept:
        kept.execute(TABLE)
        async with (
            Client.open(amqp_url, prefix) as client,
            client.shared("persister", "chat.*.end") as events,
        ):
            print("persisting", flush=True)
            async for event in events:
                if isinstance(event, EndEvent):
                    data, ended_at = event.data, event.time.isoformat()
                    row = (event.job_id, event.chat_id, event.chatflow_id, data.status, data.text)
                    kept.execute(INSERT, (*row, ended_at))
                    # The event is acknowledged when the next one is requested, after this.
                    kept.commit()


if __name__ == "__main__":
    asyncio.run(persist(*sys.argv[1:]))
