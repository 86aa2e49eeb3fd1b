"""Patch aiormq 7 so that waits on a closed connection fail with an error of AMQP.

Without a known reason, as after a kill of the broker, aiormq 7 fails them with a bare `Exception`.
That looks like a fault of the program, which ends the worker.
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
    """Patch aiormq so that each close has a reason; a second call changes nothing."""
    FutureStore.reject_all = _reject_with_reason  # type: ignore[method-assign]
