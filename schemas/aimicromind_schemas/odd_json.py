"""Read and write JSON on which Python's own functions fail: nested deeply, or with huge numbers.

RFC 8259 limits neither. Reader and writer are slower than Python's own functions. Thus callers try
those first.

Invariants:

- Neither recurses: the depth is limited by `MAX_DEPTH`, not by the stack.
- `load` returns a value equal to what `dump` was given; tuples become lists.
- Between two steps of the reader, a value is expected next, or all containers are closed.
- The reader keeps open containers and the names that wait for a value on two stacks.
- The writer keeps a stack of values, marks and finished text. It holds all that is not written
  yet, with the next part on top.
"""

import json
import math
import re
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, Final

MAX_DEPTH: Final = 10_000
"""Most levels of lists and objects."""

_TOKEN: Final = re.compile(
    r"[ \t\n\r]*(?:"
    r"(?P<mark>[][{}:,])|(?P<text>\")|(?P<word>true|false|null)"
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?P<rest>(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)))"
)
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_WORDS: Final = {"true": True, "false": False, "null": None}
_CLOSING: Final = {"[": "]", "{": "}"}


class TooDeep(ValueError):
    """JSON of more levels than `MAX_DEPTH`."""

    def __init__(self) -> None:
        super().__init__("JSON nested too deeply")


def whole_number(digits: str) -> int | float:
    """Return an integer; infinity for more digits than Python converts, as in JavaScript."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


def load(text: str) -> Any:  # noqa: ANN401 - JSON holds anything
    """Read JSON without recursion. A number beyond the range of a double is infinity.

    Raises:
        ValueError: It is no JSON.
        TooDeep: It has more than `MAX_DEPTH` levels.
    """
    reader = _Reader(text)
    while reader.is_open:
        reader.take_value()
        reader.take_marks()
    if _SPACE.fullmatch(text, reader.at) is None:
        raise JSONDecodeError("Extra data", text, reader.at)
    return reader.result


class _Reader:
    """Reads one text. Call `take_value` and `take_marks` in turn while it `is_open`."""

    def __init__(self, text: str) -> None:
        self.at = 0
        self.is_open = True
        self.result: Any = None
        self._text = text
        self._containers: list[Any] = []
        self._keys: list[str] = []

    def take_value(self) -> None:
        """Read a scalar, an empty container, or containers down to the first value in them."""
        while True:
            token = self._token()
            if token["mark"] not in _CLOSING:
                self._put(self._scalar(token))
                return
            container: Any = [] if token["mark"] == "[" else {}
            self._put(container)
            self._containers.append(container)
            if len(self._containers) > MAX_DEPTH:
                raise TooDeep
            if self._peek() == _CLOSING[token["mark"]]:
                return
            if token["mark"] == "{":
                self._take_key()

    def take_marks(self) -> None:
        """Read the ends of containers, up to the comma before the next value."""
        while self._containers:
            container = self._containers[-1]
            mark = self._token()["mark"]
            if mark == ",":
                if isinstance(container, dict):
                    self._take_key()
                return
            if mark != ("}" if isinstance(container, dict) else "]"):
                raise JSONDecodeError("Expecting ',' delimiter", self._text, self.at)
            self._containers.pop()
        self.is_open = False

    def _put(self, value: object) -> None:
        if not self._containers:
            self.result = value
        elif isinstance(self._containers[-1], dict):
            self._containers[-1][self._keys.pop()] = value
        else:
            self._containers[-1].append(value)

    def _take_key(self) -> None:
        if self._token()["text"] is None:
            raise JSONDecodeError("Expecting a name", self._text, self.at)
        key, self.at = scanstring(self._text, self.at, True)  # noqa: FBT003 - the C function's
        self._keys.append(key)
        if self._token()["mark"] != ":":
            raise JSONDecodeError("Expecting ':' delimiter", self._text, self.at)

    def _scalar(self, token: re.Match[str]) -> object:
        if token["text"] is not None:
            value, self.at = scanstring(self._text, self.at, True)  # noqa: FBT003 - see above
            return value
        if token["word"] is not None:
            return _WORDS[token["word"]]
        if token["number"] is None:
            raise JSONDecodeError("Expecting value", self._text, self.at)
        return float(token["number"]) if token["rest"] else whole_number(token["number"])

    def _token(self) -> re.Match[str]:
        token = _TOKEN.match(self._text, self.at)
        if token is None:
            raise JSONDecodeError("Expecting value", self._text, self.at)
        self.at = token.end()
        return token

    def _peek(self) -> str:
        space = _SPACE.match(self._text, self.at)
        at = space.end() if space else self.at
        return self._text[at : at + 1]


class _Written(str):
    """Text that is JSON already; its type tells it from a string value."""

    __slots__ = ()


class _Closed:
    """Marks the end of a container on the stack."""

    def __init__(self, container: object) -> None:
        self.container = container


def dump(value: object, encoder: json.JSONEncoder) -> str:
    """Return compact JSON, without recursion. Infinity becomes `1e999`.

    Args:
        value: As `wire.dump_json` takes it.
        encoder: Used for strings and numbers.

    Raises:
        ValueError: NaN, or a container that holds itself.
        TooDeep: It has more than `MAX_DEPTH` levels.
        TypeError: A value of a type that JSON does not have.
    """
    written: list[str] = []
    around: set[int] = set()
    pending: list[object] = [value]
    while pending:
        item = pending.pop()
        match item:
            case _Written():
                written.append(item)
            case _Closed(container=container):
                around.remove(id(container))
            case dict() | list() | tuple():
                if id(item) in around:
                    raise ValueError("a container holds itself: JSON has no form for that")
                around.add(id(item))
                if len(around) > MAX_DEPTH:
                    raise TooDeep
                pending.append(_Closed(item))
                pending += reversed(_parts(item, encoder))
            case float() if math.isinf(item):
                written.append("1e999" if item > 0 else "-1e999")
            case _:
                written.append(encoder.encode(item))
    return "".join(written)


def _parts(
    container: dict[Any, Any] | list[Any] | tuple[Any, ...], encoder: json.JSONEncoder
) -> list[object]:
    if not isinstance(container, dict):
        inner = [part for value in container for part in (_Written(","), value)]
        return [_Written("["), *inner[1:], _Written("]")]
    inner = []
    for key, value in container.items():
        if not isinstance(key, str):
            raise TypeError(f"a key is {type(key).__name__}: use a string")
        inner += [_Written(","), _Written(encoder.encode(key) + ":"), value]
    return [_Written("{"), *inner[1:], _Written("}")]
