"""Numbers as people read them: enough digits to say something, a unit, never an exponent.  Pure."""

from datetime import UTC, datetime
from math import floor, log10

from proxy.ledger.report import HOUR, Window

NOTHING = "–"  # where there is no number


def whole(value: float) -> str:
    """`12,345`"""
    return f"{value:,.0f}"


def share(value: float) -> str:
    """A fraction as `12.34 %`."""
    return f"{value * 100:.2f} %"


def points(value: float) -> str:
    """A difference of fractions as `1.20 pp`."""
    return f"{value * 100:.2f} pp"


def seconds(value: float) -> str:
    """`1.25 s`, and below that `250 ms`."""
    return f"{digits(value)} s" if value >= 1 else f"{digits(value * 1000)} ms"


def dollars(value: float) -> str:
    """`$1,234.50`, and below a dollar three digits that say something."""
    return f"${value:,.2f}" if value >= 1 or not value else f"${digits(value)}"


def score(value: float) -> str:
    """A mean rating as `0.812`."""
    return f"{value:.3f}"


def signed(value: float, text: str) -> str:
    """`text`, which is of the value without its sign, with it."""
    return f"{'-' if value < 0 else '+'}{text}"


def digits(value: float) -> str:
    """Three digits that say something, without an exponent."""
    places = 2 - floor(log10(value)) if value > 0 else 0
    return f"{value:.{max(places, 0)}f}"


def percentage(value: float) -> str:
    """A rollout's percentage as `25 %`, or `12.5 %`."""
    return f"{value:g} %"


def minute(unix: float) -> str:
    """`2026-11-25 07:04 UTC`"""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M} UTC"


def timestamp(unix: float) -> str:
    """`2026-11-25T07:04:09Z`"""
    return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%dT%H:%M:%SZ}"


def span_of(window: Window) -> str:
    """`2026-11-25 07:00 – 2026-11-25 09:00 UTC, 2 hours`"""
    since, until = (f"{hour_start(hour):%Y-%m-%d %H:%M}" for hour in window)
    hours = window.until - window.since
    return f"{since} – {until} UTC, {hours} hour{'s' if hours != 1 else ''}"


def hour_start(hour: int) -> datetime:
    """When a Unix hour begins."""
    return datetime.fromtimestamp(hour * HOUR, UTC)
