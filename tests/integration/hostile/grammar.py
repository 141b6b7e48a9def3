"""What requests and responses share, spelt in every way: lengths, codings, chunks, and bytes in every place."""

from collections.abc import Iterator
from itertools import product

CANARY = b"zq9canary"
BODY = b'{"model":"zq"}'
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"  # a request inside another one's body

# One of each kind of byte that a grammar tells apart, and all that end or hide a line.
BYTES = [bytes([each]) for each in b'\x00\x01\x08\t\n\x0b\x0c\r\x1b\x1f \x7f\x80\x85\xa0\xff"#(),:;=\\_@0'] + [b"\r\n"]

LENGTHS = [
    b"14", b"0014", b" 14", b"14 ", b"\t14\t", b"0" * 40 + b"14", b"+14", b"-14", b"-0", b"0x0e", b"0xe", b"e", b"14.0",
    b"14.", b".14", b"1.4e1", b"1_4", b"1 4", b"14;", b"14;a=b", b'"14"', b"'14'", b"14,", b",14", b"14,14", b"14, 14",
    b"14 ,14", b"14, 0014", b"14, 15", b"15, 14", b"14 14", b"", b" ", b"zq9canary", b"14zq9canary", b"\x0b14",
    b"14\x0c", b"\x8514", "１４".encode(), "١٤".encode(), b"14\x00", b"13", b"0", b"18446744073709551616",
    b"18446744073709551630", b"9" * 40,
]  # fmt: skip
LENGTH_NAMES = [
    b"Content-Length", b"content-length", b"CONTENT-LENGTH", b"Content-Length ", b"Content-Length\t", b"Content_Length",
    b" Content-Length", b"Content-\x00Length", b"Content-Length\x0b", b"Content Length", b"\xefContent-Length",
    b"Content-Length;", b"Content--Length",
]  # fmt: skip
CODINGS = [
    b"chunked", b"Chunked", b"CHUNKED", b" \t chunked \t ", b"chunked,", b",chunked", b"chunked,chunked",
    b"chunked, chunked", b"chunked, identity", b"identity, chunked", b"identity", b"gzip, chunked", b"gzip,chunked",
    b"chunked, gzip", b"gzip", b"deflate, gzip, chunked", b'"chunked"', b"'chunked'", b"chunked;", b"chunked;q=1",
    b"chunked; a=b", b"xchunked", b"chunkedx", b"chunke", b"chun ked", b"chunked\x0b", b"\x0bchunked", b"chunked\x00",
    b"\x00chunked", b"chunked\x85", b"chun\xe9ked", b"", b",", b"zq9canary", b"zq9canary, chunked",
    b"chunked zq9canary",
]  # fmt: skip
CODING_NAMES = [
    b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer-Encoding ", b"Transfer-Encoding\t",
    b"Transfer_Encoding", b" Transfer-Encoding", b"Transfer-Encoding\x00", b"Transfer\x0b-Encoding",
    b"X:Transfer-Encoding",
    b"Transfer-Encodin", b"Transfer-Encoding\r\n", b"TransferEncoding", b"\x85Transfer-Encoding",
]  # fmt: skip
# A coding's field that begins somewhere else than at the beginning of a line.
DISPLACED = [
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding:\r\n\tchunked", b"Transfer-Encoding:\n chunked",
    b"X-A: b\r\n Transfer-Encoding: chunked", b"X-A: b\rTransfer-Encoding: chunked",
    b"X-A: b\nTransfer-Encoding: chunked",
    b"X-A: b\n\nTransfer-Encoding: chunked", b"X-A: b\r\rTransfer-Encoding: chunked",
    b"X-A: b\x00Transfer-Encoding: chunked",
    b"X-A: b\x85Transfer-Encoding: chunked", b"X-A: b\n\rTransfer-Encoding: chunked",
    b"X-A:\nTransfer-Encoding: chunked",
]  # fmt: skip

