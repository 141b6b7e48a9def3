"""The types that values of a policy file have.

Every check raises `ValueError` with what was *expected* and nothing else: `load` adds place, key and
the value, hidden where it may be a secret.  Text that came through `${…}` may stand for a number or a
boolean, as it would had a person typed it.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from proxy.policy import address, units
from proxy.policy.document import resolve
from proxy.policy.problems import Expanded

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CREDENTIAL = re.compile(r"[\x21-\x7e]{1,4096}")
_STORE_URL = re.compile(r"sqlite:///[^\x00-\x1f]+|postgres(ql)?://[^\s\x00-\x1f]+")


class Section(BaseModel):
    """A mapping of the policy file: unknown keys are errors, and nothing changes after validation."""

    # Inputs stay out of pydantic's own messages: they may be secrets.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    short_form: ClassVar[JsonSchemaValue | None] = None  # the JSON Schema of what may stand for the whole mapping

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        return found if cls.short_form is None else {"anyOf": [cls.short_form, found]}


@dataclass(frozen=True, slots=True, eq=False)  # hashed by identity, because a schema has no hash
class Written:
    """How a value is written: the check of it, its JSON Schema, and the way back from the checked value."""

    check: Callable[[object], object]
    schema: JsonSchemaValue
    show: Callable[[Any], object] | None = None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        checked = core_schema.no_info_before_validator_function(self.check, handler(source))
        if self.show is not None:
            checked["serialization"] = core_schema.plain_serializer_function_ser_schema(self.show, when_used="json")
        return checked

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(self.schema)


def whole(low: int, high: int | None = None) -> Written:
    """A whole number within bounds, both inclusive."""
    bounds = f"from {low} to {high}" if high is not None else f"> {low - 1}" if low else "≥ 0"
    expected = f"a whole number {bounds}"

    def check(value: object) -> int:
        value = _typed(value)
        if type(value) is not int or not low <= value <= (math.inf if high is None else high):
            raise ValueError(expected)
        return value

    return Written(check, {"type": "integer", "minimum": low} | ({} if high is None else {"maximum": high}))


def number(low: float, high: float, *, above: bool = False) -> Written:
    """A number within bounds; `above` leaves the lower bound itself out."""
    expected = f"a number > {low:g} and ≤ {high:g}" if above else f"a number from {low:g} to {high:g}"

    def check(value: object) -> float:
        value = _as_number(value)
        if not low <= value <= high or (above and value == low):
            raise ValueError(expected)
        return value

    return Written(check, {"type": "number", "exclusiveMinimum" if above else "minimum": low, "maximum": high})


def form(pattern: str) -> WithJsonSchema:
    """The JSON Schema of text in a form."""
    return WithJsonSchema({"type": "string", "pattern": pattern})


def _typed(value: object) -> object:
    return resolve(value) if isinstance(value, Expanded) else value


def _as_number(value: object) -> float:
    """NaN, which is within no bounds, for everything that is not a number; so are the booleans."""
    value = _typed(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _check_flag(value: object) -> bool:
    value = _typed(value)
    if not isinstance(value, bool):
        raise ValueError("true or false")  # noqa: TRY004 – pydantic reports ValueError only
    return value


def _check_percentage(value: object) -> float:
    percentage = _as_number(value)
    # Finer than a bucket is refused, not rounded: 0.004 would silently be nobody.
    if not 0 <= percentage <= 100 or abs(percentage - round(percentage, 2)) > 1e-9:
        raise ValueError("a percentage from 0 to 100 in steps of 0.01")
    return round(percentage, 2)


def with_unit(parse: Callable[[str], float], pattern: str, show: Callable[[Any], str]) -> Written:
    """Text in one of the forms of `units`; a bare number is an error."""

    def check(value: object) -> float:
        # parse("") raises for every form, with the words for it.
        return parse(value if isinstance(value, str) else "")

    return Written(check, {"type": "string", "pattern": pattern}, show)


def _check_some_time(seconds: float) -> float:
    if not seconds:
        raise ValueError("a duration longer than zero")
    return seconds


def _check_some_size(size: int) -> int:
    if not size:
        raise ValueError("a size above zero")
    return size


def _check_share(share: float) -> float:
    if not 0 <= share <= 1:
        raise ValueError("a per cent from 0% to 100%")
    return share


def _check_text(value: str) -> str:
    if not value or len(value) > 256 or _CONTROL.search(value):
        raise ValueError("text of 1 to 256 characters without control characters")
    return value


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("a name of 1 to 64 letters, digits, dots, underscores and hyphens")
    return value


def _check_base_url(value: str) -> str:
    address.parse_base_url(value)
    return value


def _check_listened(value: str) -> str:
    address.parse_address(value)
    return value


def _check_credential(value: SecretStr) -> SecretStr:
    if not _CREDENTIAL.fullmatch(value.get_secret_value()):
        raise ValueError("a key of visible ASCII characters, without spaces and line breaks")
    return value


def _check_secret_url(value: SecretStr) -> SecretStr:
    address.check_http_url(value.get_secret_value())
    return value


def _check_store_url(value: SecretStr) -> SecretStr:
    if not _STORE_URL.fullmatch(value.get_secret_value()):
        raise ValueError("sqlite:///FILE or postgresql://…")
    return value


# What an editor can tell without taking a URL apart.
_HTTP = r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@\s]+"

Flag = Annotated[bool, Written(_check_flag, {"type": "boolean"})]
Text = Annotated[str, AfterValidator(_check_text), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 256})]
Name = Annotated[str, AfterValidator(_check_name), form(f"^{_NAME.pattern}$")]
Percentage = Annotated[float, Written(_check_percentage, {"type": "number", "minimum": 0, "maximum": 100})]
Duration = Annotated[float, with_unit(units.parse_duration, units.DURATION, units.show_duration)]  # seconds
PositiveDuration = Annotated[
    float,
    with_unit(units.parse_duration, units.SOME_DURATION, units.show_duration),
    AfterValidator(_check_some_time),
]
ClockTime = Annotated[  # minutes after midnight, UTC
    int, with_unit(units.parse_clock, units.CLOCK, units.show_clock)
]
Size = Annotated[  # bytes
    int, with_unit(units.parse_size, units.SOME_SIZE, units.show_size), AfterValidator(_check_some_size)
]
Share = Annotated[  # 5% is 0.05
    float, with_unit(units.parse_percent, units.SHARE, units.show_share), AfterValidator(_check_share)
]
HttpUrl = Annotated[str, AfterValidator(address.check_http_url), form(_HTTP)]
UpstreamUrl = Annotated[
    str,
    AfterValidator(_check_base_url),
    form(rf"{_HTTP}(?!.*/v1(/chat/completions)?/*$)(/[^?#\s]*)?$"),
]
HostName = Annotated[str, AfterValidator(address.check_host_name), form(address.HOST_NAME)]
ListenAddress = Annotated[str, AfterValidator(_check_listened), form(r"^(\[[^\]]+\]|[^:\[\]\s]*):[0-9]{1,5}$")]
Credential = Annotated[SecretStr, AfterValidator(_check_credential), form(f"^{_CREDENTIAL.pattern}$")]
# It grants access: a secret as a whole.
SecretUrl = Annotated[SecretStr, AfterValidator(_check_secret_url), form(_HTTP)]
# May carry a password.
StoreUrl = Annotated[SecretStr, AfterValidator(_check_store_url), form(r"^(sqlite:///|postgres(ql)?://).+$")]
Compat = Literal["native", "unleash"]
