"""ACCEPTANCE 2 and 35: bodies that are no chat request, or meant to break a JSON reader.

Each is a clear 400 of ours or goes on to the upstream as it came; none is a 5xx, none holds up others.
"""

import asyncio
import logging
import time

import pytest

from proxy.stub import Stub
from tests.integration.asking import ANSWER, CHAT, ask, chat, chat_body, error_of
from tests.support.lane import BASELINE_USER, Lane, policy_of, running
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import RawUpstream, Read, Send

MEGABYTE = 1_000_000
# Ten megabytes of the worst may take this long on a slow machine; a quadratic reader takes minutes.
BOUND = 10.0


async def answered(lane: Lane, body: bytes) -> RawResponse:
    answer = await ask(lane, chat(body))
    assert answer.clean_end
    assert answer.status < 500
    return answer


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b","messages":[]}',
        b'{"model":"a","messages":[],"model":"a"}',
        b'{"model":"a","messages":[],"\\u006dodel":"b"}',
        b'{"mode\\u006C":"a","messages":[],"\\u006dodel":"b"}',
        b'{"model":{"model":"a"},"model":"b"}',
        b'{"model":"a","messages":[' + b'"x",' * 50_000 + b'1],"model":"b"}',
    ],
)
@pytest.mark.parametrize("agent", ["qa_agent", None])
async def test_two_models_are_refused(body: bytes, agent: str | None) -> None:
    """ACCEPTANCE 2."""
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        answer = await ask(lane, chat(body, agent=agent))
        assert answer.status == 400
        assert "model" in error_of(answer)["message"]
    assert up.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"true",
        b"0",
        b'"model"',
        b"[]",
        b'[{"model":"m"}]',
        b"model=m",
        b"<xml/>",
        b"}",
        b"{",
        b'{"a"',
        b'{"a":1}{"b":2}',
        b'{"a":1}x',
        b'{"a" 1}',
        b"{'model':'m'}",
        b"\x00",
        b"\x1f\x8b\x08\x00",
        b"// {}\n{}",
    ],
)
async def test_body_that_is_no_object_is_a_clear_400(body: bytes) -> None:
    """ACCEPTANCE 2."""
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        head = request("POST", CHAT, body, [("x-agent", "qa_agent"), ("x-user-id", BASELINE_USER)])
        answer = await ask(lane, head)
        assert answer.status == 400
        assert error_of(answer)["type"] == "invalid_request_error"
        assert answer.head.get(b"x-should-retry") == b"false"
    assert up.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"messages":[]}',
        b'{"model":"m"}',
        b'{"model":null,"messages":[]}',
        b'{"model":7,"messages":[]}',
        b'{"model":["m"],"messages":[]}',
        b'{"model":{},"messages":[]}',
        b'{"model":"","messages":[]}',
        b'{"model":"m","messages":7}',
        b'{"model":"m","messages":[],"stream":"yes"}',
        b'{"model":"m","messages":[],"metadata":[1],"user":{}}',
        b'{"model":"m","messages":[],"metadata":{"agent":["qa_agent"],"user_id":{}}}',
        b'{"model":"m","messages":[{"role":"user"}],"stream":true,"stream_options":7}',
    ],
)
@pytest.mark.parametrize("agent", ["qa_agent", None])
async def test_object_that_is_no_chat_request_is_answered_as_the_upstream_answers(
    body: bytes, agent: str | None
) -> None:
    """ACCEPTANCE 2: members missing or of the wrong type."""
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        answer = await ask(lane, chat(body, agent=agent))
        assert answer.status < 500
        if not stub.calls:
            assert answer.status == 400
            error_of(answer)


