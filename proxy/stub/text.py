"""What the stub's models say: pure functions of the request, so that every answer can be predicted."""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# Some words are not ASCII, so that UTF-8 is split across chunks sooner or later.
VOCABULARY = (
    "the", "quick", "parcel", "left", "Köln", "on", "time", "and", "its", "naïve", "courier",
    "counted", "東京", "stops", "before", "café", "hours", "while", "nobody", "asked", "→", "why",
)  # fmt: skip
MAX_WORDS = 200_000

_LENGTH_ASKED = re.compile(r"\bin (\d{1,6}) words\b")


class ToolCall(NamedTuple):
    """A call of one of the caller's functions; `arguments` is JSON."""

    name: str
    arguments: str


class Reply(NamedTuple):
    """One model's answer: its text in pieces that join to the whole, or a tool call."""

    pieces: Sequence[str]
    tool: ToolCall | None
    finish: str  # stop | length | tool_calls
    tokens: int

    @property
    def content(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


def plain_text(content: object) -> str:
    """Return the text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return " ".join(
        part if isinstance(part, str) else str(part.get("text", "")) for part in content if isinstance(part, str | dict)
    )


def count_words(texts: Sequence[str]) -> int:
    """Return the stub's tokens: words between white space."""
    return sum(len(text.split()) for text in texts)


def length_of(prompt: str, max_tokens: object, default: int) -> tuple[int, str]:
    """Return how many words to say, and the finish reason.

    `max_tokens` sets the length; a prompt that asks for an answer "in 40 words" gets that many, within it.
    """
    limit = max_tokens if isinstance(max_tokens, int) and max_tokens > 0 else None
    asked = _LENGTH_ASKED.search(prompt)
    wanted = int(asked[1]) if asked else default
    if limit is None:
        return min(wanted, MAX_WORDS), "stop"
    if limit < wanted:
        return min(limit, MAX_WORDS), "length"
    return min(wanted if asked else limit, MAX_WORDS), "stop"


def say(model: str, prompt: str, count: int) -> list[str]:
    """Return `count` words, each with the space before it; the first three name the model."""
    start = zlib.crc32(prompt.encode("utf-8", "replace"))
    opening = ("Answer", " from", f" {model}:")
    filler = (" " + VOCABULARY[(start + index) % len(VOCABULARY)] for index in range(max(0, count - len(opening))))
    return [*opening[:count], *filler]


def say_json(model: str, sentence: str, schema: Mapping[str, Any] | None) -> list[str]:
    """Return a JSON object in pieces: a sample of `schema`, or one that names the model."""
    value = sample(schema) if schema else {"model": model, "answer": sentence}
    words = json.dumps(value, ensure_ascii=False).split(" ")
    return [words[0], *(" " + word for word in words[1:])]


def call_tool(tools: Sequence[Mapping[str, Any]], prompt: str) -> ToolCall:
    """Return a call of the function that the prompt names, else of the first one."""
    functions = [tool.get("function") or tool for tool in tools]
    chosen = next((each for each in functions if str(each.get("name", "")) in prompt), functions[0])
    return ToolCall(str(chosen.get("name", "")), json.dumps(sample(chosen.get("parameters") or {})))


def sample(schema: Mapping[str, Any], depth: int = 8) -> object:
    """Return a small value that fits a JSON schema, as far as types, enums, properties and items go."""
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties")
        if not isinstance(properties, dict) or depth == 0:
            return {}
        return {name: sample(each if isinstance(each, dict) else {}, depth - 1) for name, each in properties.items()}
    if kind == "array":
        items = schema.get("items")
        return [sample(items, depth - 1)] if isinstance(items, dict) and depth else []
    return {"string": "stub", "integer": 7, "number": 1.5, "boolean": True}.get(str(kind))
