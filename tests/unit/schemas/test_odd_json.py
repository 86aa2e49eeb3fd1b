import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aimicromind_schemas import odd_json
from aimicromind_schemas.wire import dump_json, load_json
from tests.unit.schemas.strategies import UNHURRIED, json_values

PLAIN = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
LETTERS = st.text('[]{}:,"\\u0e1.-+ntrfals \n', max_size=12)


def refused(text: str) -> bool:
    try:
        odd_json.load(text)
    except ValueError:
        return True
    return False


@UNHURRIED
@given(json_values)
def test_values_are_read_and_written_as_python_does(value: object) -> None:
    assert odd_json.load(json.dumps(value, indent=1)) == value
    assert odd_json.dump(value, PLAIN) == PLAIN.encode(value)


@UNHURRIED
@given(LETTERS)
@example("[1,]")
@example('{"a":1,}')
@example("[}")
@example("01")
@example("1 2")
@example('{"a"')
@example("NaN")
@example("")
def test_what_is_no_json_is_refused(text: str) -> None:
    try:
        value = json.loads(text, parse_constant=lambda _: 1 / 0)
    except (ValueError, ZeroDivisionError):
        assert refused(text)
    else:
        assert odd_json.load(text) == value


def test_nesting_has_a_limit() -> None:
    deepest = b"[" * odd_json.MAX_DEPTH + b"]" * odd_json.MAX_DEPTH

    assert dump_json(load_json(deepest)) == deepest
    with pytest.raises(odd_json.TooDeep):
        load_json(b"[" + deepest + b"]")
    with pytest.raises(odd_json.TooDeep):
        dump_json([load_json(deepest)])


def test_container_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append([endless])

    with pytest.raises(ValueError, match="holds itself"):
        dump_json(endless)


def test_key_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError):
        odd_json.dump({1: float("inf")}, PLAIN)
