"""The request line and fields an upstream gets.

Rebuilt for every attempt: the host, the credentials and the body's length belong to the upstream,
not to the client.
"""

from typing import Final

from proxy.policy.snapshot import UpstreamPolicy
from proxy.wire.headers import RequestHeaders

_NOBODY: Final = RequestHeaders(b"Accept: application/json\r\nContent-Type: application/json\r\n", {}, 0)


def request_head(
    method: bytes,
    path: bytes,
    headers: RequestHeaders,
    upstream: UpstreamPolicy,
    framing: bytes,
    encoding: bytes,
) -> bytes:
    """Request line to blank line.  `framing` is the Content-Length or Transfer-Encoding line, or empty."""
    authorization = upstream.authorization or headers.read.get(b"authorization")
    credentials = b"" if authorization is None else b"Authorization: %b\r\n" % authorization
    return b"%b %b%b HTTP/1.1\r\nHost: %b\r\n%b%bAccept-Encoding: %b\r\n%b\r\n" % (
        method,
        upstream.prefix,
        path,
        upstream.host_header,
        headers.passed,
        credentials,
        encoding,
        framing,
    )


def copy_head(path: bytes, upstream: UpstreamPolicy, size: int) -> bytes:
    """`request_head` of a copy, whose body has `size` bytes.

    No field of the client's goes along: a key for idempotence or a trace is for one request, and its credentials
    are not for what it has not asked for.
    """
    return request_head(b"POST", path, _NOBODY, upstream, b"Content-Length: %d\r\n" % size, b"identity")
