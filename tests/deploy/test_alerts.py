"""The alerts: right for promtool, true to a live proxy, and heard by a webhook.  ACCEPTANCE 38."""

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy.stub import Stub
from tests.docs.test_docs import live
from tests.support.collector import Collector, Reply, collector
from tests.support.lane import TOKEN, Lane, policy_of, running
from tests.support.monitoring import alertmanager, prometheus
from tests.support.programs import program
from tests.support.raw_client import RawClient, request
from tests.support.rescue import ask

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
ALERTS = PROMETHEUS / "alerts.yml"
UNIT_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"

PAGES = "https://github.com/splitlane/splitlane/blob/main/runbooks/"
# Alerts that share a page; every other one has its own, by its name.
SHARED_PAGES = {
    "model_failure.md": {
        "HighModelErrorRate", "ModelUnavailable", "LowSuccessRate", "HighFallbackRate", "SuccessBudgetBurnFast",
        "SuccessBudgetBurnSlow",
    },
    "high_latency.md": {"HighModelLatency", "VeryHighModelLatency"},
    "cost_overrun.md": {"HighCostBurn", "CriticalCostOverrun", "BudgetNearlySpent"},
}  # fmt: skip
OWN_PAGES = {
    "BrakeTripped", "RolledBack", "SampleRatioMismatch", "PolicyReloadFailing", "LedgerDropping", "BreakerOpen",
    "LoopLagging",
}  # fmt: skip


@cache
def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = (program("promtool", "prometheus"), *map(str, arguments))
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- what is written --------------------------------------------------------------------------------


def test_promtool_takes_the_sample_configuration_and_the_rules_that_it_loads() -> None:
    checked = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules())} rules found" in checked.stdout


def test_alerts_are_those_that_were_asked_for() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    assert set(names) == set().union(OWN_PAGES, *SHARED_PAGES.values())


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_alert_says_how_bad_it_is_what_it_means_and_which_page_helps(rule: dict[str, Any]) -> None:
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    said = rule["annotations"]
    assert said.keys() == {"summary", "description", "runbook_url"}
    assert all(text.strip() for text in said.values())
    name = rule["alert"]
    own = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() + ".md"
    (page,) = [page for page, names in SHARED_PAGES.items() if name in names] or [own]
    assert said["runbook_url"] == PAGES + page


