import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import (
    EVENT_NAMES,
    Names,
    NotAChatKey,
    RoutingKeyTooLong,
    chat_binding,
    chat_fits,
    parse_routing_key,
    routing_key,
)
from tests.unit.schemas.strategies import texts


def matches(binding: str, key: str) -> bool:
    """Match as a topic exchange does: * is one word, # any number of them."""
    words = {"*": r"[^.]*", "#": r".*"}
    return (
        re.fullmatch(r"\.".join(words.get(w, re.escape(w)) for w in binding.split(".")), key)
        is not None
    )


def test_names_carry_the_prefix() -> None:
    names = Names("blue")

    assert [
        names.jobs,
        names.jobs_reaped,
        names.jobs_dead,
        names.events,
        names.events_log,
        names.events_log_stream(),
        names.journal,
        names.endings,
        names.pool,
        names.control,
        names.control_log,
    ] == [
        "blue.jobs",
        "blue.jobs.reaped",
        "blue.jobs.dead",
        "blue.events",
        "blue.events.log",
        "blue.events.log-0",
        "blue.journal",
        "blue.endings",
        "blue.pool",
        "blue.control",
        "blue.control.log",
    ]
    assert Names().jobs == "aimicromind.jobs"


@pytest.mark.parametrize("prefix", ["", "a b", "a*", "#", "é", "a" * 65, "a\n"])
def test_prefix_that_a_broker_could_misread_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="use 1 to 64 characters"):
        Names(prefix)


def test_key_is_readable_where_the_chat_id_is_plain() -> None:
    assert routing_key("chat-1_A", "usedTools") == "chat.chat-1_A.usedTools"


def test_every_other_byte_is_escaped_in_upper_case() -> None:
    assert routing_key("a.*#%/é", "x y") == "chat.a%2E%2A%23%25%2F%C3%A9.x%20y"


@given(texts, texts)
def test_parsing_a_key_undoes_making_it(chat_id: str, event: str) -> None:
    try:
        key = routing_key(chat_id, event)
    except RoutingKeyTooLong:
        return

    assert parse_routing_key(key) == (chat_id, event)


@given(texts, texts)
def test_no_chat_id_and_no_event_name_can_pose_as_more_words_or_as_a_wildcard(
    chat_id: str, event: str
) -> None:
    try:
        words = routing_key(chat_id, event).split(".")
    except RoutingKeyTooLong:
        return

    assert len(words) == 3
    assert words[0] == "chat"
    assert all(re.fullmatch(r"([A-Za-z0-9_-]|%[0-9A-F]{2})*", word) for word in words)


@given(texts, texts, st.sampled_from(sorted(EVENT_NAMES)))
def test_binding_of_a_chat_matches_its_events_and_no_others(
    chat_id: str, stranger: str, event: str
) -> None:
    key = routing_key(chat_id, event)

    assert matches(chat_binding(chat_id), key)
    assert matches(f"chat.*.{event}", key)
    assert matches(chat_binding(stranger), key) == (stranger == chat_id)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "chat",
        "chat.a",
        "chat.a.b.c",
        "talk.a.b",
        "chat.a%2e.b",
        "chat.%61.b",
        "chat.a%.b",
        "chat.a%2.b",
        "chat.%FF.b",
        "chat.é.b",
        "chat.a.b\n",
        f"chat.{'a' * 250}.b",
    ],
)
def test_key_that_is_never_written_is_not_a_chat_key(key: str) -> None:
    with pytest.raises(NotAChatKey):
        parse_routing_key(key)


@given(st.text())
def test_parsing_any_key_gives_its_words_or_not_a_chat_key(key: str) -> None:
    try:
        chat_id, event = parse_routing_key(key)
    except NotAChatKey:
        return

    assert routing_key(chat_id, event) == key


def test_key_over_255_bytes_is_refused_with_its_length() -> None:
    assert len(routing_key("é" * 40, "a" * 9)) == 255

    with pytest.raises(RoutingKeyTooLong, match="256 bytes") as caught:
        routing_key("é" * 40, "a" * 10)

    assert caught.value.length_bytes == 256


def test_chat_fits_as_long_as_its_longest_event_does() -> None:
    assert chat_fits("a" * 228)
    assert not chat_fits("a" * 229)
    assert chat_fits("." * 76)
    assert not chat_fits("." * 77)
    assert not chat_fits("\ud83d")
