"""Names for `reply_to` that have a RabbitMQ 3.10 close the connection that publishes to them."""

import base64
from typing import Final

_PREFIX: Final = "amq.rabbitmq.reply-to."
# What stands for the process that consumes: a term of Erlang, in base64. None of these is one.
_TERMS: Final = {
    "a number": b"\x83a\x01",
    "an atom": b"\x83d\x00\x03abc",
    "a new atom": b"\x83w\x05zzzzz",
    "an empty tuple": b"\x83h\x00",
    "a broken function": b"\x83p",
    "text": b"hello",
    "a giant that is compressed": b"\x83P\x7f\xff\xff\xff" + b"x" * 20,
    "a process and more": b"\x83Xv\x00\x0ereply@14722372" + b"\0" * 12 + b"abc",
    "a process of a name that is too long": b"\x83Xv\x00\x0ereply@12345678" + b"\0" * 20,
}
HOSTILE: Final = {
    "no base64": f"{_PREFIX}!!!!.a",
    "base64 that is cut off": f"{_PREFIX}abc.a",
    "text that is not ASCII": f"{_PREFIX}é.a",
    **{what: f"{_PREFIX}{base64.b64encode(term).decode()}.a" for what, term in _TERMS.items()},
}
