"""DESIGN §3.2 from outside: where agent and user come from, and what becomes of who said it.

Under the salt of the tests, `user-1` is fine-tuned at 25 % and `user-42` is not.
"""

import hashlib
from typing import Any

import pytest

from proxy.stub import Stub
from tests.integration.asking import ask, chat, chat_body, error_of
from tests.support.lane import BASELINE, BASELINE_USER, FINETUNED, FINETUNED_USER, policy_of, running
from tests.support.raw_client import request
from tests.support.raw_upstream import RawUpstream, Read, Send, response

TOKEN = "sk-of-the-qa-team"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
OTHER_AGENT = {"content_agent": {"fine_tuned": "ft:content", "fallback": BASELINE}}


@pytest.mark.parametrize(
    ("sources", "data"),
    [
        (["header:x-agent"], chat()),
        (["header:x-agent"], chat(agent=None, headers=[("X-AGENT", "  qa_agent\t")])),
        (["baggage:agent"], chat(agent=None, headers=[("Baggage", "a=b, agent = qa%5Fagent;p=1 ,c=d")])),
        (["path"], chat(agent=None, target="/agents/qa_agent/v1/chat/completions")),
        (["body:agent"], chat(chat_body(agent="qa_agent"), agent=None)),
        (["metadata:agent"], chat(chat_body(metadata={"agent": "qa_agent"}), agent=None)),
        (["model"], chat(chat_body(model="qa_agent"), agent=None)),
        (["key"], chat(agent=None, headers=[("Authorization", f"Bearer {TOKEN}")])),
        (["key"], chat(agent=None, headers=[("authorization", f"bearer   {TOKEN} ")])),
        (["default:qa_agent"], chat(agent=None)),
    ],
    ids=[
        "header",
        "header in capitals",
        "baggage",
        "path",
        "body",
        "metadata",
        "model",
        "key",
        "key in lower case",
        "default",
    ],
)
async def test_agent_is_found_in_every_source(sources: list[str], data: bytes) -> None:
    identity: dict[str, Any] = {"agent": sources}
    if sources == ["key"]:
        identity["keys"] = {DIGEST: "qa_agent"}
    async with Stub() as stub, running(policy_of(stub.url, identity=identity)) as lane:
        answer = await ask(lane, data)
        (call,) = stub.calls
    assert answer.status == 200
    assert answer.head.get(b"x-splitlane-agent") == b"qa_agent"
    assert answer.head.get(b"x-splitlane-variant") == b"finetuned"
    assert answer.head.get(b"x-splitlane-served") == FINETUNED.encode()
    assert (call.model, call.path) == (FINETUNED, "/v1/chat/completions")
    assert call.header("x-agent") is None
    assert call.header("authorization") == "Bearer sk-upstream"


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("header:x-user-id", "{}"),
        ("baggage:user.id", "a=b,user.id={}"),
        ("body:user", chat_body(user="{}")),
        ("body:safety_identifier", chat_body(safety_identifier="{}")),
        ("metadata:user_id", chat_body(metadata={"a": [1], "user_id": "{}"})),
        ("default:{}", chat_body()),
    ],
    ids=["header", "baggage", "body", "other field", "metadata", "default"],
)
@pytest.mark.parametrize(("user", "model"), [(FINETUNED_USER, FINETUNED), (BASELINE_USER, BASELINE)])
async def test_user_is_found_in_every_source_and_decides_alike(
    source: str, data: str | bytes, user: str, model: str
) -> None:
    if isinstance(data, bytes):
        asked = chat(data.replace(b"{}", user.encode()), user=None)
    else:
        asked = chat(
            user=None,
            headers=[(source.split(":", maxsplit=1)[0].replace("header", "x-user-id"), data.format(user))],
        )
    async with Stub() as stub, running(policy_of(stub.url, identity={"user": [source.format(user)]})) as lane:
        assert (await ask(lane, asked)).status == 200
        record = await lane.record()
        assert [call.model for call in stub.calls] == [model]
    assert record.decision.assignment == ("finetuned" if model == FINETUNED else "baseline")


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ("123", "123"),
        ("-7", "-7"),
        ("1.50", "1.50"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("1e400", "1e400"),
        ("Zoë".encode().decode("latin-1"), '"Zo\\u00eb"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("a  b", '"a  b"'),
        ("123", '"123"'),
    ],
)
async def test_user_in_the_body_is_the_same_user_as_in_a_header(header: str, field: str) -> None:
    """Exactly as received; numbers are their own digits."""
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        assert (await ask(lane, chat(user=header))).status == 200
        body = chat_body(user="?").replace(b'"?"', field.encode())
        assert (await ask(lane, chat(body, user=None))).status == 200
        first, second = await lane.record(1), await lane.record(2)
    assert first.decision.bucket == second.decision.bucket >= 0


