"""Run a command to its end, and turn each failure into one sentence and an exit code."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Never, TypeVar

Result = TypeVar("Result")

EXIT_CODES = """\b
Exit codes:
  0  done
  1  the command ran, and failed or found a problem
  2  the command line or a setting is wrong
  3  no broker answers
  4  the broker refuses: credentials, permissions, limits, or a queue that differs
"""
FAILED, WRONG_USE, NO_BROKER, REFUSED = 1, 2, 3, 4


def read(kind: type[Any], *, warns: bool = True) -> Any:  # noqa: ANN401 - the kind that was asked for
    """Return the settings, or exit with what is wrong in them.

    Args:
        kind: The class of the settings.
        warns: Whether to warn of names that are no setting; without settings that is always done.
    """
    from aimicromind_worker.app.broker_settings import SettingsInvalid

    try:
        settings = kind.read()
    except SettingsInvalid as error:
        warn_of_unknown_settings()
        fail(str(error), WRONG_USE)
    if warns:
        warn_of_unknown_settings()
    return settings


def warn_of_unknown_settings() -> None:
    """Write a warning to standard error for each name that is no setting."""
    from aimicromind_worker.app.setting_origins import given_values, unknown_names
    from aimicromind_worker.ops.terminal import say

    for unknown in unknown_names(given_values(os.environ)):
        say(f"warning: {unknown.sentence()}", err=True, needed=False)


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of a coroutine, or exit with a sentence for a failure that is expected."""
    from aimicromind_schemas import client
    from aimicromind_worker.amqp.channels import TooFewChannels
    from aimicromind_worker.amqp.connection import PermissionMissing
    from aimicromind_worker.amqp.declaring import DeclarationRefused
    from aimicromind_worker.amqp.differences import TopologyDiffers
    from aimicromind_worker.app.broker_settings import SettingsInvalid
    from aimicromind_worker.core.findings import NotAchieved
    from aimicromind_worker.ops.terminal import OutputClosed

    refusals = (PermissionMissing, TooFewChannels, DeclarationRefused, TopologyDiffers)
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(work)
    except OutputClosed:
        end_by(signal.SIGPIPE)
    except (SettingsInvalid, client.BrokerTlsRefused) as error:
        fail(str(error), WRONG_USE)
    except ConnectionError as error:
        fail(str(error), NO_BROKER)
    except (*refusals, client.BrokerRefused) as error:
        fail(str(error), REFUSED)
    except (NotAchieved, client.ClientError) as error:
        fail(str(error), FAILED)


def run_now(work: Callable[[], Result]) -> Result:
    """Return the result of a function that opens no connection, or exit as `run_async` does."""

    async def result() -> Result:
        return work()

    return run_async(result())


def fail(sentence: str, exit_code: int) -> Never:
    """Exit with a sentence on standard error."""
    from aimicromind_worker.ops.terminal import say

    say(f"aimicromind-worker: {sentence}", err=True, needed=False)
    sys.exit(exit_code)


def end_by(number: signal.Signals) -> Never:
    """Exit by a signal, as other programs do: SIGPIPE where the output is closed, or SIGINT."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    sys.exit(FAILED)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's event loop where it is installed, else that of asyncio."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
