"""Find the programs of RabbitMQ and Erlang on this machine."""

import os
import shutil
from pathlib import Path


class BrokerDidNotStart(Exception):
    """No RabbitMQ node could be started; the text has the reason, and the end of its log."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(f"{reason}\n{log}" if log else reason)


def find_rabbitmq_server() -> Path | None:
    """Return the start script of RabbitMQ; None if there is none.

    The environment variable PRIVATE_BROKER_SERVER goes before the usual folders and the PATH.
    Debian's `/usr/sbin/rabbitmq-server` is skipped, because it changes to another user.
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


def find_epmd(server: Path | None) -> str:
    """Return Erlang's port mapper, from the folder of the start script or from the PATH.

    It is run as a child of this process: one that the node starts outlives the node.

    Raises:
        BrokerDidNotStart: There is none.
    """
    beside = [str(server.parent)] if server is not None else []
    program = shutil.which("epmd", path=os.pathsep.join([*beside, *os.get_exec_path()]))
    if program is None:
        raise BrokerDidNotStart("epmd was not found on the PATH: install Erlang")
    return program
