"""Step 1: a request's body, within the limits, and step 2's reading of who sent it."""

from proxy.exchange.call import CallState, Refusal
from proxy.policy.snapshot import LimitsPolicy
from proxy.wire.errors import bad_request, failure_answer
from proxy.words import Failure


class Buffered:
    """The bytes of all bodies in flight, under one limit."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0

    def hold(self, call: CallState, size: int, limits: LimitsPolicy) -> None:
        """Account for `size` more bytes of a call.  Raises Refusal where they do not fit."""
        if call.buffered + size > limits.max_body:
            raise too_large(limits)
        if self.total + size > limits.max_buffered:
            raise Refusal(failure_answer(Failure.OVERLOAD), Failure.OVERLOAD)
        call.buffered += size
        self.total += size

    def release(self, call: CallState) -> None:
        """The call is over."""
        self.total -= call.buffered
        call.buffered = 0


def too_large(limits: LimitsPolicy) -> Refusal:
    """The answer to a body over the limit."""
    answer = bad_request(f"the request body is larger than {limits.max_body} bytes", "body_too_large", 413)
    return Refusal(answer, Failure.BAD_REQUEST)


async def read_body(call: CallState, buffered: Buffered) -> bytes:
    """The whole body.  Raises Refusal: too large, no room, or not plain JSON."""
    client, limits = call.client, call.policy.limits
    if call.headers.read.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(
            bad_request("a chat request body must not be compressed", "unsupported_encoding", 415),
            Failure.BAD_REQUEST,
        )
    if client.content_length > 0:
        # Announced, so refused before it is read.
        buffered.hold(call, client.content_length, limits)
    whole = client.body_if_whole()
    if whole is not None:
        if client.content_length < 0:
            buffered.hold(call, len(whole), limits)
        return whole
    if client.expects_continue:
        client.send_continue()
    pieces = []
    while piece := await client.body_chunk():
        if client.content_length < 0:
            buffered.hold(call, len(piece), limits)
        pieces.append(piece)
    return b"".join(pieces)
