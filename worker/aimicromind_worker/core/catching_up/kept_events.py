"""Keep the events of the attempt that runs, for followers that come late, in little memory.

Of an event only its name, time and data are kept; its message body is written again from them, byte
for byte. A token of 8 bytes takes 25 bytes here, and 250 as a body. Invariants:

- The kept events are the latest of the attempt, without a gap.
- They take at most the bytes that are allowed for them, rounded up to the last event. Beyond that,
  the oldest are dropped, a quarter at a time: moving the rest for each event would be slow.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.job.numbering import Numbering, beside

# The end of its data (8), its time (8) and its name's number (1).
_EVENT_BYTES: Final = 17
_KEPT_PART: Final = 0.75
# The number of a name fits into a byte. Other names stand before the data of their events.
_MOST_NAMES: Final = 255
_NAME_IN_DATA: Final = 0
# JSON has no line break within a string.
_BEHIND_NAME: Final = b"\n"


class KeptEvents:
    """The latest events of one attempt. Use it in the event loop.

    Attributes:
        first_seq: The number of the oldest event that is kept.
    """

    def __init__(self, numbering: Numbering, most_bytes: int) -> None:
        """Begin without events.

        Args:
            numbering: What numbers the events, and writes their bodies.
            most_bytes: The most bytes of memory that the events may take.
        """
        self.first_seq = 0
        self._numbering = numbering
        self._most_bytes = most_bytes
        self._data = bytearray()
        # `_ends` counts from the first event of the attempt, dropped ones included.
        self._dropped_bytes = 0
        self._ends = array("Q")
        self._times = array("d")
        self._names = bytearray()
        self._number_of: dict[str, int] = {}
        self._json_names = [b""]

    @property
    def next_seq(self) -> int:
        """The number of the next event."""
        return self.first_seq + len(self._names)

    def add(self, event: EndpointEvent, at: float) -> None:
        """Keep the next event.

        Args:
            event: The event.
            at: The time of its numbering, in seconds since 1970.
        """
        data = self._data
        number = self._number_of.get(event.name) or self._number(event.name)
        data += event.data
        if event.duration or event.truncated_bytes:
            data += beside(event)
        self._names.append(number)
        self._times.append(at)
        self._ends.append(self._dropped_bytes + len(data))
        if len(data) + _EVENT_BYTES * len(self._names) > self._most_bytes:
            self._drop_oldest()

    def end_of(self, first_seq: int, most_bytes: int) -> int:
        """Return the number behind the last of the events whose bodies have about so many bytes.

        Args:
            first_seq: The number of the first event, which is kept.
            most_bytes: The most bytes; a single event may have more.
        """
        fitting = bisect_right(
            range(first_seq + 1, self.next_seq + 1),
            most_bytes,
            key=lambda end_seq: self.body_bytes(first_seq, end_seq),
        )
        return first_seq + max(1, fitting)

    def body_bytes(self, first_seq: int, end_seq: int) -> int:
        """Return about how many bytes the bodies of some events have together."""
        count = end_seq - first_seq
        data_bytes = self._end(end_seq) - self._end(first_seq)
        return data_bytes + count * self._numbering.envelope_bytes

    def bodies(self, first_seq: int, end_seq: int) -> tuple[bytes, ...]:
        """Return the message bodies of some events, as they were published.

        Args:
            first_seq: The number of the first, which is kept.
            end_seq: The number behind the last.
        """
        return tuple(map(self._body, range(first_seq, end_seq)))

    def clear(self) -> None:
        """Keep none of the events until now."""
        self.first_seq = self.next_seq
        self._dropped_bytes += len(self._data)
        self._data = bytearray()
        self._ends, self._times, self._names = array("Q"), array("d"), bytearray()

    def _end(self, seq: int) -> int:
        """Return where the data before the event of this number ends."""
        index = seq - self.first_seq
        return self._ends[index - 1] if index else self._dropped_bytes

    def _body(self, seq: int) -> bytes:
        index = seq - self.first_seq
        begin = self._end(seq) - self._dropped_bytes
        data = bytes(self._data[begin : self._ends[index] - self._dropped_bytes])
        name = self._json_names[self._names[index]]
        if not name:
            name, _, data = data.partition(_BEHIND_NAME)
        return self._numbering.body(seq, self._times[index], name, data, b"")

    def _number(self, name: str) -> int:
        """Return the number of a new name; where there is none left, write it before the data."""
        number, json_name = len(self._json_names), self._numbering.json_name(name)
        if number > _MOST_NAMES:
            self._data += json_name + _BEHIND_NAME
            return _NAME_IN_DATA
        self._json_names.append(json_name)
        self._number_of[name] = number
        return number

    def _drop_oldest(self) -> None:
        size_bytes = len(self._data) + _EVENT_BYTES * len(self._names)
        excess_bytes = size_bytes - self._most_bytes * _KEPT_PART
        count = bisect_left(range(len(self._names)), excess_bytes, key=self._bytes_of_oldest)
        self.first_seq += count
        begins = self._ends[count - 1]
        del self._data[: begins - self._dropped_bytes]
        del self._ends[:count], self._times[:count], self._names[:count]
        self._dropped_bytes = begins

    def _bytes_of_oldest(self, count: int) -> int:
        data_bytes = self._end(self.first_seq + count) - self._dropped_bytes
        return data_bytes + count * _EVENT_BYTES
