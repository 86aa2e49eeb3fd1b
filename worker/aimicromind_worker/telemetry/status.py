"""Keep whether the worker is ready, whether it is live, and the reason if it is not."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


class WorkerStatus:
    """Condition of the worker, which alone writes it. Readable anywhere on its event loop."""

    def __init__(self) -> None:
        self._obstacle: Callable[[], str | None] = lambda: "no session with the broker yet"
        self._draining = False
        self._death: str | None = None

    def why_not_ready(self) -> Sequence[str]:
        """Return why the worker takes no jobs; empty if it does."""
        if self._draining:
            return ["the worker is draining"]
        obstacle = self._obstacle()
        return [obstacle] if obstacle else []

    def why_not_live(self) -> Sequence[str]:
        """Return why only a restart can help; empty while the worker is live."""
        return [self._death] if self._death else []

    @contextmanager
    def consuming(self, obstacle: Callable[[], str | None]) -> Iterator[None]:
        """Count as ready while the body takes jobs.

        Args:
            obstacle: Returns what keeps jobs from running nevertheless, else None; called for
                each probe.
        """
        self._obstacle = obstacle
        try:
            yield
        finally:
            self._obstacle = lambda: "the session with the broker is ending"

    @contextmanager
    def supervising(self) -> Iterator[None]:
        """Count as live until the body raises; it opens one session after the other."""
        try:
            yield
        except BaseException as error:
            self._death = f"no more sessions are opened ({type(error).__name__})"
            raise

    def lost(self, reason: str) -> None:
        """Record why there is no session with the broker."""
        self._obstacle = lambda: reason

    def drain(self) -> None:
        """Record that the worker takes no more jobs."""
        self._draining = True
