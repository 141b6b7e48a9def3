"""The request line and fields an upstream gets.

Rebuilt for every attempt: the host, the credentials and the body's length belong to the upstream,
not to the client.
"""

from proxy.policy.snapshot import UpstreamPolicy
from proxy.wire.headers import RequestHeaders


def request_head(  # noqa: PLR0913
    method: str, path: bytes, headers: RequestHeaders, upstream: UpstreamPolicy, framing: bytes, encoding: bytes
) -> bytes:
    """Request line to blank line.  `framing` is the Content-Length or Transfer-Encoding line, or empty."""
    lines = [
        b"%b %b%b HTTP/1.1\r\nHost: %b\r\n" % (method.encode(), upstream.prefix, path, upstream.host_header)
    ]
    lines += [b"%b: %b\r\n" % field for field in headers.passed]
    authorization = upstream.authorization or headers.read.get(b"authorization")
    if authorization is not None:
        lines.append(b"Authorization: " + authorization + b"\r\n")
    lines.append(b"Accept-Encoding: " + encoding + b"\r\n")
    lines.append(framing)
    lines.append(b"\r\n")
    return b"".join(lines)
