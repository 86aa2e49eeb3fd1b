"""Run a command to its end, and turn each failure into one sentence and an exit code."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
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


def read(kind: type[Any]) -> Any:  # noqa: ANN401 - the kind that was asked for
    """Return the settings, or exit with what is wrong in them."""
    from aimicromind_worker.app.broker_settings import SettingsInvalid

    try:
        return kind.read()
    except SettingsInvalid as error:
        fail(str(error), WRONG_USE)


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
