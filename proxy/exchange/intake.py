"""Step 1: a request's body, within the limits."""

from collections.abc import Callable

from proxy.exchange.call import CallState, Refusal
from proxy.policy.snapshot import LimitsPolicy
from proxy.wire.errors import bad_request, failure_answer
from proxy.words import Failure


class Buffered:
    """The bytes of all bodies in flight, under one limit; a call gives its share back when it settles."""

    __slots__ = ("give_way", "lent", "total")

    def __init__(self) -> None:
        self.total = 0
        self.lent = 0  # those of the total that copies for a shadow hold
        self.give_way: Callable[[], None] | None = None  # … and who makes them let go

    def hold(self, call: CallState, size: int, limits: LimitsPolicy) -> None:
        """Account for `size` more bytes of a call.  Raises Refusal where they do not fit."""
        if call.buffered + size > limits.max_body:
            raise too_large(limits)
        if self.total + size > limits.max_buffered and self.lent and self.give_way is not None:
            self.give_way()
        if self.total + size > limits.max_buffered:
            raise Refusal(failure_answer(Failure.OVERLOAD), Failure.OVERLOAD)
        call.buffered += size
        self.total += size


def too_large(limits: LimitsPolicy) -> Refusal:
    """The answer to a body over the limit."""
    answer = bad_request(f"the request body is larger than {limits.max_body} bytes", "body_too_large", 413)
    return Refusal(answer, Failure.BAD_REQUEST)


def whole_body(call: CallState, buffered: Buffered) -> bytes | None:
    """The body, if it is here already; None: `read_body` must wait for it.

    Raises Refusal: too large, no room, or not plain JSON.  An announced length is judged before
    anything is read.
    """
    read, limits = call.headers.read, call.policy.limits
    encoding = read.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise Refusal(
            bad_request("the request body must not be compressed", "unsupported_encoding", 415),
            Failure.BAD_REQUEST,
        )
    length = read.get(b"content-length")
    if length is not None:
        buffered.hold(call, int(length), limits)
    whole = call.client.body_if_whole()
    if whole is not None and length is None:
        buffered.hold(call, len(whole), limits)
    return whole


async def read_body(call: CallState, buffered: Buffered) -> bytes:
    """The body as it arrives.  Raises Refusal: too large, no room, malformed, or too slow."""
    client, read = call.client, call.headers.read
    if b"expect" in read and not client.http_10:
        client.send_continue()
    pieces = []
    while piece := await client.body_chunk():
        if b"content-length" not in read:
            buffered.hold(call, len(piece), call.policy.limits)
        pieces.append(piece)
    return b"".join(pieces)
