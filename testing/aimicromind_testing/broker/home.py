"""The folder of a private RabbitMQ node: configuration, data, log, and environment variables."""

import os
import random
import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

_LOOPBACK = "127.0.0.1"

_CONFIGURATION = {
    # Small limits, because tests run on the same machine.
    "vm_memory_high_watermark.absolute": "512MB",
    "disk_free_limit.absolute": "50MB",
    "raft.wal_max_size_bytes": "67108864",
    "log.console": "false",
    "log.file.level": "info",
}

_LOOPBACK_DISTRIBUTION = "-kernel inet_dist_use_interface {127,0,0,1}"

_picked: set[int] = set()


@dataclass(frozen=True, slots=True)
class Identity:
    """Name of a node, and what it must share with the other nodes of a cluster.

    Attributes:
        node_name: Erlang's name of the node, NAME@HOST.
        epmd_port: Port of Erlang's port mapper; shared.
        cookie: Erlang's secret between nodes; shared.
    """

    node_name: str
    epmd_port: int
    cookie: str

    @classmethod
    def new(cls) -> Self:
        """Return one that no other node of this machine has."""
        (epmd_port,) = _free_ports(1)
        return cls(_new_node_name(), epmd_port, secrets.token_hex(16))

    def neighbour(self) -> Self:
        """Return one for another node of the same cluster."""
        return replace(self, node_name=_new_node_name())


@dataclass(frozen=True, slots=True)
class BrokerTls:
    """Certificates of a broker's TLS listener.

    Attributes:
        certificate: PEM file with the broker's certificate.
        key: PEM file with its private key.
        asks_for: PEM file with the CA of client certificates; None if clients need none.
    """

    certificate: Path
    key: Path
    asks_for: Path | None = None

    def configuration(self, port: int) -> dict[str, str]:
        """Return the lines of `rabbitmq.conf` for a listener on a loopback port, by name."""
        lines = {
            "listeners.ssl.1": f"{_LOOPBACK}:{port}",
            "ssl_options.certfile": str(self.certificate),
            "ssl_options.keyfile": str(self.key),
        }
        if self.asks_for is not None:
            lines |= {
                "ssl_options.cacertfile": str(self.asks_for),
                "ssl_options.verify": "verify_peer",
                "ssl_options.fail_if_no_peer_cert": "true",
            }
        return lines


class BrokerHome:
    """A temporary folder with all files of one RabbitMQ node.

    The ports are picked once. Thus a node that is started again listens where it did.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        identity: Identity,
        *,
        management: bool,
        tls: BrokerTls | None,
        plugins: Sequence[str] = (),
        shares: bool,
    ) -> None:
        """Pick ports and write the configuration.

        Args:
            settings: Further lines of `rabbitmq.conf`, by name.
            identity: Name, cookie and port mapper.
            management: Whether the management API answers.
            tls: Certificates of a further listener.
            plugins: Further plugins.
            shares: Whether other nodes have the same port mapper.
        """
        self._shares = shares
        self.folder = Path(tempfile.mkdtemp(prefix="private-broker-"))
        self.amqp_port, self.tls_port, self._distribution_port, self.management_port = _free_ports(
            4
        )
        self._identity = identity
        self._plugins = [*plugins, *(["rabbitmq_management"] if management else [])]
        if management:
            listener = {"ip": _LOOPBACK, "port": self.management_port}
            settings = {f"management.tcp.{name}": str(it) for name, it in listener.items()} | dict(
                settings
            )
        if tls is not None:
            settings = tls.configuration(self.tls_port) | dict(settings)
        self._write_files({**_CONFIGURATION, **settings})

    @property
    def console(self) -> Path:
        """File with the node's stdout and stderr, used before its log is open."""
        return self.folder / "console.log"

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the node and of its command line tools.

        The caller's own variables for RabbitMQ and Erlang are left out.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET"))
        }
        return inherited | {
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": _LOOPBACK,
            "ERL_EPMD_PORT": str(self._identity.epmd_port),
            "ERL_CRASH_DUMP": os.devnull,
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.folder / "conf.d"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
            "RABBITMQ_CTL_ERL_ARGS": " ".join((_LOOPBACK_DISTRIBUTION, *self._way_to_the_node())),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_NODENAME": self._identity.node_name,
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _LOOPBACK_DISTRIBUTION,
            # The start script then replaces itself by the node, instead of waiting for it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _way_to_the_node(self) -> tuple[str, ...]:
        """Return arguments with which the tools find a node's port without its port mapper."""
        # They take the port for that of every node.
        return (
            ()
            if self._shares
            else (f"-erl_epmd_port {self._distribution_port} -dist_listen false",)
        )

    def log_tail(self, lines: int = 60) -> str:
        """Return the last lines of the node's console, and of each of its logs."""
        written = [self.console, *sorted((self.folder / "log").glob("*.log"))]
        tails = (
            path.read_text("utf-8", "replace").splitlines()[-lines:]
            for path in written
            if path.exists()
        )
        return "\n".join(line for tail in tails for line in tail)

    def remove(self) -> None:
        """Delete the folder, if it exists."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_files(self, configuration: Mapping[str, str]) -> None:
        lines = [f"{name} = {value}\n" for name, value in configuration.items()]
        listener = f"listeners.tcp.1 = {_LOOPBACK}:{self.amqp_port}\n"
        (self.folder / "rabbitmq.conf").write_text("".join([listener, *lines]))
        (self.folder / "advanced.config").write_text("[].\n")
        (self.folder / "rabbitmq-env.conf").write_text("")
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self._plugins)}].\n")
        (self.folder / "conf.d").mkdir()
        (self.folder / "log").mkdir()
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(self._identity.cookie)
        cookie.chmod(0o400)


def _new_node_name() -> str:
    return f"private-{secrets.token_hex(6)}@localhost"


def _free_ports(count: int) -> list[int]:
    """Pick free loopback ports, each once in this process.

    They are below the range for outgoing connections (Linux: 32768 to 60999). Thus they are still
    free when a stopped node starts again. A port that was picked may be free only because its node
    does not listen yet.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randint(20_000, 32_000)  # noqa: S311 - a port is no secret
        if port not in _picked and _is_free(port):
            ports.append(port)
            _picked.add(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True
