"""Our own answers: OpenAI's error object, valid in the openai and the mistralai SDK."""

from typing import Final, NamedTuple

import orjson

from proxy.words import Failure

_ALLOW: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"  # RFC 9110 §15.5.6


class ErrorAnswer(NamedTuple):
    """A complete answer of ours to a request that no upstream's answer fits."""

    status: int
    kind: str  # OpenAI's `type`
    code: str  # OpenAI's `code`: a failure word where one applies
    message: str  # for the caller; quotes nothing the caller sent
    retry_after: int | None = None  # seconds, where waiting helps

    def body(self) -> bytes:
        """The JSON body, with real nulls."""
        return orjson.dumps({"error": {"message": self.message, "type": self.kind, "param": None, "code": self.code}})

    def event(self) -> bytes:
        """The same as the last event of a broken stream."""
        return b"data: " + self.body() + b"\n\n"

    def fields(self) -> bytes:
        """The header block that goes with it; SDKs retry unless told that it does not help."""
        if self.retry_after is None:
            allow = _ALLOW if self.status == 405 else b""
            return b"Content-Type: application/json\r\nx-should-retry: false\r\n" + allow
        return b"Content-Type: application/json\r\nRetry-After: %d\r\n" % self.retry_after


def bad_request(message: str, code: str = "bad_request", status: int = 400) -> ErrorAnswer:
    """The caller's mistake."""
    return ErrorAnswer(status, "invalid_request_error", code, message)


# status, OpenAI's type, message, seconds to wait (None: waiting does not help)
_FAILURES: Final[dict[Failure, tuple[int, str, str, int | None]]] = {
    Failure.CONNECT: (502, "api_connection_error", "the upstream could not be reached", 1),
    Failure.CONNECT_TIMEOUT: (504, "api_connection_error", "the upstream did not accept a connection in time", 1),
    Failure.FIRST_BYTE_TIMEOUT: (504, "timeout_error", "the upstream did not begin to answer in time", None),
    Failure.FIRST_CONTENT_TIMEOUT: (504, "timeout_error", "the upstream sent no content in time", None),
    Failure.IDLE_TIMEOUT: (504, "timeout_error", "the upstream stopped in the middle of its answer", None),
    Failure.TOTAL_TIMEOUT: (504, "timeout_error", "the request took longer than its total time limit", None),
    Failure.RESET: (502, "api_connection_error", "the upstream closed the connection before it had answered", 1),
    Failure.RATE_LIMITED: (429, "rate_limit_error", "the upstream limits the rate of requests", 1),
    Failure.SERVER_ERROR: (502, "server_error", "the upstream failed", 1),
    Failure.MODEL_GONE: (404, "invalid_request_error", "the model does not exist at the upstream", None),
    Failure.AUTH: (401, "authentication_error", "the upstream refused the credentials", None),
    Failure.CONTEXT_LENGTH: (400, "invalid_request_error", "the request is longer than the model's context", None),
    Failure.CONTENT_FILTER: (400, "invalid_request_error", "the upstream's content filter refused the request", None),
    Failure.BAD_REQUEST: (400, "invalid_request_error", "the request is not valid", None),
    Failure.BAD_BODY: (502, "server_error", "the upstream's answer makes no sense", 1),
    Failure.EMPTY: (502, "server_error", "the upstream's answer is empty", 1),
    Failure.STREAM_ERROR: (502, "server_error", "the upstream reported an error in its stream", 1),
    Failure.STREAM_TRUNCATED: (502, "server_error", "the upstream's stream ended before it was complete", 1),
    Failure.BREAKER_OPEN: (503, "server_error", "the model keeps failing and is not called for a while", 5),
    Failure.BRAKE: (503, "server_error", "the model failed too often; a person must bring it back", None),
    Failure.BUDGET: (402, "insufficient_quota", "the budget for this period is spent", None),
    Failure.OVERLOAD: (503, "server_error", "too many requests are in flight", 1),
    Failure.CLIENT_GONE: (499, "client_error", "the client left", None),
    Failure.SHUTDOWN: (503, "server_error", "the proxy is shutting down", 1),
}  # fmt: skip


def failure_answer(failure: Failure) -> ErrorAnswer:
    """What we answer for a failure when there is no upstream answer to pass on."""
    status, kind, message, retry_after = _FAILURES[failure]
    return ErrorAnswer(status, kind, failure.value, message, retry_after)
