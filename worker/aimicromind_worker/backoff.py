"""Compute growing pauses between tries without a limit on their number: reconnects and probes."""

from random import uniform

from tenacity import AsyncRetrying, RetryCallState, wait_exponential


class Backoff:
    """Pauses that double up to a limit, each shortened at random by up to a half.

    The random part spreads the workers of a pool, which would otherwise return at the same moment.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        """Begin with the first pause.

        Args:
            first_s: The first pause before it is shortened, in seconds.
            longest_s: The limit of a pause, in seconds.
        """
        self._wait = wait_exponential(first_s, longest_s)
        self.reset()

    def reset(self) -> None:
        """Begin again with the first pause."""
        self._tries = RetryCallState(AsyncRetrying(), None, (), {})

    def pause(self) -> float:
        """Return the next pause in seconds."""
        longest_s = self._wait(self._tries)
        self._tries.attempt_number += 1
        return longest_s * uniform(0.5, 1)  # noqa: S311 - spreads tries, hides nothing
