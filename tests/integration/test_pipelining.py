"""Several requests sent at once on one connection: answered in order, whoever answers."""

import json

from proxy.stub import Stub, StubConfig
from tests.support.lane import policy_of, running
from tests.support.raw_client import RawClient, request

FIELDS = [("X-Agent", "qa_agent"), ("X-User-Id", "user-42")]


def chat(**more: object) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    return request("POST", "/v1/chat/completions", json.dumps(body).encode(), FIELDS)


async def test_answers_of_upstream_and_of_ours_keep_the_order_of_their_requests() -> None:
    refused = request("POST", "/v1/chat/completions", b"[]", FIELDS)
    async with (
        Stub(StubConfig()) as stub,
        running(policy_of(stub.url)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(chat() + refused + refused + chat(stream=True) + refused + chat())
        statuses = []
        for _ in range(6):
            answer = await client.read_response()
            statuses.append((answer.status, b"data:" in answer.body))
    assert statuses == [(200, False), (400, False), (400, False), (200, True), (400, False), (200, False)]


async def test_answer_before_a_malformed_request_comes_first() -> None:
    refused = request("POST", "/v1/chat/completions", b"[]", FIELDS)
    async with (
        Stub(StubConfig()) as stub,
        running(policy_of(stub.url)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(chat() + refused + b"not http at all\r\n\r\n")
        codes = [json.loads((await client.read_response()).body).get("error", {}).get("message") for _ in range(3)]
        assert await client.wait_closed() == "fin"
    assert codes[0] is None
    assert codes[1] == "the request body must be a JSON object"
    assert codes[2] == "the request is not valid HTTP/1.1"
