"""`prices:` of the policy file: what a model's tokens cost."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, TypeAdapter, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue

from proxy.policy.fields import Section, Text, form, number

Dollars = Annotated[float, number(0, 1e6)]
_DOLLARS: TypeAdapter[float] = TypeAdapter(Dollars)


class CachedPriceConfig(Section):
    """The cached input's price by dialect; written as a number alone, it is every dialect's."""

    short_form: ClassVar[JsonSchemaValue | None] = _DOLLARS.json_schema()

    openai: Dollars | None = None  # both left out: the price of other input
    """Input tokens that an upstream of the dialect `openai` had cached."""
    mistral: Dollars | None = None
    """Input tokens that an upstream of the dialect `mistral` had cached."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: object) -> object:
        if isinstance(value, dict):
            return value
        try:
            dollars = _DOLLARS.validate_python(value)
        except ValidationError:
            # One error, not one for each dialect.
            raise ValueError("a number from 0 to 1e+06, or {openai: NUMBER, mistral: NUMBER}") from None
        return dict.fromkeys(cls.model_fields, dollars)


class PriceConfig(Section):
    """US dollars per million tokens."""

    input: Dollars
    """Input tokens; the key is a model's id, or the start of one followed by `*`."""
    output: Dollars
    """Output tokens."""
    cached_input: CachedPriceConfig = CachedPriceConfig()  # left out: what other input costs, never too little


def _check_model_pattern(pattern: str) -> str:
    if "*" in pattern[:-1]:
        raise ValueError("a model's id, or the start of one followed by a single *")
    return pattern


ModelPattern = Annotated[Text, AfterValidator(_check_model_pattern), form(r"^[^*]{1,256}$|^[^*]{0,255}\*$")]
