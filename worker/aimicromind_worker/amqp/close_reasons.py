"""Have what waits on a closed connection fail with an error of AMQP, whatever closed it.

aiormq 7 fails it with a bare `Exception` where it knows no reason, as when a broker is killed.
Nobody can tell that from a fault of the program, which ends the worker.
"""

from collections.abc import Awaitable, Callable
from functools import wraps

from aiormq.abc import ExceptionType
from aiormq.base import FutureStore
from aiormq.exceptions import AMQPConnectionError

_Reject = Callable[[FutureStore, ExceptionType | None], Awaitable[None]]

_reject: _Reject = FutureStore.reject_all


@wraps(_reject)
def _reject_with_reason(store: FutureStore, exception: ExceptionType | None) -> Awaitable[None]:
    return _reject(store, exception or AMQPConnectionError("the connection closed"))


def install() -> None:
    """Patch aiormq so that each closing has a reason; calling it again does no harm."""
    FutureStore.reject_all = _reject_with_reason  # type: ignore[method-assign]
