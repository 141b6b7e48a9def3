"""Ids of requests and decisions."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from proxy.ids import Ids

# A UUIDv7 has 48 bits of milliseconds: until the year 10889.
times = st.floats(1, 2**48 / 1000 - 1)


@given(st.lists(times, min_size=1))
def test_id_is_a_uuid_of_version_7(moments: list[float]) -> None:
    ids = Ids()
    for now in moments:
        text = ids.new(now)
        made = uuid.UUID(text)
        assert str(made) == text
        assert made.version == 7
        assert made.variant == uuid.RFC_4122
        assert made.int >> 80 == int(now * 1000)


@given(st.lists(times.map(lambda now: int(now * 1000) / 1000), unique=True))
def test_ids_of_different_milliseconds_sort_by_time(moments: list[float]) -> None:
    ids = Ids()
    apart = {int(now * 1000): ids.new(now) for now in moments}
    assert sorted(apart.values()) == [apart[millisecond] for millisecond in sorted(apart)]


def test_ids_of_one_moment_differ_also_between_processes() -> None:
    processes = [Ids() for _ in range(10)]
    assert len({ids.new(1_700_000_000.0) for ids in processes for _ in range(1000)}) == 10_000
