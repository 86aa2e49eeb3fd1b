"""Decide which events of the endpoint an attempt publishes, and whether its answer is complete.

Invariants:

- `start` is published once, before the first event that is no error; it is never repeated.
- Only `metadata` tells a success: the endpoint ends failed streams with `end`, too.
- Metadata of another question than the expected one fails the call: it is of another run.
- `output` and `side_effect` are set before the event is published. They never become false again.
- The text is kept as JSON, thus tokens are joined without being decoded.
"""

from collections.abc import Iterable, Mapping

import msgspec

from aimicromind_schemas import EVENT_NAMES, OUTPUT_EVENTS, SIDE_EFFECT_EVENTS, RoutingKeyTooLong
from aimicromind_schemas.routing import routing_key
from aimicromind_schemas.wire import json_of
from aimicromind_worker.core.endpoint.errors import AnswerTooLarge, NoAnswer, StreamMixed
from aimicromind_worker.core.endpoint.failures import error_text, failure_of_text
from aimicromind_worker.core.endpoint.frames import EndpointEvent, wrapped
from aimicromind_worker.core.endpoint.request import is_question
from aimicromind_worker.core.endpoint.saved_answer import ANSWER_PARTS
from aimicromind_worker.core.endpoint.usage import UsageCount

_WORKER_EVENTS = frozenset({"retry", "other"})
_NOTHING = (b"null", b"[]", b"{}", b'""')
# Text and whole answer are parts of one message, which must stay below the broker's 16 MiB.
_MOST_ANSWER_BYTES = 15 * 1024 * 1024


class _Metadata(msgspec.Struct):
    question: msgspec.Raw = msgspec.Raw(b"null")
    chatMessageId: object = None  # noqa: N815 - the endpoint's name


class _Trace(msgspec.Struct):
    step: str = ""


_metadata = msgspec.json.Decoder(_Metadata).decode
_trace = msgspec.json.Decoder(_Trace).decode


