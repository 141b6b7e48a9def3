"""DESIGN §3.4: feedback over real sockets, up to where the ledger takes it."""

import asyncio
import json
from typing import Any

import openai
import pytest

from proxy.ledger.feedback import feedback_row
from proxy.stub import Stub
from proxy.words import Dialect, Feedback
from tests.integration.asking import ask, chat, error_of
from tests.support.lane import Lane, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.sdks import HELLO, SERVED, proxied

NOWHERE = "http://127.0.0.1:1"  # feedback asks no upstream
RATED = b'{"request_id":"0190","value":true}'


def feedback(body: bytes | dict[str, Any], target: str = "/v1/feedback", **fields: str) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request("POST", target, raw, [("Content-Type", "application/json"), *fields.items()])


def collect(lane: Lane) -> list[Feedback]:
    """What the ledger would get."""
    taken: list[Feedback] = []
    lane.service.exchange.feedback = taken.append
    return taken


@pytest.mark.parametrize("target", ["/v1/feedback", "/v1/feedback?x=1", "/agents/qa_agent/v1/feedback"])
async def test_feedback_is_accepted_and_handed_on(target: str) -> None:
    async with running(policy_of(NOWHERE)) as lane:
        taken = collect(lane)
        rated = {"id": "f-1", "response_id": "chatcmpl-1", "value": 0.5, "comment": "so\nso"}
        answer = await ask(lane, feedback(rated, target))
        record = await lane.record()
    assert (answer.status, json.loads(answer.body)) == (202, {"id": "f-1", "status": "accepted"})
    assert answer.head.get(b"content-type") == b"application/json"
    (given,) = taken
    assert given == ("f-1", "", "chatcmpl-1", 0.5, "so so", record.time)
    assert (record.route, record.status, record.failure, record.agent) == ("feedback", 202, None, "other")
    assert (record.attempts, record.unit, record.decision.bucket) == ((), "", -1)


async def test_feedback_without_a_store_is_told_what_is_missing() -> None:
    async with running(policy_of(NOWHERE)) as lane:
        answer = await ask(lane, feedback(RATED))
        record = await lane.record()
    assert answer.status == record.status == 501
    error = error_of(answer)
    assert error["code"] == "not_available"
    assert "store.url" in error["message"]


async def test_unsound_feedback_is_refused_in_openais_shape_and_the_connection_goes_on() -> None:
    async with running(policy_of(NOWHERE)) as lane, RawClient(lane.host, lane.port) as client:
        taken = collect(lane)
        for body in (b"{}", b"no", b'{"request_id":"a","response_id":"b","value":1}', b'{"request_id":"a","value":2}'):
            await client.send(feedback(body))
            answer = await client.read_response()
            assert answer.status == 400
            assert error_of(answer)["message"].startswith("expected ")
        await client.send(feedback(RATED))
        assert (await client.read_response()).status == 202
    assert len(taken) == 1


async def test_feedback_over_the_limit_is_refused() -> None:
    async with running(policy_of(NOWHERE)) as lane:
        taken = collect(lane)
        full = RATED + b" " * (64 * 1024 - len(RATED))
        assert (await ask(lane, feedback(full))).status == 202
        answer = await ask(lane, feedback(full + b" "))
        assert answer.status == 413
        assert error_of(answer)["code"] == "body_too_large"
        assert (await ask(lane, feedback(RATED, **{"Content-Encoding": "gzip"}))).status == 415
        assert len(taken) == 1
        await lane.idle()
        assert lane.service.exchange.buffered.total == 0


async def test_feedback_that_comes_in_pieces_is_taken() -> None:
    async with running(policy_of(NOWHERE)) as lane, RawClient(lane.host, lane.port) as client:
        taken = collect(lane)
        await client.send(b"POST /v1/feedback HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (RATED[:5], RATED[5:]):
            await asyncio.sleep(0.02)
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.send(b"0\r\n\r\n")
        assert (await client.read_response()).status == 202
    assert [given.request_id for given in taken] == ["0190"]


async def test_feedback_is_taken_while_chats_are_refused_for_overload() -> None:
    """It waits for nobody, so it is nobody's burden."""
    async with Stub() as stub, running(policy_of(stub.url, limits={"max_in_flight": 1})) as lane:
        taken = collect(lane)
        async with RawClient(lane.host, lane.port) as slow:
            await slow.send(chat(headers=[("x-stub-fault", "slow=0.2")]))
            async with asyncio.timeout(2):
                while lane.service.exchange.in_flight == 0:
                    await asyncio.sleep(0.005)
            assert (await ask(lane, chat())).status == 503
            assert (await ask(lane, feedback(RATED))).status == 202
    assert len(taken) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_answer_of_the_openai_sdk_is_rated_by_its_response_id(stream: bool) -> None:
    """The id that the SDK shows is the one in the request's record."""
    user, _ = SERVED[0]
    async with proxied(Dialect.OPENAI) as through:
        lane = through.lane
        taken = collect(lane)
        async with openai.AsyncOpenAI(base_url=f"{lane.url}/v1", api_key="k", max_retries=0) as client:
            who = {"x-agent": "qa_agent"}
            if stream:
                chunks = await client.chat.completions.create(
                    model="gpt-4o", messages=HELLO, user=user, extra_headers=who, stream=True
                )
                response_id = {chunk.id async for chunk in chunks}.pop()
            else:
                answer = await client.chat.completions.create(
                    model="gpt-4o", messages=HELLO, user=user, extra_headers=who
                )
                response_id = answer.id
            rated = await client.post(
                "/feedback", body={"response_id": response_id, "value": True}, cast_to=dict[str, str]
            )
        assert rated == {"id": f"response:{response_id}", "status": "accepted"}
        record = await lane.record()
    assert response_id.startswith("chatcmpl-")
    assert record.response_id == response_id == taken[0].response_id
    assert json.loads(feedback_row(taken[0]))[:4] == [f"response:{response_id}", "", response_id, 1.0]
