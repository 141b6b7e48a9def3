"""Malformed and ambiguous HTTP/1.1 requests by name, after RFC 9112 and the known smuggling techniques.

`INVALID` must be refused, and `UNFRAMED` of them so that the connection ends: where its next request
begins is anybody's guess.  `UNCERTAIN` may be refused or served as one request with the body `hello`.
Every `SMUGGLED` request inside another one must stay unseen.
"""

from collections.abc import Mapping
from typing import Any

import pytest

CANARY = b"zq9canary"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def by_name(cases: Mapping[str, bytes]) -> list[Any]:
    """Parameters whose ids are the names."""
    return [pytest.param(data, id=name) for name, data in cases.items()]


def _get(line: bytes = b"GET /zq9canary HTTP/1.1", *fields: bytes) -> bytes:
    return b"\r\n".join([line, *(fields or (b"Host: a",)), b"", b""])


def _post(*fields: bytes, body: bytes = b"", target: bytes = b"/v1/embeddings") -> bytes:
    return _get(b"POST %b HTTP/1.1" % target, b"Host: a", b"X-Note: " + CANARY, *fields) + body


def _chunked(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


_TRANSFER_ENCODINGS = {
    "plain": b"Transfer-Encoding: chunked",
    "lower case": b"transfer-encoding:chunked",
    "upper case": b"TRANSFER-ENCODING: CHUNKED",
    "tab": b"Transfer-Encoding:\tchunked",
    "space before colon": b"Transfer-Encoding : chunked",
    "tab before colon": b"Transfer-Encoding\t: chunked",
    "vertical tab": b"Transfer-Encoding: \x0bchunked",
    "NUL": b"Transfer-Encoding: chunked\x00",
    "quoted": b'Transfer-Encoding: "chunked"',
    "misspelt": b"Transfer-Encoding: xchunked",
    "identity first": b"Transfer-Encoding: identity, chunked",
    "identity last": b"Transfer-Encoding: chunked, identity",
    "identity": b"Transfer-Encoding: identity",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "second is unknown": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "folded value": b"Transfer-Encoding:\r\n chunked",
    "folded away": b"X-A: b\r\n Transfer-Encoding: chunked",
    "behind a bare CR": b"X-A: b\rTransfer-Encoding: chunked",
    "behind a bare LF": b"X-A: b\nTransfer-Encoding: chunked",
    "empty": b"Transfer-Encoding: ",
}

_CODINGS = {
    "gzip": b"gzip",
    "gzip, chunked": b"gzip, chunked",
    "chunked, gzip": b"chunked, gzip",
    "chunked twice": b"chunked, chunked",
    "parameter": b"chunked;q=1",
    "identity": b"identity",
    "unknown": b"zq9canary",
    "trailing comma": b"gzip,",
}

_LENGTHS = {
    "plus": b"+5",
    "minus": b"-5",
    "hexadecimal": b"0x5",
    "letters": b"zq9canary",
    "letter behind": b"5x",
    "point": b"5.0",
    "exponent": b"5e0",
    "underscore": b"0_5",
    "inner space": b"5 5",
    "vertical tab": b"\x0b5",
    "list of two": b"5, 6",
    "full width": "５".encode(),
    "over 64 bits": b"18446744073709551621",
    "forty digits": b"9" * 40,
    "empty": b"",
}

_CHUNKS = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "plus": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "space before": b" 5\r\nhello\r\n0\r\n\r\n",
    "not a digit": b"zq9canary\r\nhello\r\n0\r\n\r\n",
    "over 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "data longer than said": b"5\r\nhello!\r\n0\r\n\r\n",
    "data without its line end": b"5\r\nhello0\r\n\r\n",
    "bare CR behind the size": b"5\rhello\r\n0\r\n\r\n",
    "bare LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "bare LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "bare LF in an extension": b"5;a\nhello\r\n0\r\n\r\n",
    "bare CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "trailer without a colon": b"5\r\nhello\r\n0\r\nzq9canary\r\n\r\n",
    "space in a trailer's name": b"5\r\nhello\r\n0\r\nX A: b\r\n\r\n",
}

