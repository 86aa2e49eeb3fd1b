"""Read from the bytes of a channel what a live queue delivers, and the answers to its bindings."""

from collections.abc import Callable
from typing import Final

from pamqp import commands
from pamqp.constants import FRAME_METHOD
from typing_extensions import override

from aimicromind_schemas.client.transport.message_guard import method_number
from aimicromind_schemas.client.transport.stream_frames import StreamFrames

_BIND_OK: Final = method_number(commands.Queue.BindOk)
_UNBIND_OK: Final = method_number(commands.Queue.UnbindOk)
_METHOD_BYTES: Final = 4


class LiveFrames(StreamFrames):
    """Reads deliveries, and the answers to bindings.

    Attributes:
        answered: Called for each answer to a binding.
    """

    answered: Callable[[], None]

    @override
    def take(self, kind: int, data: bytes, begin: int, end: int) -> bool:
        if super().take(kind, data, begin, end):
            return True
        if kind != FRAME_METHOD:
            return False
        method = data[begin : begin + _METHOD_BYTES]
        if method == _BIND_OK:
            self.answered()
        return method in {_BIND_OK, _UNBIND_OK}
