"""deploy/grafana: a dashboard that Grafana 11 takes, each of whose queries has an answer on a live scrape.

ACCEPTANCE 38: every metric in a dashboard exists.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.experiment import memory
from proxy.experiment.evidence import Hold
from proxy.experiment.judge import SRM
from proxy.stub import Stub, StubConfig
from proxy.words import Dialect
from tests.docs.pages import blocks
from tests.integration.asking import ask, chat, chat_body
from tests.integration.test_prometheus import mix, scrape
from tests.ledger.records import opened
from tests.support.lane import BASELINE_USER, FINETUNED, Lane, eventually, policy_of, running
from tests.support.monitoring import Prometheus, prometheus

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "splitlane.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

METRIC = re.compile(r"\b(?:splitlane|model|process)_[a-z_]+\b")
SUBSTITUTED = {"$agent": ".*", "$__rate_interval": "1m", "$__range": "1h"}


def queries() -> Iterator[tuple[str, str]]:
    """Title and expression of every query, variables as they are."""
    for each in DASHBOARD["annotations"]["list"]:
        yield each["name"], each["expr"]
    for panel in PANELS:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def substituted(expression: str) -> str:
    for name, value in SUBSTITUTED.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"a variable that nobody sets: {expression}"
    return expression


# --- shape ------------------------------------------------------------------------------------------


def test_dashboard_is_one_that_grafana_11_takes() -> None:
    assert (DASHBOARD["uid"], DASHBOARD["title"]) == ("splitlane", "Splitlane")
    assert DASHBOARD["schemaVersion"] >= 39
    assert "id" not in DASHBOARD, "Grafana gives the id"
    source, agent = DASHBOARD["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (agent["name"], agent["type"], agent["includeAll"], agent["allValue"]) == ("agent", "query", True, ".*")
    assert re.fullmatch(r"label_values\((\w+), agent\)", agent["query"]["query"])


def datasources(value: object) -> Iterator[object]:
    """Everything that stands under a key `datasource`."""
    if isinstance(value, dict):
        for key, child in value.items():
            if key == "datasource":
                yield child
            else:
                yield from datasources(child)
    elif isinstance(value, list):
        for child in value:
            yield from datasources(child)


def test_no_datasource_is_named_by_its_id() -> None:
    found = list(datasources(DASHBOARD))
    assert len(found) > 100
    assert [each for each in found if each != SOURCE] == []


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS) > 40
    places = [(panel["title"], panel["gridPos"]) for panel in PANELS]
    for title, place in places:
        assert place["x"] >= 0 <= place["y"], title
        assert place["x"] + place["w"] <= 24, title
    for (one, a), (other, b) in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart or above, f"{one} and {other} overlap"


@pytest.mark.parametrize("panel", [each for each in PANELS if each["type"] != "row"], ids=lambda panel: panel["title"])
def test_panel_has_a_unit_and_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert len(panel["description"].split()) >= 4
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["type"] in {"timeseries", "stat", "state-timeline", "heatmap", "table"}
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert len(set(references)) == len(references)
    for target in panel["targets"]:
        assert "legendFormat" in target
        assert target.get("range") or target.get("instant")


def test_rows_are_those_an_operator_looks_for() -> None:
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == [
        "Overview", "Rescue", "Rollout", "Shadow", "The proxy itself",
    ]  # fmt: skip


def test_every_query_of_an_agents_metric_honours_the_choice_of_agents() -> None:
    for title, expression in queries():
        for metric, selector in re.findall(r"\b(model_[a-z_]+)(\{[^}]*\})?", expression):
            assert 'agent=~"$agent"' in selector, f"{title}: {metric}"


def test_provisioning_names_the_folders_that_its_comments_name() -> None:
    provider_file = FOLDER / "provisioning/dashboards/splitlane.yml"
    (provider,) = yaml.safe_load(provider_file.read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)


# --- a real Prometheus on a real proxy --------------------------------------------------------------


async def traffic(lane: Lane) -> None:
    """Requests of many fates, rescued, adapted, streamed and copied ones among them."""
    await mix(lane)
    await ask(lane, chat(chat_body(user="somebody", max_tokens=3), user=BASELINE_USER))
    await ask(lane, chat(chat_body(tools=[]), user=BASELINE_USER))


def decided(store: str, salt: str) -> None:
    """A controller has looked at the agent's ramp, and a person has paused it."""
    with opened(store) as database, database.transaction():
        memory.keep_p_values(database, "qa_agent", salt, {SRM: 0.5})
        memory.put_hold(database, "qa_agent", Hold("paused", "a freeze", 1.0), "somebody")
        memory.record(
            database, memory.Decision("018f-1", 1.0, "qa_agent", salt, 10.0, "pause", None, (), "somebody", {})
        )


async def until(server: Prometheus, holds: str) -> None:
    async with asyncio.timeout(10):
        while not await server.ask(holds):
            await asyncio.sleep(0.05)


async def test_every_query_is_answered_on_a_live_scrape(tmp_path: Path, unused_tcp_port: int) -> None:
    store = f"sqlite:///{tmp_path / 'splitlane.db'}"
    decided(store, f"qa_agent/{FINETUNED}")
    async with Stub(StubConfig(dialect=Dialect.MISTRAL)) as stub:
        policy = policy_of(
            stub.url,
            upstreams={"up": {"dialect": "mistral"}},
            prices={"*": {"input": 1.0, "output": 2.0}},
            budgets={"hourly_usd": 1000, "daily_usd": 5000},
            agents={"qa_agent": {"shadow": {"percentage": 100}}},
            store={"url": store},
            observability={"probe": {"every": "1s"}},
        )
        async with (
            running(policy) as lane,
            prometheus(tmp_path, unused_tcp_port, lane.service.admin.port, every="250ms") as server,
        ):
            await traffic(lane)
            await until(server, "sum(model_requests_total) > 0")
            await traffic(lane)
            await eventually(lambda: bool(lane.service.probes.counts))
            await until(server, f"sum(model_requests_total) >= {len(lane.records)}")
            exposed = set(METRIC.findall((await scrape(lane)).body.decode()))
            documented = ((f"{block.page}:{block.line}", block.text) for block in blocks("promql"))
            for title, expression in (*queries(), *documented):
                assert set(METRIC.findall(expression)) <= exposed, title
                assert await server.ask(substituted(expression)), f"{title}: no series for {expression}"
