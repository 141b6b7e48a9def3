"""No user, prompt, completion or key comes to rest anywhere, at any level: canaries in everything that passes.

A process with all that tells switched on: log level debug, each request in the access log, a store, traces and
metrics to a collector, notices to a webhook.  Afterwards its log, its admin answers, the dashboard's events, our own
headers and error bodies, what collector and webhook were sent, its command line, and every file of the store's
folder are searched for the canaries, as they were sent and as an encoder or a plain hash would leave them.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import mmh3
import pytest

from proxy.cli import main
from tests.integration.asking import chat_body
from tests.support.collector import collector as told
from tests.support.lane import BASELINE, FINETUNED
from tests.support.raw_client import RawClient, RawResponse, request
from tests.support.raw_upstream import Close, RawUpstream, Read, Send, event_stream, response
from tests.support.served import Served, log_lines, serving, write_policy

SALT = f"qa_agent/{FINETUNED}"


SHADOW = {"percentage": 100, "max_in_flight": 256, "daily_usd": 1_000_000}


def canary(name: str) -> str:
    """A text that is nowhere else; `+` and `@` are what URL encoding changes."""
    return f"canary+{name}@nest.example"


USERS = ("header", "baggage", "user", "safety", "metadata", "feedback")
WORDS = ("prompt", "system", "argument", "tool", "completion", "delta", "failure", "broken", "agent", "model", "path",
         "query", "field", "method", "key", "upstreamkey", "variant", "comment", "token", "hook", "unitkey",
         "written", "misspelt")  # fmt: skip
CANARIES = tuple(map(canary, (*USERS, *WORDS)))


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """How a text could be found again: name and bytes, in lower case but for base64."""
    raw = secret.encode()
    yield "raw", raw
    yield "URL-encoded", quote(secret, safe="").lower().encode()
    yield "hex", raw.hex().encode()
    for offset in range(3):  # where it begins within three bytes, the characters at its edges left out
        yield "base64", base64.b64encode(b"\0" * offset + raw)[4:-4]
        yield "base64 for URLs", base64.urlsafe_b64encode(b"\0" * offset + raw)[4:-4]
    for text in (raw, f"qa_agent:{secret}".encode(), f"{SALT}:{secret}".encode()):
        for kind in ("md5", "sha1", "sha256", "blake2b"):
            yield kind, hashlib.new(kind, text).hexdigest()[:32].encode()
            yield f"{kind} in base64", base64.b64encode(hashlib.new(kind, text).digest())[:16]
        yield "blake2b without a key", hashlib.blake2b(text, digest_size=16).hexdigest().encode()
        yield "murmur3", b"%d" % mmh3.hash(text, signed=False)
        yield "murmur3 in hex", b"%08x" % mmh3.hash(text, signed=False)


FORMS = [(secret, form, data) for secret in CANARIES for form, data in forms(secret)]


def sightings(places: Mapping[str, bytes], but: frozenset[str] = frozenset()) -> list[str]:
    """Where which canary is, in which form."""
    found = []
    for place, content in places.items():
        lower = content.lower()
        for secret, form, data in FORMS:
            if secret not in but and data in (content if "base64" in form else lower):
                found.append(f"{secret} as {form} in {place}")
    return found


@pytest.mark.parametrize("secret", [canary("header"), canary("prompt")])
def test_search_finds_a_canary_in_every_form(secret: str) -> None:
    for form, data in forms(secret):
        hit = data.upper() if form in ("raw", "hex") else data
        assert any(form in each for each in sightings({"here": b"\0..." + hit + b"...\xff"})), form


# --- what is sent -----------------------------------------------------------------------------------


def bodies() -> Iterator[bytes]:
    """Chat bodies with a canary in each place that a person fills."""
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "f", "arguments": json.dumps({"a": canary("argument")})},
    }
    messages = [
        {"role": "system", "content": canary("system")},
        {"role": "user", "content": canary("prompt")},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": canary("tool")},
    ]
    metadata = {"user_id": canary("metadata")}
    people = {"user": canary("user"), "safety_identifier": canary("safety"), "metadata": metadata}
    for stream in (False, True):
        for field, value in people.items():
            yield chat_body(messages=messages, stream=stream, seed=1, **{field: value})
    whole = chat_body(messages=messages, model=canary("model"), user=canary("user"))
    yield whole
    yield whole[:-9]  # cut off
    yield whole[:-1] + b',"model":"m"}'  # two models
    yield b"[" + whole + b"]"
    yield whole.replace(b"canary", b"canary\xff", 1)
    yield b'"' + canary("prompt").encode() + b'"'


def requests() -> Iterator[bytes]:
    """Every body under every way to say who asks; other routes; what is no request."""
    key = ("Authorization", f"Bearer {canary('key')}")
    named = [("X-Agent", "qa_agent")]
    ways = [
        [*named, ("X-User-Id", canary("header"))],
        [("baggage", f"agent=qa_agent,user.id={quote(canary('baggage'))}")],
        named,
        [("X-Agent", canary("agent")), ("X-User-Id", canary("header"))],
        [*named, ("X-User-Id", canary("header")), ("X-Splitlane-Variant", canary("variant"))],
        [*named, ("X-User-Id", canary("header")), ("X-Note", canary("field")), ("Content-Encoding", "gzip")],
    ]
    for body in bodies():
        for way in ways:
            yield request("POST", "/v1/chat/completions", body, [*way, key])
    yield request(
        "POST", f"/agents/{quote(canary('agent'))}/v1/chat/completions", chat_body(user=canary("user")), [key]
    )
    yield request("GET", f"/v1/{quote(canary('path'))}?q={quote(canary('query'))}", b"", [key])
    yield request("POST", "/v1/embeddings", json.dumps({"model": "m", "input": canary("prompt")}).encode(), [key])
    told = {"request_id": "none", "user": canary("feedback"), "value": True, "comment": canary("comment")}
    yield request("POST", "/v1/feedback", json.dumps(told).encode(), [key])
    yield request("POST", "/v1/feedback", json.dumps(told).encode()[:-3], [key])
    yield f"{canary('method')} / HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    yield f"GET http:{canary('path')} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    yield f"GET / HTTP/1.1\r\nHost: {canary('field')}\r\nHost: {canary('field')}\r\n\r\n".encode()
    yield f"GET / HTTP/1.1\r\nHost: a\r\nX-Note: {canary('field')}\0\r\n\r\n".encode()
    yield f"POST /v1/files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {canary('field')}\r\n\r\n".encode()
    yield f"POST /v1/files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{canary('prompt')}".encode()


def answers() -> Iterator[bytes]:
    """What upstreams say, well or not."""
    message = {"role": "assistant", "content": canary("completion")}
    answer = {"id": "chatcmpl-1", "model": canary("model"), "choices": [{"index": 0, "message": message}]}
    sound = json.dumps(answer).encode()
    delta = {"id": "chatcmpl-2", "choices": [{"index": 0, "delta": {"content": canary("delta")}}]}
    event = b"data: %b\n\n" % json.dumps(delta).encode()
    error = json.dumps({"error": {"message": canary("failure"), "type": canary("failure"), "code": canary("failure")}})
    yield response(sound)
    yield event_stream(event, event, b"data: [DONE]\n\n")
    yield response(error.encode(), 500)
    yield response(canary("broken").encode())
    yield event_stream(event, f"data: {error}\n\n".encode())
    yield response(error.encode(), 400)
    yield event_stream(f"data: {canary('broken')}\n\n".encode(), b"data: [DONE]\n\n")
    yield response(error.encode(), 404, [("content-type", canary("broken")), ("x-request-id", canary("failure"))])
    yield response(sound, 302, [("location", f"http://a/{canary('path')}")])
    yield event_stream(event, event, end=False)


# --- what is searched -------------------------------------------------------------------------------


async def ask(proxy: Served, data: bytes) -> RawResponse | None:
    """The answer; None where the connection just ended."""
    async with proxy.client() as client:
        await client.send(data)
        try:
            return await client.read_response()
        except (asyncio.IncompleteReadError, ConnectionError):
            return None


def our_words(answer: RawResponse) -> bytes:
    """Of an answer, what is ours: headers, and the body where no upstream was asked."""
    own = [b"%b: %b" % field for field in answer.headers if field[0].lower().startswith(b"x-splitlane-")]
    return b"\n".join([*own, answer.body if answer.head.get(b"x-splitlane-attempts") == b"0" else b""])


async def watched(proxy: Served) -> bytes:
    """The dashboard's first events."""
    async with RawClient("127.0.0.1", proxy.admin) as client:
        await client.send(request("GET", "/dashboard/events", b"", [("Accept", "text/event-stream")]))
        seen = b""
        while b"event: live" not in seen:
            seen += await client.read_until_idle(0.1)
        return seen


