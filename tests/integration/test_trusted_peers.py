"""`identity.trusted`: whose word is taken for who asks, by the address of the connection.

Every address of 127.0.0.0/8 is this host's, so a test can call from several.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.policy.snapshot import Address
from proxy.policy.store import PolicyStore
from proxy.stub import Stub
from proxy.stub.calls import Call
from tests.integration.asking import chat, chat_body
from tests.support.lane import BASELINE, FINETUNED, FINETUNED_USER, Lane, policy_of, running
from tests.support.raw_client import RawClient, RawResponse
from tests.support.served import write_policy

FRIEND, STRANGER = "127.0.0.1", "127.0.0.2"
TOKEN = "sk-of-the-qa-team"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()


async def ask(lane: Lane, data: bytes, source: str) -> RawResponse:
    async with RawClient(lane.host, lane.port, source=source) as client:
        await client.send(data)
        return await client.read_response()


def trusting(stub: Stub, *trusted: str, **identity: Any) -> Any:
    return policy_of(stub.url, identity={"trusted": list(trusted), **identity})


async def untrusted(lane: Lane) -> float:
    (family,) = lane.service._peers.collect()
    return float(family.samples[0].value)


CLAIMS = {
    "headers": chat(),
    "baggage": chat(agent=None, user=None, headers=[("baggage", f"agent=qa_agent,user.id={FINETUNED_USER}")]),
    "path": chat(agent=None, target="/agents/qa_agent/v1/chat/completions"),
    "metadata": chat(chat_body(metadata={"agent": "qa_agent", "user_id": FINETUNED_USER}), agent=None, user=None),
    "model": chat(chat_body(model="qa_agent", user=FINETUNED_USER), agent=None, user=None),
}


@pytest.mark.parametrize("claim", CLAIMS)
async def test_claim_of_a_trusted_peer_counts_and_a_strangers_does_not(claim: str) -> None:
    async with Stub() as stub, running(trusting(stub, FRIEND)) as lane:
        believed, ignored = [await ask(lane, CLAIMS[claim], source) for source in (FRIEND, STRANGER)]
        assert (believed.status, ignored.status) == (200, 200)
        await lane.record(2)
        assert [(each.agent, each.decision.assignment) for each in lane.records] == [
            ("qa_agent", "finetuned"),
            ("other", "unassigned"),
        ]
        finetuned, passed = stub.calls
        assert finetuned.model == FINETUNED
        assert passed.path == "/v1/chat/completions", "an agent's path is taken off, whoever asks"
        assert await untrusted(lane) == 1


@pytest.mark.parametrize("forward", [False, True])
async def test_strangers_identity_headers_never_reach_the_upstream(forward: bool) -> None:
    def seen(call: Call) -> list[str | None]:
        return [call.header(name) for name in ("x-agent", "x-user-id", "x-splitlane-variant")]

    async with Stub() as stub, running(trusting(stub, FRIEND, forward=forward)) as lane:
        data = chat(headers=[("x-splitlane-variant", "baseline")])
        for source in (FRIEND, STRANGER, FRIEND, STRANGER):  # each has its own way of sorting
            assert (await ask(lane, data, source)).status == 200
        assert [seen(call) for call in stub.calls] == [
            ["qa_agent", FINETUNED_USER, None] if forward else [None] * 3,
            [None] * 3,
        ] * 2


@pytest.mark.parametrize(("source", "assignment"), [(FRIEND, "override"), (STRANGER, "unassigned")])
async def test_override_is_obeyed_for_trusted_peers_only(source: str, assignment: str) -> None:
    identity: dict[str, Any] = {"allow_override": True, "agent": ["key"], "keys": {DIGEST: "qa_agent"}}
    data = chat(user=None, headers=[("x-splitlane-variant", "finetuned"), ("Authorization", f"Bearer {TOKEN}")])
    async with Stub() as stub, running(trusting(stub, FRIEND, **identity)) as lane:
        assert (await ask(lane, data, source)).status == 200
        record = await lane.record()
        assert (record.agent, record.decision.assignment) == ("qa_agent", assignment)
        assert stub.calls[0].model == (FINETUNED if source == FRIEND else BASELINE)


async def test_key_and_default_count_whoever_asks() -> None:
    identity: dict[str, Any] = {
        "agent": ["header:x-agent", "key"],
        "keys": {DIGEST: "qa_agent"},
        "user": ["header:x-user-id", f"default:{FINETUNED_USER}"],
    }
    async with Stub() as stub, running(trusting(stub, **identity)) as lane:
        data = chat(agent="nobody", user="somebody", headers=[("Authorization", f"Bearer {TOKEN}")])
        assert (await ask(lane, data, FRIEND)).status == 200
        record = await lane.record()
        assert (record.agent, record.decision.assignment) == ("qa_agent", "finetuned")


async def test_forwarded_headers_do_not_make_a_friend() -> None:
    claimed = [("X-Forwarded-For", FRIEND), ("X-Real-IP", FRIEND), ("Forwarded", f"for={FRIEND}"), ("Via", FRIEND)]
    async with Stub() as stub, running(trusting(stub, FRIEND)) as lane:
        assert (await ask(lane, chat(headers=claimed), STRANGER)).status == 200
        assert (await lane.record()).agent == "other"


@pytest.mark.parametrize(
    ("trusted", "agent"), [("loopback", "qa_agent"), ("::1", "qa_agent"), ("127.0.0.0/8", "other"), ("any", "qa_agent")]
)
async def test_peer_over_ipv6_is_known_by_its_own_address(trusted: str, agent: str) -> None:
    async with Stub() as stub, running(trusting(stub, trusted), Address("::1", 0)) as lane:
        assert (await ask(lane, chat(), "")).status == 200
        assert (await lane.record()).agent == agent


async def test_stranger_without_a_user_is_refused_where_the_policy_says_so() -> None:
    identity = {"agent": ["default:qa_agent"], "on_missing_user": "reject"}
    async with Stub() as stub, running(trusting(stub, FRIEND, **identity)) as lane:
        assert (await ask(lane, chat(), FRIEND)).status == 200
        refused = await ask(lane, chat(), STRANGER)
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (400, "missing_user")


async def test_reload_decides_anew_for_connections_that_are_open(tmp_path: Path) -> None:
    async with Stub() as stub:

        def write(trusted: str) -> Path:
            return write_policy(tmp_path, stub.url, identity={"trusted": trusted})

        store = PolicyStore(write("any"), {})
        async with running(store) as lane, RawClient(lane.host, lane.port) as client:
            for trusted in ("any", "10.0.0.0/8", "loopback"):
                write(trusted)
                await store.reload()
                await client.send(chat())
                assert (await client.read_response()).status == 200
            await lane.record(3)
            assert [record.agent for record in lane.records] == ["qa_agent", "other", "qa_agent"]
            assert await untrusted(lane) == 1
