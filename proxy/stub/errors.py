"""Error bodies as the two vendors write them."""

from typing import Any, NamedTuple

from proxy.stub.answers import Answer, json_answer
from proxy.stub.faults import Fault
from proxy.words import Dialect


class Problem(NamedTuple):
    """An error in both vendors' words; `param` and `code` may be null in OpenAI's."""

    status: int
    message: str
    type: str
    param: str | None = None
    code: str | None = None
    mistral_type: str = "invalid_request_error"
    mistral_code: str | None = None
    mistral_status: int = 0  # 0: the same status
    mistral_message: str = ""  # empty: the same message


def error_answer(problem: Problem, dialect: Dialect) -> Answer:
    """Return the error as a vendor sends it."""
    if dialect is Dialect.OPENAI:
        return json_answer(error_object(problem, dialect), status=problem.status)
    status = problem.mistral_status or problem.status
    if status == 401:  # its gateway answers before its API does, in a shape of its own
        return json_answer({"detail": "Unauthorized"}, status=status)
    return json_answer(error_object(problem, dialect), status=status)


def error_object(problem: Problem, dialect: Dialect) -> dict[str, Any]:
    """Return the error's JSON object: an error's body, or the payload of an error event."""
    if dialect is Dialect.OPENAI:
        fields = {
            "message": problem.message,
            "type": problem.type,
            "param": problem.param,
            "code": problem.code,
        }
        return {"error": fields}
    return {
        "object": "error",
        "message": problem.mistral_message or problem.message,
        "type": problem.mistral_type,
        "param": None,
        "code": problem.mistral_code,
    }


def refused_fields(found: list[tuple[str, str, object]]) -> Answer:
    """Return Mistral's 422; `found` holds the type, the field and its value of every complaint."""
    messages = {"extra_forbidden": "Extra inputs are not permitted", "missing": "Field required"}
    detail: list[dict[str, object]] = [
        {
            "type": kind,
            "loc": ["body", name],
            "msg": messages[kind],
            "input": value if isinstance(value, str | bool | None) else {},
        }
        for kind, name, value in found
    ]
    body = {
        "object": "error",
        "message": {"detail": detail},
        "type": "invalid_request_error",
        "param": None,
        "code": None,
        "raw_status_code": 422,
    }
    return json_answer(body, status=422)


def model_gone(model: str) -> Problem:
    """Return what a vendor says about a model it does not know, or no longer."""
    return Problem(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        "invalid_request_error",
        None,
        "model_not_found",
        "invalid_model",
        "1500",
        400,
        f"Invalid model: {model}",
    )


def bad_request(message: str, param: str | None = None, code: str | None = None) -> Problem:
    """Return a client's mistake."""
    return Problem(400, message, "invalid_request_error", param, code)


def faulty_answer(fault: Fault, model: str, dialect: Dialect) -> Answer | None:
    """Return the whole answer where a fault replaces it; None: the true answer goes out."""
    if fault.null:
        return Answer(200, b"null")
    if fault.not_json:
        return Answer(200, b"<html><body><h1>Service</h1></body></html>\n", content_type="text/html")
    if fault.error_200:
        return json_answer(error_object(server_problem(500), dialect))
    problem = _problem(fault, model)
    if problem is not None:
        answer = error_answer(problem, dialect)
    elif fault.body is not None:
        answer = Answer(200)
    else:
        return None
    return answer if fault.body is None else answer._replace(body=fault.body.encode())


def _problem(fault: Fault, model: str) -> Problem | None:
    if fault.auth:
        return Problem(
            401,
            "Incorrect API key provided: sk-stub. You can find your API key at your provider.",
            "invalid_request_error",
            None,
            "invalid_api_key",
        )
    if fault.context_length:
        message = "This model's maximum context length is 8192 tokens, your messages resulted in more."
        code = "context_length_exceeded"
        return Problem(400, message, "invalid_request_error", "messages", code, "invalid_request_prompt", "3051")
    if fault.content_filter:
        message = "The request was rejected by the content filter."
        code = "content_filter"
        return Problem(400, message, "invalid_request_error", "prompt", code, "content_filter", "content_filter")
    if fault.model_gone:
        return model_gone(model)
    return server_problem(fault.status) if fault.status is not None else None


def server_problem(status: int) -> Problem:
    """Return the vendors' standard error for a status."""
    if status == 429:
        message = "Rate limit reached, please try again later."
        return Problem(429, message, "requests", None, "rate_limit_exceeded", "rate_limited", "1300")
    if status < 500:
        return Problem(status, f"The request failed with status {status}.", "invalid_request_error")
    message = "The server had an error while processing your request."
    return Problem(status, message, "server_error", None, None, "internal_server_error", "3000")
