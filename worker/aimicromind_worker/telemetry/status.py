"""What the worker knows of its own condition: whether it works, and whether it still can."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


class WorkerStatus:
    """One for the worker, which alone writes it. Anyone may ask, on the same event loop."""

    def __init__(self) -> None:
        self._obstacle: Callable[[], str | None] = lambda: "no session with the broker yet"
        self._draining = False
        self._death: str | None = None

    def why_not_ready(self) -> Sequence[str]:
        """Return why no jobs are taken; nothing if they are."""
        if self._draining:
            return ["the worker is draining"]
        obstacle = self._obstacle()
        return [obstacle] if obstacle else []

    def why_not_live(self) -> Sequence[str]:
        """Return why only a restart would help; nothing if that is not so."""
        return [self._death] if self._death else []

    @contextmanager
    def consuming(self, obstacle: Callable[[], str | None]) -> Iterator[None]:
        """Count as ready while the body takes jobs.

        Args:
            obstacle: Says what holds them up all the same, each time that somebody asks.
        """
        self._obstacle = obstacle
        try:
            yield
        finally:
            self._obstacle = lambda: "the session with the broker is ending"

    @contextmanager
    def supervising(self) -> Iterator[None]:
        """Count as live until the body, which opens one session after the other, fails."""
        try:
            yield
        except BaseException as error:
            self._death = f"no more sessions are opened ({type(error).__name__})"
            raise

    def lost(self, reason: str) -> None:
        """Record why there is no session."""
        self._obstacle = lambda: reason

    def drain(self) -> None:
        """Record that no more jobs are to be taken."""
        self._draining = True
