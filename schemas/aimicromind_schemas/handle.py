"""Write and read handles: short texts that say where in the event log a job's events begin.

A handle is opaque: its form may change with its version. In version 1 it is, in base64url without
padding:

- the version, one byte;
- partition, offset and time (whole seconds since 1970), each as a variable-length integer: seven
  bits a byte, the lowest first, the high bit set in all but the last;
- CRC-32 of the prefix, a zero byte, the number of partitions and all of the above, four bytes. It
  binds the handle to one installation and to its routing. It is no protection: anybody can make a
  handle.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from zlib import crc32

VERSION: Final = 1
LONGEST: Final = 40
"""Characters of the longest handle of version 1."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CHECKSUM_BYTES: Final = 4
_BITS, _MORE = 7, 0x80
# The broker's offsets are signed 64-bit integers; datetime ends with the year 9999.
_MOST_OFFSET: Final = 2**63 - 1
_MOST_SECONDS: Final = 253_402_300_799


class HandleUnreadable(ValueError):
    """A text is no handle of this installation."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the handle cannot be read ({reason}): use the one of the job's start or end, as it is"
        )


class Installation(NamedTuple):
    """The event log that a handle is of.

    Attributes:
        prefix: First word of the names of exchanges and queues.
        partitions: Number of partitions of the event log.
    """

    prefix: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Handle:
    """Where the events of a job begin.

    Attributes:
        partition: Partition of the event log, from 0.
        offset: No event of the job has a lower offset there.
        time: When the offset was looked up, aware, in whole seconds.
    """

    partition: int
    offset: int
    time: datetime


def encode_handle(handle: Handle, of: Installation) -> str:
    """Return the text of a handle.

    Args:
        handle: The place.
        of: The event log that it is in.

    Raises:
        ValueError: The place is none of that event log.
    """
    if not 0 <= handle.partition < of.partitions or not 0 <= handle.offset <= _MOST_OFFSET:
        raise ValueError("the place is not in this event log")
    seconds = (handle.time - _EPOCH) // timedelta(seconds=1)
    numbers = (handle.partition, handle.offset, max(0, seconds))
    place = bytes((VERSION,)) + b"".join(map(_integer, numbers))
    return urlsafe_b64encode(place + _checksum(place, of)).rstrip(b"=").decode()


def decode_handle(text: str, of: Installation) -> Handle:
    """Return the place that a handle tells.

    Args:
        text: The handle.
        of: The event log that it must be of.

    Raises:
        HandleUnreadable: It is damaged, of a later version, of another installation, or from before
            the number of partitions was changed.
    """
    data = _bytes(text)
    handle = _handle(data)
    place, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if checksum != _checksum(place, of):
        raise HandleUnreadable("it is damaged, or of another installation or number of partitions")
    if handle.partition >= of.partitions:
        raise HandleUnreadable("its numbers are too large")
    return handle


def time_in(text: str) -> datetime:
    """Return the time in a handle, aware, of whichever installation it is.

    Raises:
        HandleUnreadable: It is no handle, or of a later version.
    """
    return _handle(_bytes(text)).time


def _handle(data: bytes) -> Handle:
    if data[:1] != bytes((VERSION,)):
        raise HandleUnreadable(f"its version is not {VERSION}")
    partition, offset, seconds = _integers(data[1:-_CHECKSUM_BYTES])
    if offset > _MOST_OFFSET or seconds > _MOST_SECONDS:
        raise HandleUnreadable("its numbers are too large")
    return Handle(partition, offset, _EPOCH + timedelta(seconds=seconds))


def _bytes(text: str) -> bytes:
    try:
        if not 0 < len(text) <= LONGEST:
            raise HandleUnreadable("its length is wrong")
        encoded = text.encode("ascii")
        data = urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except (NotBase64, UnicodeEncodeError) as error:
        raise HandleUnreadable("it is not in base64url") from error
    # The decoder skips other characters and ignores spare bits: one place has one text.
    if urlsafe_b64encode(data).rstrip(b"=") != encoded:
        raise HandleUnreadable("it is not in base64url")
    return data


def _checksum(place: bytes, of: Installation) -> bytes:
    bound_to = of.prefix.encode() + b"\0" + _integer(of.partitions)
    return crc32(bound_to + place).to_bytes(_CHECKSUM_BYTES)


def _integer(number: int) -> bytes:
    encoded = bytearray()
    while number >= _MORE:
        encoded.append(number & (_MORE - 1) | _MORE)
        number >>= _BITS
    encoded.append(number)
    return bytes(encoded)


def _integers(data: bytes) -> tuple[int, int, int]:
    numbers, shift, number = [], 0, 0
    for byte in data:
        number |= (byte & (_MORE - 1)) << shift
        shift += _BITS
        if byte < _MORE:
            numbers.append(number)
            shift = number = 0
    if len(numbers) != 3 or shift:  # noqa: PLR2004 - partition, offset, time
        raise HandleUnreadable("it does not hold a place")
    return numbers[0], numbers[1], numbers[2]
