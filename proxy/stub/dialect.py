"""What a vendor refuses before any model sees it."""

from proxy.stub.answers import Answer
from proxy.stub.ask import Ask
from proxy.stub.errors import bad_request, error_answer, refused_fields
from proxy.words import Dialect

_MISTRAL_SAMPLING = frozenset({
    "model", "temperature", "top_p", "max_tokens", "min_tokens", "stream", "stop", "random_seed", "metadata",
    "prompt_cache_key",
})  # fmt: skip

# What Mistral accepts, from its SDK's request models; a test compares them. All else is "extra_forbidden".
MISTRAL_FIELDS = {
    "chat/completions": _MISTRAL_SAMPLING | {
        "messages", "response_format", "tools", "tool_choice", "parallel_tool_calls", "presence_penalty",
        "frequency_penalty", "repetition_penalty", "top_k", "logprobs", "top_logprobs", "prompt_logprobs",
        "top_prompt_logprobs", "n", "prediction", "reasoning_effort", "prompt_mode", "guardrails",
        "service_tier", "safe_prompt",
    },
    "fim/completions": _MISTRAL_SAMPLING | {"prompt", "suffix"},
    "embeddings": frozenset({
        "model", "input", "metadata", "output_dimension", "output_dtype", "encoding_format",
    }),
}  # fmt: skip

# Mistral's own fields, which OpenAI does not know. OpenAI refuses every unknown field; the stub refuses
# only these, so that tests may put what they like into a body.
OPENAI_REFUSES = ("random_seed", "safe_prompt", "prompt_mode", "guardrails", "min_tokens")

_REQUIRED = {
    "chat/completions": "messages",
    "completions": "prompt",
    "fim/completions": "prompt",
    "embeddings": "input",
    "responses": "input",
}


def refusal(endpoint: str, ask: Ask, dialect: Dialect) -> Answer | None:
    """Return the vendor's complaint about a request's fields; None: it has none."""
    required = ("model", _REQUIRED[endpoint])
    if dialect is Dialect.MISTRAL:
        known = MISTRAL_FIELDS.get(endpoint)
        found: list[tuple[str, str, object]] = [("missing", name, None) for name in required if name not in ask.body]
        extra = [name for name in ask.body if known is not None and name not in known]
        found += [("extra_forbidden", name, ask.body[name]) for name in extra]
        return refused_fields(found) if found else None
    if not ask.model:
        return error_answer(bad_request("you must provide a model parameter"), dialect)
    if required[1] not in ask.body:
        code = "missing_required_parameter"
        problem = bad_request(f"Missing required parameter: '{required[1]}'.", required[1], code)
        return error_answer(problem, dialect)
    for name in OPENAI_REFUSES:
        if name in ask.body:
            problem = bad_request(f"Unrecognized request argument supplied: {name}", name, "unknown_parameter")
            return error_answer(problem, dialect)
    if ask.body.get("stream_options") is not None and not ask.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        return error_answer(bad_request(message, "stream_options"), dialect)
    return None
