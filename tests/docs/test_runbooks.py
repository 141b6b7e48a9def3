"""The runbooks: a page for every alert and every failure, which says what the program does, and whose commands work."""

import asyncio
import contextlib
import io
import os
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from proxy.cli import main
from proxy.exchange.brake import BRAKING
from proxy.exchange.classify import BREAKING, RETRYABLE
from proxy.ledger.row import _NOT_THE_MODELS
from proxy.policy.compile import _ALWAYS
from proxy.policy.load import read_policy
from proxy.policy.placeholders import Placeholders
from proxy.policy.store import PolicyStore
from proxy.stub import Stub, StubConfig
from proxy.telemetry.recent import _SPARED
from proxy.wire.errors import failure_answer
from proxy.words import Dialect, Failure
from tests.docs.pages import ROOT, anchors, bare, blocks, links, rows, section, text_of
from tests.integration.asking import chat, chat_body
from tests.support.lane import policy_of, running
from tests.support.monitoring import prometheus
from tests.support.raw_client import RawClient, request
from tests.support.served import Served, serving

INDEX = "runbooks/README.md"
PAGES = tuple(sorted(str(path.relative_to(ROOT)) for path in (ROOT / "runbooks").rglob("*.md")))
INCIDENTS = tuple(page for page in PAGES if page != INDEX)
HEADINGS = ("Symptom", "What the user sees", "Check", "Causes", "Act", "Undo", "Prevent")
RULES = ROOT / "deploy/prometheus/alerts.yml"
URL = "https://github.com/splitlane/splitlane/blob/main/"
ARCHITECTURE = "docs/architecture.md"
OBSERVABILITY = "docs/observability.md"

# Those with a page of more than one alert; every other alert's page has its name.
SHARED = {
    "model_failure": (
        "HighModelErrorRate", "ModelUnavailable", "LowSuccessRate", "HighFallbackRate", "SuccessBudgetBurnFast",
        "SuccessBudgetBurnSlow",
    ),
    "high_latency": ("HighModelLatency", "VeryHighModelLatency"),
    "cost_overrun": ("HighCostBurn", "CriticalCostOverrun", "BudgetNearlySpent"),
}  # fmt: skip
OWN = (
    "BrakeTripped", "RolledBack", "SampleRatioMismatch", "PolicyReloadFailing", "LedgerDropping", "BreakerOpen",
    "LoopLagging",
)  # fmt: skip
# Those that have no series before a ramp has been decided on.
UNDECIDED = ("splitlane_rollout_held", "splitlane_rollout_moves_total", "splitlane_srm_p")

UPSTREAM = "https://api.mistral.ai"
DATA, ADMIN = "http://127.0.0.1:8080", "http://127.0.0.1:8081"
TOKEN = "admin-token"
FINETUNED, BASELINE = "erin", "user-1"  # users of qa_agent at 10 %


# --- pages ------------------------------------------------------------------------------------


def alerts() -> dict[str, str]:
    """Each alert's page."""
    expected = {name: f"runbooks/{page}.md" for page, names in SHARED.items() for name in names}
    expected |= {name: f"runbooks/{re.sub(r'(?<!^)(?=[A-Z])', '_', name).lower()}.md" for name in OWN}
    if not RULES.exists():
        return expected
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    found = {
        rule["alert"]: rule["annotations"]["runbook_url"].removeprefix(URL).partition("#")[0]
        for rule in rules
        if "alert" in rule
    }
    assert found.items() >= expected.items()
    return found


def page_of(failure: Failure) -> str:
    return f"runbooks/failures/{failure}.md"


def test_every_alert_has_its_page_and_the_index_leads_there() -> None:
    indexed = dict(rows(section(INDEX, "By alert"), "alert"))
    assert indexed.keys() == alerts().keys()
    for name, page in alerts().items():
        assert page in INCIDENTS, f"{name} has no page {page}"
        assert f"]({page.removeprefix('runbooks/')})" in indexed[name]
        assert f"**{name}**" in text_of(page), f"{page} does not say that it is for {name}"


