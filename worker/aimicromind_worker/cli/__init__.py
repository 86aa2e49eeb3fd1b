"""The command line. Commands import the rest of the worker when they run, thus `--help` is fast."""

import click

from aimicromind_worker.cli.broker import doctor, topology
from aimicromind_worker.cli.dead import dead
from aimicromind_worker.cli.jobs import cancel, follow, submit
from aimicromind_worker.cli.outcomes import EXIT_CODES
from aimicromind_worker.cli.running import demo, run
from aimicromind_worker.cli.settings import settings
from aimicromind_worker.cli.status import status


@click.group(epilog=EXIT_CODES)
@click.version_option(package_name="aimicromind-worker")
def main() -> None:
    """Run AiMicromind prediction jobs from RabbitMQ.

    Settings come from environment variables AIMICROMIND_*, from .env, and from the files of
    the folder that AIMICROMIND_SECRETS_DIR names.
    """
    from aimicromind_worker.ops import terminal  # noqa: PLC0415 - not for `--help`
    from aimicromind_worker.telemetry import logs  # noqa: PLC0415 - see above

    terminal.prepare_streams()
    logs.set_up("error", "auto")


for _command in (run, demo, submit, follow, cancel, status, dead, topology, doctor, settings):
    main.add_command(_command)
