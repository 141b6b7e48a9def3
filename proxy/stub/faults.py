"""Faults on demand: the words of a fault's spec, and the rules that pick one for a call.

A spec is a comma-separated list of words, `status=429,retry_after=0.3,count=2`. `body=…` is
always the last word: it takes the rest of the spec, commas included.
"""

import difflib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple


class FaultError(ValueError):
    """A fault's spec that cannot be read; the text is one line and says what was expected."""


def _word(default: object, kind: str, meaning: str) -> Any:
    """One field of `Fault`: how its word is read (`kind`), and what `--help` says about it."""
    return field(default=default, metadata={"kind": kind, "meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one call; the default is that nothing does.

    Times are in seconds. N counts the content chunks of a stream that go out first; a JSON answer
    that is cut, reset or stalled breaks half way through its body, whatever N is.
    """

    model: str = _word("*", "text", "only calls of models that match this glob")
    count: int | None = _word(None, "N", "only the next N calls")
    probability: float = _word(1.0, "0..1", "that share of calls, drawn with the stub's seed")

    slow: float = _word(0.0, "SECONDS", "delay before the headers")
    reset: bool = _word(False, "", "TCP reset instead of headers (also: refuse)")
    silence: bool = _word(False, "", "the request is read and never answered")

    status: int | None = _word(None, "STATUS", "this HTTP status, with the vendor's error body")
    retry_after: float | None = _word(None, "SECONDS", "a retry-after header on the error")
    auth: bool = _word(False, "", "401: the key is refused")
    context_length: bool = _word(False, "", "400: the prompt is too long")
    content_filter: bool = _word(False, "", "400: the prompt was filtered")
    model_gone: bool = _word(False, "", "the vendor's answer for a model it has retired")

    null: bool = _word(False, "", "200 with the body `null`")
    not_json: bool = _word(False, "", "200 with an HTML page")
    error_200: bool = _word(False, "", "200 with an error object")
    empty: str = _word("", "choices|content", "no choices (the default), or a choice without content")
    no_usage: bool = _word(False, "", "no token counts")

    slow_first: float = _word(0.0, "SECONDS", "headers at once, then a delay")
    drip: float = _word(0.0, "SECONDS", "delay between events, or 16-byte pieces of a JSON answer")
    cut: int | None = _word(None, "N", "close the connection after N chunks, without a terminator")
    cut_reset: int | None = _word(None, "N", "reset the connection after N chunks")
    stall: int | None = _word(None, "N", "fall silent after N chunks and keep the connection open")

    comments: int = _word(0, "N", "N comments before the first event of a stream")
    error_first: bool = _word(False, "", "a stream whose first event is an error")
    error: int | None = _word(None, "N", "an error event after N chunks, then the end")
    malformed: int | None = _word(None, "N", "an event that is not JSON after N chunks")
    role_only: bool = _word(False, "", "the first delta, then the end: no content, no finish reason")
    no_done: bool = _word(False, "", "a stream that ends without [DONE]")

    body: str | None = _word(None, "text", "the answer's body instead of the vendor's; the last word")

    def __str__(self) -> str:
        """Return the spec that reads back as this fault."""
        return ",".join(
            word.name if value is True else f"{word.name}={value}"
            for word in fields(self)
            if (value := getattr(self, word.name)) != word.default
        )


NO_FAULT = Fault()
_WORDS = {word.name: word for word in fields(Fault)}
_ALIASES = {"refuse": "reset"}  # a refused connection, as near as one listener can do it per model


def grammar() -> str:
    """Return one line per word, for `--help`."""
    rows = [
        (name if not (kind := word.metadata["kind"]) else f"{name}={kind}", word.metadata["meaning"])
        for name, word in _WORDS.items()
    ]
    width = max(len(left) for left, _ in rows)
    return "\n".join(f"  {left:<{width}}  {right}" for left, right in rows)


def parse_fault(spec: str) -> Fault:
    """Read one spec.

    Raises:
        FaultError: a word is unknown, or its value is not what it takes.

    """
    values: dict[str, Any] = {}
    rest = spec.strip()
    if not rest:
        raise FaultError("an empty fault: expected words such as status=500 or cut=2,slow=0.5")
    while rest:
        if rest.startswith("body="):
            values["body"] = rest.removeprefix("body=")
            break
        item, _, rest = rest.partition(",")
        name, given, value = item.strip().partition("=")
        name = _ALIASES.get(name, name)
        if name not in _WORDS:
            near = difflib.get_close_matches(name, _WORDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(_WORDS)}"
            raise FaultError(f"unknown fault word {name!r} in {spec!r}: {hint}")
        values[name] = _read(name, value.strip() if given else None)
    return Fault(**values)


def parse_rule(text: str) -> Fault:
    """Read `MODEL=SPEC`, MODEL a glob; a bare SPEC is for every model.

    Raises:
        FaultError: as `parse_fault`.

    """
    head, found, spec = text.strip().partition("=")
    first = head.partition(",")[0]
    if not found or first in _WORDS or first in _ALIASES:
        return parse_fault(text)
    if not head:
        raise FaultError(f"{text!r} names no model: expected MODEL=SPEC, such as ft:*=status=500")
    try:
        return replace(parse_fault(spec), model=head)
    except FaultError as error:
        raise FaultError(f"{error} (in {text!r}, read as MODEL=SPEC)") from None


def _read(name: str, value: str | None) -> object:
    """Return the value of one word, of the type its field has."""
    kind: str = _WORDS[name].metadata["kind"]
    if kind == "choices|content" and value in (None, "choices", "content"):
        return value or "choices"
    if not kind and value is None:
        return True
    if kind == "text" and value:
        return value
    number = _number(value) if kind in _LIMITS else None
    if number is not None:
        low, high, whole = _LIMITS[kind]
        if low <= number <= high and (not whole or number.is_integer()):
            return int(number) if whole else number
    shown = name if value is None else f"{name}={value}"
    wanted = f"{name}={kind}" if kind else f"{name} alone"
    raise FaultError(f"cannot read {shown!r}: expected {wanted}{_EXAMPLES.get(kind, '')}")


def _number(value: str | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None


# kind → (lowest, highest, whole numbers only)
_LIMITS = {
    "N": (0.0, 1e9, True),
    "STATUS": (200.0, 599.0, True),
    "SECONDS": (0.0, 86_400.0, False),
    "0..1": (0.0, 1.0, False),
}
_EXAMPLES = {
    "N": ", a whole number such as 2",
    "STATUS": ", an HTTP status such as 503",
    "SECONDS": ", such as 0.5",
    "0..1": ", such as 0.25",
}


class FaultRule(NamedTuple):
    """One fault that waits for its calls; `left` is None where it never runs out."""

    fault: Fault
    left: int | None


class FaultState:
    """The rules in force. The newest comes first, and the first that applies to a call is its fault."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        self._rules = [FaultRule(fault, fault.count) for fault in faults]
        self._random = random.Random(seed)

    def set(self, fault: Fault) -> None:
        """Add a rule; one for the same model glob is replaced."""
        kept = [rule for rule in self._rules if rule.fault.model != fault.model]
        self._rules = [FaultRule(fault, fault.count), *kept]

    def clear(self) -> None:
        """Drop every rule."""
        self._rules = []

    def active(self) -> list[Fault]:
        """Return the rules that have calls left, newest first."""
        return [replace(rule.fault, count=rule.left) for rule in self._rules if rule.left != 0]

    def pick(self, model: str, asked: Fault | None) -> Fault:
        """Return the fault of one call: the one it asked for itself, else the first rule that applies."""
        if asked is not None and self._applies(asked, model):
            return asked
        for index, (fault, left) in enumerate(self._rules):
            if left != 0 and self._applies(fault, model):
                self._rules[index] = FaultRule(fault, None if left is None else left - 1)
                return fault
        return NO_FAULT

    def _applies(self, fault: Fault, model: str) -> bool:
        if not fnmatchcase(model, fault.model):
            return False
        return fault.probability >= 1 or self._random.random() < fault.probability
