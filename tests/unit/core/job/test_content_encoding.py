import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.core.job.content_encoding import is_packed, unknown_encoding, unpacked
from tests.support.builders import MODERATE

TEXT = b'{"question":"Why?"}'
MOST = 1000


def gz(text: bytes, level: int = 9) -> bytes:
    return gzip.compress(text, level, mtime=0)


def bare_deflate(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (TEXT, None),
        (TEXT, "identity"),
        (TEXT, "utf-8"),
        (TEXT, "gzip"),
        (TEXT, "deflate"),
        (b"\xef\xbb\xbf " + TEXT, "deflate"),
        (gz(TEXT), "gzip"),
        (gz(TEXT), "x-gzip"),
        (gz(TEXT), " GZIP "),
        (gz(TEXT), None),
        (gz(TEXT), "utf-8"),
        (gz(TEXT[:5]) + gz(TEXT[5:]), "gzip"),
        (gz(b"") + gz(TEXT) + b"\0" * 9, "gzip"),
        (zlib.compress(TEXT), "deflate"),
        (bare_deflate(TEXT), "Deflate"),
    ],
)
def test_text_is_found_however_it_is_packed(body: bytes, encoding: str | None) -> None:
    content = unpacked(body, encoding, MOST)

    assert content.text.removeprefix(b"\xef\xbb\xbf ") == TEXT
    assert content.fault is None


@MODERATE
@given(st.lists(st.binary(max_size=200), max_size=4), st.integers(0, 800))
def test_parts_are_joined_and_never_longer_than_allowed(texts: list[bytes], most: int) -> None:
    whole = b"".join(texts)

    content = unpacked(b"".join(map(gz, texts)), "gzip", most)

    assert content.text == whole[: most + 1]


@pytest.mark.parametrize("body", [gz(TEXT)[:-9], gz(TEXT)[:12]])
def test_body_that_breaks_off_is_read_as_far_as_it_goes(body: bytes) -> None:
    content = unpacked(body, "gzip", MOST)

    assert TEXT.startswith(content.text)
    assert content.fault == "the compressed body breaks off"


@pytest.mark.parametrize(
    "body",
    [
        b"\x1f\x8bnonsense",
        gz(TEXT)[:-8] + b"x" * 8,
        gz(TEXT) + b"more",
        gz(TEXT) + b"\0" * 70_000 + b"more",
    ],
)
def test_damage_is_told(body: bytes) -> None:
    assert unpacked(body, "gzip", MOST).fault == "the compressed body is damaged"


def test_bomb_is_read_up_to_the_limit() -> None:
    bomb = gz(b"x" * 50_000_000)

    content = unpacked(bomb, "gzip", MOST)

    assert len(content.text) == MOST + 1


def test_very_many_parts_are_refused() -> None:
    content = unpacked(gz(b"") * 100_000, "gzip", MOST)

    assert content.fault == "the compressed body has too many parts"


@MODERATE
@given(st.binary(max_size=300), st.sampled_from([None, "gzip", "deflate", "br"]))
def test_any_bytes_are_text_or_a_fault(body: bytes, encoding: str | None) -> None:
    for packed in (body, b"\x1f\x8b" + body, gz(body)[:-1] + body):
        content = unpacked(packed, encoding, MOST)

        assert len(content.text) <= MOST + 1
        assert is_packed(packed, encoding) or content.text is packed


@pytest.mark.parametrize("encoding", [None, "", "identity", "UTF-8", "us-ascii", "binary"])
def test_what_is_no_compression_needs_no_advice(encoding: str | None) -> None:
    assert unknown_encoding(encoding) is None


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("br", "says br"),
        ("ZSTD", "says zstd"),
        ("gzip", "says gzip, and the body is not"),
        ("gzip, gzip", "something else"),
        ("<b>\x1b[31m", "something else"),
        ("x" * 99, "something else"),
    ],
)
def test_other_compressions_are_named(encoding: str, said: str) -> None:
    assert said in (unknown_encoding(encoding) or "")