# --- what they do -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_alert_fires_and_is_silent_and_ends_as_its_unit_tests_say(path: Path) -> None:
    tested = promtool("test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_alert_is_seen_firing_and_seen_silent_before_and_after() -> None:
    seen: dict[str, list[list[bool]]] = {rule["alert"]: [] for rule in alerts()}
    for path in UNIT_TESTS:
        for test in yaml.safe_load(path.read_text())["tests"]:
            found: dict[str, list[bool]] = {}
            for check in test.get("alert_rule_test", ()):
                found.setdefault(check["alertname"], []).append(bool(check.get("exp_alerts")))
            for name, states in found.items():
                seen[name].append(states)
    for name, tests in seen.items():
        assert any(states[0] is False and True in states and states[-1] is False for states in tests), name


def test_unit_tests_would_notice_another_threshold(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "alerts.yml").write_text(ALERTS.read_text().replace("< 0.001", "< 0.0001"))
    copy = tmp_path / "tests" / "rollout.yml"
    copy.write_text((PROMETHEUS / "tests" / "rollout.yml").read_text())
    assert promtool("test", "rules", copy).returncode == 1


# --- what they look at ------------------------------------------------------------------------------

# A series' name and its matchers, in an expression.
SELECTOR = re.compile(r"\b((?:model|splitlane)_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"(?:by|on) \(([^)]*)\)")
SUFFIXES = re.compile(r"_(?:bucket|count|sum)$")
OF_PROMETHEUS = {"job", "instance", "le"}


async def test_every_metric_and_label_of_the_rules_is_a_live_scrapes() -> None:
    _, metrics = await live()
    records = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        expression = rule["expr"]
        for record in records:
            expression = expression.replace(record, "")
        found = SELECTOR.findall(expression)
        assert found or expression != rule["expr"], rule
        for series, matchers in found:
            name = series if series in metrics else SUFFIXES.sub("", series)
            assert name in metrics, f"{series} in {rule}"
            assert set(re.findall(r"(\w+)[!=]", matchers)) <= metrics[name][1], series
        grouped = {
            label.strip() for labels in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for label in labels.split(",")
        }
        assert grouped <= OF_PROMETHEUS.union(*(metrics[name][1] for name in metrics)), rule


# --- whom they reach --------------------------------------------------------------------------------


def test_amtool_takes_the_configuration_and_sends_everything_to_slack() -> None:
    amtool = program("amtool", "prometheus-alertmanager")
    checked = subprocess.run([amtool, "check-config", ALERTMANAGER], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    for severity in ("critical", "warning"):
        command = [amtool, "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}"]
        routed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert routed.stdout.split() == ["slack"]


def test_inhibition_names_alerts_that_exist_and_webhook_stands_in_a_file() -> None:
    config = yaml.safe_load(ALERTMANAGER.read_text())
    names = {rule["alert"] for rule in alerts()}
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            if matcher.startswith("alertname"):
                assert set(re.findall(r"[A-Z]\w+", matcher)) <= names
    (slack,) = config["receivers"][0]["slack_configs"]
    assert slack["send_resolved"]
    assert "api_url" not in slack
    assert slack["api_url_file"]


# Alerts by name, agent and severity, and whether they are told.
TOLD = {
    ("VeryHighModelLatency", "qa_agent", "critical"): True,
    ("HighModelLatency", "qa_agent", "warning"): False,
    ("HighModelLatency", "legal_agent", "warning"): True,
    ("RolledBack", "qa_agent", "warning"): True,
    ("BrakeTripped", "support_agent", "warning"): True,
    ("HighFallbackRate", "support_agent", "warning"): False,
    ("CriticalCostOverrun", "", "critical"): True,
    ("HighCostBurn", "", "warning"): False,
    ("LedgerDropping", "", "warning"): True,
}


async def test_what_is_critical_silences_warnings_of_the_same_agent_and_no_others(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    raised = [
        {"labels": {"alertname": name, "job": "splitlane", "severity": severity, **({"agent": agent} if agent else {})}}
        for name, agent, severity in TOLD
    ]
    async with (
        alertmanager(tmp_path, unused_tcp_port, hasty(tmp_path, "http://127.0.0.1:1/")),
        RawClient("127.0.0.1", unused_tcp_port) as client,
    ):
        fields = [("Content-Type", "application/json")]
        await client.send(request("POST", "/api/v2/alerts", json.dumps(raised).encode(), fields))
        assert (await client.read_response()).status == 200
        async with asyncio.timeout(5):
            while len(found := await states(client)) < len(TOLD) or "unprocessed" in found.values():
                await asyncio.sleep(0.02)
    assert found == {key: "active" if told else "suppressed" for key, told in TOLD.items()}


async def states(client: RawClient) -> dict[tuple[str, str, str], str]:
    """What Alertmanager has, and in which state."""
    await client.send(request("GET", "/api/v2/alerts"))
    return {
        (each["labels"]["alertname"], each["labels"].get("agent", ""), each["labels"]["severity"]): each["status"][
            "state"
        ]
        for each in json.loads((await client.read_response()).body)
    }


def shortened(folder: Path) -> Path:
    """The rules, without what they wait for."""
    path = folder / "alerts.yml"
    path.write_text(re.sub(r"for: \d+m", "for: 0s", ALERTS.read_text()))
    return path


def hasty(folder: Path, url: str) -> Any:
    """Alertmanager's configuration, telling `url`, and at once."""
    (folder / "webhook").write_text(url)
    config = yaml.safe_load(ALERTMANAGER.read_text())
    config["receivers"][0]["slack_configs"][0]["api_url_file"] = str(folder / "webhook")
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "100ms", "group_interval": "300ms"}
    return config


async def told(hook: Collector, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first message of Slack's shape that is so, once it has come."""
    async with asyncio.timeout(20):
        while True:
            for post in list(hook.posts):
                (message,) = json.loads(post.body)["attachments"]
                if holds(message):
                    return dict(message)
            await asyncio.sleep(0.05)


async def clear(lane: Lane) -> None:
    async with RawClient(lane.service.admin.host, lane.service.admin.port) as client:
        fields = [("Authorization", f"Bearer {TOKEN}")]
        await client.send(request("POST", "/rollout/clear?agent=qa_agent", b"", fields))
        assert (await client.read_response()).status == 200


async def test_dying_fine_tune_is_told_to_a_webhook_and_so_is_its_end(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    ports = unused_tcp_port_factory(), unused_tcp_port_factory()
    changes = {"ab_testing": {"rollout_percentage": 100}, "rollout": {"brake": {"odds": 2}}}
    with collector() as hook:
        hook.answer = lambda _: Reply(200, b"ok", {})
        async with (
            Stub() as stub,
            running(policy_of(stub.url, **changes)) as lane,
            alertmanager(tmp_path, ports[1], hasty(tmp_path, f"{hook.url}/services/T0/B0/canary")),
            prometheus(
                tmp_path,
                ports[0],
                lane.service.admin.port,
                every="300ms",
                rule_files=[str(shortened(tmp_path))],
                alerting={"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports[1]}"]}]}]},
            ) as server,
        ):
            assert (await ask(lane)).status == 200
            async with asyncio.timeout(10):
                while await server.number('splitlane_brake_tripped{agent="qa_agent"}') != 0:
                    await asyncio.sleep(0.05)
            assert await server.ask("ALERTS") == []
            stub.set_fault("ft:*", "status=500")
            assert (await ask(lane)).status == 200, "the baseline answers"
            fired = await told(hook, lambda message: "BrakeTripped" in message["text"])
            stub.clear_faults()
            await clear(lane)
            ended = await told(hook, lambda message: message["title"].endswith("resolved"))
    assert fired["title"] == "Splitlane, splitlane, qa_agent: firing"
    assert "*BrakeTripped* (warning): qa_agent: the brake has tripped" in fired["text"]
    assert f"<{PAGES}brake_tripped.md|Runbook>" in fired["text"]
    assert (fired["color"], ended["color"]) == ("warning", "good")
    assert "*BrakeTripped* has ended: qa_agent" in ended["text"]
    assert {post.path for post in hook.posts} == {"/services/T0/B0/canary"}
