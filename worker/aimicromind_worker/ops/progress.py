"""Show on standard error how far a command is, where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aimicromind_worker.ops.terminal import console

_COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(bar_width=None),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
)


class Bar:
    """A bar of progress, which is removed at its end.

    Attributes:
        done: The number of steps that are done.
        total: The number of all steps.
    """

    def __init__(self, total: int, show: Callable[[int], None]) -> None:
        self.done = 0
        self.total = total
        self._show = show

    def advance(self) -> None:
        """Count one step as done."""
        self.reach(self.done + 1)

    def reach(self, done: int) -> None:
        """Set the number of steps that are done."""
        self.done = done
        self._show(done)


@contextmanager
def progress(what: str, total: int, *, beside_lines: bool = False) -> Iterator[Bar]:
    """Yield a bar, which is shown if standard error is a terminal.

    Args:
        what: What is done, such as "reading".
        total: The number of steps.
        beside_lines: Whether the command writes lines meanwhile: a terminal would mix them.
    """
    is_shown = sys.stderr.isatty() and not (beside_lines and sys.stdout.isatty())
    bars = Progress(
        *_COLUMNS,
        console=console(err=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not is_shown,
    )
    with bars:
        task = bars.add_task(what, total=total)
        yield Bar(total, lambda done: bars.update(task, completed=done))
