from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.telemetry.request_reader import ProbeRequest, Refused, RequestReader
from tests.support.builders import MODERATE
from tests.unit.core.endpoint.streams import cut

GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
LIVEZ = ProbeRequest("GET", "/livez", is_last=False)
BAD = Refused(HTTPStatus.BAD_REQUEST)


def read(*parts: bytes) -> list[ProbeRequest | Refused]:
    """Read parts as a connection does: nothing after the last request or a refusal."""
    reader, found = RequestReader(), list[ProbeRequest | Refused]()
    for part in parts:
        reader.feed(part)
        while (asked := reader.next()) is not None:
            found.append(asked)
            if isinstance(asked, Refused) or asked.is_last:
                return found
    return found


def test_requests_come_in_order() -> None:
    assert read(GET + b"HEAD /metrics HTTP/1.1\r\n\r\n") == [
        LIVEZ,
        ProbeRequest("HEAD", "/metrics", is_last=False),
    ]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/livez?verbose", "/livez"),
        (b"/livez#x", "/livez"),
        (b"/%6civez", "/livez"),
        (b"http://worker:8080/livez", "/livez"),
        (b"*", "*"),
        (b"/%ff", "/\ufffd"),
    ],
)
def test_path_is_decoded_and_has_no_query(target: bytes, path: str) -> None:
    assert read(b"GET %b HTTP/1.1\r\n\r\n" % target) == [ProbeRequest("GET", path, is_last=False)]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.0\r\n\r\n",
        b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
    ids=["close", "1.0", "1.0 kept", "upgrade"],
)
def test_nothing_is_read_after_the_last_request(request_: bytes) -> None:
    assert read(request_ + GET) == [ProbeRequest("GET", "/livez", is_last=True)]


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 3\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_small_body_is_dropped(body: bytes) -> None:
    asked = b"POST /livez HTTP/1.1\r\n" + body

    assert read(asked + GET) == [ProbeRequest("POST", "/livez", is_last=False), LIVEZ]


@pytest.mark.parametrize(
    "sent",
    [
        bytes.fromhex("16030100f8010000f40303") + b"\x8f" * 240,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(range(256)),
        b"CONNECT host:1 HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\n",
    ],
    ids=["TLS", "HTTP/2", "binary", "connect", "two lengths"],
)
def test_what_is_no_request_is_refused(sent: bytes) -> None:
    assert read(sent) == [BAD]


@pytest.mark.parametrize(
    ("begin", "endless", "status"),
    [
        (b"GET /", b"x", 431),
        (GET[:-2] + b"X: ", b"x", 431),
        (GET[:-2], b"X: 1\r\n", 431),
        (b"", b"\r\n", 431),
        (GET[:-2] + b"Content-Length: 1000000\r\n\r\n", b"x", 413),
        (GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 413),
    ],
    ids=["target", "field", "fields", "empty lines", "body", "chunks"],
)
@pytest.mark.parametrize("part_bytes", [6, 4096, 16384])
def test_request_without_end_is_refused_once_it_has_8_kib(
    begin: bytes, endless: bytes, status: int, part_bytes: int
) -> None:
    part = endless * (part_bytes // len(endless))

    assert read(begin, *[part] * (8192 // part_bytes + 1)) == [Refused(HTTPStatus(status))]
    assert read(begin, *[part] * ((8192 - len(begin)) // len(part))) == []


def test_more_requests_ahead_than_are_held_are_refused() -> None:
    assert read(GET * 500) == [*[LIVEZ] * 8, BAD]


pieces = st.sampled_from(
    [
        *(GET, b"HEAD /a HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", b"Content-Length: 2\r\n", b"\r\n"),
        *(b"Connection: close\r\n", b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n", b"0\r\n\r\n"),
        *(b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"GET ", b"/", b"%", b" HTTP/1.1", b"\n"),
        *(b"\xff", b"\x00", b"ab", b"*", b"://"),
    ]
)
streams = st.lists(pieces, max_size=7).map(b"".join) | st.binary(max_size=60)


@MODERATE
@given(stream=streams, places=st.lists(st.integers(0, 500), max_size=6))
def test_any_bytes_cut_anywhere_give_the_same_requests(stream: bytes, places: list[int]) -> None:
    assert read(*cut(stream, places)) == read(stream)
