"""ACCEPTANCE 36: neither side can put a field, a line or a label of its own into what we write."""

import json
import logging
from urllib.parse import quote

import pytest

from proxy.telemetry.access import line_of
from proxy.telemetry.log import JsonFormatter
from tests.integration.asking import ANSWER, ask, chat, chat_body
from tests.support.lane import FINETUNED_USER, Lane, policy_of, running
from tests.support.raw_client import RawClient, request
from tests.support.raw_upstream import RawUpstream, Read, Send, response

EVIL = "a\r\nX-Evil: 1\r\n\r\n"
ANYWHERE = {
    "agent": ["header:x-agent", "baggage:agent", "path", "metadata:agent", "body:agent", "model"],
    "user": ["header:x-user-id", "baggage:user.id", "body:user", "metadata:user_id"],
}


@pytest.mark.parametrize(
    "data",
    [
        chat(agent="qa_agent\x0bX-Evil: 1", user="u"),
        chat(
            agent=None,
            user=None,
            headers=[("baggage", "agent=a%0d%0aX-Evil:%201,user.id=a%0d%0aX-Evil:%201")],
        ),
        chat(agent=None, user=None, target="/agents/a%0d%0aX-Evil:%201/v1/chat/completions"),
        chat(chat_body(metadata={"agent": EVIL, "user_id": EVIL}), agent=None, user=None),
        chat(chat_body(agent=EVIL, user=EVIL), agent=None, user=None),
        chat(chat_body(model=EVIL), agent=None, user=None),
        chat(chat_body(user=EVIL)),
        chat(chat_body(metadata={"user_id": EVIL}), user=None),
        chat(user=None, headers=[("baggage", "user.id=a%0d%0aX-Evil:%201%00")]),
        chat(target="/v1/chat/completions?a=%0d%0aX-Evil:%201"),
    ],
    ids=[
        "header",
        "baggage",
        "path",
        "metadata",
        "body",
        "model",
        "user",
        "user in metadata",
        "user in baggage",
        "query",
    ],
)
async def test_line_breaks_in_names_become_no_fields_and_no_log_lines(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """ACCEPTANCE 36."""
    caplog.set_level(logging.DEBUG)
    async with RawUpstream([Read(), Send(ANSWER)]) as up:
        async with running(policy_of(up.url, identity=ANYWHERE)) as lane:
            answer = await ask(lane, data)
            if answer.status == 200:
                assert (await lane.record()).decision.variant in ("finetuned", "baseline")
            assert {record.agent for record in lane.records} <= {"qa_agent", "other"}
        assert answer.status in (200, 400)
        assert not answer.head.all(b"x-evil")
        for sent in up.requests:
            head = sent.partition(b"\r\n\r\n")[0]
            assert b"\nx-evil" not in head.lower()
    for line in caplog.records:
        text = JsonFormatter().format(line)
        assert "\n" not in text
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    "field",
    [
        b"X-A: b\rX-Evil: 1",
        b"X-A: b\nX-Evil: 1",
        b"X-A: b\x00c",
        b"X-A: b\r\n X-Evil: 1",
        b"X-A : b",
        b"X A: b",
        b"X-Evil",
        b": b",
        b"X-\xe9: b",
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"content-length: 5\r\ncontent-length: 7",
        b"content-length: +5",
        b"content-length: 5, 7",
        b"transfer-encoding: gzip, chunked",
    ],
)
@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/models"])
async def test_malformed_field_of_an_upstream_reaches_no_client(target: str, field: bytes) -> None:
    """ACCEPTANCE 36: the answer is refused, or the field is clean; a client never sees it split."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + field + b"\r\nX-Last: 1\r\n"
    body = ANSWER.partition(b"\r\n\r\n")[2]
    if b"content-length" not in field and b"transfer" not in field:
        evil += b"Content-Length: %d\r\n" % len(body)
    async with (
        RawUpstream([Read(), Send(evil + b"\r\n" + body)]) as up,
        running(policy_of(up.url, fallback={"retry": {"baseline": 0}})) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        await client.send(chat(target=target))
        raw = await client.read() + await client.read_until_idle(0.1)
    head = raw.partition(b"\r\n\r\n")[0]
    assert raw.count(b"HTTP/1.1 ") == 1
    assert head.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 502 "))
    lines = head.split(b"\r\n")[1:]
    assert not any(line.lower().startswith((b"x-evil", b" ", b"\t")) for line in lines)
    assert all(b":" in line and b"\r" not in line and b"\n" not in line and b"\x00" not in line for line in lines)
    assert head.lower().count(b"content-length:") + head.lower().count(b"transfer-encoding:") == 1
    assert b"gzip" not in head.lower()


async def test_answer_splitting_upstream_gives_one_answer_only() -> None:
    """ACCEPTANCE 36: bytes behind an answer belong to nobody, least of all to the next request."""
    second = response(b'{"stolen":true}', headers=[("x-evil", "1")])
    async with (
        RawUpstream([Read(), Send(ANSWER + second)]) as up,
        running(policy_of(up.url)) as lane,
        RawClient(lane.host, lane.port) as client,
    ):
        for _ in range(3):
            await client.send(chat(user=FINETUNED_USER))
            answer = await client.read_response()
            assert answer.status == 200
            assert b"stolen" not in answer.body
            assert not answer.head.all(b"x-evil")


# What moves a terminal, ends a line for somebody, turns text round, or ends what it stands in.
EVIL_TEXTS = [
    "a\x1b]0;title\x07\x1b[2J", "a\x9b31mred", "a\u2028b", "a\u0085b", "\u202eevil", "a\x7fb", "\ufeffa", "\u200ba",
    '"}\n{"level":"error"', "<!channel> <http://x|y> &", "<script>alert(1)</script>", '"} 1\nsplitlane_evil{x="',
    "=cmd|'/c calc'!A0", "${HOME} %s %n {0} {{7*7}}", "a" * 5000,
]  # fmt: skip


async def shown(lane: Lane) -> bytes:
    """All that the admin listener tells anybody, the dashboard's events too."""
    told = b""
    address = lane.service.admin
    for path in ("/metrics", "/health", "/policy", "/"):
        async with RawClient(address.host, address.port) as client:
            await client.send(request("GET", path))
            told += (await client.read_response()).body
    async with RawClient(address.host, address.port) as client:
        await client.send(request("GET", "/dashboard/events", b"", [("Accept", "text/event-stream")]))
        while b"event: live" not in told:
            told += await client.read()
    return told


