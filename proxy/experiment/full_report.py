"""The report with verdicts: what happened in a window, and what follows for each agent of a policy."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.experiment.findings import Finding, find, read_course
from proxy.experiment.judge import judge
from proxy.experiment.read import read_evidence
from proxy.experiment.verdict_json import finding_json
from proxy.experiment.verdict_page import LEGEND, blocks_of, summary_of
from proxy.ledger.database import Database
from proxy.ledger.figures import minute, span_of, timestamp
from proxy.ledger.page import Block, Heading, Notes, Paragraph, Picture
from proxy.ledger.report import AgentReport, Report
from proxy.ledger.report_text import json_of, table_of
from proxy.policy.load import LoadedPolicy

# The first version of the tables that a verdict can be read from.
VERDICTS_SINCE = 2
NOTES = (
    *LEGEND,
    "In the window's table, success and first attempt are as assigned; first attempt is before any retry or rescue.",
    "Its difference is fine-tuned minus baseline, and no verdict. Latencies and ttft are within 2.5 %.",
)


@dataclass(frozen=True, slots=True)
class FullReport:
    """All agents of the policy, and those that had requests besides."""

    now: float  # Unix seconds
    policy: str  # the policy's hash
    environment: str
    window: Report
    findings: tuple[Finding, ...]  # in the policy's order

    def blocks(self, pictures: Mapping[str, Sequence[Picture]], note: str = "") -> Iterator[Block]:
        """The page: a line per agent first, then the evidence.  `pictures` by agent; `note`: on those there are not."""
        windows = {each.agent: each for each in self.window.agents}
        yield Heading(1, "Splitlane report")
        yield Paragraph(f"{minute(self.now)}, policy {self.policy} ({self.environment})")
        yield summary_of(self.findings)
        for finding in self.findings:
            yield from blocks_of(finding)
            yield from pictures.get(finding.agent, ())
            yield from self._figures(windows.pop(finding.agent, None))
        for other in windows.values():
            yield Heading(2, other.agent)
            yield Paragraph("The policy has no such agent; no verdict.")
            yield from self._figures(other)
        yield Heading(2, "How to read this")
        yield Notes((*NOTES, note) if note else NOTES)

    def as_json(self) -> dict[str, Any]:
        """As plain data: the window's figures, and `verdict` where the policy has the agent."""
        data = json_of(self.window)
        groups = {each["agent"]: each["groups"] for each in data["agents"]}
        verdicts = {finding.agent: finding_json(finding) for finding in self.findings}
        return {
            "generated_at": timestamp(self.now),
            "policy": self.policy,
            "environment": self.environment,
            "since": data["since"],
            "until": data["until"],
            "agents": [
                {"agent": name, "verdict": verdicts.get(name), "groups": groups.get(name, [])}
                for name in (*verdicts, *(name for name in groups if name not in verdicts))
            ],
        }

    def _figures(self, agent: AgentReport | None) -> Iterator[Block]:
        span = span_of(self.window.window)
        if agent is None:
            yield Paragraph(f"{span}: no requests")
            return
        yield Paragraph(f"{span}:")
        yield table_of(agent)


def read_full_report(
    database: Database, loaded: LoadedPolicy, window: Report, agents: Sequence[str], now: float
) -> FullReport:
    """The report over a store of version `VERDICTS_SINCE` or later; of all agents where none are named.

    Raises DatabaseUnavailable.
    """
    policy, rollout = loaded.policy, loaded.config.rollout
    hours = read_course(database, now)
    findings = []
    for agent in policy.agents.values():
        if not agents or agent.name in agents:
            evidence = read_evidence(database, agent.name, agent.salt, agent.percentage, now)
            verdict = judge(evidence, rollout, rollout.observe)
            findings.append(find(database, evidence, verdict, rollout, hours.get(agent.name, ())))
    return FullReport(now, policy.hash, policy.environment, window, tuple(findings))