def test_every_failure_has_a_page_and_the_index_leads_there() -> None:
    assert {page for page in PAGES if page.startswith("runbooks/failures/")} == set(map(page_of, Failure))
    words = [word for word, _ in rows(section(INDEX, "By failure word"), "word")]
    assert words == [f"[`{failure}`](failures/{failure}.md)" for failure in Failure]


def test_index_leads_to_every_page_and_knows_every_code_and_header() -> None:
    assert {link.page for link in links(INDEX)} >= set(INCIDENTS)
    for first in ("code", "admin code"):
        heading = "Failure vocabulary" if first == "code" else "The client's connection"
        for row in rows(section(ARCHITECTURE, heading), first):
            code = bare(row[0])
            assert f"`{code}`" in text_of(INDEX), code
    for header, _ in rows(section("README.md", "Point a client at it"), "header"):
        assert header in text_of(INDEX)
    assert INDEX in {link.page for link in links("README.md")}


@pytest.mark.parametrize("page", INCIDENTS)
def test_page_has_the_headings_in_their_order(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == HEADINGS
    assert all(section(page, heading).strip() for heading in HEADINGS)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    for link in links(page):
        if link.page:
            assert (ROOT / link.page).is_file(), link
            assert not link.anchor or link.anchor in anchors(link.page), link


@pytest.mark.parametrize("failure", Failure)
def test_facts_of_a_failures_page_are_the_programs(failure: Failure) -> None:
    ((rescued, retried, breaker, brake, health, gates, status, switch),) = rows(text_of(page_of(failure)), "rescued")
    on = policy_of("http://127.0.0.1:1").fallback.on
    assert rescued == ("yes" if failure in on else "no")
    assert retried == ("yes" if failure in RETRYABLE else "no")
    assert breaker == ("counts" if failure in BREAKING else "–")
    assert brake == ("counts" if failure in BRAKING else "–")
    assert status == str(failure_answer(failure).status)
    if failure in (Failure.BRAKE, Failure.BREAKER_OPEN):
        assert health == f"`{failure}`"
    else:
        assert (health == "–") == (failure in _SPARED or failure is Failure.CLIENT_GONE)
    if failure in _NOT_THE_MODELS:
        assert gates == "none"
    else:
        assert gates == ("`first_attempt`, `fallback_rate`" if failure in on else "`success`, `first_attempt`")
    if failure in _ALWAYS or switch == "–":
        assert switch == ("always" if failure in _ALWAYS else "–")
    else:
        key = bare(switch).rpartition(".")[2]
        for answer in (True, False):
            policy = policy_of("http://127.0.0.1:1", fallback={"on": {key: answer}})
            assert (failure in policy.fallback.on) == answer


def test_changes_of_the_policy_that_pages_show_are_sound(tmp_path: Path) -> None:
    _copy_policies(tmp_path, UPSTREAM)
    shown = blocks("yaml", *PAGES)
    assert len(shown) > 20
    for number, block in enumerate(shown):
        path = tmp_path / "policies" / f"{number}.yaml"
        path.write_text(f"extends: _shared.yaml\n{block.text}")
        assert read_policy(path, Placeholders({})).policy.agents, block


def _copy_policies(folder: Path, upstream: str) -> None:
    """The shipped policies, with another upstream, and the secrets that pages mount."""
    policies = folder / "policies"
    policies.mkdir()
    for name in ("_shared.yaml", "production.yaml"):
        text = (ROOT / "policies" / name).read_text()
        (policies / name).write_text(text.replace(UPSTREAM, upstream))
    for secret in ("mistral", "openai"):
        (policies / "secrets").mkdir(exist_ok=True)
        (policies / "secrets" / secret).write_text("sk-test")


# --- commands ---------------------------------------------------------------------------------


# Orders to the ramp, as one follows from another: pages tell them of incidents that have happened.
ORDERS = ("--percentage", "pause", "resume", "rollback", "clear", "advance")


def commands() -> dict[str, str]:
    """Every distinct command that a reader is told to run, with the first page that has it; orders come last."""
    found: dict[str, str] = {}
    for heading in ("First minute", "Check", "Act", "Undo"):
        for page in [INDEX] if heading == "First minute" else INCIDENTS:
            for block in re.findall(r"^```(?:ba)?sh\n(.*?)^```$", section(page, heading), re.MULTILINE | re.DOTALL):
                for line in block.splitlines():
                    found.setdefault(line, f"{page}: {heading}")
    return dict(sorted(found.items(), key=lambda each: _rank(each[0])))


def _rank(command: str) -> int:
    order = re.match(r"splitlane rollout (\S+)", command)
    return ORDERS.index(order[1]) if order and order[1] in ORDERS else -1


@asynccontextmanager
async def production(folder: Path, stub: Stub) -> AsyncIterator[tuple[Served, dict[str, str]]]:
    """The production policy as it is shipped, but for its upstream, on a SQLite store; and its environment."""
    _copy_policies(folder, stub.url)
    (folder / "reports").mkdir()
    (folder / "reports" / "ab_testing_results.md").touch()  # today's is not due
    env = {
        "MISTRAL_API_KEY": "sk-test",
        "OTEL_EXPORTER_OTLP_ENDPOINT": stub.url,
        "SLACK_WEBHOOK_URL": f"{stub.url}/hook",
        "SPLITLANE_ADMIN_TOKEN": TOKEN,
    }
    async with serving(Path("policies/production.yaml"), env, folder) as proxy:
        yield proxy, env


async def mixed_traffic(client: RawClient) -> int:
    """Answers, rescues and failures of two agents; how many requests that were."""
    faults = ["status=500", "empty", "context_length", ""]
    asked = [
        *(chat(user=FINETUNED, headers=[("x-stub-fault", f"model=ft:*,{fault}")] if fault else []) for fault in faults),
        *(chat(user=BASELINE, headers=[("x-stub-fault", fault)]) for fault in ("auth", "status=503")),
        chat(chat_body(stream=True, logit_bias={"1": 1}), user=BASELINE),
        chat(agent="legal_agent", user=FINETUNED),
        chat(agent="legal_agent", user=BASELINE),
    ]
    for data in asked:
        await client.send(data)
        await client.read_response()
    return len(asked)


async def in_shell(command: str, folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "bash", "-o", "pipefail", "-c", command, cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(15):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def in_process(command: str) -> tuple[int, str]:
    """A command of ours, without the second that starting Python takes."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            code = main(shlex.split(command, comments=True)[1:])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return code, told.getvalue()


async def test_every_command_of_the_pages_works_on_a_live_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = commands()
    assert len(told) > 25
    failed = []
    async with Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub, production(tmp_path, stub) as (proxy, env):
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(tmp_path)
        async with proxy.client() as client:
            sent = await mixed_traffic(client)
        async with asyncio.timeout(10):
            while f"splitlane_ledger_written_total {sent}.0" not in (await proxy.ask_admin("/metrics")).body.decode():
                await asyncio.sleep(0.05)
        here = {DATA: f"http://127.0.0.1:{proxy.data}", ADMIN: f"http://127.0.0.1:{proxy.admin}", UPSTREAM: stub.url}
        here["api.mistral.ai"] = "localhost"
        for command, place in told.items():
            line = command
            for documented, actual in here.items():
                line = line.replace(documented, actual)
            if re.fullmatch(r"splitlane [^|$;&<>]+", line):
                code, output = await asyncio.to_thread(in_process, line)
            else:
                code, output = await in_shell(line, tmp_path)
            refused = ADMIN in command and '"error": {' in output
            unsound = code != 0 and not (code == 3 and line.startswith("splitlane rollout status"))
            if unsound or refused or not output.strip():
                failed.append(f"{place}\n$ {command}\n[{code}] {output}")
    assert not failed, "\n".join(failed)


# --- queries ----------------------------------------------------------------------------------


def queries() -> Iterator[tuple[str, str]]:
    """Each PromQL expression and where it stands."""
    for block in blocks("promql", *PAGES):
        for line in block.text.splitlines():
            yield line, f"{block.page}:{block.line}"


_METRIC = re.compile(r"\b(?:splitlane_|model_|process_)[a-z_]+")
_SELECTOR = re.compile(r"\b((?:splitlane_|model_|process_)[a-z_]+)\{([^}]*)\}")


def test_queries_name_metrics_and_labels_that_are_documented() -> None:
    labels = {
        bare(name): set() if listed == "–" else set(listed.split(", "))
        for name, _, listed, *_ in rows(section(OBSERVABILITY, "Metrics"), "metric")
    }
    for query, place in queries():
        for name, matchers in _SELECTOR.findall(query):
            family = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
            assert set(re.findall(r"(\w+)(?:=|!)", matchers)) <= labels[family], f"{place}: {query}"


def made_to_find(query: str) -> str:
    """The query without what only an incident fulfils: it has to find something at any time."""
    query = re.sub(r'\b(reason|outcome|action|kind)!?="\w+"', r'\1=~".+"', query)
    return re.sub(r" offset \w+| (?:==|>) [01]$", "", query)


async def test_every_query_of_the_pages_finds_something_in_a_live_scrape(tmp_path: Path, unused_tcp_port: int) -> None:
    _copy_policies(tmp_path, UPSTREAM)
    policy = tmp_path / "policies" / "queries.yaml"
    async with Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub:
        policy.write_text(
            f"extends: _shared.yaml\nupstreams: {{mistral: {{base_url: '{stub.url}', api_key: k}}}}\n"
            "budgets: {hourly_usd: 0.00000001, daily_usd: 20, on_exceeded: warn}\n"
            "agents: {legal_agent: {shadow: {percentage: 100}}}\n"
        )
        async with running(PolicyStore(policy, {})) as lane:
            async with RawClient(lane.host, lane.port) as client:
                await mixed_traffic(client)
            async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
                await client.send(request("GET", "/metrics"))
                scraped = (await client.read_response()).body.decode()
            there = set(re.findall(r"^# TYPE (\S+) ", scraped, re.MULTILINE))
            wrong = []
            async with prometheus(tmp_path, unused_tcp_port, lane.service.admin.port) as server, asyncio.timeout(30):
                while not await server.number("count_over_time(splitlane_build_info[1m])") >= 2:
                    await asyncio.sleep(0.1)
                for query, place in dict(queries()).items():
                    bare_query = re.sub('"[^"]*"', '""', query)
                    named = {re.sub("_(bucket|count|sum)$", "", name) for name in _METRIC.findall(bare_query)}
                    if missing := named - there:
                        wrong.append(f"{place}: {query}: no metric {missing}")
                    await server.ask(query)  # as it stands: a mistake in it is no success
                    if named.isdisjoint(UNDECIDED) and not await server.ask(made_to_find(query)):
                        wrong.append(f"{place}: {query}: finds nothing as {made_to_find(query)}")
    assert not wrong, "\n".join(wrong)


def test_page_without_a_query_or_a_command_is_none() -> None:
    for page in INCIDENTS:
        check = section(page, "Check")
        assert "```promql\n" in check, page
        assert "```bash\n" in check or "```sh\n" in check, page


def test_pages_name_no_path_of_somebodys_machine() -> None:
    for page in PAGES:
        assert not re.search(rf"{re.escape(str(Path.home()))}/|/(?:home|opt|work)/\w", text_of(page)), page
