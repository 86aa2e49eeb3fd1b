import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aimicromind_schemas.handle import (
    LONGEST,
    Handle,
    HandleUnreadable,
    Installation,
    decode_handle,
    encode_handle,
)

HERE = Installation("aimicromind", 4)
PLACE = Handle(3, 1_234_567, datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC))
TEXT = encode_handle(PLACE, HERE)

installations = st.builds(Installation, st.text("ab.-", min_size=1, max_size=64), st.just(64))
places = st.builds(
    Handle,
    st.integers(0, 63),
    st.integers(0, 2**63 - 1),
    st.integers(0, 253_402_300_799).map(lambda it: datetime.fromtimestamp(it, UTC)),
)


@given(places, installations)
def test_handle_tells_its_place(place: Handle, of: Installation) -> None:
    text = encode_handle(place, of)

    assert decode_handle(text, of) == place
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    assert len(text) <= LONGEST


def test_usual_handle_is_short() -> None:
    assert len(TEXT) <= 20


@pytest.mark.parametrize(
    "of",
    [HERE._replace(prefix="other"), HERE._replace(partitions=8)],
    ids=["prefix", "partitions"],
)
def test_handle_of_another_installation_is_refused(of: Installation) -> None:
    with pytest.raises(HandleUnreadable, match="another installation or number of partitions"):
        decode_handle(TEXT, of)


@pytest.mark.parametrize("at", range(len(TEXT)))
def test_changed_handle_is_refused(at: int) -> None:
    changed = TEXT[:at] + ("A" if TEXT[at] != "A" else "B") + TEXT[at + 1 :]

    with pytest.raises(HandleUnreadable):
        decode_handle(changed, HERE)


@pytest.mark.parametrize("text", ["", "=", TEXT + "=", TEXT + "A", TEXT[:-1], "é", "A" * 5000])
def test_no_handle_is_refused(text: str) -> None:
    with pytest.raises(HandleUnreadable):
        decode_handle(text, HERE)


def test_handle_of_a_later_version_is_told() -> None:
    with pytest.raises(HandleUnreadable, match="its version is not 1"):
        decode_handle("Ag" + TEXT[2:], HERE)


@given(st.text(max_size=60) | st.text("ABab01-_", max_size=44))
def test_any_text_is_read_or_refused(text: str) -> None:
    assume(text != TEXT)

    with pytest.raises(HandleUnreadable) as refused:
        decode_handle(text, HERE)

    assert len(text) < 8 or text not in str(refused.value)


@pytest.mark.parametrize("place", [replace(PLACE, partition=4), replace(PLACE, offset=-1)])
def test_place_outside_the_log_has_no_handle(place: Handle) -> None:
    with pytest.raises(ValueError, match="not in this event log"):
        encode_handle(place, HERE)
