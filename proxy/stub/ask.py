"""A request's JSON body, read as far as the stub cares."""

import json
from typing import Any, NamedTuple

from proxy.stub.text import Reply, call_tool, count_words, length_of, plain_text, say, say_json

MAX_CHOICES = 16


class Ask(NamedTuple):
    """What one request wants; `body` is the parsed object."""

    body: dict[str, Any]
    model: str
    stream: bool

    @property
    def include_usage(self) -> bool:
        """Tell whether the caller wants OpenAI's usage chunk at the end of a stream."""
        options = self.body.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def choices(self) -> int:
        """How many answers the caller wants."""
        count = self.body.get("n")
        return max(1, min(count, MAX_CHOICES)) if isinstance(count, int) else 1

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation, whatever the endpoint calls it; roles are there only in chats."""
        for key in ("messages", "input", "inputs", "prompt"):
            found = self.body.get(key)
            if isinstance(found, str):
                return [{"content": found}, {"content": self.body.get("suffix")}]
            if isinstance(found, list):
                return [each if isinstance(each, dict) else {"content": each} for each in found]
        return []

    @property
    def prompt_tokens(self) -> int:
        """The words of all messages."""
        return count_words([plain_text(each.get("content")) for each in self.messages])


def read_ask(body: bytes) -> Ask | None:
    """Parse a body; None: it is no JSON object."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):  # ValueError: also bad UTF-8 and numbers of 10,000 digits
        return None
    if not isinstance(parsed, dict):
        return None
    model = parsed.get("model")
    return Ask(parsed, model if isinstance(model, str) else "", parsed.get("stream") is True)


def reply_to(ask: Ask, default_words: int) -> Reply:
    """Answer a chat or a completion."""
    messages = ask.messages
    last = messages[-1] if messages else {}
    texts = [plain_text(each.get("content")) for each in messages if each.get("role", "user") == "user"]
    prompt = next((text for text in reversed(texts) if text), "")
    tools = [tool for tool in ask.body.get("tools") or [] if isinstance(tool, dict)]
    if tools and _wants_tool(ask.body.get("tool_choice"), last, prompt):
        call = call_tool(tools, prompt)
        return Reply((), call, "tool_calls", 1 + len(call.arguments.split()))
    max_tokens = next(
        (
            ask.body[key]
            for key in ("max_completion_tokens", "max_tokens", "max_output_tokens")
            if ask.body.get(key) is not None
        ),
        None,
    )
    count, finish = length_of(prompt, max_tokens, default_words)
    pieces = say(ask.model, prompt, count)
    given = ask.body.get("response_format")
    wanted: dict[str, Any] = given if isinstance(given, dict) else {}
    kind = wanted.get("type")
    if kind in ("json_object", "json_schema"):
        schema = (wanted.get("json_schema") or {}).get("schema") if kind == "json_schema" else None
        pieces = say_json(ask.model, "".join(pieces), schema)
        finish = "stop"  # a cut JSON document would be of no use to anybody
    return Reply(pieces, None, finish, len(pieces))


def _wants_tool(choice: object, last: dict[str, Any], prompt: str) -> bool:
    if choice == "none" or last.get("role") == "tool":
        return False  # a tool has just answered: now the model speaks
    return choice in ("required", "any") or isinstance(choice, dict) or "call a tool" in prompt
