"""Request ids.  What a call knows and records is tested from outside, in tests/integration/."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange.call import uuid7

# A UUIDv7 has 48 bits of milliseconds: until the year 10889.
times = st.floats(0, 2**48 / 1000 - 1)


@given(times)
def test_request_id_is_a_uuid_of_version_7(now: float) -> None:
    text = uuid7(now)
    made = uuid.UUID(text)
    assert str(made) == text
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == int(now * 1000)


@given(times, times)
def test_request_ids_sort_by_time(one: float, other: float) -> None:
    if abs(one - other) > 0.001:
        assert (uuid7(one) < uuid7(other)) == (one < other)


def test_request_ids_of_one_moment_differ() -> None:
    assert len({uuid7(1_700_000_000.0) for _ in range(10_000)}) == 10_000
