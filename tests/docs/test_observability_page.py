"""docs/observability.md: alerts as the rules have them, loggers and keys as the program has them."""

import json
import logging
import re
from typing import Any

import pytest
import yaml

from proxy.stub import Stub
from proxy.telemetry.log import JsonFormatter
from proxy.words import Failure, Variant
from tests.docs.pages import ROOT, bare, rows, section
from tests.integration.test_prometheus import mix, scrape
from tests.support.lane import BASELINE, FINETUNED, Lane, policy_of, running

PAGE = "docs/observability.md"
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
RUNBOOKS = "https://github.com/splitlane/splitlane/blob/main/runbooks/"
ALERTS = {bare(row[0]): row for row in rows(section(PAGE, "Alerts"), "alert")}

# What the rules must have: the table is held to this also where there is no file of rules.
NAMES = {
    "HighModelErrorRate", "HighModelLatency", "VeryHighModelLatency", "HighCostBurn", "CriticalCostOverrun",
    "HighFallbackRate", "ModelUnavailable", "LowSuccessRate", "BrakeTripped", "RolledBack", "SampleRatioMismatch",
    "PolicyReloadFailing", "LedgerDropping", "BudgetNearlySpent", "BreakerOpen", "LoopLagging",
    "SuccessBudgetBurnFast", "SuccessBudgetBurnSlow",
}  # fmt: skip


def rules() -> dict[str, Any]:
    """The alerting rules by name; empty where there are none."""
    if not RULES.exists():
        return {}
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def plain(limit: str) -> str:
    """A limit as PromQL writes it: a per cent as the number it is."""
    return re.sub(r"([\d.]+) %", lambda found: f"{float(found[1]) / 100:g}", limit)


def test_alerts_are_all_in_the_table() -> None:
    assert ALERTS.keys() == NAMES
    assert not rules() or rules().keys() == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_alert_of_the_table_is_the_rules(name: str) -> None:
    rule = rules().get(name)
    _, meaning, limit, lasting, severity, page = ALERTS[name]
    assert meaning
    assert re.fullmatch(r"[a-z_]+\.md", bare(page))
    if rule is None:
        return
    expression = re.sub(r"\s+", " ", rule["expr"])
    numbers = re.sub(r"\d[\d.]*", lambda found: f"{float(found[0]):g}", expression)
    assert plain(bare(limit)) in numbers, f"{limit} is not in {expression}"
    assert rule.get("for", "–") == lasting
    assert rule["labels"]["severity"] == severity
    assert rule["annotations"]["runbook_url"] == RUNBOOKS + bare(page)


def test_loggers_are_the_programs() -> None:
    documented = {bare(row[0]) for row in rows(section(PAGE, "Logs"), "logger")}
    sources = [path.read_text() for path in (ROOT / "proxy").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r'getLogger\("(splitlane\.[a-z]+)"\)', text)}
    assert any("splitlane.access" in text for text in sources), "whose lines no logger formats"
    assert documented == named | {"splitlane.access"}


def test_keys_of_a_log_line_are_the_programs() -> None:
    documented = {bare(row[0]) for row in rows(section(PAGE, "Logs"), "key")}
    error = ValueError()
    record = logging.LogRecord("splitlane.x", logging.ERROR, __file__, 1, "said", (), (ValueError, error, None))
    assert json.loads(JsonFormatter().format(record)).keys() == documented


async def series(lane: Lane) -> tuple[int, int]:
    """How many of the agent, and of all others."""
    lines = [line for line in (await scrape(lane)).body.decode().splitlines() if not line.startswith("#")]
    ours = sum('agent="qa_agent"' in line for line in lines)
    return ours, len(lines) - ours


async def test_numbers_of_series_are_about_those_of_a_live_scrape() -> None:
    quiet, busy, worst, rest = (row[1] for row in rows(section(PAGE, "How many series"), "what"))
    async with Stub() as stub, running(policy_of(stub.url)) as lane:
        ours, others = await series(lane)
        assert ours == int(quiet)
        assert others == pytest.approx(int(rest.removeprefix("about ")), rel=0.15)
        await mix(lane)
        ours, _ = await series(lane)
        assert ours == pytest.approx(int(busy.removeprefix("about ")), rel=0.15)
        metrics = lane.service.metrics
        for variant in Variant:
            for model in (FINETUNED, BASELINE, "other") if variant is Variant.FINETUNED else (BASELINE, "other"):
                found = metrics._series(("qa_agent", variant, model))
                for failure in Failure:
                    found.outcomes[failure] += 1
                    found.errors[failure] += 1
                    metrics._fallbacks["qa_agent", failure] += 1
                for kind in ("input", "output", "cached", "reasoning"):
                    setattr(found, kind, getattr(found, kind) + 1)
        ours, _ = await series(lane)
        assert int(worst.removeprefix("below ")) * 0.9 < ours < int(worst.removeprefix("below "))
