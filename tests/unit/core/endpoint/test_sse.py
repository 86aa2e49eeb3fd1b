import pytest

from aimicromind_worker.core.endpoint.sse import Frame, SseDecoder
from tests.unit.core.endpoint.streams import decoded


def data_of(*chunks: bytes) -> list[bytes]:
    return [frame.data for frame in decoded(chunks)]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_each_kind_of_line_end_ends_a_line(end: bytes) -> None:
    assert data_of(end.join((b"data: a", b"data: b", b"", b"data: c", b"", b""))) == [b"a\nb", b"c"]


@pytest.mark.parametrize("blank", [b"\n\r", b"\n\r\n", b"\r\r\n", b"\r\n\r", b"\r\n\n", b"\n\n"])
def test_line_ends_may_be_mixed(blank: bytes) -> None:
    assert data_of(b"data: a" + blank + b"data: b" + blank) == [b"a", b"b"]


def test_crlf_cut_between_two_chunks_is_one_line_end() -> None:
    assert data_of(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [b"a\nb"]


def test_crlf_cut_by_an_empty_chunk_is_one_line_end() -> None:
    assert data_of(b"data: a\r", b"", b"\ndata: b\r\n\r\n") == [b"a\nb"]


def test_frame_is_ready_with_the_cr_of_its_blank_line() -> None:
    decoder = SseDecoder(1024)

    ready = decoder.feed(b"data: a\r\n\r")
    after = decoder.feed(b"\ndata: b\r\n\r\n")

    assert ready == [Frame(b"", b"a")]
    assert after == [Frame(b"", b"b")]


@pytest.mark.parametrize(
    "chunks",
    [
        [b"\xef\xbb\xbfdata: a\n\n"],
        [b"\xef", b"\xbb", b"\xbf", b"data: a\n\n"],
        [b"", b"\xef\xbb", b"", b"\xbfdata: a\n\n"],
    ],
)
def test_byte_order_mark_is_dropped_whole_or_in_pieces(chunks: list[bytes]) -> None:
    assert data_of(*chunks) == [b"a"]


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf\xef\xbb\xbf", b"\n\xef\xbb\xbf", b"\xef\xbb"])
def test_only_one_whole_mark_at_the_very_start_is_dropped(start: bytes) -> None:
    assert data_of(start + b"data: a\n\n") == []


def test_mark_within_data_stays() -> None:
    assert data_of(b"data: \xef\xbb\xbfa\n\n") == [b"\xef\xbb\xbfa"]


def test_comments_are_skipped() -> None:
    assert data_of(b":heartbeat\n\n: more\ndata: a\n:\n\n:heartbeat\n\n") == [b"a"]


def test_lines_of_data_are_joined_by_lf() -> None:
    assert data_of(b"data: a\ndata:\ndata: b\n\n") == [b"a\n\nb"]


@pytest.mark.parametrize(
    ("line", "data"),
    [
        (b"data:a", b"a"),
        (b"data: a", b"a"),
        (b"data:  a ", b" a "),
        (b"data:\ta", b"\ta"),
        (b"data: data: a", b"data: a"),
        (b"data::a", b":a"),
    ],
)
def test_one_leading_space_is_removed_and_no_more(line: bytes, data: bytes) -> None:
    usual = b"message:\n" + line + b"\n\n"

    assert data_of(line + b"\n\n") == data_of(usual) == [data]


@pytest.mark.parametrize("line", [b"data", b"data:", b"data: "])
def test_empty_line_of_data_makes_a_frame(line: bytes) -> None:
    assert data_of(line + b"\n\n") == [b""]


@pytest.mark.parametrize("stream", [b"data: a", b"data: a\n", b"data: a\r\n", b"\n", b""])
def test_frame_without_its_blank_line_is_none(stream: bytes) -> None:
    assert data_of(stream) == []


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\0"])
def test_other_separators_end_no_line(character: str) -> None:
    text = f"a{character}b".encode()

    assert data_of(b"message:\ndata: " + text + b"\n\n") == [text]


@pytest.mark.parametrize("field", [b"message:", b"message", b"id: 7", b"retry: 5", b"Data: x"])
def test_unknown_fields_are_ignored(field: bytes) -> None:
    assert decoded([field + b"\ndata: a\n\n"]) == [Frame(b"", b"a")]


def test_event_field_names_the_frame() -> None:
    stream = b"event: token\ndata: Once upon\n\nevent:end\ndata:[DONE]\n\ndata: x\n\n"

    assert decoded([stream]) == [
        Frame(b"token", b"Once upon"),
        Frame(b"end", b"[DONE]"),
        Frame(b"", b"x"),
    ]


def test_last_event_field_counts_and_one_without_colon_empties_it() -> None:
    assert decoded([b"event: a\nevent: b\ndata: x\n\n"]) == [Frame(b"b", b"x")]
    assert decoded([b"event: a\nevent\ndata: x\n\n"]) == [Frame(b"", b"x")]


def test_frame_with_a_name_and_no_data_is_dropped_with_its_name() -> None:
    assert decoded([b"event: a\n\ndata: x\n\n"]) == [Frame(b"", b"x")]


def test_blank_lines_between_frames_are_nothing() -> None:
    assert data_of(b"\n\n\ndata: a\n\n\n\n\n\ndata: b\n\n\n") == [b"a", b"b"]