HOSTILE = {
    "nested just below the bound": b'{"model":"m","messages":' + b"[" * 60 + b"]" * 60 + b"}",
    "nested deeply": b'{"model":"m","messages":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "nested deeply, objects": b'{"model":"m","messages":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
    "nested in metadata": b'{"model":"m","messages":[],"metadata":' + b'{"agent":' * 2000 + b"1" + b"}" * 2000 + b"}",
    "integer of 10,000 digits": b'{"model":"m","messages":[],"seed":' + b"9" * 10_000 + b"}",
    "user of 10,000 digits": b'{"model":"m","messages":[],"user":' + b"9" * 10_000 + b"}",
    "model of 10,000 digits": b'{"model":' + b"9" * 10_000 + b',"messages":[]}',
    "metadata of 10,000 digits": b'{"model":"m","messages":[],"metadata":{"user_id":' + b"9" * 10_000 + b"}}",
    "fraction of 10,000 digits": b'{"model":"m","messages":[],"top_p":0.' + b"9" * 10_000 + b"}",
    "exponent": b'{"model":"m","messages":[],"top_p":1e999999999}',
    "negative zero": b'{"model":"m","messages":[],"seed":-0,"user":-0.0}',
    "lone high surrogate": b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}],"user":"\\ud800"}',
    "lone low surrogate": b'{"model":"\\udc00","messages":[],"metadata":{"user_id":"\\udc00"}}',
    "surrogate in a name": b'{"model":"m","messages":[],"\\ud800":1}',
    "swapped surrogates": b'{"model":"m","messages":[],"user":"\\udc00\\ud800"}',
    "escaped NUL": b'{"model":"m\\u0000","messages":[],"user":"\\u0000"}',
    "NUL in a string": b'{"model":"m","messages":[],"user":"a\x00b"}',
    "NUL behind": b'{"model":"m","messages":[]}\x00',
    "line break in a string": b'{"model":"m","messages":[],"user":"a\r\nb"}',
    "invalid UTF-8": b'{"model":"m","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "invalid UTF-8 user": b'{"model":"m","messages":[],"user":"\xff\xfe"}',
    "invalid UTF-8 model": b'{"model":"\xc0\xaf","messages":[]}',
    "invalid UTF-8 name": b'{"model":"m","messages":[],"\xff":1}',
    "UTF-8 surrogate": b'{"model":"m","messages":[],"user":"\xed\xa0\x80"}',
    "UTF-16": '{"model":"m","messages":[]}'.encode("utf-16"),
    "UTF-32": '{"model":"m","messages":[]}'.encode("utf-32"),
    "byte order mark": b'\xef\xbb\xbf{"model":"m","messages":[]}',
    "NaN": b'{"model":"m","messages":[],"temperature":NaN}',
    "Infinity": b'{"model":"m","messages":[],"temperature":-Infinity,"user":Infinity}',
    "bad escape": b'{"model":"m","messages":[],"user":"\\x41"}',
    "short escape": b'{"model":"m","messages":[],"user":"\\u12"}',
    "escape at the end": b'{"model":"m","messages":[],"user":"\\"}',
    "trailing comma": b'{"model":"m","messages":[],}',
    "two commas": b'{"model":"m",,"messages":[]}',
    "comment": b'{"model":"m",/* c */"messages":[]}',
    "single quotes": b"{'model':'m','messages':[]}",
    "leading zeros": b'{"model":"m","messages":[],"seed":007,"user":007}',
    "huge name": b'{"model":"m","messages":[],"' + b"k" * MEGABYTE + b'":1}',
    "many names": b'{"model":"m","messages":[]' + b"".join(b',"k%d":1' % n for n in range(20_000)) + b"}",
    "same name often": b'{"model":"m","messages":[]' + b',"user":"u"' * 20_000 + b"}",
    "prototype": b'{"model":"m","messages":[],"__proto__":{"user":"u"},"constructor":1}',
    "huge user": b'{"model":"m","messages":[],"user":"' + b"u" * MEGABYTE + b'"}',
    "huge model": b'{"model":"' + b"m" * MEGABYTE + b'","messages":[]}',
    "unbalanced": b'{"model":"m","messages":[}]}',
    "braces in strings": b'{"model":"m","messages":["}]{[","\\"}"],"user":"\\\\"}',
    "spaces": b'{"model":"m","messages":[]' + b" " * MEGABYTE + b"}" + b"\n" * MEGABYTE,
}


