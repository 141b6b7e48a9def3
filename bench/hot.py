"""The request path's pure functions, each called `CALLS` times between two marks, under callgrind (`instructions.py`).

A mark is a call of the C library's `tzset`, which nothing else here calls: callgrind writes its counts and starts
again from zero there.
"""

import gc
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import httptools
import yaml

from bench.features import BUDGETS
from proxy import is_compiled
from proxy.budget.budgets import Budgets
from proxy.exchange.classify import judge
from proxy.exchange.request import request_head
from proxy.ids import Ids
from proxy.ledger.row import Pack
from proxy.policy.load import read_policy
from proxy.policy.snapshot import Policy
from proxy.split.assign import assign
from proxy.split.identity import identify_agent, identify_user
from proxy.telemetry.metrics import Metrics
from proxy.upstream.dialect import render
from proxy.wire.body import Body
from proxy.wire.headers import RequestSorter, response_block
from proxy.wire.sse import EventReader
from proxy.wire.usage import read_usage
from proxy.words import Attempt, Record

CALLS = 1000
WARM = 70
AT_ONCE = 50  # records that are settled together

NOW = 1_800_000_000.0
AGENT = b"legal_agent"
BODY = (
    b'{"model":"legal_agent","messages":[{"role":"system","content":"You are the legal agent."},'
    b'{"role":"user","content":"'
    + b"Please summarise the following paragraph about contract law in plain language. " * 16
    + b'"}],"temperature":0.7,"max_tokens":256,"user":"user-17"}'
)
FIELDS = [
    (b"Host", b"127.0.0.1:9201"),
    (b"Content-Type", b"application/json"),
    (b"Authorization", b"Bearer sk-bench"),
    (b"X-Agent", AGENT),
    (b"X-User-Id", b"user-17"),
    (b"Content-Length", str(len(BODY)).encode()),
]
HEAD = (
    b"Server: nginx/1.22.1\r\nDate: Fri, 27 Nov 2026 08:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 556\r\nConnection: keep-alive\r\n"
)
ANSWER = (
    b'{"id":"cmpl-e5cc70bb28c444948073e77776eb30ef","object":"chat.completion","model":"open-mistral-7b",'
    b'"created":1702256327,"choices":[{"index":0,"message":{"role":"assistant","content":"The capital is Paris. '
    b'It lies on the Seine, in the north of the country."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":316,"completion_tokens":64,"total_tokens":380}}'
)
EVENT = (
    b'data: {"id":"cmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" word"}}]}\n\n'
)


def hot() -> dict[str, Callable[[], object]]:
    """The functions by name; each call is one request's, or one chunk's, share."""
    policy = _policy()
    agent = policy.agents[AGENT]
    sorter = RequestSorter(policy.identity.headers, forward=False)
    headers, body = sorter.sort(FIELDS), Body(BODY)
    _, parsed = judge(200, ANSWER)
    usage = read_usage(parsed)
    target = agent.baseline
    framing = b"Content-Length: %d\r\n" % len(BODY)
    ids, reader, budgets, packing = Ids(), EventReader(), Budgets(), Pack()
    metrics = Metrics(lambda: frozenset({target.model}), tuple)

    def record() -> Record:
        attempt = Attempt("bench", target.model, 200, None, 0.001, 0.9, usage, 0.00009)
        return Record(
            ids.new(NOW), NOW, "chat", agent.name, assign(agent, b"user-17"), agent.percentage, agent.salt, policy.hash,
            target.model, 200, None, None, (attempt,), 0.9, 0.9, -1.0, usage, 0.00009, "cmpl-e5cc70bb28c444948073e7",
            "0123456789abcdef0123456789abcdef", False,
        )  # fmt: skip

    records = [record() for _ in range(AT_ONCE)]
    lines = b"".join(b"%b: %b\r\n" % field for field in FIELDS)
    request = b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\n%b" % (lines, BODY)

    def parse() -> None:
        httptools.HttpRequestParser(object()).feed_data(request)

    def pack() -> bytes:
        packing.add(records)
        return packing.close()

    def budget() -> None:
        held = budgets.admit(policy, agent, body, NOW, finetuned=False)
        budgets.settle(held, 0.00009, usage)

    return {
        "nothing": lambda: None,
        "parse the request (httptools)": parse,
        "sort fields": lambda: sorter.sort(FIELDS),
        "read the body": lambda: Body(BODY),
        "identify": lambda: (
            identify_agent(policy.identity, headers.read, None, body, policy.agents),
            identify_user(policy.identity, headers.read, body),
        ),
        "assign": lambda: assign(agent, b"user-17"),
        "admit and settle a budget": budget,
        "splice the body": lambda: render(body, target, agent.defaults, stream=False),
        "head for the upstream": lambda: request_head(
            b"POST", b"/v1/chat/completions", headers, target.upstream, framing, b"identity"
        ),
        "judge the answer": lambda: judge(200, ANSWER),
        "read its usage": lambda: read_usage(parsed),
        "sort its fields": lambda: response_block(HEAD),
        "make an id": lambda: ids.new(NOW),
        "make a record": record,
        f"count {AT_ONCE} records": lambda: metrics.take(records),
        f"pack {AT_ONCE} records": pack,
        "cut an event": lambda: reader.feed(EVENT),
    }


def _policy() -> Policy:
    """The benchmark's, with budgets that are never spent."""
    sections = yaml.safe_load(Path(__file__).with_name("policy.yaml").read_text())
    with TemporaryDirectory() as folder:
        path = Path(folder, "policy.yaml")
        path.write_text(yaml.safe_dump({**sections, **BUDGETS}))
        return read_policy(path, {}).policy


def main() -> None:
    functions = hot()
    print(is_compiled(), *functions, sep="\n", flush=True)
    gc.disable()
    for function in functions.values():
        for _ in range(WARM):
            function()
        time.tzset()
        for _ in range(CALLS):
            function()
        time.tzset()


if __name__ == "__main__":
    main()
