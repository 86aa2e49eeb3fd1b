import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimicromind_schemas.messages.raw_object import NotAnObject, is_absent_text, members_of, utf8_of
from aimicromind_schemas.wire import load_json
from tests.unit.schemas.strategies import UNHURRIED, json_values

NAMES = frozenset({"a", "ä", ""})
any_text = st.text(max_size=6)
objects = st.dictionaries(st.sampled_from(["a", "ä", "", "b", "c\ud83d"]) | any_text, json_values)


def split(body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    members = members_of(utf8_of(body), NAMES)
    others: dict[str, Any] = {}
    for run in members.others:
        others |= load_json(b"{%b}" % bytes(run))
    return {name: load_json(value) for name, value in members.named.items()}, others


@UNHURRIED
@given(objects, st.sampled_from([None, 1]), st.booleans())
def test_members_are_those_that_python_reads(
    value: dict[str, Any],
    indent: int | None,
    ascii_only: bool,  # noqa: FBT001 - given by hypothesis
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    named, others = split(text.encode(errors="surrogatepass") if ascii_only else valid(text))

    assert named == {name: it for name, it in value.items() if name in NAMES}
    assert others == {name: it for name, it in value.items() if name not in NAMES}


def valid(text: str) -> bytes:
    """Write lone surrogates as escapes, all else in UTF-8."""
    return b"".join(
        b"\\u%04x" % ord(it) if "\ud800" <= it <= "\udfff" else it.encode() for it in text
    )


@UNHURRIED
@given(st.text('{}[]:,"\\u0e1.-+ntrfals \n\x00\x0b', max_size=14).map(lambda it: "{" + it))
@example('{"a":1,}')
@example('{"a" 1}')
@example('{"a":01}')
@example('{"a":1}x')
@example('{"a":"\\x"}')
@example('{"\\x":1}')
@example('{"a":"\\ud83d"}')
@example('{"\\ud83d":[]}')
@example('{"a":"\n"}')
@example('{"a":NaN}')
@example("{,}")
@example('{"a":1 "b":2}')
@example('{"a":[1,2],"a":{}}')
def test_what_python_does_not_read_is_no_object(text: str) -> None:
    try:
        value = json.loads(text.rstrip("\0 \n"), parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        with pytest.raises(NotAnObject):
            split(text.encode())
    else:
        named, others = split(text.encode())
        assert named | others == value


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + b' {"a":"\xc3\xa4"}',
        b'{"a":"\xc3\xa4"}\0\0',
        b'\n{"a":"\xc3\xa4"} \r\n\0 \t',
        *('{"a":"ä"}'.encode(it) for it in ("utf-16", "utf-16-le", "utf-16-be")),
        *('{"a":"ä"}'.encode(it) for it in ("utf-32", "utf-32-le", "utf-32-be")),
        b"\xff\xfe" + ' {"a":"ä"}\n'.encode("utf-16-le"),
    ],
)
def test_any_unicode_text_is_read_whatever_stands_around_it(body: bytes) -> None:
    assert split(body)[0] == {"a": "ä"}


@pytest.mark.parametrize(
    "body", [b'{"a":"\xff"}', b'{"\xff":1}', b'{"a":"\xed\xa0\xbd"}', b'{"a":"\xc3', b"\xff\xfe{"]
)
def test_text_that_is_no_unicode_is_no_object(body: bytes) -> None:
    with pytest.raises(NotAnObject, match="UTF-8"):
        split(body)


def test_place_of_a_fault_is_told() -> None:
    with pytest.raises(NotAnObject, match="line 3 column 5"):
        split(b'{"a":1,\n"b":2,\n"c":!}')


@pytest.mark.parametrize("value", ["null", '""', "[]", "{}", "[ \n]", "{\t\r}", "null \n"])
def test_null_and_empty_are_absent(value: str) -> None:
    assert is_absent_text(memoryview(value.encode()))


@pytest.mark.parametrize("value", ["0", "false", '" "', "[null]", '"\\u0000"', "[[]]"])
def test_anything_else_is_there(value: str) -> None:
    assert not is_absent_text(memoryview(value.encode()))


BOMBS = {
    "lists": b'{"x":[' + b"[]," * 700_000 + b"[]]}",
    "texts": b'{"x":[' + b'"",' * 700_000 + b'""]}',
    "numbers": b'{"a":[' + b"1," * 1_000_000 + b"1]}",
    "halves of emoji": b'{"x":"' + b"\\ud83d" * 350_000 + b'"}',
    "members": b"{" + b",".join(b'"%x":0' % number for number in range(200_000)) + b"}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_splitting_takes_no_more_memory_than_the_body(bomb: str) -> None:
    body = BOMBS[bomb]
    tracemalloc.start()

    members_of(utf8_of(body), NAMES)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    # A body with halves of emoji is copied, once, and one more time while that is made.
    assert highest < 3 * len(body)


def test_deep_nesting_is_refused_clearly() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000

    with pytest.raises(NotAnObject, match="nested too deeply"):
        split(b'{"x":%b}' % deep)
    with pytest.raises(NotAnObject):
        split(deep)


def test_names_repeated_without_end_are_refused() -> None:
    with pytest.raises(NotAnObject, match="repeated"):
        split(b"{" + b'"a":1,"b":2,' * 2000 + b'"a":1}')
