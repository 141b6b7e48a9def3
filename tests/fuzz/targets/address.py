"""URLs and addresses of a policy.

Laws: no error but `ValueError`; what is accepted is a host name or an address, a port and a prefix of visible ASCII,
and nothing that could end a header line; put together again it is read as the same.
"""

import ipaddress

from proxy.policy.address import check_http_url, parse_address, parse_base_url

TOKENS = (
    b"http://", b"https://", b"HTTP://", b"//", b"/", b"\\", b"@", b":", b"::", b"[", b"]", b"[::1]",
    b"[::ffff:1.2.3.4]", b"%", b"%2f", b"%25eth0", b"#", b"?", b"localhost", b"127.0.0.1", b"0x7f.1", b"2130706433",
    b"a.b", b"..", b".", b"-", b"_", b":80", b":443", b":0", b":65535", b":65536", b":+80", b":8_0", b"\xd9\xa1",
    b"\xef\xbc\x8f", b"\xe2\x84\x80", b"\r\n", b"\t", b" ", b"\x00", b"xn--", b"/v1", b"/v1/chat/completions",
    b"user:pw@", b";", b",",
)  # fmt: skip

_VISIBLE = frozenset(map(chr, range(0x21, 0x7F)))


def check(data: bytes) -> None:
    """`data` is the text of either."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        url = parse_base_url(text)
    except ValueError as error:
        _one_line(error)
    else:
        assert check_http_url(text) == text
        assert 0 < url.port < 65536
        _check_host(url.host)
        assert set(url.prefix) <= _VISIBLE - set("?#")
        assert not url.prefix.endswith("/")
        assert not url.prefix or url.prefix.startswith("/")
        assert set(url.host_header) <= _VISIBLE - set("@/?#\\")
        again = f"{'https' if url.tls else 'http'}://{url.host_header}{url.prefix}"
        assert parse_base_url(again) == url
    try:
        host, port = parse_address(text)
    except ValueError as error:
        _one_line(error)
    else:
        assert 0 <= port < 65536
        _check_host(host)
        shown = f"[{host}]" if ":" in host else host
        assert parse_address(f"{shown}:{port}") == (host, port)


def _check_host(host: str) -> None:
    assert host
    assert set(host) <= _VISIBLE - set("@/?#[]\\")
    if ":" in host:
        ipaddress.IPv6Address(host)


def _one_line(error: ValueError) -> None:
    assert len(str(error).splitlines()) == 1
