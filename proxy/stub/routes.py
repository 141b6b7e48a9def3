"""From a path to what answers it."""

from typing import NamedTuple
from urllib.parse import unquote

from proxy.stub.answers import Answer
from proxy.stub.ask import Ask
from proxy.stub.catalog import embeddings_answer, jobs_answer, model_answer, models_answer
from proxy.stub.chat import Stamp, chat_answer
from proxy.stub.completions import responses_answer, text_answer
from proxy.stub.config import StubConfig
from proxy.stub.dialect import refusal
from proxy.stub.errors import Problem, bad_request, error_answer, model_gone
from proxy.stub.faults import Fault
from proxy.words import Dialect

POSTS = ("chat/completions", "fim/completions", "completions", "embeddings", "responses")


class Route(NamedTuple):
    """The endpoint: what follows `/v1/`, whatever precedes it; empty: none of ours."""

    method: str
    endpoint: str
    query: str = ""

    @property
    def model(self) -> str:
        """The model that the path names."""
        return self.endpoint.removeprefix("models/") if self.endpoint.startswith("models/") else ""


def read_route(method: str, target: bytes) -> Route:
    """Read a request target; a prefix before `/v1/` is allowed, as a base URL may have one."""
    path, _, query = target.decode("latin-1").partition("?")
    return Route("GET" if method == "HEAD" else method, unquote(path.partition("/v1/")[2]), query)


def respond(route: Route, ask: Ask | None, stamp: Stamp, fault: Fault, config: StubConfig) -> Answer:
    """Return the answer of a model that is well."""
    dialect = config.dialect
    if route.endpoint == "models" and route.method == "GET":
        return models_answer(config.models, dialect)
    if route.model and route.method == "GET":
        found = config.models is None or route.model in config.models
        return model_answer(route.model, dialect) if found else error_answer(model_gone(route.model), dialect)
    if route.endpoint == "fine_tuning/jobs" and route.method == "GET" and dialect is Dialect.MISTRAL:
        return jobs_answer(config.models, route.query)
    if route.endpoint not in POSTS:
        problem = Problem(404, f"Unknown request URL: {route.endpoint}", "invalid_request_error", None, "unknown_url")
        return error_answer(problem, dialect)
    if route.method != "POST":
        problem = Problem(405, f"Not allowed to {route.method} on {route.endpoint}", "invalid_request_error")
        return error_answer(problem, dialect)
    if ask is None:
        return error_answer(bad_request("The body of your request is not a JSON object."), dialect)
    refused = refusal(route.endpoint, ask, dialect)
    if refused is not None:
        return refused
    if config.models is not None and ask.model not in config.models:
        return error_answer(model_gone(ask.model), dialect)
    return _generate(route.endpoint, ask, stamp, fault, config)


def _generate(endpoint: str, ask: Ask, stamp: Stamp, fault: Fault, config: StubConfig) -> Answer:
    match endpoint:
        case "embeddings":
            return embeddings_answer(ask, config.dialect)
        case "completions":
            return text_answer(ask, stamp, config.words)
        case "responses":
            return responses_answer(ask, stamp, config.words)
        case _:
            return chat_answer(ask, stamp, fault, config.dialect, config.words)


def vendor_headers(number: int, dialect: Dialect) -> tuple[tuple[str, str], ...]:
    """Return what a vendor sends beside every answer; two cookies, as its front door sets them."""
    name = f"stub-{number:08d}"
    cookies = (
        ("set-cookie", f"__cf_bm={name}; path=/; HttpOnly; Secure"),
        ("set-cookie", f"_cfuvid={name}; path=/; HttpOnly; Secure"),
    )
    limits = (("x-ratelimit-limit-requests", "10000"), ("x-ratelimit-remaining-requests", "9999"))
    if dialect is Dialect.MISTRAL:
        return (("mistral-correlation-id", name), *limits, *cookies)
    return (
        ("x-request-id", f"req_{name}"),
        ("openai-processing-ms", "7"),
        ("openai-version", "2020-10-01"),
        *limits,
        *cookies,
    )
