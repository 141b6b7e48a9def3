"""Evidence and verdicts for tests of what follows from them; each replaces what it is about."""

from dataclasses import replace
from typing import Any

from proxy.experiment.evidence import Evidence
from proxy.experiment.verdict import Because, Outcome, Reason, Verdict
from proxy.policy.config_rollout import RolloutConfig

NOW = 1_800_000_000.0
DAY = 86400.0


def evidence(percentage: float = 10.0, **changes: Any) -> Evidence:
    """An agent a day into its stage, with nothing in its store."""
    plain = Evidence(
        "qa_agent", "qa_agent/ft:m", percentage, NOW, (), (), (0, 0), NOW - DAY, NOW, NOW, 0.0, None, None, None, {}
    )
    return replace(plain, **changes)


def verdict(outcome: Outcome, *reasons: Reason, following: float | None = 25.0, **changes: Any) -> Verdict:
    """A verdict for these reasons."""
    because = tuple(map(Because, reasons))
    return replace(Verdict("qa_agent", 10.0, following, outcome, because, (), (), None, None, {}), **changes)


def rollout(**section: Any) -> RolloutConfig:
    """The policy's section."""
    return RolloutConfig.model_validate(section)
