"""Requests by the thousand, from the rules of RFC 9110 and 9112: sound and unsound ones, each with one request in it.

Nothing here says which is which: `reader` does.
"""

from collections.abc import Iterator
from itertools import product

from tests.integration.hostile.grammar import BODY, CANARY, CHUNKED, HIDDEN, chunk_bodies, everywhere, framings

PASSED = b"/v1/zq9canary"
CHAT = b"/v1/chat/completions"

_METHODS = [
    b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"get", b"Post", b"CONNECT", b"TRACE", b"PRI",
    b"BREW", b"G", b"", b"GE T", b"G(T", b"G\x00T", b"G\xe9T", b'"GET"', b"GET:", b"M" * 300, b"zq9canary", b"PROPFIND",
    b"SOURCE", b"QUERY",
]  # fmt: skip
_VERSIONS = [
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/3.0", b"HTTP/9.9",
    b"HTTP/1.10",
    b"HTTP/01.1", b"HTTP/1.", b"HTTP/1", b"HTTP/.1", b"HTTP/11", b"HTTP/1,1", b"HTTP/-1.1", b"HTTP/1.1x", b"http/1.1",
    b"Http/1.1", b"HTTP /1.1", b"HTTP/ 1.1", b"HTTP/1.1 zq9canary", b"HTTP/1 .1", b"HTTPS/1.1", b"XHTTP/1.1",
    b"RTSP/1.0",
    b"ICE/1.0", b"HTTP", b"",
]  # fmt: skip
_TARGETS = [
    b"/zq9canary", b"/", b"//zq9canary/x", b"/a?b=c&d", b"/a#zq9canary", b"/%00%0d%0a", b"/%zz",
    b"/../../etc/zq9canary",
    b"/a\\b", b'/a|b"<>^`{}', b"/\xe9\xff", b"/a;b=c,d", b"*", b"/*", b"**", b"?a", b"#a", b"zq9canary",
    b"zq9canary/x",
    b"./zq9canary", b"zq9canary.example:80", b"zq9canary.example:443", b":80", b"[::1]:80", b"http://zq9canary/x",
    b"HTTP://zq9canary/x", b"https://zq9canary/x?y", b"http://zq9canary", b"http://zq9canary?a=/b",
    b"http://zq9canary?",
    b"http://u:p@zq9canary:80/x", b"http://[::1]/x", b"http:///x", b"http:/x", b"http:x", b"http://", b"//",
    b"ftp://zq9canary/x",
    b"file:///zq9canary", b"javascript:zq9canary", b"ws://zq9canary/", b"httpx://zq9canary/", b"http://zq9canary#/x",
    b"",
]  # fmt: skip
_HOSTS = [
    b"a", b"A.Example", b"a:80", b"a:", b"", b"127.0.0.1:8080", b"[::1]", b"[::1]:80", b"[v1.a:b]", b"%41", b"a_b~c",
    b"xn--a",
    b"a b", b"a\tb", b"a,b", b"a, b", b"a/b", b"a/", b"a@b", b"u:p@b", b"a?b", b"a#b", b"a\\b", b'"a"', b"<a>",
    b"a:b", b"a:80:80",
    b"a:8 0", b"[::1", b"::1", b"[::1]x", b"[a b]", b"%4", b"%zz", b"a\x00", b"a\x7f", b"\xe9", b"http://a", b"a|b",
    b"a^b", b"{a}",
]  # fmt: skip
_EXPECTS = [
    b"100-continue", b"100-Continue", b"100-continue, 100-continue", b"100-continue;a=b", b"200-ok", b"", b"zq9canary",
    b"100-continue\x00", b'"100-continue"', b"100", b"102-continue",
]  # fmt: skip
_UPGRADES = [b"h2c", b"websocket", b"TLS/1.0", b"h2c, websocket", b"HTTP/2.0", b"zq9canary", b""]
_CONNECTIONS = [
    b"Upgrade", b"upgrade", b"Upgrade, HTTP2-Settings", b"keep-alive, Upgrade", b"close, Upgrade", b"close",
    b"keep-alive",
    b"Content-Length", b"Transfer-Encoding", b"Host", b"", b",,", b"zq9canary", b"close, keep-alive", b"xclose",
    b"CLOSE",
]  # fmt: skip
_STRANGERS = [
    b"\r\n", b"\r\n\r\n", b"\r\n" * 40, b"\n", b"\r", b"\r\r\n", b"\n\n", b" ", b"\t", b" \r\n", b"\x00",
    b"\xef\xbb\xbf", b"\xff\xfe",
    b"GET /zq9canary\r\n", b"GET /zq9canary\r\n\r\n", b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    b"\x16\x03\x01\x00\xba\x01\x00\x00\xb6\x03\x03zq9canary" + bytes(range(150)), b"\x16\x03\x03",
    b"\x80\x2e\x01\x03\x01",
    b"SSH-2.0-zq9canary\r\n", b"EHLO zq9canary\r\n", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
    b"\r\n\r\n\x00\r\nQUIT\n" + bytes(20),
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b'{"zq9canary": 1}\r\n\r\n', b"*1\r\n$4\r\nPING\r\n", bytes(64),
    b"0\r\n\r\n", b"hello", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"\x05\x01\x00",
]  # fmt: skip