SIZES = [
    b"e", b"E", b"0e", b"000000000000000e", b"0" * 17 + b"e", b"0" * 200 + b"e", b"0xe", b"xe", b"+e", b"-e", b" e",
    b"\te",
    b"e ", b"e\t", b"e  ", b"", b" ", b"14", b"d", b"f", b"e.", b"e,e", b"eh", b"zq9canary", "ｅ".encode(), b"e\x00",
    b"\x00e", b"e\x0b", b"\x0be", b"e_", b"'e'", b"-1", b"-0", b"ffffffffffffffff", b"1000000000000000e",
    b"8000000000000000", b"fffffffffffffffff", b"f" * 40, b"7fffffffffffffff",
]  # fmt: skip
EXTENSIONS = [
    b"", b";", b";a", b";a=b", b";a=b;c=d", b";a;b;c", b';a="b"', b';a="b;c=d"', b';a="b\\"c"', b';a="b\\\\"', b';a=""',
    b'; a="b c"', b"; a", b" ;a", b"\t;a", b";a =b", b";a= b", b";a=b ", b";\ta\t=\tb", b";=b", b";a=", b";a=b=c",
    b";;",
    b";a;", b';"a"=b', b";a=@", b";a b", b';a="b', b';a=b"', b';a="b"c', b';a="b\x00"', b";a\x00", b";a=b\n", b";a\rb",
    b";a\nb", b";a\n", b";a\r", b";\n", b'";a"', b";zq9canary=\xff", b';a="\xff"', b";" + b"a" * 300,
    b";a=" + b"b" * 3_000,
    b";a" * 500, b'; a="' + b"\\" * 2_000 + b'"',
]  # fmt: skip
LINE_ENDS = [b"\r\n", b"\n", b"\r", b"", b"\n\r", b"\r\r\n", b"\r\n\r\n", b" \r\n", b"\x0b\r\n", b"\x00\r\n", b"\x85"]
TRAILERS = [
    b"X-T: t\r\n", b"X-T:\r\n", b"X-T: t\r\nX-U: u\r\n", b"Content-Length: 99\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Host: zq9canary\r\n", b"Authorization: Bearer zq9canary\r\n", b"Trailer: Host\r\n", b"Connection: close\r\n",
    b"X-User-Id: zq9canary\r\n", b"X T: t\r\n", b"X-T : t\r\n", b": t\r\n", b"zq9canary\r\n", b"X-T: \x00\r\n",
    b"X-T: t\n",
    b"X-T: t\r", b"X-T: a\rb\r\n", b"X-T: a\nb\r\n", b" X-T: t\r\n", b"X-T: t\r\n u\r\n", b"X-T: t\r\n\tu\r\n",
    b"\x00: t\r\n",
    b"X-T: \x7f\r\n", b"X-T: \xff\r\n", b"X-\xff: t\r\n", HIDDEN[:-2], b"X-T: t\r\n" * 300,
    b"X-T: " + b"t" * 3_000 + b"\r\n",
]  # fmt: skip

CHUNKED = b"e\r\n%b\r\n0\r\n\r\n" % BODY


def chunk_bodies(body: bytes = BODY) -> Iterator[bytes]:
    """Chunked bodies: each part in each spelling, and sizes and extensions in pairs.  `body` has 14 bytes."""
    for size, extension in product(SIZES, EXTENSIONS[:12:2]):
        yield b"%b%b\r\n%b\r\n0\r\n\r\n" % (size, extension, body)
    for extension in EXTENSIONS:
        yield b"e%b\r\n%b\r\n0\r\n\r\n" % (extension, body)
        yield b"e\r\n%b\r\n0%b\r\n\r\n" % (body, extension)
        yield b"7%b\r\n%b\r\n7%b\r\n%b\r\n0\r\n\r\n" % (extension, body[:7], extension, body[7:])
    for end in LINE_ENDS:
        yield b"e%b%b\r\n0\r\n\r\n" % (end, body)
        yield b"e\r\n%b%b0\r\n\r\n" % (body, end)
        yield b"e\r\n%b\r\n0%b\r\n" % (body, end)
        yield b"e\r\n%b\r\n0\r\n%b" % (body, end)
        yield b"e;a=b%b%b\r\n0\r\n\r\n" % (end, body)
    for trailer in TRAILERS:
        yield b"e\r\n%b\r\n0\r\n%b\r\n" % (body, trailer)
        yield b"e\r\n%b\r\n000;a=b\r\n%b\r\n" % (body, trailer)
    for each in (
        b"e\r\n%b!\r\n0\r\n\r\n",
        b"e\r\n\r\n%b\r\n0\r\n\r\n",
        b"0\r\n\r\n%b",
        b"e\r\n%b\r\n",
        b"e\r\n%b\r\n00000\r\n\r\n",
    ):
        yield each % body
    yield b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


def framings(plain: bytes = BODY) -> Iterator[tuple[tuple[bytes, ...], bytes]]:
    """Fields that say where a body of 14 bytes ends, and a body, which may be another one than they say."""
    chunked = CHUNKED.replace(BODY, plain)
    bodies = (plain, chunked)
    length = b"Content-Length: 14"
    for value in LENGTHS:
        yield (b"Content-Length:" + value,), plain
        yield (b"Content-Length: " + value, length), plain
        yield (length, b"content-length: " + value), plain
    for name, body in product(LENGTH_NAMES, bodies):
        yield (name + b": 14",), body
        yield (name + b": 14", length), body
        yield (b"Transfer-Encoding: chunked", name + b": 14"), body
    codings = [b"Transfer-Encoding: " + value for value in CODINGS]
    codings += [name + b": chunked" for name in CODING_NAMES] + DISPLACED
    for coding, body in product(codings, bodies):
        yield (coding,), body
        yield (coding, length), body
        yield (length, coding), body
        yield (b"Content-Length: %d" % len(chunked), coding), body
    for first, second in product((b"chunked", b"identity", b"gzip", b"", b"chunked, chunked", b"x"), repeat=2):
        yield (b"Transfer-Encoding: " + first, b"transfer-encoding: " + second), chunked


def everywhere(template: bytes) -> Iterator[bytes]:
    """Every byte of `BYTES` at every `§` of a template in Latin-1; the others are nothing."""
    parts = template.split(b"\xa7")
    for place in range(1, len(parts)):
        before, after = b"".join(parts[:place]), b"".join(parts[place:])
        for byte in BYTES:
            yield before + byte + after
        yield before + byte + after[1:]  # instead of what stands there
