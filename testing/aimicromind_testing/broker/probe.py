"""Find out whether an AMQP broker at a loopback port is ready for clients."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

# AMQP 0-9-1, 4.2.2: the client begins with the protocol's name and version.
_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
# AMQP 0-9-1, 2.3.5: the broker's first frame is a method (1) on channel 0, followed by its size.
_METHOD_FRAME, _SIZE_BYTES = b"\x01\x00\x00", 4
_CONNECTION_START = b"\x00\x0a\x00\x0a"  # class 10, method 10

_DEADLINE_S = 2.0
_PAUSE_S = 0.05


async def speaks_amqp(port: int) -> bool:
    """Return whether a broker answers at a loopback port, within 2 s."""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(_PROTOCOL_HEADER)
                frame = await reader.readexactly(len(_METHOD_FRAME))
                await reader.readexactly(_SIZE_BYTES)
                method = await reader.readexactly(len(_CONNECTION_START))
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    return frame == _METHOD_FRAME and method == _CONNECTION_START


async def until_it_speaks_amqp(
    port: int, within: timedelta, check: Callable[[], None] = lambda: None
) -> None:
    """Wait until a broker answers at a loopback port.

    Args:
        port: The port.
        within: How long to wait.
        check: Called after each try that failed. What it raises ends the wait.

    Raises:
        TimeoutError: No broker answered in time.
    """
    async with asyncio.timeout(within.total_seconds()):
        while not await speaks_amqp(port):
            check()
            await asyncio.sleep(_PAUSE_S)
