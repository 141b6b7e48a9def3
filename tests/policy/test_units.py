import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.policy.units import (
    parse_clock,
    parse_duration,
    parse_percent,
    parse_points,
    parse_size,
    show_clock,
    show_duration,
    show_points,
    show_rise,
    show_share,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("2s", 2.0),
        ("0s", 0.0),
        ("1.5s", 1.5),
        ("15m", 900.0),
        ("24h", 86_400.0),
        ("30d", 2_592_000.0),
        ("2 s", 2.0),
    ],
)
def test_duration_with_a_unit_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "2", "2.5", "s", "-1s", "+1s", "2sec", "2S", "1h30m", "1e3s", "nans", "infs", "3661d", "٢s", "2s\n"],
)
def test_duration_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a duration with its unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("1kB", 1000),
        ("1KB", 1000),
        ("10MB", 10_000_000),
        ("2GB", 2_000_000_000),
        ("512KiB", 524_288),
        ("32MiB", 33_554_432),
        ("1GiB", 1_073_741_824),
        ("1.5MiB", 1_572_864),
    ],
)
def test_size_with_a_unit_is_bytes(text: str, size: int) -> None:
    parsed = parse_size(text)
    assert parsed == size
    assert type(parsed) is int


@pytest.mark.parametrize("text", ["", "32", "-1MiB", "1mib", "1.5B", "1TiB", "MiB", "99999999999999GiB", "1s"])
def test_size_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size with its unit"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "fraction"), [("5%", 0.05), ("+10%", 0.1), ("-2.3%", -0.023), ("+0%", 0.0), ("100%", 1.0), ("+300%", 3.0)]
)
def test_per_cent_is_a_fraction(text: str, fraction: float) -> None:
    assert parse_percent(text) == fraction


@pytest.mark.parametrize("text", ["5", "0.05", "5pp", "%", "10001%", ""])
def test_per_cent_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a per cent"):
        parse_percent(text)


@pytest.mark.parametrize(("text", "fraction"), [("-1pp", -0.01), ("+2.5pp", 0.025), ("1pp", 0.01), ("-0pp", 0.0)])
def test_points_are_a_difference_of_fractions(text: str, fraction: float) -> None:
    assert parse_points(text) == fraction


@pytest.mark.parametrize("text", ["-1", "-1%", "pp", "--1pp", "200pp", ""])
def test_points_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="percentage points"):
        parse_points(text)


@pytest.mark.parametrize(("text", "minutes"), [("00:00", 0), ("06:00", 360), ("23:59", 1439)])
def test_time_of_day_is_minutes_and_back(text: str, minutes: int) -> None:
    assert parse_clock(text) == minutes
    assert show_clock(minutes) == text


@pytest.mark.parametrize("text", ["", "6:00", "24:00", "06:60", "06:00:00", "06:00Z", "06:00\n", "0600", "６:00"])
def test_time_of_day_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="from 00:00 to 23:59"):
        parse_clock(text)


def test_message_never_repeats_the_text() -> None:
    for parse in (parse_duration, parse_size, parse_percent, parse_points):
        with pytest.raises(ValueError, match="such as") as caught:
            parse("sk-secret")
        assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (25, "25s"),
        (900, "15m"),
        (5400, "90m"),
        (86_400, "1d"),
        (1.5, "1500ms"),
        (0.29, "290ms"),
        (0.0005, "0.5ms"),
    ],
)
def test_duration_is_shown_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(1, "1B"), (1000, "1000B"), (1024, "1KiB"), (32 << 20, "32MiB"), (1 << 31, "2GiB")]
)
def test_size_is_shown_in_its_largest_whole_unit(size: int, text: str) -> None:
    assert show_size(size) == text


@pytest.mark.parametrize("text", ["5%", "100%", "0%", "2.5%", "0.1%"])
def test_share_is_shown_as_written(text: str) -> None:
    assert show_share(parse_percent(text)) == text
    assert show_rise(parse_percent(text)) == f"+{text}"


@pytest.mark.parametrize("text", ["-1pp", "+2.5pp", "+0pp", "-0.05pp"])
def test_points_are_shown_as_written(text: str) -> None:
    assert show_points(parse_points(text)) == text


@given(st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000))
def test_shown_duration_is_read_back(seconds: float) -> None:
    assert parse_duration(show_duration(seconds)) == pytest.approx(seconds)


@given(st.integers(1, 2**50))
def test_shown_size_is_read_back(size: int) -> None:
    assert parse_size(show_size(size)) == size