async def test_first_source_that_says_something_wins() -> None:
    body = chat_body(user=BASELINE_USER, metadata={"agent": "content_agent", "user_id": BASELINE_USER})
    async with Stub() as stub, running(policy_of(stub.url, agents=OTHER_AGENT)) as lane:
        await ask(lane, chat(body))
        await ask(lane, chat(body, agent="", user=" "))
        await lane.record(2)
        assert [record.agent for record in lane.records] == ["qa_agent", "content_agent"]
        assert lane.records[0].decision.variant == "finetuned"
        assert lane.records[1].decision.bucket == (await _bucket(stub, BASELINE_USER, "content_agent"))


async def _bucket(stub: Stub, user: str, agent: str) -> int:
    async with running(policy_of(stub.url, agents=OTHER_AGENT)) as lane:
        await ask(lane, chat(user=user, agent=agent))
        return (await lane.record()).decision.bucket


@pytest.mark.parametrize(
    "data",
    [
        chat(agent="nobody"),
        chat(agent="QA_AGENT"),
        chat(agent=None),
        chat(agent=None, headers=[("Authorization", "Bearer somebody")]),
        chat(agent=None, target="/agents/nobody/v1/chat/completions"),
        chat(agent=None, target="/agents/qa%5Fagent/v1/chat/completions"),
        chat(agent="other"),
    ],
)
async def test_unknown_agent_passes_through_unchanged_as_other(data: bytes) -> None:
    identity = {"agent": ["header:x-agent", "path", "key"], "keys": {DIGEST: "qa_agent"}}
    async with Stub() as stub, running(policy_of(stub.url, identity=identity)) as lane:
        answer = await ask(lane, data)
        record = await lane.record()
        (call,) = stub.calls
    assert answer.status == 200
    assert (record.agent, record.decision.assignment) == ("other", "unassigned")
    assert (call.body, call.path) == (chat_body(), "/v1/chat/completions")


MISSING = [
    chat(user=None),
    chat(user=""),
    chat(user="   "),
    chat(chat_body(user=""), user=None),
    chat(chat_body(user=" \t\r\n"), user=None),
    chat(chat_body(user=None), user=None),
    chat(chat_body(user=True), user=None),
    chat(chat_body(user=["u"]), user=None),
    chat(chat_body(metadata={"user_id": ""}), user=None),
    chat(chat_body(metadata="u"), user=None),
    chat(user=None, headers=[("baggage", "user.id=")]),
    chat(user=None, headers=[("baggage", "user.id=%20%09")]),
    chat(user=None, headers=[("baggage", "other=u;user.id=u")]),
]


@pytest.mark.parametrize("data", MISSING)
async def test_request_without_a_user_is_unassigned_and_on_the_baseline(data: bytes) -> None:
    policy = {"ab_testing": {"rollout_percentage": 100}}
    async with Stub() as stub, running(policy_of(stub.url, **policy)) as lane:
        answer = await ask(lane, data)
        record = await lane.record()
        assert [call.model for call in stub.calls] == [BASELINE]
    assert answer.head.get(b"x-splitlane-variant") == b"baseline"
    assert (record.decision.assignment, record.decision.bucket) == ("unassigned", -1)


@pytest.mark.parametrize(("percentage", "served"), [(0, {BASELINE}), (50, {BASELINE, FINETUNED}), (100, {FINETUNED})])
async def test_random_draws_requests_without_a_user_by_the_percentage(percentage: int, served: set[str]) -> None:
    policy = {"ab_testing": {"rollout_percentage": percentage}, "identity": {"on_missing_user": "random"}}
    async with Stub() as stub, running(policy_of(stub.url, **policy)) as lane:
        for _ in range(60):  # both models of a fair draw are missed once in 2^59
            assert (await ask(lane, chat(user=None))).status == 200
        assert {call.model for call in stub.calls} == served
        await lane.record(60)
        assert {record.decision.assignment for record in lane.records} == {"unassigned"}