_LINES = {
    "space in the target": b"GET /zq9 canary HTTP/1.1",
    "tabs": b"GET\t/zq9canary\tHTTP/1.1",
    "lower-case method": b"get /zq9canary HTTP/1.1",
    "method of punctuation": b"G(T /zq9canary HTTP/1.1",
    "unknown method": b"BREW /zq9canary HTTP/1.1",
    "TRACE": b"TRACE /zq9canary HTTP/1.1",
    "lower-case version": b"GET /zq9canary http/1.1",
    "version 9.9": b"GET /zq9canary HTTP/9.9",
    "version 2.0": b"GET /zq9canary HTTP/2.0",
    "version 1.10": b"GET /zq9canary HTTP/1.10",
    "version 1": b"GET /zq9canary HTTP/1",
    "words behind the version": b"GET /zq9canary HTTP/1.1 zq9canary",
    "NUL in the target": b"GET /zq9canary\x00 HTTP/1.1",
    "bare CR in the target": b"GET /zq9canary\rX-Agent: a HTTP/1.1",
    "no target": b"GET HTTP/1.1",
    "no version": b"GET /zq9canary",
    "no method": b" /zq9canary HTTP/1.1",
    "NUL in the method": b"G\x00T /zq9canary HTTP/1.1",
    "CONNECT": b"CONNECT zq9canary.example:443 HTTP/1.1",
    "CONNECT with a path": b"CONNECT /zq9canary HTTP/1.1",
    "authority form": b"GET zq9canary.example:80 HTTP/1.1",
    "relative path": b"GET zq9canary HTTP/1.1",
    "OPTIONS *": b"OPTIONS * HTTP/1.1",
    "GET *": b"GET * HTTP/1.1",
    "file URL": b"GET file:///etc/zq9canary HTTP/1.1",
    "ftp URL": b"GET ftp://zq9canary/x HTTP/1.1",
    "absolute form without a path": b"GET http://zq9canary HTTP/1.1",
    "target of 300 kB": b"GET /zq9canary" + b"a" * 300_000 + b" HTTP/1.1",
}

_FIELDS = {
    "folded value": b"X-A: zq9canary\r\n b",
    "folded with a tab": b"X-A: zq9canary\r\n\tb",
    "space before colon": b"X-A : zq9canary",
    "space in the name": b"X A: zq9canary",
    "no colon": b"zq9canary",
    "no name": b": zq9canary",
    "NUL in the value": b"X-A: zq9canary\x00",
    "NUL in the name": b"X-A\x00: zq9canary",
    "bare CR in the value": b"X-A: zq9canary\rX-Agent: b",
    "bare CR behind the value": b"X-A: zq9canary\r\rX-Agent: b",
    "parentheses in the name": b"X(A): zq9canary",
    "8-bit name": b"X-\xe9: zq9canary",
    "second Host": b"Host: zq9canary",
    "same Host again": b"Host: a",
    "value of 300 kB": b"X-A: zq9canary" + b"a" * 300_000,
}

_PROTOCOLS = {
    "HTTP/0.9": b"GET /zq9canary\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "TLS hello": b"\x16\x03\x01\x00\xba\x01\x00\x00\xb6\x03\x03zq9canary" + bytes(range(150)),
    "SSH": b"SSH-2.0-zq9canary\r\n\r\n",
    "SMTP": b"EHLO zq9canary\r\n\r\n",
    "PROXY line": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + _get(),
    "NULs": bytes(64),
    "JSON": b'{"zq9canary": 1}\r\n\r\n',
    "byte order mark": b"\xef\xbb\xbf" + _get(),
}

