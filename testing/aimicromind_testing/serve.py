"""The scripted endpoint as a process of its own: `python -m aimicromind_testing.serve`.

Its first line on stdout is `ready http://HOST:PORT`; SIGTERM and ^C end it.
"""

import argparse
import asyncio
import signal
import sys

import uvloop

from aimicromind_testing.endpoint.flows import DEMO_FLOWS, add_demo_flows, load_script
from aimicromind_testing.endpoint.server import ScriptedEndpoint

LOAD_FLOW = "load"


def main() -> None:
    """Serve until a signal says to end."""
    parser = argparse.ArgumentParser(
        prog="python -m aimicromind_testing.serve",
        description="Serve scripted predictions. "
        f"Flows: {', '.join(DEMO_FLOWS)}; {LOAD_FLOW}, whose question says `n=300 rate=20`: "
        "300 tokens, 20 per second.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="interface to listen on; loopback if not given"
    )
    parser.add_argument("--port", type=int, default=0, help="where to listen; 0: a free port")
    parser.add_argument("--api-key", help="the key that predictions need; none if not given")
    options = parser.parse_args()
    uvloop.run(_serve(options.host, options.port, options.api_key))


async def _serve(host: str, port: int, api_key: str | None) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with ScriptedEndpoint(api_key=api_key, host=host, port=port) as endpoint:
        add_demo_flows(endpoint)
        endpoint.flow(LOAD_FLOW, load_script())
        sys.stdout.write(f"ready {endpoint.url}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    main()