@pytest.mark.parametrize("data", MISSING)
async def test_reject_answers_400_without_a_user(data: bytes) -> None:
    async with Stub() as stub, running(policy_of(stub.url, identity={"on_missing_user": "reject"})) as lane:
        answer = await ask(lane, data)
        assert answer.status == 400
        assert error_of(answer)["code"] == "missing_user"
        assert stub.calls == []
        assert (await ask(lane, chat(agent="nobody", user=None))).status == 200
        assert (await ask(lane, chat())).status == 200


@pytest.mark.parametrize(
    ("asked", "model"), [("finetuned", FINETUNED), ("baseline", BASELINE), ("Baseline ", BASELINE)]
)
@pytest.mark.parametrize("user", [FINETUNED_USER, BASELINE_USER, None])
async def test_override_forces_the_variant_where_it_is_allowed(asked: str, model: str, user: str | None) -> None:
    async with Stub() as stub, running(policy_of(stub.url, identity={"allow_override": True})) as lane:
        answer = await ask(lane, chat(user=user, headers=[("x-splitlane-variant", asked)]))
        record = await lane.record()
        (call,) = stub.calls
    assert answer.status == 200
    assert (call.model, record.decision.assignment) == (model, "override")
    assert call.header("x-splitlane-variant") is None


async def test_override_with_an_unknown_variant_is_a_400() -> None:
    async with Stub() as stub, running(policy_of(stub.url, identity={"allow_override": True})) as lane:
        answer = await ask(lane, chat(headers=[("x-splitlane-variant", "best")]))
    assert answer.status == 400
    assert "x-splitlane-variant" in error_of(answer)["message"]
    assert stub.calls == []


@pytest.mark.parametrize(("user", "model"), [(FINETUNED_USER, FINETUNED), (BASELINE_USER, BASELINE)])
async def test_override_is_ignored_where_it_is_not_allowed(user: str, model: str) -> None:
    other = "baseline" if model == FINETUNED else "finetuned"
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        assert (await ask(lane, chat(user=user, headers=[("x-splitlane-variant", other)]))).status == 200
        record = await lane.record()
        (call,) = stub.calls
    assert call.model == model
    assert record.decision.assignment in ("finetuned", "baseline")
    assert call.header("x-splitlane-variant") is None


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("target", ["/v1/chat/completions", "/v1/embeddings"])
async def test_identity_headers_reach_the_upstream_only_with_forward(forward: bool, target: str) -> None:
    identity = {"forward": forward, "allow_override": True}
    fields = [
        ("baggage", "a=b"),
        ("X-Splitlane-Variant", "baseline"),
        ("X-User-Id-Too", "u"),
        ("X-USER-ID", "second"),
    ]
    async with Stub() as stub, running(policy_of(stub.url, identity=identity)) as lane:
        await ask(lane, chat(target=target, headers=fields))
        (call,) = stub.calls
    assert call.all_headers("x-agent") == (["qa_agent"] if forward else [])
    assert call.all_headers("x-user-id") == ([FINETUNED_USER, "second"] if forward else [])
    assert call.all_headers("x-splitlane-variant") == []
    assert call.all_headers("x-user-id-too") == ["u"]
    assert call.all_headers("baggage") == ["a=b"]


async def test_other_routes_go_to_the_agents_baseline_upstream_without_the_agents_path() -> None:
    ok = response(b"{}")
    async with RawUpstream([Read(), Send(ok)]) as up, RawUpstream([Read(), Send(ok)]) as second:
        policy = policy_of(
            up.url,
            upstreams={"second": {"base_url": f"{second.url}/base", "dialect": "openai", "api_key": "sk-second"}},
            agents={"qa_agent": {"fallback": {"upstream": "second", "model": BASELINE}}},
        )
        async with running(policy) as lane:
            assert (await ask(lane, request("GET", "/agents/qa_agent/v1/files/a%2Fb?c"))).status == 200
            assert (await ask(lane, request("GET", "/agents/nobody/v1/files"))).status == 200
        assert [sent.split(b" ")[1] for sent in second.requests] == [b"/base/v1/files/a%2Fb?c"]
        assert b"Bearer sk-second" in second.requests[0]
        assert [sent.split(b" ")[1] for sent in up.requests] == [b"/v1/files"]
