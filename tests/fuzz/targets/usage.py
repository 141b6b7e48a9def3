"""Token counts of an upstream's answer, on their way to the budget and the store.

Laws: no error; counts are whole, not negative and small enough that the store can add them up for a year; money is
finite; what is packed for the store comes out again.
"""

import math
from dataclasses import replace

import orjson

from proxy.policy.snapshot import Price
from proxy.wire.usage import read_usage
from proxy.words import Attempt
from tests.support.records import SOUND, row_of

TOKENS = (
    b'"usage":', b'"prompt_tokens":', b'"completion_tokens":', b'"total_tokens":', b'"prompt_tokens_details":',
    b'"completion_tokens_details":', b'"cached_tokens":', b'"reasoning_tokens":', b"{", b"}", b"[", b"]", b",", b":",
    b"0", b"-1", b"1.5", b"1e3", b"1e400", b"9223372036854775807", b"9223372036854775808", b"18446744073709551615",
    b"99999999999999999999999", b"null", b"true", b'"7"', b'""',
)  # fmt: skip

_PRICE = Price(3.0, 15.0, 0.3)
_BIGGEST = 2**63 - 1  # that a column holds
_ANSWERS = 1_000_000_000  # in a year, thirty a second


def check(data: bytes) -> None:
    """`data` is an answer's body."""
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        return
    usage = read_usage(answer)
    if usage is None:
        return
    counts = (usage.prompt, usage.completion, usage.cached, usage.reasoning)
    for count in counts:
        assert type(count) is int
        assert 0 <= count <= _BIGGEST // _ANSWERS
    cost = _PRICE.of(usage)
    assert math.isfinite(cost)
    assert cost >= 0
    attempt = Attempt("up", "m", 200, None, 0.0, 1.0, usage, cost, "")
    record = replace(SOUND, usage=usage, cost=cost, attempts=(attempt,))
    (columns, _) = row_of(record)
    assert all(count in columns for count in counts)
