import io
import json
import sys
from unicodedata import bidirectional, category

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from aimicromind_schemas import Gap
from aimicromind_worker.ops import terminal
from aimicromind_worker.ops.following.views import LiveView, PlainView
from aimicromind_worker.ops.terminal import safe, safe_line, say, say_json
from tests.support.builders import MODERATE
from tests.unit.ops.test_views import END, event

CLIPBOARD = "\x1b]52;c;aGk=\x07"
TITLE = "\x9d0;title\x9c"
MARKUP = "[bold]team[/a] :smile:"
ODD = st.text(st.characters(codec=None, exclude_categories=()))


def is_interpreted(character: str) -> bool:
    return (category(character) in {"Cc", "Cs", "Zl", "Zp"}) or bidirectional(character) in {
        *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
    }


@MODERATE
@given(ODD)
def test_no_character_that_a_terminal_interprets_is_left(text: str) -> None:
    assert not any(map(is_interpreted, safe(text).replace("\n", "").replace("\t", "")))
    assert len(safe_line(text).splitlines()) <= 1


@pytest.mark.parametrize("text", ["plain", "Ünï😀", "👩‍👩‍👧", "नमस्ते", "سلام", "two\nlines", "a\tb"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert safe(text) == text


@MODERATE
@given(
    st.recursive(
        ODD | st.integers() | st.none(), lambda of: st.lists(of) | st.dictionaries(ODD, of)
    )
)
def test_line_of_json_is_equal_to_its_value_and_safe(value: object) -> None:
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(sys, "stdout", written)
        say_json(value)

    line = written.getvalue()
    assert json.loads(line) == value
    assert not any(map(is_interpreted, line[:-1]))


def test_json_for_an_encoding_without_emoji_is_still_json(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))

    say_json({"text": "ü😀"})

    assert json.loads(written.getvalue()) == {"text": "ü😀"}


def test_plain_text_for_an_encoding_without_emoji_is_written_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    terminal.prepare_streams()

    say("ü😀")

    assert written.getvalue() == b"\xfc\\U0001f600\n"


@pytest.mark.parametrize("live", [True, False])
def test_views_show_what_comes_from_outside_as_text(
    live: bool,  # noqa: FBT001 - given by pytest
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    outside = f"{CLIPBOARD}{TITLE}{MARKUP}\rforged"
    console = terminal.console()
    console.file = written
    if live:
        console = Console(
            file=written, force_terminal=True, width=200, height=40, markup=False, emoji=False
        )
    view = LiveView(console, None) if live else PlainView(console, None)
    items = [
        event(outside, 0, "token", outside),
        event(outside, 1, "usedTools", [{"tool": outside}]),
        Gap(outside, "chat", 1, range(2, 3)),
        event(outside, 3, "error", {"kind": "internal", "message": outside}),
        event(outside, 4, "end", END | {"text": outside}),
    ]

    if isinstance(view, LiveView):
        with view:
            for item in items:
                view.show(item)
    else:
        for item in items:
            view.show(item)

    shown = written.getvalue()
    assert "\x1b]52" not in shown
    assert "\x07" not in shown
    assert "\x9d" not in shown
    assert "\rforged" not in shown
    assert r"\x1b]52;c;aGk=\x07" in shown
    assert MARKUP in shown
