"""One question to a port: is an AMQP broker there, ready for clients?"""

import asyncio

# AMQP 0-9-1, 4.2.2: the client speaks first, with its protocol's name and version.
_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
# AMQP 0-9-1, 2.3.5: the broker's first frame is a method (1) on channel 0; then comes its size.
_METHOD_FRAME, _SIZE_BYTES = b"\x01\x00\x00", 4
_CONNECTION_START = b"\x00\x0a\x00\x0a"  # class 10, method 10

_DEADLINE_SECONDS = 2


async def speaks_amqp(port: int) -> bool:
    """Return whether the loopback port answers a client's first words as a broker does."""
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS):
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
