"""Write the output of commands, with text from outside escaped.

Invariants:

- A terminal interprets no character of an id, answer, error text or queue name.
- Rich interprets no markup or emoji code in them, and none of them can add a line.
- Output that its encoding cannot write is escaped. Output that nobody reads any more ends the
  command, unless the command has more to do.
"""

import asyncio
import os
import re
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import Final

import click
import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from typing_extensions import override

from aimicromind_schemas.wire import json_text

# C0 except tab and newline, DEL and C1 (ECMA-48), line separators, bidirectional embeddings and
# isolates (UAX 9), byte order marks, and lone surrogates, which no encoding can write.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class OutputClosed(Exception):
    """The reader of the output has closed it, as `head` does after its last line."""


def safe(text: str) -> str:
    r"""Return a text with its control characters escaped, such as `\x1b`; newlines stay."""
    return _UNSAFE.sub(_escaped, text)


def safe_line(text: str) -> str:
    """Return a text as one line: like `safe`, with newlines escaped, too."""
    return safe(text).replace("\n", "\\n")


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004 - Latin-1


def prepare_streams() -> None:
    """Set standard output and error to escape characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str, *, err: bool = False, needed: bool = True) -> None:
    """Write a line, escaped.

    Args:
        line: Without a newline at its end.
        err: Whether to write to standard error.
        needed: Whether the command has nothing to do without a reader.

    Raises:
        OutputClosed: The output is closed, and is needed.
    """
    write(safe_line(line), err=err, needed=needed)


def say_json(value: object, *, needed: bool = True) -> None:
    """Write a value as a line of JSON; escapes do not change the value.

    Raises:
        OutputClosed: The output is closed, and is needed.
    """
    # msgspec fails on a dict that is nested deeply, and writes some numbers as null.
    plain = value if isinstance(value, dict) else msgspec.to_builtins(value)
    text = json_text(plain)
    text = _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json_text(plain, ascii_only=True)
    write(text, needed=needed)


def say_body(body: bytes) -> None:
    """Write a message body: escaped to a terminal, byte for byte to a file or program.

    Raises:
        OutputClosed: The output is closed.
    """
    if sys.stdout.isatty():
        write(safe(body.decode(errors="replace")))
    else:
        _write(body + b"\n", err=False, needed=True)


def write(text: str, *, err: bool = False, needed: bool = True) -> None:
    """Write text that is escaped already, and may have colours.

    Raises:
        OutputClosed: The output is closed, and is needed.
    """
    _write(f"{text}\n", err=err, needed=needed)


def _write(data: str | bytes, *, err: bool, needed: bool) -> None:
    try:
        click.echo(data, nl=False, err=err)
    except BrokenPipeError as error:
        _discard(2 if err else 1)
        if needed:
            raise OutputClosed from error


def _discard(number: int) -> None:
    """Discard what is still written to a file descriptor, also at the exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


class _PlainConsole(Console):
    """A console without markup, emoji codes and highlighting."""

    def __init__(self, *, err: bool) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, stderr=err)

    @override
    def on_broken_pipe(self) -> None:
        _discard(2 if self.stderr else 1)
        if not self.stderr:
            raise OutputClosed


def console(*, err: bool = False) -> Console:
    """Return a console that interprets no text, on standard output or on standard error."""
    return _PlainConsole(err=err)


def columns() -> int | None:
    """Return the width of the terminal on standard output; None if it is none."""
    return console().width if sys.stdout.isatty() else None


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 token` or `1,000 tokens`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def cut(line: str, width: int | None) -> str:
    """Return a line, with `…` at its end if it was wider than a terminal.

    Args:
        line: The line, escaped.
        width: The width in columns; None: the line is never cut.
    """
    line = line.replace("\t", " ").rstrip()
    if width is None or cell_len(line) <= width:
        return line
    return set_cell_size(line, width - 1).rstrip() + "…"


async def confirmed(question: str) -> bool:
    """Ask on standard error, and return whether the answer is yes.

    The event loop runs meanwhile, because the broker expects heartbeats.

    Args:
        question: Without a question mark's choices; no answer is no.
    """
    _write(f"{safe_line(question)} [y/N]: ", err=True, needed=False)
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(sys.stdin, readable.set)
    except (OSError, ValueError):
        # A file can always be read; a closed input has nothing to read.
        readable.set()
    try:
        await readable.wait()
        answer = "" if sys.stdin is None or sys.stdin.closed else sys.stdin.readline()
    finally:
        with suppress(OSError, ValueError):
            loop.remove_reader(sys.stdin)
    return answer.strip().lower() in {"y", "yes"}
