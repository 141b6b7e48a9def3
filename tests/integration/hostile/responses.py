"""Responses by the thousand, from the rules of RFC 9110 and 9112: sound and unsound ones, often with another behind."""

from collections.abc import Iterator
from itertools import product

from tests.integration.hostile.grammar import CANARY, chunk_bodies, everywhere, framings

BODY = b'{"choices":[]}'  # as a chat's answer it is sound HTTP, and empty
STOLEN = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"stolen": 1}'

_VERSIONS = [
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/3", b"HTTP/2", b"HTTP/11", b"http/1.1",
    b"HTTPS/1.1",
    b"ICY", b"RTSP/1.0", b"HTTP", b"HTTP/1.", b"HTTP/1.1x", b"",
]  # fmt: skip
_STATUSES = [
    b"200", b"201", b"204", b"205", b"206", b"304", b"299", b"301", b"400", b"404", b"429", b"500", b"503", b"599",
    b"600", b"999",
    b"000", b"099", b"100", b"101", b"102", b"103", b"199", b"20", b"2000", b"2OO", b"-20", b"+20", b"0200", b"2 0",
    b"", b"200,",
]  # fmt: skip
_REASONS = [
    b"OK",
    b"",
    b"Not really",
    b"\xe9t\xe9",
    b"a\tb",
    b"a\x00b",
    b"a\rb",
    b"a\nb",
    b"a\r\nX-Evil: 1",
    b"a\x7fb",
    b"a" * 5_000,
]
_FIELDS = [
    b"X-A: b", b"X-A:", b"X-A : b", b" X-A: b", b"X-A: b\r\n c", b"X-A: b\r\n\tc", b"X A: b", b"X-A", b": b",
    b"X-A: b\x00", b"X-A: b\rc",
    b"X-A: b\nX-Evil: 1", b"X-A: \x7f", b"X-A: \xff", b"X-\xff: b", b"X-A: b\r\r", b"Connection: close",
    b"Connection: X-A",
    b"Upgrade: h2c", b"Connection: Upgrade\r\nUpgrade: h2c", b"Trailer: X-A", b"Content-Type: a/b",
    b"Keep-Alive: timeout=1",
]  # fmt: skip
_BEHIND = [
    b"",
    b"\r\n",
    b"\n",
    b"x",
    b"\x00",
    STOLEN,
    b"\r\n" + STOLEN,
    STOLEN[:20],
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
]


def _message(line: bytes, fields: tuple[bytes, ...], body: bytes) -> bytes:
    return b"\r\n".join([line, b"Content-Type: application/json", b"X-Note: " + CANARY, *fields, b"", body])


def _ok(fields: tuple[bytes, ...], body: bytes = BODY) -> bytes:
    return _message(b"HTTP/1.1 200 OK", fields, body)


def status_lines() -> Iterator[bytes]:
    """Versions, codes and reasons, and what stands between them; with a length, in chunks, and to the end."""
    length = (b"Content-Length: 14",)
    for version, code in product(_VERSIONS, (b"200", b"204", b"500")):
        yield _message(b"%b %b OK" % (version, code), length, BODY)
        yield _message(b"%b %b OK" % (version, code), (b"Transfer-Encoding: chunked",), b"e\r\n%b\r\n0\r\n\r\n" % BODY)
        yield _message(b"%b %b OK" % (version, code), (), BODY)
    for code, fields in product(_STATUSES, (length, (), (b"Content-Length: 0",))):
        yield _message(b"HTTP/1.1 %b OK" % code, fields, BODY)
        yield _message(b"HTTP/1.1 %b OK" % code, fields, b"")
    for reason in _REASONS:
        yield _message(b"HTTP/1.1 200 " + reason, length, BODY)
    for first, second in product((b" ", b"  ", b"\t", b"", b"\x00", b"\r", b"\n"), repeat=2):
        yield _message(b"HTTP/1.1%b200%bOK" % (first, second), length, BODY)
    yield _message(b"HTTP/1.1 200", length, BODY)


def bodies() -> Iterator[bytes]:
    """Where a body ends, said in every way."""
    for fields, body in framings(BODY):
        yield _ok(fields, body)
        yield _ok(fields, body + STOLEN)


def chunks() -> Iterator[bytes]:
    """Chunked bodies."""
    for body in chunk_bodies(BODY):
        yield _ok((b"Transfer-Encoding: chunked",), body)


def octets() -> Iterator[bytes]:
    """Every kind of byte in every place."""
    head = "§HT§TP/1§.§1§ §20§0§ §O§K§\r§\n§X-§A§:§ §b§\r\nCont§ent-Length§:§ §14§\r§\n§\r§\n" + BODY.decode()
    chunked = (
        "HTTP/1.1 200 OK\r\nTransfer-§Encoding§:§ §chun§ked§\r\n§\r\n"
        f"§e§;§a=§b§\r§\n§{BODY.decode()}§\r§\n§0§\r§\n§X-§T§:§ §t§\r§\n§\r\n"
    )
    for template in (head, chunked):
        yield from everywhere(template.encode("latin-1"))


def surroundings() -> Iterator[bytes]:
    """Fields, interim responses before, and bytes behind."""
    framed = [
        ((b"Content-Length: 14",), BODY),
        ((b"Transfer-Encoding: chunked",), b"e\r\n%b\r\n0\r\n\r\n" % BODY),
        ((), BODY),
    ]
    for field, (fields, body) in product(_FIELDS, framed):
        yield _ok((field, *fields), body)
        yield _ok((*fields, field), body)
    for behind, (fields, body) in product(_BEHIND, framed):
        yield _ok(fields, body + behind)
        yield _message(b"HTTP/1.1 204 No", fields[:0], behind)
        yield _message(b"HTTP/1.1 304 No", fields, behind)
        yield behind + _ok(fields, body)
    for code, field in product(
        (b"100", b"102", b"103", b"199", b"101"),
        (b"X-A: b", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"X A: b"),
    ):
        interim = b"HTTP/1.1 %b Early\r\n%b\r\n\r\n" % (code, field)
        for count in (1, 3, 200):
            yield interim * count + _ok(*framed[0])
    yield b"HTTP/1.1 103 Early\r\nX-A: b\r\n\r\n" * 6_000 + _ok(*framed[0])
    for size in (8_000, 60_000, 200_000):
        yield _ok((b"X-A: " + b"a" * size, *framed[0][0]))
        yield _ok((*[b"X-A: b"] * (size // 8), *framed[0][0]))


FAMILIES = {each.__name__: each for each in (status_lines, bodies, chunks, octets, surroundings)}