async def test_names_that_move_terminals_or_end_lines_come_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """ACCEPTANCE 36: agent, user, model, override, path and answer's id, in every place that is told."""
    caplog.set_level(logging.DEBUG)
    answers = [
        response(json.dumps({**json.loads(ANSWER.partition(b"\r\n\r\n")[2]), "id": f"{text} ", "model": text}).encode())
        for text in EVIL_TEXTS
    ]
    async with (
        RawUpstream([step for answer in answers for _ in range(4) for step in (Read(), Send(answer))]) as up,
        running(policy_of(up.url, identity={**ANYWHERE, "allow_override": True})) as lane,
    ):
        for text in EVIL_TEXTS:
            header = text.encode().replace(b"\n", b"\t").replace(b"\0", b"").decode("latin-1")
            people = {"user": text, "agent": text, "metadata": {"agent": text, "user_id": text}}
            for data in (
                chat(chat_body(model=text, **people), agent=None, user=None),
                chat(agent=header[:200].replace("\x1b", "").replace("\x07", "").replace("\x7f", ""), user="u"),
                chat(chat_body(user=text), user=None),
                chat(chat_body(), target=f"/agents/{quote(text[:200])}/v1/chat/completions", agent=None),
                chat(headers=[("x-splitlane-variant", quote(text[:200]))]),
            ):
                assert (await ask(lane, data)).status in (200, 400)
        told = await shown(lane)
        lines = [line_of(record) for record in lane.records]
    assert len(lines) == len(EVIL_TEXTS) * 5
    lines += [JsonFormatter().format(record).encode() + b"\n" for record in caplog.records]
    for line in lines:
        assert line.isascii()
        assert len(line.decode().splitlines()) == 1
        assert line[:-1].decode().isprintable()
        assert isinstance(json.loads(line), dict)
    for text in EVIL_TEXTS:
        for place in (told, *lines):
            assert text[:100].encode() not in place
            assert json.dumps(text[:100]).encode()[1:-1] not in place
    assert b"splitlane_evil" not in told