class Answer:
    """State of one attempt. Feed it from one task, each event once, in order.

    Attributes:
        shown: Whether anything was published, `start` included.
        output: Whether something was published that a second call would repeat.
        side_effect: Whether a tool or action ran, which a second call could run again.
        complete: Whether the endpoint ended the stream after a success.
        parts: Names of published events that an answer has at most once.
        message_id: The endpoint's id of its answer, from `metadata`.
        usage: Tokens that the model's provider has counted.
        waits_for_human: Whether the flow waits for somebody to act.
        whole: The endpoint's whole JSON answer, for a job that asked for it; else empty.
        handle: Where the job's events begin in the event log; None if unknown.
    """

    def __init__(
        self,
        chat_id: str,
        question: memoryview | None,
        tags: Mapping[str, str],
        *,
        redelivered: bool,
        max_answer_bytes: int,
    ) -> None:
        """Begin an attempt.

        Args:
            chat_id: Chat in the routing keys, in which event names must fit.
            question: Question that metadata must name, as JSON; None where it may differ.
            tags: Tags of the job, echoed in `start`.
            redelivered: Whether the broker delivered this job before.
            max_answer_bytes: Limit of the answer's text, as JSON without its quotes.
        """
        self.shown = False
        self.output = False
        self.side_effect = False
        self.complete = False
        self.parts: set[str] = set()
        self.message_id: str | None = None
        self.usage = UsageCount()
        self.waits_for_human = False
        self.whole = b""
        self.handle: str | None = None
        self._chat_id = chat_id
        self._endpoint_chat_id = ""
        self._question = question
        self._start = {"tags": msgspec.Raw(json_of(tags)), "redelivered": redelivered}
        self._limit = max_answer_bytes
        self._text = bytearray()
        self._succeeded = False

    @property
    def text(self) -> bytes:
        """The tokens, joined, as a JSON string."""
        return b'"%b"' % bytes(self._text)

    @property
    def has_text(self) -> bool:
        """Whether any token held text."""
        return bool(self._text)

    def begin_call(self, endpoint_chat_id: str) -> None:
        """Begin another call within the same attempt."""
        self._succeeded = False
        self._endpoint_chat_id = endpoint_chat_id

    def keep_whole(self, body: bytes) -> None:
        """Keep the endpoint's JSON answer for the `end`.

        Raises:
            AnswerTooLarge: Body and text do not fit into one message.
        """
        if len(body) + len(self._text) > _MOST_ANSWER_BYTES:
            raise AnswerTooLarge(_MOST_ANSWER_BYTES)
        self.whole = body

    def follow(self, event: EndpointEvent) -> Iterable[EndpointEvent]:
        """Return what to publish for the endpoint's next event.

        Raises:
            CallFailed: The event is an error, an `end` without an answer, metadata of another
                run, or text beyond the limit.
        """
        name = event.name
        if name == "token" and self.shown:
            self._take_token(event.data)
            return (event,)
        if name == "end":
            return self._take_end()
        if name == "error":
            raise failure_of_text(_plain_text(event.data))
        published = self._published(event)
        if self.shown:
            return published
        self.shown = True
        return (self._started(event), *published)

    def _published(self, event: EndpointEvent) -> tuple[EndpointEvent, ...]:
        name = event.name
        if name == "start":
            return ()
        if name == "token":
            self._take_token(event.data)
        elif name == "metadata":
            self._read_metadata(event.data)
            self._succeeded = True
            self.parts.add(name)
            return (EndpointEvent(name, self._named(event.data)),)
        elif not event.renamed and (name in _WORKER_EVENTS or not self._fits(name)):
            return (wrapped(name, event.data, event.truncated_bytes),)
        elif event.truncated_bytes or event.data not in _NOTHING:
            self.output = self.output or name in OUTPUT_EVENTS
            acted = name in SIDE_EFFECT_EVENTS or (name == "agent_trace" and _acts(event))
            self.side_effect = self.side_effect or acted
            if name in ANSWER_PARTS:
                self.parts.add(name)
            if name == "usageMetadata":
                self.usage = self.usage.plus(UsageCount.of_event(event.data))
            self.waits_for_human = self.waits_for_human or name == "action"
        return (event,)

    def _started(self, first: EndpointEvent) -> EndpointEvent:
        upstream = msgspec.Raw(first.data if first.name == "start" else b"null")
        handle = {} if self.handle is None else {"handle": self.handle}
        data = {**self._start, "upstream": upstream, **handle}
        return EndpointEvent("start", msgspec.json.encode(data))

    def _take_token(self, data: bytes) -> None:
        if len(self._text) + len(data) - 2 > self._limit:
            raise AnswerTooLarge(self._limit)
        self.output = True
        self._text += data[1:-1]

    def _take_end(self) -> tuple[EndpointEvent, ...]:
        if not self._succeeded:
            raise NoAnswer
        self.complete = True
        return ()

    def _read_metadata(self, data: bytes) -> None:
        try:
            told = _metadata(data)
        except (msgspec.DecodeError, RecursionError):
            return
        message_id = told.chatMessageId
        if self._question is not None and not is_question(self._question, bytes(told.question)):
            raise StreamMixed
        self.message_id = message_id if isinstance(message_id, str) else None

    def _named(self, data: bytes) -> bytes:
        """Return metadata with the conversation's chatId, and the call's as `endpointChatId`."""
        try:
            members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, RecursionError):
            return data
        named = {"chatId": self._chat_id, "endpointChatId": self._endpoint_chat_id}
        return msgspec.json.encode(named | members | named)

    def _fits(self, name: str) -> bool:
        if name in EVENT_NAMES:
            return True
        try:
            return bool(name and routing_key(self._chat_id, name))
        except RoutingKeyTooLong:
            return False


def _plain_text(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=str)
    except msgspec.DecodeError:
        return error_text(data) or data.decode()


def _acts(trace: EndpointEvent) -> bool:
    """Return whether a trace event runs a tool, which `usedTools` reports only later."""
    if trace.truncated_bytes:
        return True
    try:
        step = _trace(trace.data).step
    except (msgspec.DecodeError, RecursionError):
        return False
    return step == "agent_action" or step.startswith("tool_")
