"""ACCEPTANCE 24: which clock ends a stream, and which do not."""

import asyncio
import time

import pytest

from proxy.words import Failure
from tests.integration.streaming import (
    ARRIVED,
    BASELINE_ANSWER,
    CLEAN,
    COMMENT,
    DONE,
    FINISH,
    ROLE,
    STREAM_HEAD,
    TEXT,
    chat,
    delta,
    error_of,
    events_of,
    split,
    stream_then,
)
from tests.support.lane import BASELINE_USER, eventually, policy_of
from tests.support.raw_client import request
from tests.support.raw_upstream import Action, Pause, Read, Send, chunk, head

NOTHING_TO_READ = {
    "comments": COMMENT,
    "pings": b"event: ping\ndata: {}\n\n",
    "roles": ROLE,
    "bytes_of_one_event": b"x",
}


@pytest.mark.parametrize("dripped", NOTHING_TO_READ.values(), ids=NOTHING_TO_READ.keys())
async def test_what_is_no_content_does_not_put_off_the_first_content_limit(dripped: bytes) -> None:
    drip = [Send(chunk(dripped) * 1000, size=len(chunk(dripped)), pause=0.02)]
    script: list[Action] = [Read(), Send(head(200, STREAM_HEAD)), *drip]
    timeouts = {"first_content": "300ms", "first_byte": "250ms", "idle": "10s"}
    async with split(script, timeouts=timeouts) as at:
        started = time.time()
        answer = await at.ask()
        took = time.time() - started
        record = await at.lane.record()
        await eventually(lambda: at.candidate.connections[0].closed_at is not None)
    assert (answer.body, answer.clean_end) == (b"".join(BASELINE_ANSWER), True)
    assert record.fallback is Failure.FIRST_CONTENT_TIMEOUT
    assert 0.28 < took < 4


async def test_without_anybody_behind_it_a_silent_stream_is_a_gateway_timeout() -> None:
    async with split([], stream_then(ROLE, ending=Pause(5)), timeouts={"first_content": "200ms"}) as at:
        answer = await at.ask(chat(BASELINE_USER))
        record = await at.lane.record()
    assert answer.status == 504
    assert error_of(answer.body)["code"] == "first_content_timeout"
    assert (record.status, record.failure) == (504, Failure.FIRST_CONTENT_TIMEOUT)


async def test_drip_ends_at_the_stream_limit() -> None:
    drip = [Send(chunk(TEXT) * 1000, size=len(chunk(TEXT)), pause=0.02)]
    script: list[Action] = [Read(), Send(head(200, STREAM_HEAD)), *drip]
    async with split(script, timeouts={"stream": "600ms", "idle": "10s"}) as at:
        started = time.time()
        answer = await at.ask()
        took = time.time() - started
        record = await at.lane.record()
        await eventually(lambda: at.candidate.connections[0].closed_at is not None)
    assert 0.55 < took < 3
    assert events_of(answer.body)[-2] == TEXT
    assert error_of(events_of(answer.body)[-1])["code"] == "total_timeout"
    assert not answer.clean_end
    assert (record.status, record.failure) == (200, Failure.TOTAL_TIMEOUT)
    assert at.baseline.requests == []


async def test_only_silence_and_the_stream_limit_end_a_stream_that_has_begun() -> None:
    # Every clock but `idle` and `stream` runs out several times while this stream lasts.
    events = [delta(content=f"{number} ") for number in range(6)]
    slowly: list[Action] = []
    for each in events:
        slowly += [Send(chunk(each)), Pause(0.35)]
    script = stream_then(ROLE, ending=[*slowly, Send(chunk(FINISH) + chunk(DONE)), CLEAN])
    short = "450ms"
    timeouts = {"connect": short, "first_byte": short, "first_content": short, "total": short, "idle": "2s"}
    pool = {"keepalive": short, "wait": short}
    limits = {"request_headers": short, "request_body": short, "write_stall": short}
    sent = chat().replace(b"Host:", b"x-stainless-read-timeout: 0.45\r\nHost:", 1)
    async with split(script, timeouts=timeouts, pool=pool, limits=limits) as at:
        answer = await at.ask(sent)
        record = await at.lane.record()
    assert (answer.body, answer.clean_end) == (b"".join([ROLE, *events, FINISH, DONE]), True)
    assert (record.status, record.failure) == (200, None)
    assert record.latency > 2


async def test_defaults_give_a_stream_more_than_ten_minutes() -> None:
    timeouts = policy_of("http://127.0.0.1:1").default_upstream.timeouts
    assert timeouts.stream > 600
    assert timeouts.stream > timeouts.total


async def test_each_event_puts_the_idle_limit_off() -> None:
    drip = [Send(chunk(TEXT) * 12, size=len(chunk(TEXT)), pause=0.1)]
    script = stream_then(ROLE, ending=[*drip, Send(chunk(FINISH)), CLEAN])
    async with split(script, timeouts={"idle": "500ms"}) as at:
        answer = await at.ask()
        record = await at.lane.record()
    assert (answer.body, answer.clean_end) == (ROLE + TEXT * 12 + FINISH, True)
    assert record.failure is None


async def test_comments_after_content_put_the_idle_limit_off() -> None:
    drip = [Send(chunk(COMMENT) * 10, size=len(chunk(COMMENT)), pause=0.1)]
    script = stream_then(ROLE, TEXT, ending=[*drip, Send(chunk(FINISH)), CLEAN])
    async with split(script, timeouts={"idle": "500ms"}) as at:
        answer = await at.ask()
    assert (answer.body, answer.clean_end) == (ROLE + TEXT + COMMENT * 10 + FINISH, True)


async def test_connection_serves_on_after_its_streams_deadlines_have_passed() -> None:
    script = stream_then(ROLE, TEXT, ending=[*ARRIVED, Send(chunk(FINISH) + chunk(DONE)), CLEAN])
    timeouts = {"stream": "400ms", "idle": "300ms", "total": "400ms"}
    async with split(script, timeouts=timeouts) as at, at.client() as client:
        for _ in range(2):
            await client.send(chat())
            answer = await client.read_response()
            assert (answer.body, answer.clean_end) == (ROLE + TEXT + FINISH + DONE, True)
            await asyncio.sleep(0.5)
        await client.send(request("GET", "/nowhere"))
        assert (await client.read_response()).status > 0
    assert at.lane.records[0].failure is None
    assert at.lane.records[1].failure is None
