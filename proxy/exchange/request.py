"""The request line and fields an upstream gets.

Rebuilt for every attempt: the host, the credentials and the body's length belong to the upstream,
not to the client.
"""

from proxy.policy.snapshot import UpstreamPolicy
from proxy.wire.headers import RequestHeaders


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
