"""The exchange's narrow view of a client: a request's head and body in, a response out.

The listener implements it; nothing in this package knows how.
"""

from collections.abc import Sequence
from typing import Protocol

from proxy.wire.headers import Field


class Source(Protocol):
    """Where relayed bytes come from: paused while the client does not read."""

    def pause_reading(self) -> None:
        """Stop the flow."""

    def resume_reading(self) -> None:
        """Let it flow again."""


class Client(Protocol):
    """One request of one client."""

    method: bytes
    target: bytes  # path and query as sent; never a scheme or host
    fields: Sequence[Field]
    started: bool  # whether a response has begun
    keep: bool  # whether the connection may serve another request after this one
    chunked: bool  # whether the response that has begun is: `write_chunk` may be used
    crowded_out: bool  # whether there was no room for it

    @property
    def http_10(self) -> bool:
        """Whether it came as HTTP/1.0."""

    @property
    def stopping(self) -> bool:
        """Whether we, not the client, end the request when it is cancelled."""

    @property
    def source(self) -> Source | None:
        """What is paused while the client is slow."""

    @source.setter
    def source(self, source: Source | None) -> None: ...

    def body_if_whole(self) -> bytes | None:
        """The body, if all of it has arrived; None where more is to come."""

    async def body_chunk(self) -> bytes:
        """The next piece of the body, b"" at its end.

        Raises Refusal: malformed, or not complete within the limit since the first piece was asked for.
        """

    def body_progressed(self) -> None:
        """Let the limit on the body's time run anew: the body is streamed, not held."""

    def send_continue(self) -> None:
        """Answer `Expect: 100-continue`."""

    def respond(self, status: int, fields: bytes, body: bytes) -> None:
        """A whole response at once, `fields` a block; its length is added, its body left out where HTTP wants none."""

    def start_stream(self, status: int, fields: bytes, length: int | None) -> None:
        """Begin a response whose body follows in pieces; None: of unknown length."""

    def write(self, data: bytes) -> None:
        """A piece of the body.  Never waits: `source` is paused while the client is slow."""

    def write_chunk(self, chunk: bytes) -> None:
        """A piece of the body as one chunk, framing and all."""

    def end(self) -> None:
        """The body is complete."""

    def abort(self) -> None:
        """End the connection visibly short: no clean end of the body."""