def _message(line: bytes, fields: tuple[bytes, ...], body: bytes = b"") -> bytes:
    return b"\r\n".join([line, *fields, b"", body])


def _post(fields: tuple[bytes, ...], body: bytes, target: bytes = PASSED, version: bytes = b"1.1") -> bytes:
    return _message(b"POST %b HTTP/%b" % (target, version), (b"Host: a", b"X-Note: " + CANARY, *fields), body)


def lines() -> Iterator[bytes]:
    """Request lines: methods by versions, targets by methods, and what stands between them."""
    alive = (b"Host: a", b"Connection: keep-alive", b"X-Note: " + CANARY)
    for method, version in product(_METHODS, _VERSIONS):
        yield _message(b"%b /zq9canary %b" % (method, version), (b"Host: a",))
    for version, method in product(_VERSIONS, (b"GET", b"POST")):
        yield _message(b"%b /zq9canary %b" % (method, version), alive)
    for target, method, version in product(_TARGETS, (b"GET", b"POST", b"OPTIONS", b"CONNECT"), (b"1.1", b"1.0")):
        yield _message(b"%b %b HTTP/%b" % (method, target, version), alive)
    between = (b"  ", b"\t", b" \t", b"\x0b", b"\x0c", b"\r", b"\n", b"\x00", b"\xa0", b"")
    for first, second in product((b" ", *between), repeat=2):
        yield _message(b"GET%b/zq9canary%bHTTP/1.1" % (first, second), alive)


