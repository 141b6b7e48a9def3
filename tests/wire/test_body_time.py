"""The scan is linear and quick: while it runs, the event loop serves nobody else."""

import json
import time
from contextlib import suppress

import pytest

from proxy.wire.body import Body, BodyError

pytestmark = pytest.mark.alone  # it measures

SIZE = 10_000_000


def best_time(raw: bytes, bound: float, tries: int) -> float:
    """Seconds of the quickest scan, or of the first below the bound: a busy machine proves nothing."""
    best = float("inf")
    for _ in range(tries):
        started = time.perf_counter()
        with suppress(BodyError):
            Body(raw)
        best = min(best, time.perf_counter() - started)
        if best < bound:
            break
    return best


def test_ten_megabytes_of_chat_take_less_than_100_ms() -> None:
    line = "Dear customer, the contract you sent on 3 May says “delivery within 14 days” (§ 4.2). "
    messages = [
        {"role": ("user", "assistant")[turn % 2], "content": f'{turn}. He said: "yes"\n' + line * 40}
        for turn in range(SIZE // 3600)
    ]
    raw = json.dumps({"model": "m", "messages": messages}, ensure_ascii=False).encode()
    assert SIZE * 0.9 < len(raw) < SIZE * 1.2
    assert best_time(raw, 0.100, tries=100) < 0.100


HOSTILE = {
    "numbers": (b'{"a":[', b"0,", b"0]}"),
    "strings": (b'{"a":[', b'"",', b"0]}"),
    "arrays": (b'{"a":[', b"[],", b"0]}"),
    "objects": (b'{"a":[', b"{},", b"0]}"),
    "members inside": (b'{"a":{', b'"":0,', b'"":0}}'),
    "members on top": (b"{", b'"":0,', b'"":0}'),
    "members on top, spaced": (b"{", b' "" : 0 ,', b'"":0}'),
    "escapes": (b'{"a":"', b"\\n", b'"}'),
    "backslashes": (b'{"a":"', b"\\\\", b'"}'),
    "towers at the depth limit": (b'{"a":[', b"[" * 63 + b"]" * 63 + b",", b"0]}"),
    "towers over the depth limit": (b'{"a":[', b"[" * 64 + b"]" * 64 + b",", b"0]}"),
    "brackets that never close": (b'{"a":', b"[", b""),
    "strings that never close": (b'{"a":[', b'"\\"', b""),
    "spaces": (b"{", b" ", b""),
    "digits": (b'{"a":', b"9", b"}"),
    "keys without values": (b"{", b'"a"', b"}"),
    "cut short": (b'{"a":[', b'[["",', b""),
}


@pytest.mark.parametrize(("start", "token", "end"), list(HOSTILE.values()), ids=list(HOSTILE))
def test_ten_megabytes_of_tiny_tokens_take_less_than_a_second(start: bytes, token: bytes, end: bytes) -> None:
    raw = start + token * (SIZE // len(token)) + end
    assert best_time(raw, 1.0, tries=2) < 1.0