async def test_nothing_that_a_person_wrote_comes_to_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    store.mkdir()
    script = [step for answer in answers() for step in (Read(), Send(answer))]
    places: dict[str, bytes] = {}
    with told() as told_to:
        async with RawUpstream([*script[:-2], Read(), script[-1], Close()]) as upstream:
            policy = write_policy(
                tmp_path,
                upstream.url,
                upstreams={"up": {"base_url": upstream.url, "api_key": "${CANARY_KEY}", "dialect": "mistral"}},
                identity={"allow_override": True},
                fallback={"breaker": {"failures": 10_000}, "retry": {"baseline": 0}},
                ab_testing={"enabled": True, "rollout_percentage": 50},
                agents={"qa_agent": {"fine_tuned": FINETUNED, "fallback": BASELINE, "shadow": SHADOW}},
                prices={"*": {"input": 1, "output": 1}},
                store={"url": f"sqlite:///{store}/splitlane.db", "unit_key": "${CANARY_UNIT}"},
                observability={
                    "log_level": "debug",
                    "access_log": "100%",
                    "export_endpoint": told_to.url,
                    "traces": "100%",
                },
                alerting={"slack_webhook": "${CANARY_HOOK}"},
                limits={"drain": "2s"},
            )
            env = {
                "CANARY_KEY": canary("upstreamkey"),
                "CANARY_UNIT": canary("unitkey").ljust(32, "."),
                "CANARY_HOOK": f"{told_to.url}/{canary('hook')}",
                "SPLITLANE_ADMIN_TOKEN": canary("token"),
            }
            async with serving(policy, env) as proxy:
                for number, data in enumerate(requests()):
                    if (answer := await ask(proxy, data)) is not None:
                        places[f"answer {number}"] = our_words(answer)
                for path in ("/", "/metrics", "/policy", "/health", "/health/qa_agent"):
                    places[path] = (await proxy.ask_admin(path)).body
                reload = await proxy.ask_admin("/policy/reload", "POST", canary("token"))
                assert reload.status == 200
                places["reload"] = reload.body
                places["events"] = await watched(proxy)
                text = policy.read_text()
                key = f"api_key: {canary('written')}"
                wrong = f"{text}api_key{canary('misspelt')}: 1\n".replace(
                    "api_key: ${CANARY_KEY}", f"{key}\n    api_kye: x"
                )
                policy.write_text(wrong)
                places["a bad policy"] = (await proxy.ask_admin("/policy/reload", "POST", canary("token"))).body
                assert b'"problems"' in places["a bad policy"]
                places["/policy with an error"] = (await proxy.ask_admin("/policy")).body
                places["command line"] = Path(f"/proc/{proxy.pid}/cmdline").read_bytes()
                places["a wrong token"] = (await proxy.ask_admin("/policy/reload", "POST", canary("key"))).body
                proxy.terminate()
                assert await proxy.exit_code() == 0
            sent = b"".join(upstream.requests)
            posts = list(told_to.posts)
    for number, post in enumerate(posts):
        path = post.path.replace(quote(canary("hook"), safe="+@"), "").replace(canary("hook"), "")
        places[f"post {number} to {path}"] = repr((path, post.headers)).encode() + post.body
    bad = tmp_path / "bad.yaml"
    bad.write_text(wrong)
    policy.write_text(text)
    commands = [
        *(["report", "--policy", str(policy), *shape] for shape in ([], ["--json"], ["--md"])),
        *(["check", str(each)] for each in (bad, policy)),
        *(["diff", str(policy), str(each)] for each in (bad, policy)),
        ["rollout", "status", "--policy", str(policy)],
    ]
    for argv in commands:
        main(argv)
        places[f"{argv[0]} {len(places)}"] = "".join(capsys.readouterr()).encode()
    assert any(place.startswith("report ") and b"qa_agent" in said for place, said in places.items())
    log = "".join(proxy.log)
    places["log"] = log.encode()
    # A comment on an answer is written to be kept; it is kept in the store, and nowhere else.
    kept = {str(file): file.read_bytes() for file in store.rglob("*") if file.is_file()}
    assert any(b"qa_agent" in content for content in kept.values()), "the store has been written to"
    assert not sightings(places)
    assert not sightings(kept, but=frozenset({canary("comment")}))

    # It was no silence: the canaries were there, and were told about.
    assert {post.path for post in posts} >= {"/v1/traces", "/v1/metrics"}
    assert [post for post in posts if b"which GET /policy lists" in post.body], "the webhook was told of the bad policy"
    shadow = rb'splitlane_shadow_total\{agent="qa_agent",outcome="(\w+)"\} [1-9]'
    copied = {outcome.decode() for outcome in re.findall(shadow, places["/metrics"])}
    assert {"success", "bad_body"} <= copied, "copies have been sent, and were answered"
    assert all(canary(name).encode() in sent for name in ("prompt", "argument", "metadata", "upstreamkey"))
    lines = [line for line in log_lines(proxy.log) if line["logger"] == "splitlane.access"]
    assert len(lines) > 80
    outcomes = {line["outcome"] for line in lines}
    assert {"success", "server_error", "bad_body", "bad_request", "stream_error"} <= outcomes
    assert {line["fallback"] for line in lines} > {None, "server_error", "bad_body"}
    assert {line["served"] for line in lines} >= {FINETUNED, BASELINE, None}
    assert len({line["bucket"] for line in lines}) >= 6, "each source of a user was read"
    assert re.search(r'"adapted":\["', log), "fields were adapted"
