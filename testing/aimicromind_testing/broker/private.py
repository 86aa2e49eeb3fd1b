"""A RabbitMQ node of one's own: started from the machine's `rabbitmq-server`, gone afterwards.

It listens on loopback only and touches no other node, user or folder of the machine.
Linux is tested; the macOS paths (Homebrew) are written for, but have not been tried.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from aimicromind_testing.broker.home import BrokerHome, BrokerTls, Identity
from aimicromind_testing.broker.probe import speaks_amqp
from aimicromind_testing.broker.process import OwnedProcess

_START_DEADLINE = timedelta(seconds=60)
_STOP_DEADLINE = timedelta(seconds=15)
_COMMAND_DEADLINE = timedelta(seconds=30)
_PROBE_PAUSE = timedelta(milliseconds=50)


class BrokerDidNotStart(Exception):
    """No RabbitMQ node could be started; the text says why, with the end of its log."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(f"{reason}\n{log}" if log else reason)


class CommandFailed(Exception):
    """A command line tool of the broker ended with an error."""

    def __init__(self, arguments: tuple[str, ...], exit_code: int | None, output: str) -> None:
        super().__init__(f"rabbitmqctl {' '.join(arguments)} gave {exit_code}: {output}")


def find_rabbitmq_server() -> Path | None:
    """Find the start script of RabbitMQ: the one that PRIVATE_BROKER_SERVER names, else by search.

    Debian's `/usr/sbin/rabbitmq-server` is passed over: it changes to another user.
    """
    if named := os.environ.get("PRIVATE_BROKER_SERVER"):
        return Path(named)
    folders = [
        Path("/usr/lib/rabbitmq/bin"),
        *sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"), reverse=True),
        Path("/opt/homebrew/sbin"),
        Path("/usr/local/sbin"),
        Path("/opt/homebrew/opt/rabbitmq/sbin"),
        *(Path(folder) for folder in os.get_exec_path()),
    ]
    wrappers = {Path("/usr/sbin"), Path("/sbin")}
    for folder in folders:
        script = folder / "rabbitmq-server"
        if folder not in wrappers and os.access(script, os.X_OK):
            return script
    return None


