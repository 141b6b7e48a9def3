"""ACCEPTANCE 28: what `GENESIS_ENV` makes of the proxy, seen from outside.

The shipped files are served by a process of its own, with the upstream's address replaced and nothing else.
"""

import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.policy.store import PolicyStore
from proxy.stub import Stub
from proxy.stub.config import StubConfig
from proxy.words import Dialect
from tests.integration.asking import ask, chat
from tests.support.lane import BASELINE, policy_file, running
from tests.support.served import Served, log_lines, serving

pytestmark = pytest.mark.alone  # the writer runs when nobody else wants to

FINETUNES = {
    "qa_agent": "ft:open-mistral-7b:5010731d:20251031:ecc3829c",
    "content_agent": "ft:open-mistral-7b:5010731d:20251031:547960f9",
    "legal_agent": "ft:open-mistral-7b:5010731d:20251031:eb2da6b7",
    "support_agent": "ft:open-mistral-7b:5010731d:20251031:f997bebc",
    "analyst_agent": "ft:open-mistral-7b:5010731d:20251031:9ae05c7c",
}
SECRETS = {"MISTRAL_API_KEY": "sk-live", "SLACK_WEBHOOK_URL": "https://hooks.example/services/x"}


@asynccontextmanager
async def environment(folder: Path, name: str, stub: Stub, **env: str) -> AsyncIterator[Served]:
    """The proxy as `GENESIS_ENV=name splitlane serve` starts it."""
    (folder / "policies").mkdir()
    for path in policy_file("").glob("*.yaml"):
        text = re.sub(r"base_url: https?://[^\s,}]+", f"base_url: {stub.url}", path.read_text())
        (folder / "policies" / path.name).write_text(text)
    cleared = dict.fromkeys(("MISTRAL_API_KEY", "SLACK_WEBHOOK_URL", "SPLITLANE_STORE_URL"), "")
    async with serving(None, {**cleared, "GENESIS_ENV": name, **env}, folder) as proxy:
        yield proxy


async def ask_all(proxy: Served, users: int) -> Counter[str]:
    """Each of the five agents asked for each user; how often which variant was assigned."""
    variants: Counter[str] = Counter()
    async with proxy.client() as client:
        for agent in FINETUNES:
            for user in range(users):
                await client.send(chat(agent=agent, user=f"person-{user}"))
                answer = await client.read_response()
                assert answer.status == 200
                variants[(answer.head.get(b"x-splitlane-variant") or b"").decode()] += 1
    return variants


async def test_dev_asks_the_baseline_only_with_the_clients_key_and_logs_every_request(tmp_path: Path) -> None:
    async with Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub, environment(tmp_path, "dev", stub) as proxy:
        await ask_all(proxy, 4)
        async with proxy.client() as client:
            await client.send(chat(headers=[("authorization", "Bearer sk-client")]))
            assert (await client.read_response()).status == 200
        assert Counter(call.model for call in stub.calls) == {BASELINE: 21}
        assert stub.calls[-1].header("authorization") == "Bearer sk-client"
        proxy.terminate()
        await proxy.exit_code()
    assert sum(line["logger"] == "splitlane.access" for line in log_lines(proxy.log)) == 21
    assert [path.name for path in tmp_path.iterdir()] == ["policies"], "dev stores nothing"


async def test_staging_asks_each_agents_fine_tune_only(tmp_path: Path) -> None:
    async with (
        Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub,
        environment(tmp_path, "staging", stub, **SECRETS) as proxy,
    ):
        await ask_all(proxy, 4)
        assert Counter(call.model for call in stub.calls) == dict.fromkeys(FINETUNES.values(), 4)
        assert {call.header("authorization") for call in stub.calls} == {"Bearer sk-live"}
        async with proxy.client() as client:
            await client.send(chat(user=None))
            assert (await client.read_response()).status == 200
        assert stub.calls[-1].model == FINETUNES["qa_agent"], "a request without a user is somebody too"
    assert not any(line["logger"] == "splitlane.access" for line in log_lines(proxy.log))


async def test_production_asks_the_fine_tunes_for_a_tenth_of_the_users(tmp_path: Path) -> None:
    async with (
        Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub,
        environment(tmp_path, "production", stub, **SECRETS) as proxy,
    ):
        variants = await ask_all(proxy, 120)
        models = Counter(call.model for call in stub.calls)
        metrics = (await proxy.ask_admin("/metrics")).body.decode()
    assert variants.total() == models.total() == 600
    # 60 expected; 4 standard deviations are 29.  The hash is fixed, so this is the same in every run.
    assert 31 <= variants["finetuned"] <= 89
    assert models[BASELINE] == variants["baseline"]
    assert models.keys() == {BASELINE, *FINETUNES.values()}
    for agent in FINETUNES:
        assert f'splitlane_rollout_percentage{{agent="{agent}"}} 10.0\n' in metrics


@pytest.mark.parametrize("name", ["staging", "production"])
async def test_failing_fine_tune_is_rescued_by_the_baseline(tmp_path: Path, name: str) -> None:
    async with (
        Stub(StubConfig(dialect=Dialect.MISTRAL, faults={"ft:*": "status=503"})) as stub,
        environment(tmp_path, name, stub, **SECRETS) as proxy,
    ):
        variants = await ask_all(proxy, 30)
        called = Counter(call.model for call in stub.calls)
    assert variants["finetuned"] > 0
    assert called[BASELINE] == 150, "every user got an answer, and it is the baseline's"
    assert called.total() > 150


async def test_demo_falls_back_to_another_provider() -> None:
    async with Stub(StubConfig(faults={"ft:*": "status=503"})) as stub:
        urls = {"SPLITLANE_STUB_URL": stub.url, "SPLITLANE_OPENAI_STUB_URL": stub.url}
        async with running(PolicyStore(policy_file("demo.yaml"), urls)) as lane:
            for user in range(40):
                assert (await ask(lane, chat(agent="analyst_agent", user=f"person-{user}"))).status == 200
        asked = {(call.model, call.header("authorization")) for call in stub.calls}
    assert asked == {("gpt-4o", "Bearer demo-openai"), (FINETUNES["analyst_agent"], "Bearer demo-mistral")}
