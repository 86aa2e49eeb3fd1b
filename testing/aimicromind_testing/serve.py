"""Run the scripted endpoint as a process: `python -m aimicromind_testing.serve`.

Its first line on stdout is `ready http://HOST:PORT`. SIGTERM and ^C end it, with exit code 0.
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
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m aimicromind_testing.serve",
        description="Serve scripted predictions. "
        f"Flows: {', '.join(DEMO_FLOWS)}; {LOAD_FLOW}, whose question says `n=300 rate=20`: "
        "300 tokens, 20 per second.",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port to listen on (default: a free one)"
    )
    options = parser.parse_args()
    uvloop.run(_serve(options.host, options.port))


async def _serve(host: str, port: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with ScriptedEndpoint(host=host, port=port) as endpoint:
        add_demo_flows(endpoint)
        endpoint.flow(LOAD_FLOW, load_script())
        sys.stdout.write(f"ready {endpoint.url}\n")
        sys.stdout.flush()
        await ended.wait()


if __name__ == "__main__":
    main()