def bodies() -> Iterator[bytes]:
    """Where a body ends, said in every way, in both versions and on both routes; often with a request hidden in it."""
    for number, (fields, body) in enumerate(framings()):
        yield _post(fields, body, (PASSED, CHAT)[number % 2])
        yield _post(fields, body + HIDDEN, (CHAT, PASSED)[number % 2])
        yield _post((*fields, b"Connection: keep-alive"), body, version=b"1.0")
    for fields, body in ((), HIDDEN), ((b"Content-Length: %d" % len(HIDDEN),), HIDDEN):
        for method in (b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS"):
            yield _message(b"%b /zq9canary HTTP/1.1" % method, (b"Host: a", *fields), body)


def chunks() -> Iterator[bytes]:
    """Chunked bodies on both routes."""
    for body in chunk_bodies():
        yield _post((b"Transfer-Encoding: chunked",), body)
        yield _post((b"Transfer-Encoding: chunked",), body + HIDDEN, CHAT)


def octets() -> Iterator[bytes]:
    """Every kind of byte in every place of a request, with either framing."""
    head = "§PO§ST§ §/v1/§zq9canary§ §H§TTP/1§.§1§\r§\n§X-§A§:§ §zq9canary§ §c§\r\nHost§:§ §a§\r\n"
    plain = head + "Cont§ent-Length§:§ §1§4§\r§\n§\r§\n" + BODY.decode()
    chunked = (
        "POST /v1/zq9canary HTTP/1.1\r\nHost: a\r\nX-Note: zq9canary\r\nTransfer-§Encoding§:§ §chun§ked§\r\n§\r\n"
        f"§e§;§a§=§b§\r§\n§{BODY.decode()}§\r§\n§0§\r§\n§X-§T§:§ §t§\r§\n§\r\n"
    )
    for template in (plain, chunked):
        yield from everywhere(template.encode("latin-1"))


def hosts() -> Iterator[bytes]:
    """`Host` in every spelling, absent, and more than once; with targets in origin and absolute form."""
    for value, version, target in product(_HOSTS, (b"1.1", b"1.0"), (b"/zq9canary", b"http://b/zq9canary")):
        line = b"GET %b HTTP/%b" % (target, version)
        yield _message(line, (b"Host:" + value, b"X-Note: " + CANARY))
    for version, second in product((b"1.1", b"1.0"), (b"a", b"b", b"")):
        line = b"GET /zq9canary HTTP/" + version
        yield _message(line, (b"Host: a", b"host: " + second))
        yield _message(line, (b"X-Note: a", b"Host: a", b"X-Note: b", b"HOST: " + second))
        yield _message(line, (b"X-Note: a",))
        yield _message(line, ())


def wishes() -> Iterator[bytes]:
    """Other protocols, interim answers and what `Connection` lists, with every kind of body."""
    kinds = [((), b""), ((b"Content-Length: 14",), BODY), ((b"Transfer-Encoding: chunked",), CHUNKED)]
    for upgrade, connection, (fields, body) in product(_UPGRADES, _CONNECTIONS, kinds):
        yield _post((b"Upgrade: " + upgrade, b"Connection: " + connection, b"HTTP2-Settings: AAMA", *fields), body)
    for connection, (fields, body), version in product(_CONNECTIONS, kinds[:2], (b"1.1", b"1.0")):
        yield _post((b"Connection: " + connection, *fields), body, CHAT, version)
        yield _post((b"Upgrade: h2c", b"Connection: " + connection, *fields), body, PASSED, version)
    for expect, (fields, body), version, target in product(_EXPECTS, kinds, (b"1.1", b"1.0"), (PASSED, CHAT)):
        yield _post((b"Expect: " + expect, *fields), body, target, version)


def strangers() -> Iterator[bytes]:
    """What stands before a request, or instead of one."""
    for noise in _STRANGERS:
        yield noise + _post((b"Content-Length: 14",), BODY)
        yield _post((b"Content-Length: 14",), BODY) + noise
        yield noise


def large() -> Iterator[bytes]:
    """Heads that are long, in one part or in many."""
    for size in (8_000, 30_000, 65_000, 66_000, 300_000):
        many = b"a" * size
        yield _message(b"GET /zq9canary%b HTTP/1.1" % many, (b"Host: a",))
        yield _message(b"GET /zq9canary HTTP/1.1%b" % many, (b"Host: a",))
        yield _message(b"%b /zq9canary HTTP/1.1" % many, (b"Host: a",))
        yield _message(b"GET /zq9canary HTTP/1.1", (b"Host: a", b"X-A: zq9canary" + many))
        yield _message(b"GET /zq9canary HTTP/1.1", (b"Host: a", b"X-%b: zq9canary" % many))
        yield _message(b"GET /zq9canary HTTP/1.1", (b"Host: a", *(b"X-%d: b" % each for each in range(size // 12))))
        yield _message(b"GET /zq9canary HTTP/1.1", (b"Host: a", *([b"X-A: b"] * (size // 8))))
        yield _message(b"GET /zq9canary HTTP/1.1", (b"Host: " + many,))
        yield _post((b"Content-Length: " + b"0" * size + b"14",), BODY)
        yield b"\r\n" * (size // 2) + _post((b"Content-Length: 14",), BODY)


FAMILIES = {
    each.__name__: each for each in (lines, bodies, chunks, octets, hosts, wishes, strangers, large)
}  # fmt: skip