class PrivateBroker:
    """One node with an empty virtual host `/` and the user `guest`; its data goes with it.

    Use it with `async with`, from one task: its methods do not overlap. On Linux the node also
    ends with the thread that started it.
    """

    def __init__(
        self,
        *,
        server: Path | None = None,
        settings: Mapping[str, str] | None = None,
        identity: Identity | None = None,
        management: bool = False,
        tls: BrokerTls | None = None,
    ) -> None:
        """Prepare; nothing is started or written yet.

        Args:
            server: The start script; found by `find_rabbitmq_server` if not given.
            settings: Further lines of `rabbitmq.conf`, by name.
            identity: Who it is to other nodes; one of its own if not given.
            management: Whether it also answers the management API, which takes longer to start.
            tls: With which it also listens for TLS.
        """
        self._management = management
        self._tls = tls
        self._server = server
        self._settings = settings or {}
        self._identity = identity or Identity.new()
        self._entered: BrokerHome | None = None
        self._epmd: OwnedProcess | None = None
        self._node: OwnedProcess | None = None

    @property
    def port(self) -> int:
        """The AMQP port, the same after every start."""
        return self._home.amqp_port

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def tls_port(self) -> int:
        """The port for TLS, if it was asked for; there is no AMQP without TLS on it."""
        return self._home.tls_port

    @property
    def management_url(self) -> str:
        """Where the management API answers, if it was asked for."""
        return f"http://guest:guest@127.0.0.1:{self._home.management_port}"

    @property
    def node_name(self) -> str:
        """The Erlang name of the node, unique on this machine."""
        return self._identity.node_name

    async def __aenter__(self) -> Self:
        self._server = self._server or find_rabbitmq_server()
        if self._server is None:
            reason = "rabbitmq-server was not found; install RabbitMQ or name its start script"
            raise BrokerDidNotStart(reason)
        self._entered = BrokerHome(
            self._settings, self._identity, management=self._management, tls=self._tls
        )
        try:
            await self.start()
        except BaseException:
            await self._leave_nothing()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.stop()
        finally:
            await self._leave_nothing()

    async def start(self) -> None:
        """Start the node with the data it has; return when it answers AMQP clients.

        Raises:
            BrokerDidNotStart: It ended, or was silent for a minute.
        """
        if self._epmd is None:
            self._epmd = await self._run(_epmd(self._server))
        if self._node is None:
            self._node = await self._run(str(self._server))
        try:
            async with asyncio.timeout(_START_DEADLINE.total_seconds()):
                await self._answers(self._node)
        except TimeoutError as error:
            reason = f"RabbitMQ does not answer after {_START_DEADLINE}"
            raise BrokerDidNotStart(reason, self._home.log_tail()) from error

    async def stop(self) -> None:
        """Stop the node in good order, or by force after 15 s; its data stays."""
        if self._node is not None:
            self._node.signal(signal.SIGCONT)
            self._node.signal(signal.SIGTERM)
            await self._node.ends_within(_STOP_DEADLINE)
        await self.kill()

    async def kill(self) -> None:
        """End the node at once, as a power cut would; what it wrote to disk stays."""
        if self._node is not None:
            self._node.signal(signal.SIGKILL)
            await self._node.ends_within(_STOP_DEADLINE)
        self._node = None

    async def restart(self) -> None:
        """Stop the node in good order and start it on the same ports, with the same data."""
        await self.stop()
        await self.start()

    def suspend(self) -> None:
        """Freeze the node: its connections stay open and silent."""
        if self._node is not None:
            self._node.suspend()

    def resume(self) -> None:
        """Resume a frozen node."""
        if self._node is not None:
            self._node.signal(signal.SIGCONT)

    async def rabbitmqctl(self, *arguments: str) -> str:
        """Run the broker's own tool on this node and give what it printed; takes about 1 s.

        Raises:
            CommandFailed: The tool ended with an error, or not within half a minute.
        """
        tool = str(Path(str(self._server)).with_name("rabbitmqctl"))
        with tempfile.TemporaryFile() as output:
            command = await self._run(tool, "--quiet", *arguments, output=output)
            try:
                await command.ends_within(_COMMAND_DEADLINE)
            finally:
                command.signal(signal.SIGKILL)
                await command.ends_within(_STOP_DEADLINE)
            output.seek(0)
            printed = output.read().decode()
        if command.exit_code != 0:
            raise CommandFailed(arguments, command.exit_code, printed)
        return printed

    @property
    def _home(self) -> BrokerHome:
        if self._entered is None:
            reason = "a PrivateBroker works inside `async with` only"
            raise RuntimeError(reason)
        return self._entered

    async def _run(self, *command: str, output: IO[bytes] | None = None) -> OwnedProcess:
        home = self._home
        with home.console.open("ab") as console:
            return await OwnedProcess.start(
                *command,
                folder=home.folder,
                environment=home.environment(),
                output=output or console,
            )

    async def _answers(self, node: OwnedProcess) -> None:
        while not await speaks_amqp(self.port):
            if node.exit_code is not None:
                reason = f"RabbitMQ ended with {node.exit_code} while starting"
                raise BrokerDidNotStart(reason, self._home.log_tail())
            await asyncio.sleep(_PROBE_PAUSE.total_seconds())

    async def _leave_nothing(self) -> None:
        """End everything by force, also after a start or stop that was broken off."""
        owned = [process for process in (self._node, self._epmd) if process is not None]
        self._node = self._epmd = None
        for process in owned:
            process.signal(signal.SIGKILL)
        self._home.remove()
        for process in owned:
            await process.ends_within(_STOP_DEADLINE)
        self._home.remove()


def _epmd(server: Path | None) -> str:
    """Find Erlang's port mapper, to run it as a child: one started by the node outlives it."""
    beside = [str(server.parent)] if server is not None else []
    program = shutil.which("epmd", path=os.pathsep.join([*beside, *os.get_exec_path()]))
    if program is None:
        reason = "Erlang's epmd was not found on the PATH"
        raise BrokerDidNotStart(reason)
    return program
