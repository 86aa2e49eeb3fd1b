"""What a command ends with: one sentence and an exit code for each thing that can go wrong."""

# ruff: noqa: PLC0415 - each command imports what it needs when it runs

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
  1  it ran, and what it should have achieved it did not
  2  the command line or a setting is wrong
  3  no broker answers
  4  the broker refuses: credentials, permission, or a queue that differs
"""
FAILED, WRONG_USE, NO_BROKER, REFUSED = 1, 2, 3, 4


def read(kind: type[Any]) -> Any:  # noqa: ANN401 - the kind that was asked for
    """Read settings."""
    from aimicromind_worker.app.broker_settings import SettingsInvalid

    try:
        return kind.read()
    except SettingsInvalid as error:
        fail(str(error), WRONG_USE)


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end; what can go wrong in the open becomes one sentence and an exit code."""
    from aimicromind_schemas import client
    from aimicromind_worker.amqp.channels import TooFewChannels
    from aimicromind_worker.amqp.connection import PermissionMissing
    from aimicromind_worker.amqp.declaring import DeclarationRefused, TopologyDiffers
    from aimicromind_worker.app.broker_settings import SettingsInvalid
    from aimicromind_worker.core.findings import NotAchieved
    from aimicromind_worker.ops.terminal import OutputClosed

    refused = (PermissionMissing, TooFewChannels, DeclarationRefused, TopologyDiffers)
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(work)
    except OutputClosed:
        _end_as_others_do()
    except (SettingsInvalid, client.BrokerTlsRefused) as error:
        fail(str(error), WRONG_USE)
    except ConnectionError as error:
        fail(str(error), NO_BROKER)
    except (*refused, client.BrokerRefused) as error:
        fail(str(error), REFUSED)
    except (NotAchieved, client.ClientError) as error:
        fail(str(error), FAILED)


def fail(sentence: str, exit_code: int) -> Never:
    """End with a sentence for people."""
    from aimicromind_worker.ops.terminal import say

    say(f"aimicromind-worker: {sentence}", err=True, needed=False)
    sys.exit(exit_code)


def _end_as_others_do() -> Never:
    """End by SIGPIPE, so that a shell sees what it sees of other programs."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    sys.exit(FAILED)


def _new_loop() -> asyncio.AbstractEventLoop:
    """Make the faster event loop, where it is to be had."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
