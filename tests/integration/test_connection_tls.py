"""The broker is reached by TLS."""

import asyncio
import socket
from pathlib import Path

import pytest

from aimicromind_schemas import Names
from aimicromind_worker.adapters.connection import BrokerUnreachable, connect
from aimicromind_worker.adapters.topology import Exchange, Topology, declare
from aimicromind_worker.testing import PrivateBroker
from tests.integration.outgoing import publishing_at
from tests.integration.speaker import Speaker
from tests.support.amqp import BEAT, WITHIN_S, listening
from tests.support.http import self_signed


async def test_events_go_out_by_tls_and_nobody_is_trusted_without_reason(
    names: Names, tmp_path: Path
) -> None:
    made, port = self_signed(tmp_path, "broker"), free_port()
    settings = {
        "listeners.ssl.1": f"127.0.0.1:{port}",
        "ssl_options.certfile": str(made.certificate),
        "ssl_options.keyfile": str(made.key),
    }
    where = f"amqps://guest:guest@127.0.0.1:{port}/"
    trusting = f"{where}?cafile={made.certificate}"
    wanted = Topology((Exchange(names.events),), ())
    async with (
        PrivateBroker(settings=settings) as broker,
        connect([broker.url], "test", BEAT) as connection,
    ):
        await declare(connection, wanted)
        async with (
            listening(connection, names.events) as box,
            publishing_at(trusting, names, wanted) as way,
        ):
            speaker = Speaker(way.sink)
            for _ in range(200):
                speaker.say("token", "word " * 1000)
            await asyncio.wait_for(speaker.lane.confirmed(), WITHIN_S)
            await box.received(200)
        with pytest.raises(BrokerUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            async with connect([where], "test", BEAT):
                pass


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
