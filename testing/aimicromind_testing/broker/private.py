"""Run a private RabbitMQ node, started from the machine's `rabbitmq-server`.

It listens on loopback only, and touches no other node, user or folder of the machine. It is tested
on Linux. The paths of Homebrew on macOS are searched, but have not been tried.
"""

import signal
import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from aimicromind_testing.broker.home import BrokerHome, BrokerTls, Identity
from aimicromind_testing.broker.probe import until_it_speaks_amqp
from aimicromind_testing.broker.process import OwnedProcess
from aimicromind_testing.broker.programs import BrokerDidNotStart, find_epmd, find_rabbitmq_server

_START_DEADLINE = timedelta(seconds=60)
_STOP_DEADLINE = timedelta(seconds=15)
_COMMAND_DEADLINE = timedelta(seconds=30)


class CommandFailed(Exception):
    """A command line tool of the broker ended with an error."""

    def __init__(self, arguments: tuple[str, ...], exit_code: int | None, output: str) -> None:
        command = f"rabbitmqctl {' '.join(arguments)}"
        super().__init__(f"{command} ended with exit code {exit_code}: {output}")


class PrivateBroker:
    """One node with an empty virtual host `/` and the user `guest`; its data is deleted at the end.

    Use it with `async with`, from one task: calls of its methods must not overlap. On Linux the
    node also ends with the thread that started it.
    """

    def __init__(
        self,
        *,
        server: Path | None = None,
        settings: Mapping[str, str] | None = None,
        identity: Identity | None = None,
        management: bool = False,
        tls: BrokerTls | None = None,
        plugins: Sequence[str] = (),
    ) -> None:
        """Prepare; nothing is started or written yet.

        Args:
            server: The start script; by default what `find_rabbitmq_server` returns.
            settings: Further lines of `rabbitmq.conf`, by name.
            identity: Name, cookie and port mapper of the node; new ones by default.
            management: Whether the management API answers, too; it makes the start longer.
            tls: Certificates of a further listener, for TLS; None for no such listener.
            plugins: Names of further plugins to enable.
        """
        self._management = management
        self._tls = tls
        self._plugins = plugins
        self._server = server
        self._settings = settings or {}
        self._identity = identity or Identity.new()
        self._shares = identity is not None
        self._entered: BrokerHome | None = None
        self._epmd: OwnedProcess | None = None
        self._node: OwnedProcess | None = None

    @property
    def port(self) -> int:
        """The port for AMQP, the same after every start."""
        return self._home.amqp_port

    @property
    def url(self) -> str:
        """The address for clients, `amqp://`."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def tls_port(self) -> int:
        """The port for `amqps://`; only with `tls`."""
        return self._home.tls_port

    @property
    def management_url(self) -> str:
        """The address of the management API; only with `management`."""
        return f"http://guest:guest@127.0.0.1:{self._home.management_port}"

    @property
    def node_name(self) -> str:
        """The Erlang name of the node, unique on this machine."""
        return self._identity.node_name

    @property
    def pid(self) -> int:
        """The process id of the node, into which its start script turns; it must run."""
        if self._node is None:
            raise RuntimeError("the node does not run")
        return self._node.pid

    async def __aenter__(self) -> Self:
        self._server = self._server or find_rabbitmq_server()
        if self._server is None:
            reason = "rabbitmq-server was not found: install RabbitMQ, or name its start script "
            raise BrokerDidNotStart(f"{reason}in PRIVATE_BROKER_SERVER")
        self._entered = BrokerHome(
            self._settings,
            self._identity,
            management=self._management,
            tls=self._tls,
            plugins=self._plugins,
            shares=self._shares,
        )
        try:
            await self.start()
        except BaseException:
            await self._end_all()
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
            await self._end_all()

    async def start(self) -> None:
        """Start the node with the data that it has, and wait until it answers AMQP clients.

        Raises:
            BrokerDidNotStart: The node ended, or does not answer within 60 s.
        """
        if self._epmd is None:
            self._epmd = await self._run(find_epmd(self._server))
        if self._node is None:
            self._node = await self._run(str(self._server))
        try:
            await until_it_speaks_amqp(self.port, _START_DEADLINE, self._check_that_it_runs)
        except TimeoutError as error:
            reason = f"RabbitMQ does not answer within {_START_DEADLINE.total_seconds():g} s"
            raise BrokerDidNotStart(reason, self._home.log_tail()) from error

    async def stop(self) -> None:
        """Stop the node by SIGTERM, or by SIGKILL after 15 s; its data stays."""
        if self._node is not None:
            self._node.signal(signal.SIGCONT)
            self._node.signal(signal.SIGTERM)
            await self._node.ends_within(_STOP_DEADLINE)
        await self.kill()

    async def kill(self) -> None:
        """End the node by SIGKILL; what it wrote to disk stays."""
        if self._node is not None:
            self._node.signal(signal.SIGKILL)
            await self._node.ends_within(_STOP_DEADLINE)
        self._node = None

    async def restart(self) -> None:
        """Stop the node by SIGTERM, and start it on the same ports with the same data."""
        await self.stop()
        await self.start()

    def suspend(self) -> None:
        """Suspend the node by SIGSTOP: its connections stay open and silent."""
        if self._node is not None:
            self._node.suspend()

    def resume(self) -> None:
        """Resume a suspended node by SIGCONT."""
        if self._node is not None:
            self._node.signal(signal.SIGCONT)

    async def rabbitmqctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl` on this node, and return its output; takes about 1 s.

        Raises:
            CommandFailed: The exit code is not 0, or the command took more than 30 s.
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
            raise RuntimeError("a PrivateBroker works inside `async with` only")
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

    def _check_that_it_runs(self) -> None:
        exit_code = self._node.exit_code if self._node is not None else None
        if exit_code is not None:
            reason = f"RabbitMQ ended with exit code {exit_code} while starting"
            raise BrokerDidNotStart(reason, self._home.log_tail())

    async def _end_all(self) -> None:
        """End all processes by SIGKILL and delete the folder, even after a cancelled start."""
        owned = [process for process in (self._node, self._epmd) if process is not None]
        self._node = self._epmd = None
        for process in owned:
            process.signal(signal.SIGKILL)
        self._home.remove()
        for process in owned:
            await process.ends_within(_STOP_DEADLINE)
        # A process may have written once more before it ended.
        self._home.remove()
