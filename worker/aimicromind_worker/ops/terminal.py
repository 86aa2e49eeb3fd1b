"""What commands write: text from outside as text, in any encoding, for as long as somebody reads.

Ids, answers, error texts and names of queues come from outside. None of their characters may be
taken by a terminal as a command, by rich as markup, or by a reader as a line of ours.
"""

import os
import re
import sys
from io import TextIOWrapper
from typing import Final

import click
import msgspec
from rich.console import Console
from typing_extensions import override

from aimicromind_schemas.wire import json_text

# C0 but tab and newline, DEL and C1 (ECMA-48), line separators, bidirectional embeddings and
# isolates (UAX 9), and halves of surrogate pairs, which no encoding can write.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class OutputClosed(Exception):
    """Whoever read what we write has gone, as `head` does when it has its lines."""


def safe(text: str) -> str:
    r"""Return a text whose control characters are written out, such as `\x1b`; lines stay lines."""
    return _UNSAFE.sub(_written_out, text)


def safe_line(text: str) -> str:
    """Return a text as one line: like `safe`, newlines written out too."""
    return safe(text).replace("\n", "\\n")


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004 - Latin-1


def prepare_streams() -> None:
    """Make output escape characters that its encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str, *, err: bool = False, needed: bool = True) -> None:
    """Write a line, of which any part may come from outside.

    Args:
        line: Without a newline at its end.
        err: Write to standard error.
        needed: Whether there is nothing left to do once nobody reads it.

    Raises:
        OutputClosed: Nobody reads it, and it was needed.
    """
    write(safe_line(line), err=err, needed=needed)


def say_json(value: object, *, needed: bool = True) -> None:
    """Write a value as a line of JSON, equal to what it would be without escapes.

    Raises:
        OutputClosed: Nobody reads it, and it was needed.
    """
    # A dict may be nested deeper than msgspec goes, and hold numbers that it writes as null.
    plain = value if isinstance(value, dict) else msgspec.to_builtins(value)
    text = json_text(plain)
    text = _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json_text(plain, ascii_only=True)
    write(text, needed=needed)


def say_body(body: bytes) -> None:
    """Write a message body: as it is to a file or program, as text to a terminal.

    Raises:
        OutputClosed: Nobody reads it.
    """
    if sys.stdout.isatty():
        write(safe(body.decode(errors="replace")))
    else:
        _write(body + b"\n", err=False, needed=True)


def write(text: str, *, err: bool = False, needed: bool = True) -> None:
    """Write text that is safe already, and may have colours.

    Raises:
        OutputClosed: Nobody reads it, and it was needed.
    """
    _write(f"{text}\n", err=err, needed=needed)


def _write(data: str | bytes, *, err: bool, needed: bool) -> None:
    try:
        click.echo(data, nl=False, err=err)
    except BrokenPipeError as error:
        _read_by_nobody(2 if err else 1)
        if needed:
            raise OutputClosed from error


def _read_by_nobody(number: int) -> None:
    """Send what is still written there nowhere, the rest of a buffer at the exit included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


class _PlainConsole(Console):
    """A console that takes text as text."""

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False, highlight=False)

    @override
    def on_broken_pipe(self) -> None:
        _read_by_nobody(1)
        raise OutputClosed


def console() -> Console:
    """Return a console on standard output that interprets no markup and no emoji codes."""
    return _PlainConsole()
