"""Our own answers, as a client's SDK reads them.  ACCEPTANCE 8."""

from typing import Any

import openai
import orjson
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from proxy.wire.errors import ErrorAnswer, bad_request, failure_answer
from proxy.wire.sse import EventKind, parse_event
from proxy.words import Failure
from tests.support.raw_upstream import RawUpstream, Read, Send, response

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
OWN = [failure_answer(failure) for failure in Failure]
OWN += [bad_request("no"), bad_request("too long", "body_too_large", 413)]

# What the openai SDK raises for a status; from 500 on it is InternalServerError.
OPENAI_ERRORS: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
}

every_answer = pytest.mark.parametrize("answer", OWN, ids=lambda answer: f"{answer.status}-{answer.code}")


def fields_of(answer: ErrorAnswer) -> dict[str, str]:
    """The header block, read the way a client reads it."""
    *lines, last = answer.fields().decode("ascii").split("\r\n")
    assert last == ""
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def serving(answer: ErrorAnswer) -> RawUpstream:
    """A server that gives `answer` to every request."""
    return RawUpstream([Read(), Send(response(answer.body(), answer.status, list(fields_of(answer).items())))])


# --- in the SDKs ------------------------------------------------------------------------------------


@every_answer
async def test_answer_is_the_right_exception_of_the_openai_sdk(answer: ErrorAnswer) -> None:
    # Only what says that waiting does not help may be sent once with retries on: the rest would wait.
    retries = 2 if answer.retry_after is None else 0
    async with (
        serving(answer) as server,
        openai.AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1", max_retries=retries) as client,
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            await client.chat.completions.create(model="m", messages=MESSAGES)
        assert len(server.requests) == 1
    error = caught.value
    expected = OPENAI_ERRORS.get(answer.status, openai.APIStatusError)
    assert type(error) is (openai.InternalServerError if answer.status >= 500 else expected)
    assert (error.status_code, error.code, error.type) == (answer.status, answer.code, answer.kind)
    assert error.param is None
    assert answer.message in error.message


@every_answer
async def test_answer_is_an_exception_of_the_mistralai_sdk(answer: ErrorAnswer) -> None:
    async with serving(answer) as server, Mistral(server_url=server.url, api_key="k") as client:
        with pytest.raises(SDKError) as caught:
            await client.chat.complete_async(model="m", messages=MESSAGES)
    assert caught.value.status_code == answer.status
    assert orjson.loads(caught.value.body)["error"]["code"] == answer.code


# --- the answer itself ------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_has_an_answer_that_names_it(failure: Failure) -> None:
    answer = failure_answer(failure)
    assert answer.code == failure.value
    assert answer.message
    assert answer.kind
    assert 400 <= answer.status < 600


@every_answer
def test_body_is_openais_error_object_with_real_nulls(answer: ErrorAnswer) -> None:
    assert orjson.loads(answer.body()) == {
        "error": {"message": answer.message, "type": answer.kind, "param": None, "code": answer.code}
    }
    assert b'"param":null' in answer.body()


@every_answer
def test_status_is_one_that_clients_know(answer: ErrorAnswer) -> None:
    """Never 422, which SDKs take for a list of mistakes; 499 is for records, nobody reads it."""
    assert answer.status in {400, 401, 402, 404, 413, 429, 499, 502, 503, 504}


@every_answer
def test_header_says_whether_waiting_helps(answer: ErrorAnswer) -> None:
    fields = fields_of(answer)
    assert fields["content-type"] == "application/json"
    if answer.retry_after is None:
        assert fields.get("x-should-retry") == "false"
        assert "retry-after" not in fields
    else:
        assert fields.get("retry-after") == str(answer.retry_after)
        assert fields.get("x-should-retry") != "false"
        assert answer.retry_after > 0


@every_answer
def test_event_is_an_error_of_a_stream(answer: ErrorAnswer) -> None:
    kind, chunk = parse_event(answer.event())
    assert kind is EventKind.ERROR
    assert chunk == orjson.loads(answer.body())


@pytest.mark.parametrize("failure", [Failure.OVERLOAD, Failure.SHUTDOWN, Failure.BREAKER_OPEN])
def test_refusal_of_ours_is_503_and_says_when_to_come_back(failure: Failure) -> None:
    answer = failure_answer(failure)
    assert answer.status == 503
    assert answer.retry_after


@pytest.mark.parametrize("failure", [failure for failure in Failure if failure.value.endswith("timeout")])
def test_timeout_is_504(failure: Failure) -> None:
    assert failure_answer(failure).status == 504


def test_text_of_a_bad_request_is_escaped() -> None:
    message = 'a "quote", a \\ and a\r\nline'
    answer = bad_request(message)
    assert orjson.loads(answer.body())["error"]["message"] == message
    assert answer.event().count(b"\n") == 2
