"""One OTLP collector over HTTP: a POST that ends in time, with an answer of bounded size.

Not the OpenTelemetry exporters: they read whatever a collector answers to its end, take a redirect
for success, log header values they cannot parse, and hold the interpreter three times as long a span.
Proxies of the environment are not used and redirects not followed: telemetry goes where the policy says.
"""

import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Timer
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from proxy import __version__

# What a collector has to say fits into a few hundred bytes; the rest is not read.
MAX_ANSWER = 64 * 1024

_MEMBER = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*([\x20-\x7e]*)")


class CollectorError(Exception):
    """No answer; the message says why, in words of ours."""


class Answer(NamedTuple):
    """What a collector answered."""

    status: int
    protobuf: bytes  # empty: another kind of body
    retry_after: float  # seconds; 0: it did not say


class Collector:
    """Where metrics and traces go; used by one thread, `cut` by any."""

    def __init__(self, base_url: str, environ: Mapping[str, str]) -> None:
        """Raises OSError where the environment's certificate file cannot be read."""
        parts = urlsplit(base_url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._path = parts.path.rstrip("/")
        self._query = f"?{parts.query}" if parts.query else ""
        self._tls = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(cafile=environ.get("OTEL_EXPORTER_OTLP_CERTIFICATE") or None)
        self._connection: HTTPConnection | None = None
        self.name = f"{parts.scheme}://{parts.netloc}"  # for logs: a path or a query may carry a token

    def post(self, path: str, headers: Mapping[str, str], body: bytes, within: float) -> Answer:
        """Send `body` and read the answer, all `within` so many seconds.  Raises CollectorError.

        A connection for each: one that is kept may have been closed, and a POST is not to be repeated blindly.
        """
        started = time.monotonic()
        connection = self._connection = self._new_connection(within)
        # Time-outs of a socket are for one call, and a collector may drip: this one is for all.
        timer = Timer(within, _cut, (connection,))
        timer.daemon = True
        timer.start()
        try:
            connection.connect()
            if time.monotonic() - started >= within:  # a name may take any time to look up
                raise TimeoutError
            connection.request("POST", f"{self._path}{path}{self._query}", body, {**headers})
            response = connection.getresponse()
            data = response.read(MAX_ANSWER)
            proto = (response.getheader("Content-Type") or "").startswith("application/x-protobuf")
            after = response.getheader("Retry-After") or ""
            return Answer(response.status, data if proto else b"", float(after) if after.isdecimal() else 0.0)
        except (OSError, HTTPException, ValueError) as error:
            late = time.monotonic() - started >= within
            raise CollectorError(f"no answer within {within:g} s" if late else _reason(error)) from None
        finally:
            timer.cancel()
            self._connection = None
            connection.close()

    def cut(self) -> None:
        """End a POST that is under way."""
        if (connection := self._connection) is not None:
            _cut(connection)

    def _new_connection(self, timeout: float) -> HTTPConnection:
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=timeout)
        return HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)


def _cut(connection: HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # wakes who waits in it; also beneath TLS


def _reason(error: Exception) -> str:
    """Why, without a word that the other side chose."""
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__


def export_headers(environ: Mapping[str, str], signal: str) -> tuple[dict[str, str], int]:
    """The header fields of an export, and how many members of the environment's list could not be used.

    Source: OpenTelemetry's "OTLP Exporter Configuration".  The values are secrets.
    """
    written = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS")
    headers = {}
    unusable = 0
    for member in (written or "").split(","):
        found = _MEMBER.fullmatch(member)
        value = found[2].strip() if found else ""
        if " " not in value:  # else it was not meant to be encoded, as in `Bearer …`
            value = unquote(value).strip()
        if found and value.isascii() and value.isprintable():
            headers[found[1].lower()] = value
        elif member.strip():
            unusable += 1
    own = {"content-type": "application/x-protobuf", "user-agent": f"splitlane/{__version__}", "connection": "close"}
    return headers | own, unusable
