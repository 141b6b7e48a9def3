"""Text with units to numbers and back.  Pure; parsing raises `ValueError` saying what was expected.

The messages never repeat the text: it may be a secret that landed under the wrong key.  Each form has
a pattern for editors, which accepts what its parser does; the upper bounds are the parser's alone.
"""

import math
import re
from collections.abc import Mapping

_QUANTITY = re.compile(r"([+-]?)([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([A-Za-z%]+)")

_DURATIONS: Mapping[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZES: Mapping[str, int] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}

# Longer than any time-out or retention that makes sense; keeps timers and dates within their range.
MAX_DURATION = 3660 * 86400.0
MAX_SIZE = 2**50


_NUMBER = r"[0-9]{1,18}(\.[0-9]{1,9})?"
_ZERO = r"0{1,18}(\.0{1,9})?"
_HUNDRED = r"0{0,15}(100(\.0{1,9})?|[0-9]{1,2}(\.[0-9]{1,9})?)"
_MANY = r"0{0,13}(10000(\.0{1,9})?|[0-9]{1,4}(\.[0-9]{1,9})?)"
_SOME = r"(?=[0-9.]*[1-9])"

DURATION = rf"^{_NUMBER} ?({'|'.join(_DURATIONS)})$"
SOME_DURATION = rf"^{_SOME}{_NUMBER} ?({'|'.join(_DURATIONS)})$"
SOME_SIZE = rf"^{_SOME}{_NUMBER} ?({'|'.join(_SIZES)})$"
SHARE = rf"^(\+?{_HUNDRED}|-{_ZERO}) ?%$"
RISE = rf"^(\+?{_MANY}|-{_ZERO}) ?%$"
POINTS_UP = rf"^(\+?{_HUNDRED}|-{_ZERO}) ?pp$"
CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
POINTS_DOWN = rf"^(-{_HUNDRED}|\+?{_ZERO}) ?pp$"


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `250ms`, `2s`, `15m`, `24h` or `30d`."""
    sign, number, unit = _split(text)
    seconds = number * _DURATIONS.get(unit, math.nan)
    if sign or not seconds <= MAX_DURATION:
        raise ValueError("a duration with its unit, such as 250ms, 2s, 15m, 24h or 30d")
    return seconds


def parse_size(text: str) -> int:
    """Bytes of a size such as `512KiB`, `32MiB`, `1GiB` or `10MB` (powers of ten without the `i`)."""
    sign, number, unit = _split(text)
    size = number * _SIZES.get(unit, math.nan)
    if sign or not size <= MAX_SIZE or size != int(size):
        raise ValueError("a size with its unit, such as 512KiB, 32MiB, 1GiB or 10MB")
    return int(size)


def parse_clock(text: str) -> int:
    """Minutes after midnight of a time of day such as `06:00`."""
    if not re.match(CLOCK, text) or text.endswith("\n"):
        raise ValueError("a time of day from 00:00 to 23:59, such as 06:00")
    return int(text[:2]) * 60 + int(text[3:])


def parse_percent(text: str) -> float:
    """The fraction a per cent stands for: `5%` is 0.05, `+300%` is 3."""
    return _signed(text, "%", 10_000, "a per cent, such as 5% or +10%")


def parse_points(text: str) -> float:
    """The difference of two fractions in percentage points: `-1pp` is -0.01."""
    return _signed(text, "pp", 100, "percentage points, such as -1pp or +2.5pp")


def _signed(text: str, unit: str, most: float, expected: str) -> float:
    sign, number, found = _split(text)
    if found != unit or number > most:
        raise ValueError(expected)
    fraction = round(number / 100, 12)  # 2.3 / 100 is 0.023, not 0.022999999999999996
    return -fraction if sign == "-" and fraction else fraction


def _split(text: str) -> tuple[str, float, str]:
    """Sign, number and unit; a number that equals nothing where the text has another form."""
    match = _QUANTITY.fullmatch(text)
    return (match[1], float(match[2]), match[3]) if match else ("", math.nan, "")


def show_duration(seconds: float) -> str:
    """The duration in the largest unit that it is a whole number of: `15m`, `1500ms`, `0s`."""
    milliseconds = round(seconds * 1000, 9)
    if milliseconds % 1:
        return f"{milliseconds:.9f}".rstrip("0") + "ms"
    fitting = [unit for unit, size in _DURATIONS.items() if not milliseconds % (size * 1000)]
    unit = fitting[-1] if milliseconds else "s"
    return f"{milliseconds / (_DURATIONS[unit] * 1000):.0f}{unit}"


def show_size(size: int) -> str:
    """The size in the largest binary unit that it is a whole number of: `32MiB`."""
    unit = [unit for unit in ("B", "KiB", "MiB", "GiB") if not size % _SIZES[unit]][-1]
    return f"{size // _SIZES[unit]}{unit}"


def show_clock(minutes: int) -> str:
    """The time of day with two digits each: `06:00`."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def show_share(share: float) -> str:
    """The share as a per cent without a sign: `5%`."""
    return f"{_short(share)}%"


def show_rise(fraction: float) -> str:
    """The fraction as a per cent with its sign: `+10%`."""
    return f"+{_short(fraction)}%"


def show_points(fraction: float) -> str:
    """The fraction as percentage points with their sign: `-1pp`."""
    return f"{_short(fraction)}pp" if fraction < 0 else f"+{_short(fraction)}pp"


def _short(fraction: float) -> str:
    return f"{fraction * 100:.9f}".rstrip("0").rstrip(".")