@pytest.mark.parametrize("stream", [b"false", b"true"], ids=["json", "stream"])
@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in HOSTILE.items()])
async def test_hostile_json_is_refused_or_passed_on(
    body: bytes, stream: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """ACCEPTANCE 35."""
    caplog.set_level(logging.DEBUG)
    asked = body.replace(b'"messages"', b'"stream":%b,"messages"' % stream)
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        for data in (chat(asked), chat(asked, user=None), chat(asked, agent=None, user=None)):
            answer = await ask(lane, data)
            assert answer.clean_end
            assert answer.status < 500
            assert len(answer.body) < 100_000 or answer.status == 200
        assert (await ask(lane, chat())).status == 200  # and the proxy is well
        await lane.record(4)
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("name", ["lone high surrogate", "NaN", "exponent", "integer of 10,000 digits", "bad escape"])
async def test_hostile_json_that_is_passed_on_keeps_its_bytes(name: str) -> None:
    """ACCEPTANCE 35: what we do not understand we do not repair either."""
    body = HOSTILE[name]
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        answer = await ask(lane, chat(body, user=BASELINE_USER))
        assert answer.status in (200, 400)
        for sent in up.requests:
            assert sent.partition(b"\r\n\r\n")[2] == body.replace(b'"model":"m"', b'"model":"open-mistral-7b"')
        assert len(up.requests) == (answer.status == 200)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10 * MEGABYTE,
        b'{"model":"m","messages":' + b"[" * 10 * MEGABYTE,
        b'{"model":"m","messages":' + b'{"a":' * 2 * MEGABYTE,
        b'{"model":"m","messages":[' + b"[]," * 3 * MEGABYTE + b"[]]}",
        b'{"model":"m","messages":[' + b"[[[{}]]]," * MEGABYTE + b"[]]}",
        b'{"model":"m","messages":[' + b"[" * 63 + b"[]," * 3 * MEGABYTE,
        b'{"model":"m","messages":[' + b'"[{' * 3 * MEGABYTE,
        b'{"model":"m","messages":"' + b'\\"' * 5 * MEGABYTE,
        b'{"model":"m"' + b',"model":"m"' * MEGABYTE + b"}",
        b'{"model":"m"' + b',"a":[{}]' * MEGABYTE + b"}",
        b'{"messages":"\\u006dodel"' + b',"\\u006d":1' * MEGABYTE + b"}",
    ],
    ids=[
        "array",
        "open arrays",
        "open objects",
        "closed arrays",
        "towers",
        "deep and wide",
        "strings of brackets",
        "escapes",
        "models",
        "members",
        "escaped names",
    ],
)
async def test_ten_megabytes_of_brackets_take_bounded_time(body: bytes) -> None:
    """ACCEPTANCE 35."""
    async with RawUpstream([Read(), Send(ANSWER)]) as up, running(policy_of(up.url)) as lane:
        async with RawClient(lane.host, lane.port, timeout=2 * BOUND) as client:
            started = time.monotonic()
            await client.send(chat(body))
            answer = await client.read_response()
            assert time.monotonic() - started < BOUND
        assert answer.status in (200, 400)
        assert (await answered(lane, chat_body())).status == 200


async def test_hostile_requests_among_good_ones_harm_nobody_else() -> None:
    """ACCEPTANCE 35: each good request is served while every hostile one is refused or passed on."""
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        bodies = [body for hostile in HOSTILE.values() for body in (hostile, chat_body())]
        answers = await asyncio.gather(*(ask(lane, chat(body)) for body in bodies))
        assert all(answer.status < 500 for answer in answers)
        assert [answer.status for answer in answers[1::2]] == [200] * len(HOSTILE)
        await lane.record(len(bodies))
        assert len(lane.records) == len(bodies)
