"""Evaluate Erlang in a private broker: in milliseconds, where `rabbitmqctl` takes a second."""

import asyncio
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aimicromind_testing import PrivateBroker

_DEADLINE_S: Final = 30.0
_PROGRAM: Final = 'io:format("evaluated ~ts~n", [{}]).\n'
# `rabbitmqctl eval` adds what the program returned.
_PRINTED: Final = re.compile(r"evaluated (.*?)\n(?:ok\n)?", re.DOTALL)
_ALL: Final = ".*"
_CONNECTIONS: Final = """
    [{Pid, Name, Channels}
     || [{pid, Pid}, {client_properties, Properties}, {channels, Channels}]
            <- rabbit_networking:connection_info_all([pid, client_properties, channels]),
        {<<"connection_name">>, longstr, Name} <- Properties]
"""


@dataclass(frozen=True, slots=True)
class BrokerConnection:
    """A connection as the broker sees it: its process, the client's name for it, its channels."""

    pid: str
    name: str
    channels: int


async def evaluate(broker: PrivateBroker, expression: str) -> str:
    """Return what an expression gives, as Erlang writes it on one line.

    Raises:
        CommandFailed: It raises, or is no Erlang.
    """
    return await _printed(broker, f'io_lib:format("~0tp", [begin {expression} end])')


async def connections(broker: PrivateBroker) -> list[BrokerConnection]:
    """List the connections that have a name."""
    lines = await _printed(
        broker,
        f'[io_lib:format("~p\\t~ts\\t~b\\n", [Pid, Name, Channels])'
        f" || {{Pid, Name, Channels}} <- {_CONNECTIONS}]",
    )
    found = [line.split("\t") for line in lines.splitlines()]
    return [BrokerConnection(pid, name, int(channels)) for pid, name, channels in found]


async def close_connections(broker: PrivateBroker, name: str) -> int:
    """Have the broker close the connections of one name, and return how many there were."""
    close = 'rabbit_networking:close_connection(Pid, "closed by a test")'
    named = f"{{Pid, Name, _}} <- {_CONNECTIONS}, Name =:= {_binary(name)}"
    return int(await evaluate(broker, f"length([{close} || {named}])"))


async def add_user(
    broker: PrivateBroker,
    name: str,
    password: str = "secret",
    *,
    configure: str = _ALL,
    write: str = _ALL,
    read: str = _ALL,
) -> str:
    """Add a user with permissions on `/`, and return the address by which it connects."""
    user, given = _binary(name), _binary(password)
    await evaluate(
        broker, f'ok = rabbit_auth_backend_internal:add_user({user}, {given}, <<"test">>)'
    )
    await permit(broker, name, configure=configure, write=write, read=read)
    return broker.url.replace("guest:guest", f"{name}:{password}")


async def permit(
    broker: PrivateBroker,
    user: str,
    vhost: str = "/",
    *,
    configure: str = _ALL,
    write: str = _ALL,
    read: str = _ALL,
) -> None:
    """Set the permissions of a user on a virtual host."""
    given = ", ".join(_binary(it) for it in (user, vhost, configure, write, read, "test"))
    await evaluate(broker, f"ok = rabbit_auth_backend_internal:set_permissions({given})")


async def add_vhost(broker: PrivateBroker, name: str) -> None:
    """Add a virtual host, in which nobody has permissions yet."""
    await evaluate(broker, f'ok = rabbit_vhost:add({_binary(name)}, <<"test">>)')


async def delete_vhost(broker: PrivateBroker, name: str) -> None:
    """Delete a virtual host with all that is in it."""
    await evaluate(broker, f'rabbit_vhost:delete({_binary(name)}, <<"test">>)')


async def limit_vhost(broker: PrivateBroker, name: str, limits: Mapping[str, int]) -> None:
    """Set the limits of a virtual host, named as for `rabbitmqctl set_vhost_limits`."""
    given = ", ".join(_binary(it) for it in (name, json.dumps(limits), "test"))
    await evaluate(broker, f"ok = rabbit_vhost_limit:parse_set({given})")


async def limit_user(broker: PrivateBroker, name: str, limits: Mapping[str, int]) -> None:
    """Set the limits of a user, named as for `rabbitmqctl set_user_limits`."""
    given = ", ".join(_binary(it) for it in (name, json.dumps(limits), "test"))
    await evaluate(broker, f"ok = rabbit_auth_backend_internal:set_user_limits({given})")


async def set_memory_limit(broker: PrivateBroker, fraction: float) -> None:
    """Set the memory above which there is an alarm, as a part of the machine's.

    All connections know of the alarm before they read what is sent from then on.
    """
    limit = f"vm_memory_monitor:set_vm_memory_high_watermark({fraction:.5f})"
    await evaluate(broker, f"{limit}, rabbit_alarm:get_alarms()")


async def _printed(broker: PrivateBroker, text: str) -> str:
    program = _PROGRAM.format(text)
    said = await _by_erl_call(broker, program)
    if said is None:
        said = _PRINTED.fullmatch(await broker.rabbitmqctl("eval", program))
        assert said is not None
    return said[1]


async def _by_erl_call(broker: PrivateBroker, program: str) -> re.Match[str] | None:
    """Return what a program printed; None if it failed, or there is no `erl_call` to this node."""
    command = shutil.which("erl_call")
    if command is None:
        return None
    environment = broker._home.environment()  # noqa: SLF001 - as the broker's own tools have it
    process = await asyncio.create_subprocess_exec(
        command,
        *("-r", "-address", f"localhost:{environment['RABBITMQ_DIST_PORT']}"),
        *("-fetch_stdout", "-no_result_term", "-e"),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_DEADLINE_S):
            out, _ = await process.communicate(program.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _PRINTED.fullmatch(out.decode())


def _binary(text: str) -> str:
    """Write a text of ASCII as Erlang: its escapes are those of JSON."""
    return f"<<{json.dumps(text)}>>"