UNFRAMED: dict[str, bytes] = {
    **{
        f"CL then TE: {name}": _post(b"Content-Length: 5", field, body=b"0\r\n\r\n" + SMUGGLED)
        for name, field in _TRANSFER_ENCODINGS.items()
    },
    **{
        f"TE then CL: {name}": _post(field, b"Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED)
        for name, field in _TRANSFER_ENCODINGS.items()
    },
    **{
        f"TE: {name}": _post(b"Transfer-Encoding: " + coding, body=b"0\r\n\r\n" + SMUGGLED)
        for name, coding in _CODINGS.items()
    },
    **{
        f"CL: {name}": _post(b"Content-Length: " + length, body=b"hello" + SMUGGLED)
        for name, length in _LENGTHS.items()
    },
    "two CL": _post(b"Content-Length: 5", b"Content-Length: 0", body=SMUGGLED),
    "two CL, larger first": _post(b"Content-Length: 40", b"content-length: 5", body=b"hello" + SMUGGLED),
    "CL with a space before its colon": _post(b"Content-Length : 5", body=b"hello" + SMUGGLED),
    **{f"chunk: {name}": _chunked(body + SMUGGLED) for name, body in _CHUNKS.items()},
}
INVALID: dict[str, bytes] = {
    **UNFRAMED,
    **{f"line: {name}": _get(line) for name, line in _LINES.items()},
    **{f"field: {name}": _get(b"GET / HTTP/1.1", b"Host: a", field) for name, field in _FIELDS.items()},
    "first field indented": _get(b"GET / HTTP/1.1", b" Host: zq9canary", b"X-A: b"),
    "no Host": _get(b"GET /zq9canary HTTP/1.1", b"X-A: b"),
    "no field at all": b"GET /zq9canary HTTP/1.1\r\n\r\n",
    **{f"protocol: {name}": data for name, data in _PROTOCOLS.items()},
}

UNCERTAIN: dict[str, bytes] = {
    "chunked HTTP/1.0": _chunked(b"5\r\nhello\r\n0\r\n\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "two spaces in the line": _get(b"GET  /zq9canary HTTP/1.1"),
    "Host with a space": _get(b"GET / HTTP/1.1", b"Host: a b"),
    "list of hosts": _get(b"GET / HTTP/1.1", b"Host: a, b"),
    "same CL twice": _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "list of equal CL": _post(b"Content-Length: 5, 5", body=b"hello"),
    "CL with leading zeros": _post(b"Content-Length: 0005", body=b"hello"),
    "CL with spaces around": _post(b"Content-Length: \t 5 \t", body=b"hello"),
    "underscores are another field": _post(b"Content-Length: 5", b"Transfer_Encoding: chunked", body=b"hello"),
    "chunk size with a space behind": _chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
    "chunk size with zeros": _chunked(b"00000005\r\nhello\r\n0\r\n\r\n"),
    "chunk extension": _chunked(b'5;a=b;c="d e"\r\nhello\r\n0;e\r\n\r\n'),
    "chunk extension of 20 kB": _chunked(b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n"),
    "trailers": _chunked(b"5\r\nhello\r\n0\r\nX-A: b\r\nContent-Length: 9\r\nHost: evil\r\n\r\n"),
    "trailer that is folded": _chunked(b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
    "bare LF everywhere": _post(b"Content-Length: 5", body=b"hello").replace(b"\r\n", b"\n"),
    "empty lines first": b"\r\n\r\n" + _get(),
    "body on a GET": _get(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 5") + b"hello",
    "HTTP/1.0 without Host": _get(b"GET /zq9canary HTTP/1.0", b"X-A: b"),
    "empty Host": _get(b"GET / HTTP/1.1", b"Host:"),
    "Host with a path": _get(b"GET / HTTP/1.1", b"Host: a/b"),
    "Host with a user": _get(b"GET / HTTP/1.1", b"Host: a@b"),
    "fragment in the target": _get(b"GET /a#b HTTP/1.1"),
    "300 fields": _get(b"GET / HTTP/1.1", b"Host: a", *(b"X-%d: b" % number for number in range(300))),
    "8-bit target": _get(b"GET /\xe9 HTTP/1.1"),
    "DEL in the target": _get(b"GET /\x7f HTTP/1.1"),
    "8-bit value": _get(b"GET / HTTP/1.1", b"Host: a", b"X-A: \xff\xfe"),
    "h2c": _get(
        b"GET / HTTP/1.1",
        b"Host: a",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABk",
    ),
    "h2c with a body": _post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5", body=b"hello"),
    "websocket": _get(
        b"GET / HTTP/1.1",
        b"Host: a",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
    ),
    "unknown expectation": _post(b"Expect: a-miracle", b"Content-Length: 5", body=b"hello"),
}
