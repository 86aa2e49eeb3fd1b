"""Print the status of an installation once, or again and again, for `status`."""

import asyncio
import shutil
import sys
from collections.abc import Iterable

import click

from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.ops.status.facts import as_json as plain
from aimicromind_worker.ops.status.reading import StatusReader
from aimicromind_worker.ops.status.view import Line, lines_of
from aimicromind_worker.ops.terminal import say_json, write

# ECMA-48: to the first column and line; clear to the end of the line, and of the screen.
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"


async def print_status(settings: BrokerSettings, *, as_json: bool, every_s: float | None) -> None:
    """Print the status.

    Args:
        settings: The addresses of the broker, and the names of the topology.
        as_json: Whether to print a line of JSON.
        every_s: Print it again after as many seconds, without an end; None: once.

    Raises:
        NoJobQueue: There is no queue of jobs.
        ConnectionError: The broker no longer answers.
    """
    try:
        await _print_on(settings, as_json=as_json, every_s=every_s)
    except TimeoutError as error:
        raise ConnectionError("the broker does not answer any more") from error


async def _print_on(settings: BrokerSettings, *, as_json: bool, every_s: float | None) -> None:
    on_terminal = sys.stdout.isatty()
    async with StatusReader.open(settings) as reader:
        is_first = True
        while True:
            status = await reader.read()
            if as_json:
                say_json(plain(status))
            else:
                columns = shutil.get_terminal_size().columns if on_terminal else None
                lines = lines_of(status, columns)
                if every_s is not None:
                    when = f"{status.time:%Y-%m-%d %H:%M:%S} UTC"
                    lines = [*lines, Line(""), Line(f"{when}, every {every_s:g} s")]
                _print(lines, in_place=every_s is not None and on_terminal, is_first=is_first)
            if every_s is None:
                return
            is_first = False
            await asyncio.sleep(every_s)


def _print(lines: Iterable[Line], *, in_place: bool, is_first: bool) -> None:
    """Print lines; in place of those before on a terminal, and below them in a pipe."""
    coloured = [
        "\n".join(_coloured(part, line.colour) for part in line.text.split("\n")) for line in lines
    ]
    if in_place:
        shown = f"{_CLEAR_LINE}\n".join("\n".join(coloured).split("\n"))
        write(f"{_HOME}{shown}{_CLEAR_LINE}{_CLEAR_REST}")
        return
    if not is_first:
        write("")
    for text in coloured:
        write(text)


def _coloured(text: str, colour: str | None) -> str:
    return click.style(text, fg=colour) if colour else text
