"""The command line. Each command imports what it needs when it runs, so that each starts fast."""

# ruff: noqa: PLC0415 - see above

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any, Never, TypeVar
from uuid import uuid4

import click

Result = TypeVar("Result")

_EXIT_CODES = """\b
Exit codes:
  0  done
  1  it ran, and what it should have achieved it did not
  2  the command line or a setting is wrong
  3  no broker answers
  4  the broker refuses: credentials, permission, or a queue that differs
"""
_FAILED, _WRONG_USE, _NO_BROKER, _REFUSED = 1, 2, 3, 4
_LEAVES_AT = 0.97


@click.group(epilog=_EXIT_CODES)
@click.version_option(package_name="aimicromind-worker")
def main() -> None:
    """Relay AiMicromind prediction jobs through RabbitMQ.

    Settings come from environment variables AIMICROMIND_*, from .env, and from the files of
    the folder that AIMICROMIND_SECRETS_DIR names.
    """
    from aimicromind_worker import logs

    logs.set_up("error", "auto")


@main.command()
def run() -> None:
    """Run a worker until SIGTERM; then finish what fits in the grace period.

    Whether it lives and works is told over HTTP: /livez and /readyz on the health port.
    """
    import structlog

    from aimicromind_worker import logs
    from aimicromind_worker.adapters.health import AddressUnusable, answering_probes
    from aimicromind_worker.app import Worker
    from aimicromind_worker.settings import Settings, unknown_names

    settings = _read(Settings)
    logs.set_up(settings.log_level, settings.log_format)
    for name in unknown_names(os.environ):
        structlog.get_logger().warning("setting.unknown", name=name)

    async def work() -> None:
        worker = Worker(settings)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            worker.stop()
            # A broker that says nothing must not hold us to the end of the grace period.
            loop.call_later(settings.drain_seconds * _LEAVES_AT, _leave)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        told = worker.condition
        async with answering_probes(
            settings.health_host,
            settings.health_port,
            told.why_not_live,
            told.why_not_ready,
            lambda: {"events": asdict(worker.event_counts)},
        ):
            await worker.run()

    try:
        _run(work())
    except AddressUnusable as error:
        _fail(str(error), _WRONG_USE)
    # To free every object takes 0.2 s, more on a busy machine, and all of the grace is promised.
    sys.stderr.flush()
    os._exit(0)


@main.command()
@click.argument("flow")
@click.argument("question")
@click.option("--chat", help="Conversation; the job's id if not given.")
@click.option("--job-id", help="Name of the job; a new one if not given.")
@click.option("--follow", is_flag=True, help="Show the job's events until it ends.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs.")
@click.option("--within", default=600.0, show_default=True, help="Seconds to follow at most.")
def submit(  # noqa: PLR0913, PLR0917 - one for each option
    flow: str,
    question: str,
    chat: str | None,
    job_id: str | None,
    follow: bool,  # noqa: FBT001 - click passes it by name
    as_json: bool,  # noqa: FBT001 - click passes it by name
    within: float,
) -> None:
    """Put a job on the queue: ask FLOW the QUESTION.

    \b
    Example:
      aimicromind-worker submit 91975cee-5a0f "What is a queue?" --follow
    """  # noqa: D301 - click's mark for lines that stay as they are
    from aimicromind_schemas import InvalidJob, PredictionJob
    from aimicromind_worker.settings import BrokerSettings
    from aimicromind_worker.submitting import submit_and_follow, submit_job

    settings = _read(BrokerSettings)
    fields = {"chatflowId": flow, "question": question, "chatId": chat}
    try:
        job = PredictionJob.decode(json.dumps({**fields, "jobId": job_id or str(uuid4())}).encode())
    except InvalidJob as error:
        _fail(str(error), _WRONG_USE)
    if not follow:
        _run(submit_job(settings, job, as_json=as_json))
    elif not _run(submit_and_follow(settings, job, as_json=as_json, within_s=within)):
        sys.exit(_FAILED)


@main.group()
def topology() -> None:
    """Declare, show or compare the exchanges and queues on the broker."""


@topology.command("declare")
def topology_declare() -> None:
    """Declare everything; what exists as needed stays as it is."""
    from aimicromind_worker.settings import BrokerSettings
    from aimicromind_worker.topology_commands import declare_all

    _run(declare_all(_read(BrokerSettings)))


@topology.command("show")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
def topology_show(as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show what is needed, without asking the broker."""
    from aimicromind_worker.settings import BrokerSettings
    from aimicromind_worker.topology_commands import show_all

    show_all(_read(BrokerSettings), as_json=as_json)


@topology.command("check")
def topology_check() -> None:
    """Compare what the broker has with what is needed; nothing is created.

    Bindings cannot be read over AMQP and are not compared.
    """
    from aimicromind_worker.settings import BrokerSettings
    from aimicromind_worker.topology_commands import check_all

    if not _run(check_all(_read(BrokerSettings))):
        sys.exit(_FAILED)


@main.command()
@click.option("--flow", "flows", multiple=True, help="Flow of the server in AIMICROMIND_BASE_URL.")
@click.option("--question", default="What can you do?", show_default=True, help="What to ask it.")
def demo(flows: tuple[str, ...], question: str) -> None:
    """See it work: broker, scripted endpoint, worker and five jobs, in one command.

    Uses the broker in AIMICROMIND_AMQP_URL, else the machine's RabbitMQ as a private node,
    else Docker. Uses the server in AIMICROMIND_BASE_URL, if set, with the flows given.
    """
    from rich.console import Console

    from aimicromind_worker.demo import run_demo
    from aimicromind_worker.testing import BrokerDidNotStart

    if bool(flows) != bool(os.environ.get("AIMICROMIND_BASE_URL")):
        _fail("--flow and AIMICROMIND_BASE_URL go together", _WRONG_USE)
    try:
        as_expected = _run(run_demo(Console(), flows, question))
    except asyncio.CancelledError:
        _fail("stopped", _FAILED)
    except BrokerDidNotStart as error:
        _fail(str(error), _NO_BROKER)
    if not as_expected:
        sys.exit(_FAILED)


def _leave() -> Never:
    """End the process at once; the broker takes back what it still holds."""
    import structlog

    structlog.get_logger().warning("drain.overran")
    os._exit(0)


def _read(kind: type[Any]) -> Any:  # noqa: ANN401 - the kind that was asked for
    from aimicromind_worker.settings import SettingsInvalid

    try:
        return kind.read()
    except SettingsInvalid as error:
        _fail(str(error), _WRONG_USE)


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end; what can go wrong in the open becomes one sentence and an exit code."""
    from aimicromind_worker.adapters.connection import BrokerRefused, PermissionMissing
    from aimicromind_worker.adapters.topology import DeclarationRefused, TopologyDiffers
    from aimicromind_worker.reasons import NotAchieved
    from aimicromind_worker.settings import SettingsInvalid

    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(work)
    except SettingsInvalid as error:
        _fail(str(error), _WRONG_USE)
    except ConnectionError as error:
        _fail(str(error), _NO_BROKER)
    except (BrokerRefused, PermissionMissing, DeclarationRefused, TopologyDiffers) as error:
        _fail(str(error), _REFUSED)
    except NotAchieved as error:
        _fail(str(error), _FAILED)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Make the faster event loop, where it is to be had."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _fail(sentence: str, exit_code: int) -> Never:
    click.echo(f"aimicromind-worker: {sentence}", err=True)
    sys.exit(exit_code)
